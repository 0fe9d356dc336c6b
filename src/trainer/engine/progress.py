"""How far a run has come. The counters mean completed work and live here only."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from trainer.config.checks import Cadence
from trainer.state_checks import LARGEST, NUMBER, NUMBER_OR_NONE, Count, check


class StopReason(StrEnum):
    """Why training ended."""

    DONE = "done"  # its limits are reached
    PATIENCE = "patience"  # the monitored metric no longer improves
    PRUNED = "pruned"  # a search gave the run up
    STOPPED = "stopped"  # a signal


@dataclass(slots=True)
class Progress:
    """Completed epochs, batches of the current epoch, steps (optimizer updates), samples;
    seconds of training.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    seconds: float = 0.0

    def count_batch(self, num_samples: int, *, updates: bool, ends_epoch: bool) -> None:
        """One more batch is complete, and with it an update or an epoch."""
        self.batch, self.samples, self.step = (
            self.batch + 1,
            self.samples + num_samples,
            self.step + updates,
        )
        if ends_epoch:
            self.epoch, self.batch = self.epoch + 1, 0

    def counters(self) -> dict[str, int]:
        """The counters by name, without the time."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "samples": self.samples,
        }

    def state_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; raises ValueError for any other."""
        check(state, epoch=Count, batch=Count, step=Count, samples=Count, seconds=NUMBER)
        if not 0 <= state["seconds"] < LARGEST:
            raise ValueError("seconds is out of range")
        for name, value in state.items():
            setattr(self, name, value)


class Due:
    """Whether it is time again, for a cadence such as `1epoch`, `50steps` or `10min`."""

    def __init__(self, cadence: Cadence) -> None:
        self._cadence, self._since = cadence, time.monotonic()

    def is_due(self, progress: Progress, *, ends_epoch: bool) -> bool:
        """Asked after every update, and again when the update `ends_epoch` (progress.epoch then
        counts it).
        """
        count, unit = self._cadence.count, self._cadence.unit
        if unit == "epoch":
            return ends_epoch and progress.epoch % int(count) == 0
        if unit == "step":
            return progress.step % int(count) == 0
        if time.monotonic() - self._since < 60 * count:
            return False
        self._since = time.monotonic()
        return True


class Monitor:
    """The best value of one metric, and for how many evaluations it has not been beaten.

    `judge` is shown each value, and says whether the run is worth no more time: see `is_pruned`.
    """

    def __init__(
        self,
        metric: str,
        *,
        patience: int | None,
        judge: Callable[[float], bool] = lambda value: False,
    ) -> None:
        self.metric, self.patience, self._judge = metric, patience, judge
        self.maximize = metric.endswith("accuracy")
        self.best: float | None = None
        self.best_step = 0
        self.num_stale = 0
        self.is_pruned = False

    def update(self, value: float, step: int) -> bool:
        """Take in a new value; returns whether it is the best so far. A NaN never is."""
        is_better = math.isfinite(value) and (
            self.best is None or (value > self.best if self.maximize else value < self.best)
        )
        if is_better:
            self.best, self.best_step, self.num_stale = value, step, 0
        else:
            self.num_stale += 1
        self.is_pruned = self._judge(value)
        return is_better

    def forget(self) -> None:
        """Begin anew: the checkpoint of the best value is not there."""
        self.best, self.best_step, self.num_stale = None, 0, 0

    @property
    def is_exhausted(self) -> bool:
        """Whether patience is over."""
        return self.patience is not None and self.num_stale >= self.patience

    @property
    def verdict(self) -> str:
        """Why a run should end now: `pruned` or `patience`; `done` when nothing but its limits ends it."""
        return "pruned" if self.is_pruned else "patience" if self.is_exhausted else "done"

    def state_dict(self) -> dict[str, Any]:
        """Best value, its step, and the evaluations since."""
        return {
            "metric": self.metric,
            "best": self.best,
            "best_step": self.best_step,
            "num_stale": self.num_stale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; another metric starts afresh. Raises ValueError."""
        check(state, metric=str, best=NUMBER_OR_NONE, best_step=Count, num_stale=Count)
        if state["metric"] == self.metric:
            self.best, self.best_step, self.num_stale = (
                state["best"],
                state["best_step"],
                state["num_stale"],
            )
