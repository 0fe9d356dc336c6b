"""A thousand random configs: each is saved as the text that a checkpoint holds, and read back
equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from composing import CONFIGS, choices_of, config_of, read_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.config import SCHEMAS, SECTIONS, FitConfig, from_saved, to_plain
from trainer.config.compatibility import check_fit
from trainer.config.keys import Key, Section, keys_of
from trainer.errors import ConfigError

Table = dict[str, Any]
Values = st.SearchStrategy[Any]


def number(low: float, high: float = 1e308) -> Values:
    """Numbers as people write them and any other, from the smallest on: low <= number < high."""
    usual = (5e-324, 1e-308, 0.1, 1 / 3, 1.0, 1e16, 1e300, 0.0)
    written = [float(low), *(value for value in usual if low <= value < high)]
    return st.sampled_from(written) | st.floats(low, high, exclude_max=True)


def interval(low: float, high: float) -> Values:
    return st.lists(number(low, high), min_size=2, max_size=2).map(sorted)


def or_null(values: Values) -> Values:
    return st.none() | values


def pair(values: Values) -> Values:
    return st.lists(values, min_size=2, max_size=2)


BYTE = st.integers(0, 255)
NOT_NEGATIVE = number(0)
SHARE = number(0, 1) | st.just(1.0)
LETTERS = st.characters(
    exclude_categories=["C"], exclude_characters="{?"
)  # `${` and `???` mean something else
TEXT = st.sampled_from(
    ["größe 流", "null", "007", "1e5", "true", "a$b", "~", "a: b # c"]
) | st.text(LETTERS, min_size=1)
NAME = TEXT.map(lambda text: text.replace("/", "-").replace("\\", "-"))
CADENCE = st.builds(
    "{}{}".format, st.integers(1, 10**6), st.sampled_from(["epoch", "epochs", "steps", "min"])
)
TREES: Values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**63) | number(-1e308) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"[a-z]\w{,9}", fullmatch=True), inner)
    ),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.from_regex(r"[a-zä]\w{,9}", fullmatch=True), TREES, max_size=3)


def transform(name: str, needed: dict[str, Values] | None = None, **options: Values) -> Values:
    return st.fixed_dictionaries({"name": st.just(name), **(needed or {})}, optional=options)


COLOURS_AND_TURNS = st.one_of(
    st.sampled_from(["random_horizontal_flip", "random_invert", "random_rotation", "color_jitter"]),
    transform("random_horizontal_flip", p=SHARE),
    transform("random_rotation", degrees=NOT_NEGATIVE | interval(-180, 180), fill=BYTE),
    transform("random_rotation", interpolation=st.sampled_from(["nearest", "bilinear"])),
    transform(
        "color_jitter",
        brightness=NOT_NEGATIVE | interval(0, 9),
        contrast=NOT_NEGATIVE | interval(0, 9),
    ),
    transform("random_erasing", p=SHARE, scale=interval(0, 1), ratio=interval(1e-9, 9), value=BYTE),
)
EDGE = st.integers(1, 14)
CROPS = st.one_of(
    transform("crop", {"top": EDGE, "left": EDGE, "height": EDGE, "width": EDGE}),
    transform(
        "random_crop",
        size=or_null(st.integers(8, 28) | pair(st.integers(8, 28))),
        padding=st.integers(0, 7),
    ),
)
TRANSFORMS = st.builds(
    lambda before, crop, after: before + crop + after,
    st.lists(COLOURS_AND_TURNS, max_size=3),
    st.lists(CROPS, max_size=1),
    st.lists(COLOURS_AND_TURNS, max_size=2),
)

# What a key may be, where its bounds do not say it: by `choice.key`, or by `key` everywhere.
KEYS: dict[str, Values] = {
    # With one another.
    "batch_size": st.integers(1, 60_000),
    "val_size": st.integers(0, 50_000),
    "line.val_size": st.integers(0, 3),
    "val_kwargs": st.none(),  # but for the variant that holds out samples
    "dirichlet.val_size": st.integers(0, 999),
    "features": st.integers(2, 1000),
    "test_size": st.integers(0, 99_000),
    "train_size": st.integers(2001, 99_000),
    "x": st.lists(number(-1e308), min_size=4, max_size=6),
    "etas": st.tuples(number(5e-324, 1), number(1.1)).map(list),
    "step_sizes": interval(5e-324, 1e308),
    "precision": st.sampled_from(["fp32", "bf16"]),
    "monitor": or_null(st.just("train/loss")),
    "sgd.momentum": number(0, 1),
    # A form of their own.
    "transforms": TRANSFORMS,
    "target": st.sampled_from(["my_pkg.Mine", "größe.sub_1.Ä"]),
    "device": st.sampled_from(["auto", "cuda", "cuda:1"]),
    "save_every": CADENCE,
    "eval_every": CADENCE,
}
ITEMS: dict[str, Callable[[Key], Values]] = {
    "None": lambda key: st.none(),
    "bool": lambda key: st.booleans(),
    "int": lambda key: st.integers(int(low_of(key)), int(high_of(key))),
    "float": lambda key: number(low_of(key), high_of(key)),
    "str": lambda key: st.sampled_from(key.one_of) if key.one_of else TEXT,
    "dict[str, Any]": lambda key: ARGUMENTS,
}


def low_of(key: Key) -> float:
    if key.above is not None:
        return math.nextafter(key.above, math.inf)
    if key.between is not None:
        return key.between[0]
    return key.at_least if key.at_least is not None else -1e308


def high_of(key: Key) -> float:
    if key.between is not None:
        return key.between[1]
    if key.at_most is not None:
        return key.at_most
    return 2**63 if key.type.startswith("int") else 1e308


@functools.cache
def values_of(key: Key, *, known_as: tuple[str, ...]) -> Values:
    """What KEYS says, or else values of the type of a key and within its bounds."""
    for name in known_as:
        if name in KEYS:
            return KEYS[name]

    def of_type(name: str) -> Values:
        if name.startswith("list["):
            item = of_type(name.removeprefix("list[").removesuffix("]"))
            return st.lists(item, min_size=key.length or 0, max_size=key.length or 4)
        return ITEMS[name](key)

    return st.one_of(*map(of_type, key.type.split(" | ")))


# What else fits depends on these: they stay as they ship, or as a variant says.
DECIDING = {"name", "task", "output", "nesterov", "dampening", "accumulate"}
VARIANTS: dict[str, list[Table]] = {
    "data": [
        {"name": "custom", "task": "regression"},
        {"name": "custom", "val_size": 7, "val_kwargs": {"augment": False}},
    ],
    "model": [{"name": "custom", "output": "log_probs"}],
    "optimizer": [{"name": "sgd", "nesterov": True, "momentum": 0.5}],
}
NOT_FOR_LBFGS: list[Table] = [{}, {"accumulate": 7}, {"accumulate": 2, "precision": "fp16"}]


@functools.cache
def tables(group: str) -> list[Table]:
    """Each choice of a group as it ships, and each variant."""
    base = {name: read_yaml(CONFIGS / group / f"{name}.yaml") for name in choices_of(group)}
    base |= {
        name: table | {"target": "my_pkg.Mine"} for name, table in base.items() if "target" in table
    }
    return [
        *base.values(),
        *(base[variant["name"]] | variant for variant in VARIANTS.get(group, [])),
    ]


def varied(group: str, table: Table) -> st.SearchStrategy[Table]:
    """The table with other values for some keys. A new key of the YAML needs a place in KEYS."""
    fixed = DECIDING.union(
        *(variant for variant in VARIANTS.get(group, []) if variant.items() <= table.items())
    )
    name = table.get("name", "")
    keys = keys_of(schema_of(group, name))
    values = {
        key: values_of(keys[key], known_as=(f"{name}.{key}", key))
        for key in table
        if key not in fixed
    }
    # As shipped they are whole numbers, and become floats when they are read.
    needed = {key: values.pop(key) for key in ("x",) if key in values}
    return st.fixed_dictionaries(needed, optional=values).map(lambda chosen: table | chosen)


def schema_of(group: str, name: str) -> type[Section]:
    return SCHEMAS[group][name] if group in SCHEMAS else SECTIONS[group]


def section(group: str, table: Table) -> Any:
    """A group as its dataclass, which checks the values."""
    return schema_of(group, table.get("name", ""))(**table)


@functools.cache
def fitting() -> list[tuple[Table, Table, Table]]:
    """The data sets, models and losses that go together."""
    found, default = [], config_of()
    for data, model, loss in itertools.product(*map(tables, ("data", "model", "loss"))):
        parts = {
            "data": section("data", data),
            "model": section("model", model),
            "loss": section("loss", loss),
        }
        with contextlib.suppress(ConfigError):
            check_fit(dataclasses.replace(default, **parts))
            found.append((data, model, loss))
    return found


@st.composite
def configs(draw: st.DrawFn) -> FitConfig:
    """A config that a run may have."""
    others = ("optimizer", "scheduler", "trainer", "logger")
    chosen = [
        *draw(st.sampled_from(fitting())),
        *(draw(st.sampled_from(tables(group))) for group in others),
    ]
    plain = {
        g: draw(varied(g, table))
        for g, table in zip(("data", "model", "loss", *others), chosen, strict=True)
    }
    if plain["optimizer"]["name"] != "lbfgs":
        plain["trainer"] |= draw(st.sampled_from(NOT_FOR_LBFGS))
    plain["run"] = draw(
        st.fixed_dictionaries({"root": TEXT, "name": or_null(NAME), "dir": or_null(TEXT)})
    )
    seed = st.sampled_from([0, 2**63 - 1]) | st.integers(0, 2**63 - 1)
    parts = {group: section(group, table) for group, table in plain.items()}
    config = FitConfig(**parts, seed=draw(seed), resume=draw(or_null(TEXT)))
    check_fit(config)
    return config


def assert_read_back_equal(config: FitConfig) -> None:
    text = json.dumps(to_plain(config), ensure_ascii=False)
    found = from_saved(json.loads(text), source="here")
    assert found == config
    assert json.dumps(to_plain(found), ensure_ascii=False) == text, "1 is not 1.0, nor is true"


@pytest.mark.long
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs())
def test_a_saved_config_is_read_back_equal(config: FitConfig) -> None:
    assert_read_back_equal(config)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs())
def test_a_thousand_saved_configs_are_read_back_equal(config: FitConfig) -> None:
    assert_read_back_equal(config)
