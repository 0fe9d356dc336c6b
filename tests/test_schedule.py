"""Schedules in closed form: each equals the torch scheduler of its name, and can start anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from trainer.schedule import Schedule

STEPS_PER_EPOCH, EPOCHS = 7, 6
TOTAL = STEPS_PER_EPOCH * EPOCHS


def make_sgd(**options: Any) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, **options)


def ours(name: str, optimizer: torch.optim.Optimizer | None = None, **options: Any) -> Schedule:
    options = {"warmup_steps": 0, "num_steps": TOTAL, "maximize": True, **options}
    return Schedule(optimizer or make_sgd(), name, **options)


Maker = Callable[[torch.optim.Optimizer], Any]
ONE_CYCLE = {
    "pct_start": 0.3,
    "anneal_strategy": "cos",
    "cycle_momentum": True,
    "base_momentum": 0.85,
    "max_momentum": 0.95,
    "div_factor": 25.0,
    "final_div_factor": 1e4,
}
BY_EPOCH: list[tuple[str, dict[str, Any], Maker]] = [
    ("step", {"step_size": 2, "gamma": 0.3}, lambda o: lr_scheduler.StepLR(o, 2, 0.3)),
    (
        "multistep",
        {"milestones": [4, 1], "gamma": 0.5},
        lambda o: lr_scheduler.MultiStepLR(o, [1, 4], 0.5),
    ),
    ("exponential", {"gamma": 0.8}, lambda o: lr_scheduler.ExponentialLR(o, 0.8)),
]
BY_STEP: list[tuple[str, dict[str, Any], Maker]] = [
    ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    (
        "cosine",
        {"t_max": None, "eta_min": 0.001},
        lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, 0.001),
    ),
    (
        "one_cycle",
        {"max_lr": None, **ONE_CYCLE},
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, TOTAL, **ONE_CYCLE),  # type: ignore[arg-type]
    ),
    (
        "one_cycle",
        {"max_lr": 0.4, **ONE_CYCLE, "anneal_strategy": "linear", "pct_start": 0.5},
        lambda o: lr_scheduler.OneCycleLR(
            o,
            0.4,
            TOTAL,
            **{**ONE_CYCLE, "anneal_strategy": "linear", "pct_start": 0.5},  # type: ignore[arg-type]
        ),
    ),
]


@pytest.mark.parametrize(
    ("name", "options", "make"), BY_EPOCH, ids=lambda value: value if isinstance(value, str) else ""
)
def test_epoch_schedules_equal_torch(name: str, options: dict[str, Any], make: Maker) -> None:
    optimizer = make_sgd()
    theirs, schedule = make(optimizer), ours(name, **options)
    for step in range(TOTAL):
        schedule.apply(step=step, epoch=step // STEPS_PER_EPOCH)
        assert schedule.learning_rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if (step + 1) % STEPS_PER_EPOCH == 0:
            theirs.step()


@pytest.mark.parametrize(
    ("name", "options", "make"), BY_STEP, ids=lambda value: value if isinstance(value, str) else ""
)
def test_step_schedules_equal_torch(name: str, options: dict[str, Any], make: Maker) -> None:
    optimizer, mine = make_sgd(momentum=0.9), make_sgd(momentum=0.9)
    theirs, schedule = make(optimizer), ours(name, mine, **options)
    for step in range(TOTAL):
        schedule.apply(step=step, epoch=0)
        assert schedule.learning_rate == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12
        )
        if name == "one_cycle":
            assert mine.param_groups[0]["momentum"] == pytest.approx(
                optimizer.param_groups[0]["momentum"], rel=1e-9
            )
        optimizer.step()
        if step + 1 < TOTAL:
            theirs.step()


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    maximize=st.booleans(),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 2),
)
def test_plateau_equals_torch(
    values: list[float], maximize: bool, patience: int, cooldown: int
) -> None:
    options: dict[str, Any] = {
        "factor": 0.5,
        "patience": patience,
        "threshold": 1e-4,
        "cooldown": cooldown,
        "min_lr": 0.01,
    }
    optimizer = make_sgd()
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, "max" if maximize else "min", **options)
    schedule = ours("plateau", **options, maximize=maximize)
    for value in values:
        theirs.step(value)
        schedule.after_evaluation(value)
        schedule.apply(step=0, epoch=0)
        assert schedule.learning_rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_plateau_goes_on_from_its_state() -> None:
    options: dict[str, Any] = {
        "factor": 0.5,
        "patience": 0,
        "threshold": 0.0,
        "cooldown": 0,
        "min_lr": 0.0,
    }
    first, second = ours("plateau", **options), ours("plateau", **options)
    for value in (0.5, 0.4, 0.3):
        first.after_evaluation(value)
    first.apply(step=0, epoch=0)
    second.load_state_dict(first.state_dict())
    second.apply(step=0, epoch=0)
    assert second.learning_rate == first.learning_rate == pytest.approx(0.025)


def test_warm_up_multiplies_the_curve_under_it() -> None:
    plain, warm = (
        ours("cosine", t_max=None, eta_min=0.0),
        ours("cosine", t_max=None, eta_min=0.0, warmup_steps=5),
    )
    for step in range(TOTAL):
        plain.apply(step=step, epoch=0)
        warm.apply(step=step, epoch=0)
        assert warm.learning_rate == pytest.approx(plain.learning_rate * min(1.0, (step + 1) / 5))


def test_one_cycle_gives_no_momentum_to_an_sgd_without_it() -> None:
    optimizer = make_sgd(momentum=0.0)
    ours("one_cycle", optimizer, max_lr=None, **ONE_CYCLE)
    assert optimizer.param_groups[0]["momentum"] == 0.0


def test_one_cycle_moves_the_first_beta_of_adam() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = ours("one_cycle", optimizer, max_lr=None, **ONE_CYCLE)
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.999)
    schedule.apply(step=12, epoch=0)
    assert optimizer.param_groups[0]["betas"][0] < 0.86


@pytest.mark.parametrize("num_steps", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_runs_of_few_steps_have_a_learning_rate(name: str, num_steps: int) -> None:
    options = {"t_max": None, "eta_min": 0.0} if name == "cosine" else {"max_lr": None, **ONE_CYCLE}
    schedule = ours(name, num_steps=num_steps, **options)
    for step in range(num_steps + 2):
        schedule.apply(step=step, epoch=0)
        assert 0 <= schedule.learning_rate <= 0.1 + 1e-9
