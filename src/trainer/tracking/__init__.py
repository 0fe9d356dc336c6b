"""Watching a run: the terminal, metrics.jsonl and TensorBoard. A tracker only looks; it never changes the training."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from trainer.tracking.records import EpochRecord, EvalRecord, TrainRecord


class Tracker(Protocol):
    """What the engine tells, and when."""

    def train(self, record: TrainRecord) -> None:
        """A window of training is over."""

    def evaluation(self, record: EvalRecord) -> None:
        """A split was evaluated."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is over."""

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

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """See `Tracker.finish`."""
        for tracker in self._trackers:
            tracker.finish(metrics)

    def close(self) -> None:
        """See `Tracker.close`; one that fails does not keep the others open."""
        with contextlib.ExitStack() as stack:
            for tracker in self._trackers:
                stack.callback(tracker.close)
