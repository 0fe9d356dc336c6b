"""Watching a run: the terminal, metrics.jsonl and TensorBoard. A tracker only looks; it never changes the training."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from trainer.errors import printable
from trainer.tracking.records import EpochRecord, EvalRecord, TrainRecord


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

    def close(self) -> None:
        """Nothing more will come; called whatever happened."""


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

    def close(self) -> None:
        """See `Tracker.close`; one that fails does not keep the others open."""
        with contextlib.ExitStack() as stack:
            for tracker in self._trackers:
                stack.callback(tracker.close)


class Dispensable:
    """A tracker whose failing is told once, and then it is left alone: to watch must never stop the training.

    `make` makes the tracker; `name` is what a person calls it.
    """

    def __init__(self, make: Callable[[], Tracker], *, name: str, warn: Callable[[str], None]) -> None:
        self._name, self._warn = name, warn
        self._tracker: Tracker | None = None
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

    def close(self) -> None:
        """See `Tracker.close`."""
        self._tell("close")

    def _tell(self, what: str, *arguments: Any) -> None:
        tracker = self._tracker
        if tracker is not None:
            self._try(lambda: getattr(tracker, what)(*arguments))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            tracker, self._tracker = self._tracker, None
            if tracker is not None:
                with contextlib.suppress(Exception):
                    tracker.close()
            if os.environ.get("TRAINER_DEBUG") == "1":
                traceback.print_exception(error)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else printable(error)[:200]
            self._warn(f"{self._name} gets no more records ({reason}). Training goes on; metrics.jsonl is complete.")
