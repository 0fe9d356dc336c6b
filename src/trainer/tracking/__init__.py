"""Watching a run: the terminal, metrics.jsonl and TensorBoard. A tracker only looks; it never
changes the training.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from trainer.errors import TrainerError, printable
from trainer.tracking.observer import Observer, Update, Watch
from trainer.tracking.records import EpochRecord, EvalRecord, TrainRecord

if TYPE_CHECKING:
    from torch import Tensor


class Tracker(Protocol):
    """What the engine tells, and when."""

    def train(self, record: TrainRecord) -> None:
        """A window of training is over."""

    def evaluation(self, record: EvalRecord) -> None:
        """A split was evaluated."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is over."""

    def flush(self) -> None:
        """A checkpoint will be made: what was told so far must outlive a kill."""

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """The run is complete, with these final metrics."""

    def close(self, outcome: str) -> None:
        """Nothing more will come, whatever happened: `outcome` is `done`, `failed` or `interrupted`."""


class Trackers:
    """Several trackers as one, told in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def train(self, record: TrainRecord) -> None:
        """See `Tracker.train`."""
        for tracker in self._trackers:
            tracker.train(record)

    def evaluation(self, record: EvalRecord) -> None:
        """See `Tracker.evaluation`."""
        for tracker in self._trackers:
            tracker.evaluation(record)

    def epoch(self, record: EpochRecord) -> None:
        """See `Tracker.epoch`."""
        for tracker in self._trackers:
            tracker.epoch(record)

    def flush(self) -> None:
        """See `Tracker.flush`."""
        for tracker in self._trackers:
            tracker.flush()

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """See `Tracker.finish`."""
        for tracker in self._trackers:
            tracker.finish(metrics)

    def close(self, outcome: str) -> None:
        """See `Tracker.close`; one that fails does not keep the others open."""
        with contextlib.ExitStack() as stack:
            for tracker in self._trackers:
                stack.callback(tracker.close, outcome)


class ObservingTracker(Tracker, Observer, Protocol):
    """One that is told of both, numbers and the model."""


class FailSafeTracker:
    """A tracker whose failing is told once, and then it is left alone: to watch must never stop the
    training.

    `make` makes the tracker; `name` is what a person calls it.
    """

    def __init__(
        self, make: Callable[[], ObservingTracker], *, name: str, warn: Callable[[str], None]
    ) -> None:
        self._name, self._warn = name, warn
        self._tracker: ObservingTracker | None = None
        self._try(lambda: setattr(self, "_tracker", make()))

    def train(self, record: TrainRecord) -> None:
        """See `Tracker.train`."""
        self._tell("train", record)

    def evaluation(self, record: EvalRecord) -> None:
        """See `Tracker.evaluation`."""
        self._tell("evaluation", record)

    def epoch(self, record: EpochRecord) -> None:
        """See `Tracker.epoch`."""
        self._tell("epoch", record)

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._tell("flush")

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """See `Tracker.finish`."""
        self._tell("finish", metrics)

    def close(self, outcome: str) -> None:
        """See `Tracker.close`."""
        self._tell("close", outcome)

    def looks_at(self, step: int) -> bool:
        """See `Observer.looks_at`."""
        return self._tracker is not None and self._tracker.looks_at(step)

    def update(self, step: int, update: Update) -> None:
        """See `Observer.update`."""
        self._tell("update", step, update)

    def watch(self, split: str) -> Watch | None:
        """See `Observer.watch`."""
        seen: Watch | None = self._tell("watch", split)
        if seen is None:
            return None

        def watch(*batch: Tensor) -> None:
            if self._tracker is not None:
                self._try(lambda: seen(*batch))

        return watch

    def _tell(self, what: str, *arguments: Any) -> Any:
        tracker = self._tracker
        return None if tracker is None else self._try(lambda: getattr(tracker, what)(*arguments))

    def _try(self, action: Callable[[], Any]) -> Any:
        """What `action` gives; None when it fails."""
        try:
            return action()
        except Exception as error:
            tracker, self._tracker = self._tracker, None
            if tracker is not None:
                with contextlib.suppress(Exception):
                    tracker.close("interrupted")  # it is not the run that failed
            self._warn(
                f"{self._name} gets no more records ({describe_error(error)}). Training goes on; "
                "metrics.jsonl is complete."
            )
            return None


def describe_error(error: Exception) -> str:
    """Why something failed, in a phrase for a warning; under TRAINER_DEBUG=1 its traceback is
    shown at once.
    """
    if os.environ.get("TRAINER_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = error.what if isinstance(error, TrainerError) else f"{type(error).__name__}: {error}"
    return printable(" ".join(text.split()))[:200]
