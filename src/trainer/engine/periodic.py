"""The work between updates, each at its own cadence: read the sums, log, evaluate, save."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from trainer.engine.evaluate import Evaluation
from trainer.engine.loop_state import MetricSums, PendingWork, TrainState
from trainer.engine.progress import CadenceTimer
from trainer.engine.step import NonFiniteError
from trainer.tracking import Tracker
from trainer.tracking.observer import Observer, Watch
from trainer.tracking.records import EpochRecord, TrainRecord


class Store(Protocol):
    """Where checkpoints go."""

    def save(
        self,
        step: int,
        *,
        progress: dict[str, int],
        metrics: Mapping[str, float | None],
        is_best: bool,
    ) -> object:
        """Save the state after `step`; raises EnvironmentFault when an earlier save failed."""

    def raise_failure(self) -> None:
        """Raise the EnvironmentFault of a save that failed since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadences:
    """How often the loop logs (in updates), evaluates and saves."""

    log_every: int
    eval_every: CadenceTimer
    save_every: CadenceTimer


class Periodic:
    """Logs, evaluates and saves at the `cadences`, and keeps the best checkpoint.

    `validate` is None without a validation set: then training metrics are monitored. `observer`
    gets the updates that it wants, `profile` the number of every one. `should_save` returns whether
    a save was requested from outside since the last call.
    """

    def __init__(
        self,
        state: TrainState,
        *,
        validate: Callable[[Watch | None], Evaluation] | None,
        tracker: Tracker,
        observer: Observer | None,
        profile: Callable[[int], None] | None,
        store: Store,
        should_save: Callable[[], bool],
        cadences: Cadences,
    ) -> None:
        self._state = state
        self._progress = state.progress
        self._loop = state.loop_state
        self._step = state.step
        self._validate = validate
        self._tracker = tracker
        self._observer = observer
        self._profile = profile
        self._store = store
        self._should_save = should_save
        self._cadences = cadences
        self._clock = self._epoch_clock = time.perf_counter()
        # A resume may begin within an epoch: the speed is that of this process.
        self._epoch_start = state.progress.samples
        self._window_seconds = 0.0

    def should_log(self, step: int) -> bool:
        """Whether the update that completes `step` closes a logging window."""
        return step % self._cadences.log_every == 0

    def should_keep(self, step: int) -> bool:
        """Whether the observer wants the update that completes `step`."""
        return self._observer is not None and self._observer.wants_update(step)

    def after_update(self, *, is_epoch_end: bool) -> None:
        """Log, evaluate and save, where due.

        Raises NonFiniteError when the device found a loss that is not finite (a GPU is read only
        here), and EvaluationStopped when a stop signal arrives during the evaluation.
        """
        progress = self._progress
        self._loop.learning_rate = self._state.schedule.learning_rate
        is_log_due = self.should_log(progress.step)
        is_eval_due = self._cadences.eval_every.is_due(progress, is_epoch_end=is_epoch_end)
        # Outside of the `or`, which would keep the request for later where a save is due anyway.
        is_save_requested = self._should_save()
        is_save_due = (
            self._cadences.save_every.is_due(progress, is_epoch_end=is_epoch_end)
            or is_save_requested
        )
        if is_log_due or is_eval_due or is_epoch_end:
            self._read_sums()
        elif is_save_due:
            self._check_finite()
        if is_log_due:
            self._log()
            # A save is written beside the training: its failure must not wait for the next save.
            self._store.raise_failure()
        if self._observer is not None and (update := self._step.pop_update()) is not None:
            self._observer.update(progress.step, update)
        if self._profile is not None:
            with self._pause():
                self._profile(progress.step)
        self._complete(
            PendingWork(evaluates=is_eval_due, ends_epoch=is_epoch_end, saves=is_save_due)
        )

    def catch_up(self) -> None:
        """Do the work that a stop interrupted before the checkpoint was made."""
        if self._loop.pending is not None:
            self._complete(self._loop.pending)

    def finish(self) -> None:
        """Log, evaluate and save a last time, unless just done; raises as `after_update`."""
        self._read_sums()
        if self._loop.window.samples:
            self._log()
        if self._loop.evaluated_at != self._progress.step:
            self._complete(PendingWork(evaluates=True, ends_epoch=False, saves=True))
        self.save_now()

    def save_now(self) -> None:
        """Save the state, unless that of this step is saved already."""
        self._check_finite()
        if self._loop.saved_at != self._progress.step:
            self._save(is_best=False)

    def _complete(self, work: PendingWork) -> None:
        """Evaluate, end the epoch and save; pending until done, for a stop in the evaluation."""
        self._loop.pending = work
        # Before the epoch ends, whose sums it reads as the metrics of training.
        is_best = work.evaluates and self._evaluate()
        if work.ends_epoch:
            self._end_epoch()
        self._loop.pending = None
        if is_best or work.saves:
            self._save(is_best=is_best)

    def _read_sums(self) -> None:
        self._check_finite()
        sums = self._step.read_sums()
        self._loop.window.add(*sums)
        self._loop.epoch.add(*sums)

    def _check_finite(self) -> None:
        if not self._step.is_finite:
            raise NonFiniteError("Loss", math.nan, step=self._progress.step)

    def _means(self, sums: MetricSums) -> tuple[float, float | None]:
        return sums.means(counts_correct=self._step.counts_correct)

    def _count_time(self) -> None:
        """Add the training time since the last call."""
        now = time.perf_counter()
        self._progress.seconds += now - self._clock
        self._window_seconds += now - self._clock
        self._clock = now

    def _log(self) -> None:
        progress = self._progress
        window = self._loop.window
        self._count_time()
        loss, accuracy = self._means(window)
        record = TrainRecord(
            epoch=progress.epoch,
            step=progress.step,
            samples=progress.samples,
            seconds=progress.seconds,
            loss=loss,
            accuracy=accuracy,
            learning_rate=self._loop.learning_rate,
            grad_norm=self._step.read_grad_norm(),
            samples_per_second=window.samples / max(self._window_seconds, 1e-9),
        )
        self._loop.window = MetricSums()
        self._window_seconds = 0.0
        self._loop.logged_at = progress.step
        self._tracker.record(record)

    def _evaluate(self) -> bool:
        """Evaluate, and pass the result on; returns whether the monitored metric is the best."""
        progress = self._progress
        monitor = self._state.monitor
        self._count_time()  # the pause below begins here
        # Right after an epoch nothing is summed yet: then its own means are those of training.
        means = self._means(self._loop.epoch) if self._loop.epoch.samples else self._loop.last_epoch
        metrics = dict(zip(("train/loss", "train/accuracy"), means, strict=True))
        if self._validate is not None:
            watch = None if self._observer is None else self._observer.watch("val")
            with self._pause():
                result = self._validate(watch)
                metrics |= result.metrics("val")
                self._tracker.record(result.as_record("val", at=progress, seconds=progress.seconds))
        self._loop.metrics = metrics
        self._loop.evaluated_at = progress.step
        monitored = metrics[monitor.metric]
        if monitored is None and not progress.step:
            return False  # without an update there is no training metric
        assert monitored is not None, "the config offers accuracy only where there are classes"
        self._state.schedule.after_evaluation(monitored)
        return monitor.update(monitored, progress.step)

    def _end_epoch(self) -> None:
        now = time.perf_counter()
        duration = max(now - self._epoch_clock, 1e-9)
        self._epoch_clock = now
        progress = self._progress
        self._count_time()
        loss, accuracy = self._means(self._loop.epoch)
        self._tracker.record(
            EpochRecord(
                epoch=progress.epoch,
                step=progress.step,
                samples=progress.samples,
                seconds=progress.seconds,
                loss=loss,
                accuracy=accuracy,
                learning_rate=self._loop.learning_rate,
                duration=duration,
                samples_per_second=(progress.samples - self._epoch_start) / duration,
            )
        )
        self._epoch_start = progress.samples
        self._loop.last_epoch = (loss, accuracy)
        self._loop.epoch = MetricSums()

    def _save(self, *, is_best: bool) -> None:
        progress = self._progress
        self._count_time()
        # A finite loss may come before an update that overflows; such weights replace no good ones.
        if not self._step.has_finite_weights():
            raise NonFiniteError("A weight", math.nan, step=progress.step)
        # Those of an earlier step do not describe these weights.
        metrics = self._loop.metrics if self._loop.evaluated_at == progress.step else {}
        with self._pause():
            # First: after a kill, the log must reach as far as the checkpoint.
            self._tracker.flush()
            self._store.save(
                progress.step, progress=progress.counters(), metrics=metrics, is_best=is_best
            )
        self._loop.saved_at = progress.step

    @contextlib.contextmanager
    def _pause(self) -> Iterator[None]:
        """Leave out of the training time what runs in here."""
        start = time.perf_counter()
        yield
        self._clock += time.perf_counter() - start
