"""YAML and dataclasses name the same keys, every choice loads, and a saved config is a closed
schema.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from composing import COMPANIONS, CONFIGS, all_choices, choices_of, composed, config_of, read_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import (
    CHOICES,
    COMMAND_SCHEMAS,
    SCHEMAS,
    SECTIONS,
    EvalConfig,
    from_saved,
    load_eval,
    to_plain,
)
from trainer.config.run import EvalOptions, FitConfig
from trainer.errors import CheckpointError, ConfigError

GROUP_FILES = [(group, choice) for group in (*CHOICES, "trainer") for choice in choices_of(group)]


def schema_of(group: str, choice: str) -> type:
    return SECTIONS[group] if group in SECTIONS else CHOICES[group][choice]


def field_names(schema: type) -> set[str]:
    return {field.name for field in dataclasses.fields(schema)}


@pytest.mark.parametrize(("group", "choice"), GROUP_FILES, ids=lambda value: str(value))
def test_a_yaml_file_has_exactly_the_keys_of_its_dataclass(group: str, choice: str) -> None:
    content = read_yaml(CONFIGS / group / f"{choice}.yaml")
    assert set(content) == field_names(schema_of(group, choice))
    if group in CHOICES:
        assert content["name"] == choice


def test_the_keys_outside_groups_are_those_of_the_dataclasses() -> None:
    fit = read_yaml(CONFIGS / "fit.yaml")
    assert set(fit["run"]) == field_names(SECTIONS["run"])
    in_defaults = {
        name
        for entry in fit["defaults"]
        if isinstance(entry, dict)
        for name in entry
        if " " not in name
    }
    top_level = set(fit) - {"defaults", "hydra"}
    assert top_level | in_defaults - {"experiment", *COMMAND_SCHEMAS} == field_names(FitConfig)
    assert set(read_yaml(CONFIGS / "eval" / "default.yaml")) == field_names(EvalOptions)
    assert {"ckpt", "eval", "fit"} == field_names(EvalConfig)


@pytest.mark.parametrize("group", CHOICES)
def test_the_choices_on_disk_are_those_of_the_table(group: str) -> None:
    assert set(choices_of(group)) == set(CHOICES[group])


def test_every_group_on_disk_is_known() -> None:
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == {
        *CHOICES,
        "trainer",
        "eval",
        "experiment",
    }


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_every_key_has_a_comment_and_every_file_a_title(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    titles = [line for line in lines if not line.startswith("# @package")]
    assert titles[0].startswith("# ")
    if path.parent.name == "experiment":
        return  # sets keys that are explained where they are at home
    head = "\n".join(lines).split("\nhydra:")[0].splitlines()
    silent = [line for line in head if re.match(r"\s*\w+:", line) and " # " not in line]
    assert [
        line for line in silent if line.split(":")[0].strip() not in ("name", "defaults", "run")
    ] == []


@pytest.mark.parametrize("choice", all_choices())
def test_every_choice_composes_loads_and_comes_back_from_plain_values(choice: str) -> None:
    config = config_of(choice, *COMPANIONS.get(choice, ()))
    group, _, name = choice.partition("=")
    if group in SCHEMAS:
        assert getattr(config, group).name == name
        assert isinstance(getattr(config, group), SCHEMAS[group][name])
    saved = json.loads(json.dumps(to_plain(config)))
    assert from_saved(saved, source="here") == config


@pytest.mark.parametrize("name", choices_of("experiment"))
def test_every_experiment_loads(name: str) -> None:
    assert config_of(f"experiment={name}") != config_of()


def test_the_defaults_are_those_of_the_contract() -> None:
    config = config_of()
    names = {group: getattr(config, group).name for group in SCHEMAS}
    assert (names["data"], names["model"], names["loss"]) == (
        "fashion_mnist",
        "cnn",
        "cross_entropy",
    )
    assert (config.run.root, config.run.name, config.run.dir) == ("runs", None, None)
    assert (config.trainer.device, config.trainer.precision, config.resume) == (
        "auto",
        "fp32",
        None,
    )
    assert to_plain(config)["data"]["root"] == "data"


def test_an_eval_config_holds_the_fit_config_and_its_own_keys() -> None:
    config = load_eval(composed("ckpt=last", "eval.split=val", verb="eval"))
    assert (config.ckpt, config.eval) == ("last", EvalOptions(split="val", json=False))
    assert config.fit == config_of()
    with pytest.raises(ConfigError, match="ckpt is missing"):
        load_eval(composed(verb="eval"))


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False).map(lambda value: round(value, 6))


def choose(group: str, name: str, **keys: st.SearchStrategy[Any]) -> st.SearchStrategy[list[str]]:
    """`group=name` with some of its keys set."""
    optional = st.fixed_dictionaries({}, optional=keys)
    return optional.map(
        lambda given: [
            f"{group}={name}",
            *(f"{group}.{key}={value}" for key, value in given.items()),
        ]
    )


sizes = st.lists(st.integers(1, 4096), min_size=2, max_size=2).map(
    lambda pair: f"[{pair[0]},{pair[1]}]"
)
switch = st.sampled_from(["true", "false"])
some_data = choose(
    "data",
    "mnist",
    batch_size=st.integers(1, 60_000),
    val_size=st.integers(1, 59_999),
    drop_last=switch,
    train_limit=st.sampled_from(["null", 1, 700]),
    transforms=st.sampled_from(
        ["[]", "[random_crop]", "[{name: crop, top: 5, left: 5, height: 18, width: 18}]"]
    ),
)
some_model = st.one_of(
    choose("model", "mlp", hidden=sizes, dropout=floats(0, 0.99)),
    choose("model", "lenet5", channels=sizes, hidden=sizes),
    choose("model", "linear", bias=switch),
)
some_loss = st.one_of(
    choose("loss", "cross_entropy", label_smoothing=floats(0, 0.99)),
    choose("loss", "hinge", margin=floats(0.1, 9), p=st.sampled_from([1, 2])),
)
some_optimizer = st.one_of(
    choose(
        "optimizer", "sgd", lr=floats(1e-5, 9), momentum=floats(0, 0.99), weight_decay=floats(0, 1)
    ),
    choose(
        "optimizer",
        "adamw",
        lr=floats(1e-5, 9),
        betas=st.just("[0.8,0.99]"),
        amsgrad=switch,
        decay_all=switch,
    ),
    choose("optimizer", "lbfgs", line_search_fn=st.sampled_from(["null", "strong_wolfe"])),
)
some_scheduler = st.one_of(
    choose(
        "scheduler",
        "multistep",
        milestones=sizes,
        gamma=floats(0.1, 2),
        warmup_steps=st.integers(0, 99),
    ),
    choose(
        "scheduler", "one_cycle", max_lr=st.sampled_from(["null", "0.5"]), cycle_momentum=switch
    ),
)
some_run = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "trainer.epochs": st.integers(0, 10**6),
        "trainer.ema": st.sampled_from(["null", "0.999"]),
        "trainer.save_every": st.sampled_from(["1epoch", "50steps", "0.5min"]),
        "run.name": st.sampled_from(["null", "first", "'with space'", "'größe'"]),
    },
).map(lambda given: [f"{key}={value}" for key, value in given.items()])


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(parts=st.tuples(some_data, some_model, some_loss, some_optimizer, some_scheduler, some_run))
def test_valid_configs_come_back_from_plain_values(parts: tuple[list[str], ...]) -> None:
    config = config_of(*(override for part in parts for override in part))
    saved = json.loads(json.dumps(to_plain(config)))
    assert from_saved(saved, source="here") == config


@functools.cache
def default_config() -> FitConfig:
    return config_of()


def saved_with(path: str, value: object) -> dict[str, Any]:
    """The plain values of the default config, with the key at `path` set to `value`."""
    saved = to_plain(default_config())
    *parents, last = path.split(".")
    table = saved
    for parent in parents:
        table = table[parent]
    table[last] = value
    return saved


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("optimiser", {"name": "sgd"}, "optimiser is not a key"),
        ("optimizer.lrr", 0.1, "optimizer.lrr"),
        ("trainer.epochs", "many", "trainer.epochs=many has the wrong type"),
        ("trainer.epochs", 1.5, "has the wrong type"),
        ("trainer.epochs", [1], "trainer.epochs"),
        ("trainer.epochs", None, "trainer.epochs"),
        ("trainer.epochs", -1, "out of range"),
        ("trainer.deterministic", 5, "trainer.deterministic=5 has the wrong type"),
        ("trainer", 3, "trainer=3 is not a group"),
        ("trainer", {}, "trainer.epochs is missing"),
        ("model", "cnn", "model has no name"),
        ("model.name", "resnet", "there is no such model"),
        ("model.name", "os.system", "there is no such model"),
        ("model.channels", [1, "b"], "model.channels"),
        ("model._target_", "os.system", "asks to run code (config.model._target_)"),
        ("_target_", "os.system", "asks to run code (config._target_)"),
        (
            "data.transforms",
            [{"_target_": "os.system"}],
            "asks to run code (config.data.transforms[0]._target_)",
        ),
        ("hydra", {"callbacks": {"x": {"_target_": "os.system"}}}, "asks to run code"),
        ("data.root", "${oc.env:HOME}", "interpolation"),
        ("run.name", "a${seed}", "interpolation"),
        ("run.name", "x" * 5000, "oversized"),
        ("model.hidden", deep(40), "nested too deeply"),
        ("data.transforms", ["random_crop"] * 20_000, "too long"),
        ("seed", True, "seed"),
        ("seed", "0", "seed"),
        ("seed", "???", "seed"),
        ("model.hidden", "???", "model.hidden is missing"),
        ("resume", 3, "resume"),
        ("data.x", b"bytes", "holds a bytes"),
        ("data.1", 1, "data.1"),
    ],
)
def test_a_saved_config_outside_the_schema_is_refused(path: str, value: object, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        from_saved(saved_with(path, value), source="some.safetensors")
    message = str(caught.value)
    assert words in message
    assert "some.safetensors" in message
    assert len(message.splitlines()) <= 3
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(FitConfig)])
def test_a_saved_config_that_lacks_a_key_is_refused(key: str) -> None:
    saved = to_plain(default_config())
    del saved[key]
    with pytest.raises(CheckpointError, match=f"{key} is missing from the config"):
        from_saved(saved, source="x")


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("model=mlp",), "dirichlet-mlp"),
        (("model=mlp", "run.name=mine"), "mine"),
        (("model=custom", "model.target=own.models.Net"), "dirichlet-Net"),
        (
            ("data=custom", "data.target=own.Points", "model=custom", "model.target=own.Net"),
            "Points-Net",
        ),
        (("model=custom", f"model.target=own.{'N' * 300}"), "dirichlet-" + "N" * 40),
    ],
)
def test_a_run_is_called_by_the_classes_of_a_person(words: tuple[str, ...], name: str) -> None:
    """Failed before: every run of one's own classes was called custom-custom."""
    assert config_of("data=dirichlet", *words).run_name == name


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("word", "text"),
    [
        (f"run.name={'n' * 201}", "run.name has 201 bytes"),
        (f"run.name='{'ü' * 101}'", "run.name has 202 bytes"),
        (f"run.dir=a/{'n' * 256}/b", "run.dir has a name of 256 bytes"),
        (f"run.root={'n' * 300}", "run.root has a name of 300 bytes"),
        (f"data.root={'n' * 300}", "data.root has a name of 300 bytes"),
    ],
)
def test_a_name_that_no_disk_takes_is_refused_before_anything_is_made(word: str, text: str) -> None:
    """Failed before: exit code 4, an empty folder of the day, and the day's name in the message."""
    with pytest.raises(ConfigError, match=text) as caught:
        config_of("data=mnist", word)
    assert len(str(caught.value)) < 200


@pytest.mark.fault("N")
@pytest.mark.parametrize("group", ["model", "data"])
def test_an_argument_that_begins_with_an_underscore_is_named(group: str) -> None:
    """Failed before: "this config asks to run code"."""
    words = (f"{group}=custom", f"{group}.target=own.Net", f"+{group}.kwargs._hidden=3")
    others = ("data=dirichlet",) if group == "model" else ("model=mlp",)
    with pytest.raises(ConfigError, match="begins with an underscore") as caught:
        config_of(*others, *words)
    assert f"config: {group}.kwargs._hidden begins with" in str(caught.value)
    assert "such as hidden." in str(caught.value)
