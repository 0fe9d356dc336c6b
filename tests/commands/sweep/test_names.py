"""The names of a sweep's folder and of its runs: which is which, and nothing that a path reads."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from composing import config_of
from hypothesis import given
from hypothesis import strategies as st

from trainer.cli.arguments import Arguments
from trainer.cli.compose import sweep_request
from trainer.cli.verbs import VERBS
from trainer.commands.sweep import plan
from trainer.commands.sweep.names import job_name, sweep_name
from trainer.commands.sweep.record import short
from trainer.config import FitConfig
from trainer.config.sweep import Axis, SweepRequest

DIRICHLET = config_of("data=dirichlet", "model=mlp")
HOSTILE = [
    "../../etc/passwd", "..", ".", "a/b", "a\\b", "-rf", "--help", "a b", "${optimizer.lr}",
    "$(reboot)", "`x`", "größe", "日本", "a\nb", "\x1b[2J", "\udcff", "x" * 300, "[1,2]", "{a: 1}",
    "''", "", "null", "con.", ".hidden", "1.2.3e5", "a;b|c&d", "*?", "~", "a=b", "%s", "1e999",
    "-" * 40,
]  # fmt: skip


def request_of(*axes: Axis, template: str | None = None) -> SweepRequest:
    """A request with these axes, and nothing else that a name needs."""
    unused: dict[str, Any] = {
        field.name: None for field in dataclasses.fields(SweepRequest) if field.name != "axes"
    }
    return SweepRequest(**(unused | {"axes": list(axes), "name_template": template}))


def named(
    values: Mapping[str, str],
    config: FitConfig = DIRICHLET,
    *,
    number: int = 3,
    others: Mapping[str, Sequence[str]] | None = None,
    template: str | None = None,
) -> str:
    """The name of a job with these values, whose keys have other values in `others`."""
    axes = [
        Axis(key=key, values=(value, *(others or {}).get(key, ("another",))))
        for key, value in values.items()
    ]
    return job_name(request_of(*axes, template=template), number, values, config)


def with_name(name: str) -> FitConfig:
    return dataclasses.replace(DIRICHLET, run=dataclasses.replace(DIRICHLET.run, name=name))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"optimizer.lr": "0.1", "seed": "3"}, "lr0.1-seed3"),
        ({"model": "mlp", "optimizer.lr": "0.1", "seed": "3"}, "lr0.1-seed3"),
        ({"data": "dirichlet", "model": "mlp", "optimizer": "adam"}, "adam"),
        ({"data.batch_size": "64", "model.hidden": "[64,128]"}, "batch_size64-hidden64-128"),
        ({"model.hidden": "[[64], [128, 64]]"}, "hidden64-128-64"),
        ({"optimizer.lr": "0.03162277660168379"}, "lr0.03162"),
        ({"optimizer.lr": "1e-05"}, "lr1e-05"),
        ({"model.kwargs.shift": "-0.5"}, "shift-0.5"),
        ({"model.kwargs.big": "123456789.12345"}, "big1.235e08"),
        ({"trainer.precision": "bf16"}, "precision_bf16"),
        ({"trainer.l1": "0.01"}, "l1_0.01"),
        ({"trainer.clip_norm": "null"}, "clip_norm_null"),
        ({"trainer.monitor": "val/loss"}, "monitor_val-loss"),
        ({"optimizer.lr": "0.1", "scheduler.lr": "0.2"}, "optimizer.lr0.1-scheduler.lr0.2"),
        ({"model.kwargs.a.x": "1", "model.kwargs.b.x": "2"}, "a.x1-b.x2"),
        ({"seed": "1", "data.seed": "2"}, "seed1-data.seed2"),
        ({"data.seed": "2"}, "data.seed2"),
        ({"experiment": "line", "trainer": "debug"}, "line-debug"),
    ],
)
def test_a_job_is_named_by_what_varies(values: dict[str, str], name: str) -> None:
    assert named(values) == f"003-dirichlet-mlp-{name}".removesuffix("-")


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("nets.First", "nets.Second"), ("dirichlet-First", "dirichlet-Second")),
        # Failed before: both were called dirichlet-Net.
        (("v1.Net", "v2.Net"), ("dirichlet-Net-target_v1.Net", "dirichlet-Net-target_v2.Net")),
    ],
)
def test_own_classes_are_told_apart(targets: Sequence[str], names: Sequence[str]) -> None:
    request = request_of(Axis(key="model.target", values=tuple(targets)))
    for number, (target, name) in enumerate(zip(targets, names, strict=True)):
        config = config_of("data=dirichlet", "model=custom", f"model.target={target}")
        found = job_name(request, number, {"model.target": target}, config)
        assert found == f"00{number}-{name}"


@pytest.mark.fault("N")
def test_choices_of_a_persons_own_are_told_apart() -> None:
    """Failed before: model=small and model=large, both an mlp, were called dirichlet-mlp."""
    large = {"model": ("large", "mlp")}
    assert named({"model": "small"}, others=large) == "003-dirichlet-mlp-small"
    template = "${model.name}"
    values = {"model": "small"}
    assert named(values, with_name("mlp"), template=template) == "003-mlp-small"
    assert named({"model": "mlp"}, others=large) == "003-dirichlet-mlp"


@pytest.mark.fault("N")
def test_no_number_is_cut_into_another_one() -> None:
    """Failed before: 16384 was written as 1638, and a seed of 1234 as 12."""
    sizes = {"model.hidden": "[1024,2048,4096,8192,16384]", "seed": "1"}
    assert named(sizes) == "003-dirichlet-mlp-hidden1024-2048-4096-8192-seed1"
    values = {
        "optimizer.weight_decay": "0.0005", "loss.label_smoothing": "0.05",
        "optimizer.momentum": "0.95", "data.batch_size": "128", "optimizer.lr": "0.0001234",
        "seed": "1",
    }  # fmt: skip
    found = named(values)
    expected = "weight_decay0.0005-label_smoothing0.05-momentum0.95-seed1"
    assert found == f"003-dirichlet-mlp-{expected}" and len(found) <= 80


@pytest.mark.fault("N")
def test_long_values_that_begin_alike_have_their_ends() -> None:
    """Failed before: both were called path_data-of-the-long-name."""
    key = "data.kwargs.path"
    paths = [f"/data/of/the/long/name/{end}.csv" for end in ("one", "two")]
    others = {key: paths}
    assert (
        named({key: paths[0]}, others=others) == "003-dirichlet-mlp-path_of-the-long-name-one.csv"
    )
    assert (
        named({key: paths[1]}, others=others) == "003-dirichlet-mlp-path_of-the-long-name-two.csv"
    )
    long = {key: [f"{'x' * 30}{end}" for end in "ab"]}
    names = {named({key: value}, others=long) for value in long[key]}
    assert len(names) == 2


def test_a_choice_that_may_be_of_two_groups_has_its_group() -> None:
    both = {"scheduler": ("linear", "cosine"), "loss": ("linear", "mse")}
    values = {"scheduler": "linear", "loss": "mse"}
    assert named(values, others=both) == "003-dirichlet-mlp-scheduler_linear-mse"


def test_a_key_with_one_value_does_not_vary() -> None:
    axes = (Axis(key="optimizer", values=("adam",)), Axis(key="optimizer.lr", low=0.1, high=0.2))
    values = {"optimizer": "adam", "optimizer.lr": "0.125"}
    assert job_name(request_of(*axes), 0, values, DIRICHLET) == "000-dirichlet-mlp-lr0.125"


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("study", "study", "study-mlp-lr0.1-seed3"),
        ("lr${optimizer.lr}", "lr0.1", "lr0.1-mlp-seed3"),
        ("lr${..optimizer.lr}", "lr0.1", "lr0.1-mlp-seed3"),
        ("${model.name}_${seed}", "mlp_3", "mlp_3-lr0.1"),
        (None, "of an experiment", "of an experiment-mlp-lr0.1-seed3"),
    ],
)
def test_a_run_name_that_has_a_value_has_it_once(
    template: str | None, name: str, expected: str
) -> None:
    values = {"model": "mlp", "optimizer.lr": "0.1", "seed": "3"}
    assert named(values, with_name(name), template=template) == f"003-{expected}"


@pytest.mark.fault("N")
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_make_safe_names(value: str) -> None:
    for key in ("model.kwargs.text", "model.kwargs.../../x", "loss", "größe"):
        names = [named({key: value, "seed": "1"}, number=number) for number in (3, 4)]
        assert len(set(names)) == 2
        for name in names:
            check_safe(name)
            assert name.endswith("-seed1"), "a long value leaves room for the others"


def check_safe(name: str) -> None:
    """One word of a shell and one part of a path, that no option begins with."""
    assert re.fullmatch(r"[0-9]{3,}[A-Za-z0-9._-]*[A-Za-z0-9]", name, re.ASCII), name
    assert ".." not in name and Path(name).name == name and shlex.quote(name) == name
    assert len(name) <= 80


@given(
    values=st.dictionaries(st.text(min_size=1), st.text(), max_size=12),
    number=st.integers(0, 10_000),
)
def test_any_values_make_a_safe_name(values: dict[str, str], number: int) -> None:
    name = named(values, number=number)
    check_safe(name)
    assert name.startswith(f"{number:03d}-dirichlet-mlp")


@pytest.mark.parametrize("name", ["n" * 200, "ü" * 100])
def test_a_long_run_name_leaves_room_for_the_values(name: str) -> None:
    found = named({"optimizer.lr": "0.1", "seed": "3"}, with_name(name))
    assert found.startswith(f"003-{name[:36]}") and found.endswith("-lr0.1-seed3")
    assert len(found) == 80


@pytest.mark.parametrize(
    ("value", "text"),
    [("1e-3", "0.001"), (".5e3", "500"), ("1.2.3e5", "1.2.3e5"), ("...e5", "...e5")],
)
def test_a_value_that_looks_like_a_number_is_not_always_one(value: str, text: str) -> None:
    assert short(value) == text


def identity_and_name(*words: str) -> tuple[list[str], str | None]:
    argv = ["-m", *words]
    with sweep_request(Arguments.parse(VERBS["fit"], argv)) as request:
        configs = plan.check(request, [])
        return plan.identities(request, configs), sweep_name(request, configs)


BY_LR = "run.name=lr${optimizer.lr}"


@pytest.mark.long
@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("optimizer.lr=0.1,0.2", "run.name=study"), "study"),
        (("optimizer.lr=0.1,0.2",), None),
        (("optimizer.lr=0.1,0.2", BY_LR), None),
        (("model=mlp,linear", "run.name=${model.name}"), None),
        (("seed=0,1", "run.name=seed${seed}"), None),
    ],
)
def test_the_folder_of_a_sweep_is_not_named_after_a_job(
    words: tuple[str, ...], name: str | None
) -> None:
    assert identity_and_name(*words)[1] == name


@pytest.mark.long
def test_experiments_that_name_their_runs_do_not_name_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    for name in ("one", "two"):
        text = f"# @package _global_\nrun:\n  name: {name}${{optimizer.lr}}\n"
        (folder / f"{name}.yaml").write_text(text)
    flags = (f"--config-dir={tmp_path}",)
    assert identity_and_name(*flags, "experiment=one,two")[1] is None
    assert identity_and_name(*flags, "experiment=one,two", "run.name=mine")[1] == "mine"
    argv = ["-m", *flags, "experiment=one,two"]
    with sweep_request(Arguments.parse(VERBS["fit"], argv)) as request:
        values = {"experiment": "two"}
        config = plan.config_of(request, values)
        assert job_name(request, 1, values, config) == "001-two0.05-two"


@pytest.mark.long
def test_a_name_of_the_jobs_is_part_of_the_identity_in_any_order_of_the_values() -> None:
    forth, _ = identity_and_name("optimizer.lr=0.1,0.2", BY_LR)
    back, _ = identity_and_name("optimizer.lr=0.2,0.1", BY_LR)
    without, _ = identity_and_name("optimizer.lr=0.2,0.1")
    assert forth[0] == back[0] != without[0]
    assert len(forth) == 2 and len(without) == 1, "a former version took the name of the first job"
