"""How far a run is and when it ends. The counters mean completed work and live here only."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from trainer.config.comparison import is_maximized
from trainer.state_checks import LARGEST, NUMBER, NUMBER_OR_NONE, Count, StateDict, check

if TYPE_CHECKING:
    from trainer.config.checks import Cadence
    from trainer.data.batches import Batches

# Updates between two records of training, unless epochs are short.
_LOG_EVERY = 50


class StopReason(StrEnum):
    """Why training ended."""

    DONE = "done"  # its limits are reached
    PATIENCE = "patience"  # the monitored metric no longer improves
    PRUNED = "pruned"  # a search ended it early
    STOPPED = "stopped"  # a signal


@dataclass(slots=True)
class Progress:
    """Completed epochs, batches of the current epoch, updates, samples; seconds of training."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    seconds: float = 0.0

    def count_batch(self, num_samples: int, *, is_update: bool, is_epoch_end: bool) -> None:
        """Count a completed batch, and with it an update or an epoch."""
        self.batch += 1
        self.samples += num_samples
        self.step += is_update
        if is_epoch_end:
            self.epoch += 1
            self.batch = 0

    def counters(self) -> dict[str, int]:
        """The counters by name, without the time."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "samples": self.samples,
        }

    def state_dict(self) -> StateDict:
        """All fields by name."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: StateDict) -> None:
        """Restore what `state_dict` returned; raises ValueError for anything else."""
        check(state, epoch=Count, batch=Count, step=Count, samples=Count, seconds=NUMBER)
        if not 0 <= state["seconds"] < LARGEST:
            raise ValueError("seconds is out of range")
        for name, value in state.items():
            setattr(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run is over, and how many batches make an update."""

    epochs: int
    max_steps: int | None
    accumulate: int

    def are_reached(self, progress: Progress) -> bool:
        """Whether no batch is left to train on."""
        if self.max_steps is not None and progress.step >= self.max_steps:
            return True
        return progress.epoch >= self.epochs

    def updates_per_epoch(self, num_batches: int) -> int:
        """Updates in an epoch of `num_batches`: its last window may be short."""
        return -(-num_batches // self.accumulate)  # rounded up, in integers

    def log_every(self, num_batches: int) -> int:
        """Updates between two records of training by default: of a short epoch a quarter."""
        per_epoch = self.updates_per_epoch(num_batches)
        # An epoch of one update has its own record, with the same values.
        return _LOG_EVERY if per_epoch == 1 else max(1, min(_LOG_EVERY, per_epoch // 4))

    def place(self, done: Progress, num_batches: int) -> int:
        """Updates up to `done` in a run that had `num_batches` an epoch from its start.

        That is `done.step`, unless the batches of an epoch or of an update were changed since.
        """
        return done.epoch * self.updates_per_epoch(num_batches) + done.batch // self.accumulate

    def is_ended_by_steps(self, done: Progress, num_batches: int) -> bool:
        """Whether the run reaches `max_steps` before its last epoch ends."""
        if self.max_steps is None:
            return False
        left = self.epochs * self.updates_per_epoch(num_batches) - self.place(done, num_batches)
        return self.max_steps - done.step < left

    def num_left(self, done: Progress, num_batches: int) -> int:
        """Updates that are left after `done`."""
        if self.is_ended_by_steps(done, num_batches):
            assert self.max_steps is not None
            return max(0, self.max_steps - done.step)
        whole = self.epochs * self.updates_per_epoch(num_batches)
        return max(0, whole - self.place(done, num_batches))

    def num_updates(self, num_batches: int, done: Progress | None = None) -> int:
        """Updates of the whole run, for `num_batches` an epoch from `done` on."""
        done = done or Progress()
        return done.step + self.num_left(done, num_batches)

    def num_epochs(self, num_batches: int, done: Progress | None = None) -> int:
        """Epochs that the whole run reaches into."""
        done = done or Progress()
        end = self.place(done, num_batches) + self.num_left(done, num_batches)
        return min(self.epochs, -(-end // max(1, self.updates_per_epoch(num_batches))))

    def num_samples(self, batches: Batches, done: Progress | None = None) -> int:
        """About how many samples the whole run trains on.

        It is exact for a run that begins and ends with an epoch.
        """
        done = done or Progress()
        num_left = self.num_left(done, batches.num_batches)
        num_epochs = num_left / self.updates_per_epoch(batches.num_batches)
        return done.samples + round(num_epochs * batches.num_samples)


class CadenceTimer:
    """A cadence such as `1epoch`, `50steps` or `10min`, counted from the start of the process."""

    def __init__(self, cadence: Cadence) -> None:
        self._cadence = cadence
        # The clock on the wall may be set back an hour, and then no save would be due.
        self._since = time.monotonic()

    def is_due(self, progress: Progress, *, is_epoch_end: bool) -> bool:
        """Whether the update that `progress` just counted is one of the cadence."""
        count = self._cadence.count
        match self._cadence.unit:
            case "epoch":
                return is_epoch_end and progress.epoch % int(count) == 0
            case "step":
                return progress.step % int(count) == 0
        is_due = time.monotonic() - self._since >= 60 * count
        if is_due:
            self._since = time.monotonic()
        return is_due


class Monitor:
    """The best value of one metric, and the evaluations since.

    `should_prune`, in a search, gets each value and returns whether that ends the run.
    """

    def __init__(
        self,
        metric: str,
        *,
        patience: int | None,
        should_prune: Callable[[float], bool] | None = None,
    ) -> None:
        self.metric = metric
        self.patience = patience
        self.maximize = is_maximized(metric)
        self._should_prune = should_prune
        self._is_pruned = False
        self.forget()

    def forget(self) -> None:
        """Start afresh: the checkpoint of the best value is missing."""
        self.best: float | None = None
        self.best_step = 0
        self.num_stale = 0

    def update(self, value: float, step: int) -> bool:
        """Add the value of an evaluation; returns whether it is the best so far. A NaN never is."""
        is_best = self._is_better(value)
        if is_best:
            self.best = value
            self.best_step = step
            self.num_stale = 0
        else:
            self.num_stale += 1
        self._is_pruned = self._should_prune is not None and self._should_prune(value)
        return is_best

    def _is_better(self, value: float) -> bool:
        # An infinity would stay the best for ever.
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        return value > self.best if self.maximize else value < self.best

    @property
    def stop_reason(self) -> StopReason:
        """PRUNED or PATIENCE when the last evaluation ends the run, else DONE."""
        if self._is_pruned:
            return StopReason.PRUNED
        if self.patience is not None and self.num_stale >= self.patience:
            return StopReason.PATIENCE
        return StopReason.DONE

    def state_dict(self) -> StateDict:
        """The metric, its best value, the step of that, and the evaluations since."""
        state: StateDict = {
            "metric": self.metric,
            "best": self.best,
            "best_step": self.best_step,
            "num_stale": self.num_stale,
        }
        return state | {"is_pruned": True} if self._is_pruned else state

    def load_state_dict(self, state: StateDict) -> None:
        """Restore what `state_dict` returned, unless of another metric; raises ValueError."""
        pruned = {"is_pruned": bool}
        check(state, pruned, metric=str, best=NUMBER_OR_NONE, best_step=Count, num_stale=Count)
        # A best accuracy is no bound for a loss.
        if state["metric"] == self.metric:
            self.best = state["best"]
            self.best_step = state["best_step"]
            self.num_stale = state["num_stale"]
        # A kill came between this save and the end of the run. Who resumes it alone trains on.
        self._is_pruned = self._should_prune is not None and state.get("is_pruned", False)
