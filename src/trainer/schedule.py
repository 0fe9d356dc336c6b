"""The learning rate over a run, a pure function of its progress: a resume needs no replay.

Each formula is that of the torch scheduler of the same name, in closed form. Only `plateau` has a
state.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from trainer.state_checks import NUMBER, NUMBER_OR_NONE, Count, StateDict, check


@dataclass(frozen=True, slots=True)
class Point:
    """The progress of a run: completed updates and epochs, and its place among `num_steps` updates.

    `place` is `step`, unless something that changes the updates of an epoch was changed since: then
    `place / num_steps` is the share of the run that is done.
    """

    step: int
    epoch: int
    place: int
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
    """eta_min + (lr - eta_min) (1 + cos(pi step / t_max)) / 2, as `CosineAnnealingLR`.

    It stays at eta_min from step t_max on; None is the end of the run.
    """

    def curve(at: Point, lr: float) -> float:
        # t_max is a number of updates, as `step` is; the end of the run goes with `place`.
        step, end = (at.place, at.num_steps) if t_max is None else (at.step, t_max)
        return eta_min + (lr - eta_min) * (1 + math.cos(math.pi * min(step, end) / end)) / 2

    return curve


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle:
    """Up from max_lr / div_factor, and down to that / final_div_factor, as `OneCycleLR`.

    After Smith and Topin, Super-Convergence, 2018.
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
        turn = self.pct_start * at.num_steps - 1
        last = at.num_steps - 1
        step = min(at.place, last)
        # A rise of a single step has no length to divide by: it begins at the top.
        if step <= turn:
            return self._anneal(start, top, step / turn if turn else 1.0)
        return self._anneal(top, end, (step - turn) / (last - turn))

    def _anneal(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class Plateau:
    """Multiplies the rate by `factor` on a plateau of the metric, as `ReduceLROnPlateau`."""

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
        self._factor = factor
        self._patience = patience
        self._threshold = threshold
        self._cooldown = cooldown
        self._min_lr = min_lr
        self._maximize = maximize
        self._scale = 1.0
        self._best = -math.inf if maximize else math.inf
        self._num_bad = 0
        self._resting = 0

    def learning_rate(self, _: Point, lr: float) -> float:
        """The learning rate of the next update."""
        # A min_lr above the rate of the config must not raise it.
        return max(lr * self._scale, min(lr, self._min_lr))

    def observe(self, value: float) -> None:
        """Take in the monitored metric after an evaluation."""
        if self._maximize:
            is_better = value > self._best * (1 + self._threshold)
        else:
            is_better = value < self._best * (1 - self._threshold)
        if is_better:
            self._best = value
            self._num_bad = 0
        else:
            self._num_bad += 1
        # In torch's order: no evaluation of the rest counts as bad, its last one included.
        if self._resting:
            self._resting -= 1
            self._num_bad = 0
        if self._num_bad > self._patience:
            self._scale *= self._factor
            self._resting = self._cooldown
            self._num_bad = 0

    def state_dict(self) -> StateDict:
        """The scale reached, the best metric, and the evaluations counted."""
        return {
            "scale": self._scale,
            "best": self._best,
            "num_bad": self._num_bad,
            "resting": self._resting,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore what `state_dict` gave; raises ValueError for anything else."""
        check(state, scale=NUMBER, best=NUMBER_OR_NONE, num_bad=Count, resting=Count)
        self._scale = state["scale"]
        self._best = state["best"]
        self._num_bad = state["num_bad"]
        self._resting = state["resting"]


class Schedule:
    """Sets the learning rate (and for one_cycle the momentum) of an optimizer before each update.

    Warm-up multiplies the rate by (step + 1) / warmup_steps while step < warmup_steps. The curve
    under it starts at the first update, so it moves neither milestones nor the end of a cosine.
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
        self._optimizer = optimizer
        self._num_steps = max(1, num_steps)  # a cosine divides by it, with trainer.epochs=0 too
        self._moved_by = 0
        self._warmup_steps = warmup_steps
        # Of the config, before any state is loaded: a resume may set another rate.
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self._plateau = Plateau(maximize=maximize, **options) if name == "plateau" else None
        self._one_cycle = OneCycle(**options) if name == "one_cycle" else None
        self._curve = self._make_curve(name, options)
        self.apply(step=0, epoch=0)

    def _make_curve(self, name: str, options: dict[str, object]) -> Curve:
        if self._plateau is not None:
            return self._plateau.learning_rate
        if self._one_cycle is not None:
            return self._one_cycle.learning_rate
        if name == "constant":
            return lambda _, lr: lr
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

    def move(self, *, by: int, num_steps: int) -> None:
        """Be `by` updates further from now on, in a run of `num_steps` updates.

        For a run that continues with more or fewer updates an epoch than it began with: curves over
        the whole run then follow the share of the run that is done. Warm-up and `t_max`, which a
        person gives in updates, count the updates that were made.
        """
        self._moved_by = by
        self._num_steps = max(1, num_steps)

    def apply(self, *, step: int, epoch: int) -> None:
        """Set what the next update uses, after `step` updates and `epoch` epochs."""
        at = Point(step, epoch, step + self._moved_by, self._num_steps)
        warmth = min(1.0, (step + 1) / self._warmup_steps) if self._warmup_steps else 1.0
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = self._curve(at, base) * warmth
            if self._one_cycle is not None and self._one_cycle.cycle_momentum:
                _set_momentum(group, self._one_cycle.momentum(at))

    def after_evaluation(self, monitored: float) -> None:
        """Pass the monitored metric to `plateau`; `apply` then uses it."""
        if self._plateau is not None:
            self._plateau.observe(monitored)

    def state_dict(self) -> StateDict:
        """The state of `plateau`; the other schedules have none."""
        return {} if self._plateau is None else self._plateau.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Restore what `state_dict` gave; the state of another schedule is not used."""
        if self._plateau is not None and state:
            self._plateau.load_state_dict(state)


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    # A momentum of 0 is the person's choice; torch's scheduler would replace it.
    if group.get("momentum"):
        group["momentum"] = momentum
    elif "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
