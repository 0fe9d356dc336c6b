"""What a key carries: bounds, what it changes, where it appears; and queries of the schema."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from composing import config_of

from trainer.config import (
    CHOICES,
    SECTIONS,
    affects,
    custom_groups,
    find_key,
    flatten,
    known_keys,
    listed_keys,
    may_set,
    settable_keys,
)
from trainer.config.keys import REQUIRED, Affects, Key, Section, key, keys_of
from trainer.config.run import EvalOptions, FitConfig
from trainer.config.schema import schemas_of
from trainer.errors import ConfigError

SCHEMAS = [schema for group in (*CHOICES, *SECTIONS, "eval") for schema in schemas_of(group)]


@dataclass(kw_only=True, slots=True)
class Garden(Section):
    """A group to try the checks on."""

    group: ClassVar[str] = "garden"
    affects: ClassVar[Affects] = "record"

    trees: int = key(at_least=1)
    sizes: list[int] | None = key(between=(1, 9), length=2)
    watered: float | None = key(above=0, affects="speed")
    gate: str = key(one_of=("open", "shut"))

    def check_together(self) -> None:
        if self.trees > 5 and self.gate == "open":
            raise ConfigError("garden.trees would walk out.")


GOOD: dict[str, Any] = {"trees": 3, "sizes": [1, 9], "watered": None, "gate": "open"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trees": 0}, "garden.trees=0 is out of range: it must be at least 1."),
        ({"trees": math.nan}, "garden.trees=nan is out of range: it must be at least 1."),
        ({"sizes": [0, 1]}, "garden.sizes[0]=0 is out of range: it must lie in [1, 9]."),
        ({"sizes": [1]}, "garden.sizes=[1] must hold 2 numbers."),
        ({"watered": 0.0}, "garden.watered=0.0 is out of range: it must be greater than 0."),
        ({"watered": math.inf}, "garden.watered=inf is out of range: it must be greater than 0."),
        ({"gate": "ajar"}, "garden.gate=ajar is not known."),
        ({"trees": 6}, "garden.trees would walk out."),
        ({"trees": 6, "watered": -1}, "garden.watered=-1 is out of range"),
    ],
)
def test_a_section_checks_each_key_and_then_all_together(
    changes: dict[str, Any], message: str
) -> None:
    assert Garden(**GOOD).trees == 3
    with pytest.raises(ConfigError) as caught:
        Garden(**GOOD | changes)
    assert caught.value.what.startswith(message)
    with pytest.raises(ConfigError):
        dataclasses.replace(Garden(**GOOD), **changes)


@pytest.mark.parametrize(
    ("bounds", "fine", "wrong", "words"),
    [
        (Key(between=(0, 1)), [0, 0.5, 1], [-0.1, 1.1, math.nan], "[0, 1]"),
        (Key(between=(0, 1), open_end=True), [0, 0.99], [1, math.nan], "[0, 1)"),
        (Key(at_most=0), [0, -3], [0.1, math.nan, -math.inf], "at most 0"),
        (Key(is_filled=True), ["a", None], [""], "is empty"),
        (Key(is_path=True), ["a", None], [""], "is empty"),
        (Key(length=2), [[1, 2], None], [[1], [1, 2, 3]], "must hold 2 numbers"),
    ],
)
def test_bounds(bounds: Key, fine: list[Any], wrong: list[Any], words: str) -> None:
    for value in fine:
        bounds.check("it", value)
    for value in wrong:
        with pytest.raises(ConfigError) as caught:
            bounds.check("it", value)
        assert words in str(caught.value)


def test_a_key_takes_what_its_group_says_of_all_keys() -> None:
    keys = keys_of(Garden)
    assert [key.affects for key in keys.values()] == ["record", "record", "speed", "record"]
    assert keys["watered"].type == "float | None"
    assert keys["gate"].choices == ("open", "shut")


def test_what_a_key_changes_is_the_same_in_all_choices_that_have_it() -> None:
    """Else `known_keys` could not answer for a key by its name alone."""
    shared = ("affects", "settable", "listed", "column", "is_path", "is_open", "is_code")
    for schema in SCHEMAS:
        for name, known in keys_of(schema).items():
            first = known_keys()[schema.dotted(name)]
            for field in shared:
                assert getattr(known, field) == getattr(first, field), (schema, name, field)


@pytest.mark.parametrize("schema", [*SCHEMAS, FitConfig], ids=lambda schema: schema.__name__)
def test_no_key_has_a_value_in_python(schema: type[Section]) -> None:
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(schema))
    assert all(field.default_factory is dataclasses.MISSING for field in dataclasses.fields(schema))
    assert all(key.default is REQUIRED for key in keys_of(schema).values())


@pytest.mark.parametrize(
    ("dotted", "changed"),
    [
        ("model.hidden", "result"),
        ("model.kwargs.width", "result"),
        ("optimizer", "result"),
        ("seed", "order"),
        ("data.batch_size", "order"),
        ("data.x", "samples"),
        ("data.test_kwargs.size", "evaluation"),
        ("trainer.device", "rounding"),
        ("logger.scalars", "record"),
        ("data.num_workers", "speed"),
        ("data.root", "place"),
        ("run.name", "command"),
        ("run", "command"),
        ("resume", "command"),
        ("sweep", "command"),
        ("sweep.seed", "trials"),
        ("unknown.key", "result"),
    ],
)
def test_what_a_key_changes(dotted: str, changed: str) -> None:
    assert affects(dotted) == changed


def test_what_follows_from_what_a_key_changes() -> None:
    keys = known_keys()
    free = {name for name, key in keys.items() if not key.changes_bits and key.affects != "command"}
    assert free == {
        *("data.root", "data.num_workers", "data.cache"),
        *("sweep.jobs", "sweep.devices", "sweep.jobs_per_device"),
    }
    kept = {
        name
        for name, key in keys.items()
        if name.startswith("data.") and key.affects not in ("order", "samples")
    }
    assert kept == {
        "data.root",
        "data.eval_batch_size",
        "data.eval_limit",
        "data.num_workers",
        "data.cache",
        "data.test_kwargs",
        "data.val_kwargs",
    }
    assert keys["seed"].affects == keys["trainer.accumulate"].affects == "order"
    assert keys["trainer.ema"].is_hyperparameter and not keys["data.alpha"].is_hyperparameter


def test_what_a_verb_on_a_checkpoint_may_set() -> None:
    for word in ("data", "data.root", "trainer.epochs", "trainer", "run.dir", "ckpt", "eval.json"):
        assert may_set("eval", word)
    for word in ("data.val_size", "model", "model.hidden", "optimizer.lr", "seed", "resume"):
        assert not may_set("eval", word)
    assert set(settable_keys("reproduce")) == {
        *("run.root", "run.name", "run.dir"),
        *("data.root", "data.num_workers", "data.cache", "trainer.device"),
    }


def test_which_keys_the_help_pages_list() -> None:
    assert listed_keys("eval") == ["eval.split", "eval.json", "data.root", "trainer.device"]
    assert {"optimizer.lr", "trainer.epochs", "seed", "resume"} <= set(listed_keys("fit"))


def test_a_switch_offers_its_two_values() -> None:
    assert keys_of(EvalOptions)["json"].choices == ("true", "false")
    device = find_key("trainer.device")
    assert device is not None and device.choices == ("auto", "cpu", "cuda", "mps")
    assert find_key("trainer") is None


def test_the_groups_with_a_persons_own_class() -> None:
    assert custom_groups(config_of()) == []
    own = config_of("model=custom", "model.target=a.B", "data=custom", "data.target=c.D")
    assert custom_groups(own) == ["model", "data"]


def test_nested_tables_as_dotted_keys() -> None:
    table = {"seed": 1, "model": {"name": "custom", "kwargs": {"a": {"b": 2}}}}
    assert flatten(table) == {"seed": 1, "model.name": "custom", "model.kwargs.a.b": 2}
    assert flatten(table, levels=2) == {
        "seed": 1,
        "model.name": "custom",
        "model.kwargs": {"a": {"b": 2}},
    }
