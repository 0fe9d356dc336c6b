"""What happens beside the training, when it is due: read the sums, log, evaluate, save."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from trainer.engine.evaluate import Evaluation
from trainer.engine.loop_state import PendingWork, Standing
from trainer.engine.progress import Due, Monitor, Progress
from trainer.engine.step import NonFiniteError, Step
from trainer.schedule import Schedule
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
        """Raise the EnvironmentFault of a save that failed meanwhile."""


class Periodic:
    """Logs every `log_every` updates, evaluates and saves at their own cadence, and keeps the best.

    `observer` is shown the updates that it looks at, `profile` is told of every one. `metrics` are
    those of the checkpoint that is gone on from; with `is_saved`, it is where the store's run
    stands.
    """

    def __init__(
        self,
        *,
        step: Step,
        validate: Callable[[Watch | None], Evaluation] | None,
        schedule: Schedule,
        tracker: Tracker,
        observer: Observer | None,
        profile: Callable[[int], None] | None,
        store: Store,
        progress: Progress,
        monitor: Monitor,
        standing: Standing,
        should_save: Callable[[], bool],
        log_every: int,
        eval_every: Due,
        save_every: Due,
        counts_correct: bool,
        metrics: Mapping[str, float | None],
        is_saved: bool,
    ) -> None:
        self._step, self._validate, self._schedule, self._monitor = (
            step,
            validate,
            schedule,
            monitor,
        )
        self._tracker, self._observer, self._profile = tracker, observer, profile
        self._store, self._progress = store, progress
        self._log_every, self._eval_every, self._save_every = log_every, eval_every, save_every
        self._counts_correct, self._standing, self._should_save = (
            counts_correct,
            standing,
            should_save,
        )
        self._window, self._epoch = standing.window, standing.epoch
        self._metrics = dict(metrics)
        self._saved_at = progress.step if is_saved and standing.owed is None else -1
        self._clock = self._epoch_clock = time.perf_counter()
        self._window_seconds = 0.0

    def should_log(self, step: int) -> bool:
        """Whether the update that completes `step` closes a logging window."""
        return step % self._log_every == 0

    def should_keep(self, step: int) -> bool:
        """Whether the update that completes `step` is looked at."""
        return self._observer is not None and self._observer.wants_update(step)

    def after_update(self, *, learning_rate: float, ends_epoch: bool) -> None:
        """Log, evaluate, save, where due; `learning_rate` is what the update used.

        Raises NonFiniteError when the device found a loss that is not finite (on a GPU it is read
        only here), EvaluationStopped when asked to stop meanwhile.
        """
        progress = self._progress
        self._standing.learning_rate = learning_rate
        evaluates = self._eval_every.is_due(progress, ends_epoch=ends_epoch)
        saves = self._save_every.is_due(progress, ends_epoch=ends_epoch) | self._should_save()
        logs = self.should_log(progress.step)
        if logs or evaluates or ends_epoch:
            self._read()
        elif saves:
            self._check_finite()
        if logs:
            self._log()
            self._store.raise_failure()
        if self._observer is not None and (update := self._step.take_update()) is not None:
            self._observer.update(progress.step, update)
        if self._profile is not None:
            with self._pause():
                self._profile(progress.step)
        self._complete(PendingWork(evaluates=evaluates, ends_epoch=ends_epoch, saves=saves))

    def catch_up(self) -> None:
        """Do what the checkpoint gone on from still owed: it was made when a stop cut an evaluation short."""
        if self._standing.owed is not None:
            self._complete(self._standing.owed)

    def finish(self) -> None:
        """The last log, evaluation and checkpoint, unless they were just made. Raises as `after_update`."""
        step = self._progress.step
        self._read()
        if self._window.samples:
            self._log()
        if self._standing.evaluated_at != step:
            self._complete(PendingWork(evaluates=True, ends_epoch=False, saves=True))
        self.save_now()

    def save_now(self) -> None:
        """Save where the run stands, unless that is saved already."""
        self._check_finite()
        if self._saved_at != self._progress.step:
            self._save(is_best=False)

    def _complete(self, owed: PendingWork) -> None:
        """Evaluate, end the epoch and save, where due. What an evaluation that is stopped leaves
        undone stays owed.
        """
        self._standing.owed = owed
        is_best = owed.evaluates and self._evaluate()
        if owed.ends_epoch:
            self._end_epoch()
        self._standing.owed = None
        if is_best or owed.saves:
            self._save(is_best=is_best)

    def _read(self) -> None:
        self._check_finite()
        sums = self._step.read_sums()
        self._window.add(*sums)
        self._epoch.add(*sums)

    def _check_finite(self) -> None:
        if not self._step.is_finite:
            raise NonFiniteError("Loss", math.nan, step=self._progress.step)

    def _count_time(self) -> None:
        """Add the training time since the last call."""
        now = time.perf_counter()
        self._progress.seconds += now - self._clock
        self._window_seconds += now - self._clock
        self._clock = now

    def _log(self) -> None:
        progress = self._progress
        self._count_time()
        loss, accuracy = self._window.means(counts_correct=self._counts_correct)
        record = TrainRecord(
            epoch=progress.epoch,
            step=progress.step,
            samples=progress.samples,
            seconds=progress.seconds,
            loss=loss,
            accuracy=accuracy,
            learning_rate=self._standing.learning_rate,
            grad_norm=self._step.read_grad_norm(),
            samples_per_second=self._window.samples / max(self._window_seconds, 1e-9),
        )
        self._window.reset()
        self._window_seconds = 0.0
        self._standing.logged_at = progress.step
        self._tracker.record(record)

    def _evaluate(self) -> bool:
        """Evaluate, tell the tracker and the schedule; returns whether the monitored metric is
        the best so far.
        """
        progress = self._progress
        self._count_time()
        means = self._epoch.means(counts_correct=self._counts_correct)
        # Right after an epoch nothing is summed up yet: then the epoch that is over is what
        # training looks like.
        loss, accuracy = means if self._epoch.samples else self._standing.last_epoch
        self._metrics = {"train/loss": loss, "train/accuracy": accuracy}
        if self._validate is not None:
            watch = None if self._observer is None else self._observer.watch("val")
            with self._pause():
                result = self._validate(watch)
                self._metrics |= {"val/loss": result.loss, "val/accuracy": result.accuracy}
                self._tracker.record(result.as_record("val", at=progress, seconds=progress.seconds))
        self._standing.evaluated_at = progress.step
        monitored = self._metrics[self._monitor.metric]
        assert monitored is not None, "the config offers accuracy only where there are classes"
        self._schedule.after_evaluation(monitored, step=progress.step, epoch=progress.epoch)
        return self._monitor.update(monitored, progress.step)

    def _end_epoch(self) -> None:
        progress, now = self._progress, time.perf_counter()
        loss, accuracy = self._epoch.means(counts_correct=self._counts_correct)
        seconds = max(now - self._epoch_clock, 1e-9)
        self._epoch_clock = now
        self._tracker.record(
            EpochRecord(
                epoch=progress.epoch,
                step=progress.step,
                loss=loss,
                accuracy=accuracy,
                learning_rate=self._standing.learning_rate,
                seconds=seconds,
                samples_per_second=self._epoch.samples / seconds,
            )
        )
        self._standing.last_epoch = (loss, accuracy)
        self._epoch.reset()

    def _save(self, *, is_best: bool) -> None:
        progress = self._progress
        self._count_time()
        if not self._step.has_finite_weights():
            raise NonFiniteError("A weight", math.nan, step=progress.step)
        metrics = self._metrics if self._standing.evaluated_at == progress.step else {}
        with self._pause():
            # First: after a kill, what was logged up to a checkpoint must be there.
            self._tracker.flush()
            self._store.save(
                progress.step, progress=progress.counters(), metrics=metrics, is_best=is_best
            )
        self._saved_at = progress.step

    @contextlib.contextmanager
    def _pause(self) -> Iterator[None]:
        """Time that is not training time."""
        start = time.perf_counter()
        yield
        self._clock += time.perf_counter() - start
