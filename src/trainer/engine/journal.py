"""What happens beside the training, when it is due: read the sums, log, evaluate, save."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from trainer.engine.evaluate import Evaluation
from trainer.engine.progress import Due, Monitor, Progress
from trainer.engine.step import NonFiniteError, Step
from trainer.schedule import Schedule
from trainer.tracking import Tracker
from trainer.tracking.records import EpochRecord, EvalRecord, TrainRecord


class Store(Protocol):
    """Where checkpoints go."""

    def save(
        self, step: int, *, progress: dict[str, int], metrics: Mapping[str, float | None], is_best: bool
    ) -> object:
        """Save the state after `step`."""


class Sums:
    """Loss and right predictions added up on the host, over a logging window or an epoch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.loss, self.correct, self.samples = 0.0, 0.0, 0

    def add(self, loss: float, correct: float, samples: int) -> None:
        """Take in more sums."""
        self.loss, self.correct, self.samples = self.loss + loss, self.correct + correct, self.samples + samples

    def means(self, *, counts_correct: bool) -> tuple[float, float | None]:
        """Mean loss and accuracy; accuracy is None where predictions are values."""
        samples = max(1, self.samples)
        return self.loss / samples, self.correct / samples if counts_correct else None

    def state_dict(self) -> dict[str, Any]:
        """The sums by name."""
        return {"loss": self.loss, "correct": self.correct, "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        self.loss, self.correct, self.samples = state["loss"], state["correct"], state["samples"]


class Journal:
    """Logs every `log_every` updates, evaluates and saves at their own cadence, and keeps the best."""

    def __init__(
        self,
        *,
        step: Step,
        validate: Callable[[], Evaluation] | None,
        schedule: Schedule,
        tracker: Tracker,
        store: Store,
        progress: Progress,
        monitor: Monitor,
        window: Sums,
        epoch: Sums,
        log_every: int,
        eval_every: Due,
        save_every: Due,
        counts_correct: bool,
    ) -> None:
        self._step, self._validate, self._schedule = step, validate, schedule
        self._tracker, self._store, self._progress, self._monitor = tracker, store, progress, monitor
        self._log_every, self._eval_every, self._save_every = log_every, eval_every, save_every
        self._counts_correct = counts_correct
        self._window, self._epoch = window, epoch
        self._metrics: dict[str, float | None] = {}
        self._evaluated_at = self._saved_at = -1
        self._clock = self._epoch_clock = time.perf_counter()
        self._window_seconds = 0.0
        self._last_epoch = (math.nan, math.nan if counts_correct else None)

    def should_log(self, step: int) -> bool:
        """Whether the update that completes `step` closes a logging window."""
        return step % self._log_every == 0

    def after_update(self, *, learning_rate: float, ends_epoch: bool) -> None:
        """Log, evaluate, save, where due; `learning_rate` is what the update used.

        Raises NonFiniteError when the device found a loss that is not finite (on a GPU it is read only here).
        """
        progress = self._progress
        evaluates = self._eval_every.is_due(progress, ends_epoch=ends_epoch)
        saves = self._save_every.is_due(progress, ends_epoch=ends_epoch)
        logs = self.should_log(progress.step)
        if logs or evaluates or ends_epoch:
            self._read()
        elif saves:
            self._check_finite()
        if logs:
            self._log(learning_rate)
        is_best = evaluates and self._evaluate()
        if ends_epoch:
            self._end_epoch(learning_rate)
        if is_best or saves:
            self._save(is_best=is_best)

    def finish(self, *, learning_rate: float, is_stopped: bool) -> None:
        """The last log, evaluation and checkpoint, unless they were just made; a run that was stopped only saves."""
        progress = self._progress
        is_best = False
        if not is_stopped:
            self._read()
            if self._window.samples:
                self._log(learning_rate)
            if self._evaluated_at != progress.step:
                is_best = self._evaluate()
        self._check_finite()
        if is_best or self._saved_at != progress.step:
            self._save(is_best=is_best)

    def _read(self) -> None:
        self._check_finite()
        sums = self._step.read_sums()
        self._window.add(*sums)
        self._epoch.add(*sums)

    def _check_finite(self) -> None:
        if not self._step.is_finite:
            raise NonFiniteError("Loss", math.nan)

    def _count_time(self) -> None:
        """Add the training time since the last call."""
        now = time.perf_counter()
        self._progress.seconds += now - self._clock
        self._window_seconds += now - self._clock
        self._clock = now

    def _log(self, learning_rate: float) -> None:
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
            learning_rate=learning_rate,
            grad_norm=self._step.read_grad_norm(),
            samples_per_second=self._window.samples / max(self._window_seconds, 1e-9),
        )
        self._window.reset()
        self._window_seconds = 0.0
        self._tracker.train(record)

    def _evaluate(self) -> bool:
        """Evaluate, tell the tracker and the schedule; returns whether the monitored metric is the best so far."""
        progress = self._progress
        self._count_time()
        means = self._epoch.means(counts_correct=self._counts_correct)
        # Right after an epoch nothing is summed up yet: then the epoch that is over is what training looks like.
        loss, accuracy = means if self._epoch.samples else self._last_epoch
        self._metrics = {"train/loss": loss, "train/accuracy": accuracy}
        if self._validate is not None:
            with self._pause():
                result = self._validate()
            self._metrics |= {"val/loss": result.loss, "val/accuracy": result.accuracy}
            self._tracker.evaluation(
                EvalRecord(
                    split="val",
                    epoch=progress.epoch,
                    step=progress.step,
                    samples=progress.samples,
                    seconds=progress.seconds,
                    loss=result.loss,
                    accuracy=result.accuracy,
                    count=result.count,
                )
            )
        self._evaluated_at = progress.step
        monitored = self._metrics[self._monitor.metric]
        assert monitored is not None, "the config offers accuracy only where there are classes"
        self._schedule.after_evaluation(monitored, step=progress.step, epoch=progress.epoch)
        return self._monitor.update(monitored, progress.step)

    def _end_epoch(self, learning_rate: float) -> None:
        progress, now = self._progress, time.perf_counter()
        loss, accuracy = self._epoch.means(counts_correct=self._counts_correct)
        seconds = max(now - self._epoch_clock, 1e-9)
        self._epoch_clock = now
        self._tracker.epoch(
            EpochRecord(
                epoch=progress.epoch,
                step=progress.step,
                loss=loss,
                accuracy=accuracy,
                learning_rate=learning_rate,
                seconds=seconds,
                samples_per_second=self._epoch.samples / seconds,
            )
        )
        self._last_epoch = (loss, accuracy)
        self._epoch.reset()

    def _save(self, *, is_best: bool) -> None:
        progress = self._progress
        self._count_time()
        if not self._step.has_finite_weights():
            raise NonFiniteError("A weight", math.nan)
        metrics = self._metrics if self._evaluated_at == progress.step else {}
        with self._pause():
            self._store.save(progress.step, progress=progress.counters(), metrics=metrics, is_best=is_best)
        self._saved_at = progress.step

    @contextlib.contextmanager
    def _pause(self) -> Iterator[None]:
        """Time that is not training time."""
        start = time.perf_counter()
        yield
        self._clock += time.perf_counter() - start
