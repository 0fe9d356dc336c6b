"""Which jobs a sweep has, and what tells one sweep, and one job, from another."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from composing import config_of
from hypothesis import given
from hypothesis import strategies as st

from trainer.cli.arguments import Arguments
from trainer.cli.compose import sweep_request
from trainer.cli.verbs import VERBS
from trainer.commands.sweep import plan
from trainer.config.sweep import Axis
from trainer.errors import ConfigError, UsageError

# Each test composes configs with Hydra, 60 ms a time.
pytestmark = pytest.mark.long

BASE = ("data=dirichlet", "model=mlp")
LR = Axis(key="optimizer.lr", values=("0.1", "0.2"))
SEED = Axis(key="seed", values=("0", "1", "2"))


def identity(*words: str) -> str:
    with sweep_request(Arguments.parse(VERBS["fit"], ["-m", *words])) as request:
        return plan.identity(request, plan.check(request, []))


@given(st.lists(st.integers(1, 5), max_size=4))
def test_a_grid_has_every_combination_once(sizes: list[int]) -> None:
    axes = [Axis(key=f"k{i}", values=tuple(map(str, range(size)))) for i, size in enumerate(sizes)]
    jobs = plan.grid(axes)
    assert len(jobs) == math.prod(sizes)
    assert [tuple(job.values()) for job in jobs] == list(
        itertools.product(*(axis.values for axis in axes))
    )
    assert all(list(job) == [axis.key for axis in axes] for job in jobs)


def test_the_last_key_varies_fastest() -> None:
    assert [tuple(job.values()) for job in plan.grid([LR, SEED])][:4] == [
        ("0.1", "0"),
        ("0.1", "1"),
        ("0.1", "2"),
        ("0.2", "0"),
    ]


def test_an_interval_has_no_grid() -> None:
    with pytest.raises(UsageError, match="lr is an interval"):
        plan.grid([SEED, Axis(key="optimizer.lr", low=0.1, high=0.2)])


def test_more_jobs_than_anybody_waits_for() -> None:
    hundred = tuple(map(str, range(100)))
    with pytest.raises(UsageError, match="10,000 jobs"):
        plan.grid(
            [dataclasses.replace(SEED, values=hundred), dataclasses.replace(LR, values=hundred)]
        )


def test_the_first_values_show_whether_a_command_is_right_and_every_choice_of_a_group() -> None:
    axes = [
        LR,
        Axis(key="model", values=("mlp", "linear")),
        Axis(key="data.size", low=2, high=9, is_int=True),
    ]
    assert list(plan.samples(axes)) == [
        {"optimizer.lr": "0.1", "model": "mlp", "data.size": "2"},
        {"optimizer.lr": "0.1", "model": "linear", "data.size": "2"},
    ]


SAME = [
    (("seed=0,1", "optimizer.lr=0.1,0.2"), ("optimizer.lr=0.2,0.1", "seed=1,0")),
    (("seed=0,1", "trainer.epochs=2"), ("trainer.epochs=2", "seed=0,1")),
    (("seed=0,1",), ("seed=range(0,2)", "sweep.jobs=1")),
    (
        ("seed=0,1",),
        ("seed=0,1", "run.root=elsewhere", "sweep.retry_failed=false", "sweep.fresh=true"),
    ),
    (("seed=0,1", "sweep=random"), ("seed=0,1", "sweep=random", "sweep.trials=50", "sweep.jobs=2")),
]
DIFFERENT = [
    (("seed=0,1",), ("seed=0,1,2",)),
    (("seed=0,1",), ("seed=0,1", "trainer.epochs=2")),
    (("seed=0,1",), ("seed=0,1", "run.name=mine")),
    (("seed=0,1",), ("seed=0,1", "sweep=random")),
    (("seed=0,1", "sweep=random"), ("seed=0,1", "sweep=random", "sweep.seed=1")),
    (("seed=0,1", "sweep=random"), ("seed=0,1", "sweep=optuna")),
    (
        ("optimizer.lr=interval(0.1,1)", "sweep=optuna"),
        ("optimizer.lr=interval(0.1,0.9)", "sweep=optuna"),
    ),
    (
        ("optimizer.lr=interval(0.1,1)", "sweep=optuna"),
        ("optimizer.lr=tag(log,interval(0.1,1))", "sweep=optuna"),
    ),
    (("seed=0,1", "sweep=optuna"), ("seed=0,1", "sweep=optuna", "sweep.pruner=none")),
    (("data.batch_size=1,2", "seed=3"), ("data.eval_batch_size=1,2", "seed=3")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_commands_that_ask_for_the_same_jobs(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert identity(*BASE, *one) == identity(*BASE, *other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_commands_that_ask_for_other_jobs(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert identity(*BASE, *one) != identity(*BASE, *other)


def test_the_hash_of_a_config_is_of_what_it_trains() -> None:
    first = plan.config_hash(config_of(*BASE))
    assert plan.config_hash(config_of(*BASE, "run.dir=mine", "seed=0")) == first
    for word in ("seed=1", "optimizer.lr=0.3", "trainer.threads=2", "logger=none"):
        assert plan.config_hash(config_of(*BASE, word)) != first


def test_a_command_is_wrong_when_all_its_jobs_are() -> None:
    with (
        sweep_request(Arguments.parse(VERBS["fit"], ["-m", *BASE, "seed=-1,-2"])) as request,
        pytest.raises(ConfigError, match="seed=-1"),
    ):
        plan.check(request, plan.grid(request.axes))
    for values in ("-1,0", "0,-1"):
        with sweep_request(
            Arguments.parse(VERBS["fit"], ["-m", *BASE, f"seed={values}"])
        ) as request:
            assert [config.seed for config in plan.check(request, plan.grid(request.axes))] == [0]
