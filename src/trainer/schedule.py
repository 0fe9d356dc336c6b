"""The learning rate over a run: pure functions of how far it has come, so that resuming needs no
replay.

Each formula is that of the torch scheduler of the same name, in closed form. Only `plateau`
remembers anything.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from trainer.state_checks import NUMBER, NUMBER_OR_NONE, Count, check


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run stands: completed updates and epochs, and the updates of the whole run."""

    step: int
    epoch: int
    num_steps: int


# From a point and the learning rate of the config to the learning rate of the next update.
Curve = Callable[[Point, float], float]


def step_curve(*, step_size: int, gamma: float) -> Curve:
    """lr gamma^floor(epoch / step_size), as `StepLR`."""
    return lambda at, lr: lr * gamma ** (at.epoch // step_size)


def multistep_curve(*, milestones: list[int], gamma: float) -> Curve:
    """lr gamma^(number of milestones passed), as `MultiStepLR`."""
    ordered = sorted(milestones)
    return lambda at, lr: lr * gamma ** bisect_right(ordered, at.epoch)


def exponential_curve(*, gamma: float) -> Curve:
    """lr gamma^epoch, as `ExponentialLR`."""
    return lambda at, lr: lr * gamma**at.epoch


def cosine_curve(*, t_max: int | None, eta_min: float) -> Curve:
    """eta_min + (lr - eta_min) (1 + cos(pi step / t_max)) / 2, as `CosineAnnealingLR`, and
    eta_min past the end.
    """

    def curve(at: Point, lr: float) -> float:
        end = t_max or at.num_steps
        return eta_min + (lr - eta_min) * (1 + math.cos(math.pi * min(at.step, end) / end)) / 2

    return curve


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle:
    """Up from max_lr / div_factor, and down to that / final_div_factor, as `OneCycleLR` (Smith
    and Topin, 2018).
    """

    max_lr: float | None
    pct_start: float
    anneal_strategy: str
    cycle_momentum: bool
    base_momentum: float
    max_momentum: float
    div_factor: float
    final_div_factor: float

    def learning_rate(self, at: Point, lr: float) -> float:
        """The learning rate of the next update; `lr` is the top unless `max_lr` is set."""
        top = lr if self.max_lr is None else self.max_lr
        start = top / self.div_factor
        return self._interpolate(at, start, top, start / self.final_div_factor)

    def momentum(self, at: Point) -> float:
        """The momentum of the next update: the other way round."""
        return self._interpolate(at, self.max_momentum, self.base_momentum, self.max_momentum)

    def _interpolate(self, at: Point, start: float, top: float, end: float) -> float:
        turn, last = self.pct_start * at.num_steps - 1, at.num_steps - 1
        step = min(at.step, last)
        if step <= turn:
            return self._anneal(start, top, step / turn if turn else 1.0)
        return self._anneal(top, end, (step - turn) / (last - turn))

    def _anneal(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class Plateau:
    """Multiplies the learning rate by `factor` when the metric has stopped improving, as
    `ReduceLROnPlateau`.
    """

    def __init__(
        self,
        *,
        factor: float,
        patience: int,
        threshold: float,
        cooldown: int,
        min_lr: float,
        maximize: bool,
    ) -> None:
        self._factor, self._patience, self._threshold, self._cooldown = (
            factor,
            patience,
            threshold,
            cooldown,
        )
        self._min_lr, self._maximize = min_lr, maximize
        self._scale, self._best, self._num_bad, self._resting = (
            1.0,
            -math.inf if maximize else math.inf,
            0,
            0,
        )

    def learning_rate(self, at: Point, lr: float) -> float:
        """The learning rate of the next update."""
        return max(lr * self._scale, min(lr, self._min_lr))

    def observe(self, value: float) -> None:
        """Take in the monitored metric after an evaluation."""
        margin = 1 + self._threshold if self._maximize else 1 - self._threshold
        is_better = value > self._best * margin if self._maximize else value < self._best * margin
        if is_better:
            self._best, self._num_bad = value, 0
        else:
            self._num_bad += 1
        if self._resting:
            self._resting, self._num_bad = self._resting - 1, 0
        if self._num_bad > self._patience:
            self._scale *= self._factor
            self._resting, self._num_bad = self._cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""
        return {
            "scale": self._scale,
            "best": self._best,
            "num_bad": self._num_bad,
            "resting": self._resting,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; raises ValueError for any other."""
        check(state, scale=NUMBER, best=NUMBER_OR_NONE, num_bad=Count, resting=Count)
        self._scale, self._best = state["scale"], state["best"]
        self._num_bad, self._resting = state["num_bad"], state["resting"]


class Schedule:
    """Sets the learning rate (and for one_cycle the momentum) of an optimizer before each update.

    Warm-up multiplies the rate by (step + 1) / warmup_steps while step < warmup_steps; the curve
    under it runs from the first update on, so that milestones and the end of a cosine stay where
    they are.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        name: str,
        *,
        num_steps: int,
        warmup_steps: int,
        maximize: bool,
        **options: Any,
    ):
        self._optimizer, self._num_steps, self._warmup_steps = (
            optimizer,
            max(1, num_steps),
            warmup_steps,
        )
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self._plateau = Plateau(maximize=maximize, **options) if name == "plateau" else None
        self._one_cycle = OneCycle(**options) if name == "one_cycle" else None
        self._curve = self._make_curve(name, options)
        self.apply(step=0, epoch=0)

    def _make_curve(self, name: str, options: dict[str, Any]) -> Curve:
        if self._plateau is not None:
            return self._plateau.learning_rate
        if self._one_cycle is not None:
            return self._one_cycle.learning_rate
        if name == "constant":
            return lambda at, lr: lr
        makers: dict[str, Callable[..., Curve]] = {
            "step": step_curve,
            "multistep": multistep_curve,
            "exponential": exponential_curve,
            "cosine": cosine_curve,
        }
        return makers[name](**options)

    @property
    def learning_rate(self) -> float:
        """The learning rate that was applied last (to the first parameter group)."""
        return float(self._optimizer.param_groups[0]["lr"])

    def apply(self, *, step: int, epoch: int) -> None:
        """Set what the next update uses, after `step` updates and `epoch` epochs."""
        at = Point(step, epoch, self._num_steps)
        warmth = min(1.0, (step + 1) / self._warmup_steps) if self._warmup_steps else 1.0
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = self._curve(at, base) * warmth
            if self._one_cycle is not None and self._one_cycle.cycle_momentum:
                _set_momentum(group, self._one_cycle.momentum(at))

    def after_evaluation(self, monitored: float) -> None:
        """Pass the monitored metric to `plateau`; `apply` then uses it."""
        if self._plateau is not None:
            self._plateau.observe(monitored)

    def state_dict(self) -> dict[str, Any]:
        """What `plateau` remembers; the other schedules need nothing."""
        return {} if self._plateau is None else self._plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; the state of another schedule is not used."""
        if self._plateau is not None and state:
            self._plateau.load_state_dict(state)


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    # A momentum of 0 is the person's choice and stays; torch would give one to an SGD that has
    # none.
    if group.get("momentum"):
        group["momentum"] = momentum
    elif "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
