"""What watches a run: the terminal, metrics.jsonl and TensorBoard. A tracker never changes the
training.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar

from trainer.errors import TrainerError, is_debugging, printable
from trainer.run.record import RunStatus
from trainer.tracking.observer import Observer, Update, Watch
from trainer.tracking.records import Record

P = ParamSpec("P")
T = TypeVar("T")
Metrics = Mapping[str, float | None]


class Tracker(Protocol):
    """Receives the numbers of a run."""

    def record(self, record: Record) -> None:
        """Take the numbers of a window of training, of an evaluation or of an epoch."""

    def flush(self) -> None:
        """Write what waits: a checkpoint follows, and what led to it must outlive a kill."""

    def close(self, outcome: RunStatus, metrics: Metrics | None, /) -> None:
        """End with `outcome`; `metrics` are the final ones, None unless the run was completed."""


class ObservingTracker(Tracker, Observer, Protocol):
    """Receives the numbers of a run and looks at its model."""


class Trackers:
    """Several trackers as one, called in order."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def record(self, record: Record) -> None:
        for tracker in self._trackers:
            tracker.record(record)

    def flush(self) -> None:
        for tracker in self._trackers:
            tracker.flush()

    def close(self, outcome: RunStatus, metrics: Metrics | None) -> None:
        """Close all, also when one of them raises."""
        with contextlib.ExitStack() as stack:
            for tracker in self._trackers:
                stack.callback(tracker.close, outcome, metrics)


class FailSafe:
    """Runs calls until one raises: then it warns once and skips all that follow.

    Logging must never stop training. The warning is `lost` (what is not written any more), the
    error and `kept` (what continues). Exceptions of the types in `passes` are raised.
    """

    def __init__(
        self,
        lost: str,
        kept: str,
        *,
        warn: Callable[[str], None],
        passes: tuple[type[Exception], ...] = (),
    ) -> None:
        self._lost = lost
        self._kept = kept
        self._warn = warn
        self._passes = passes
        self._has_failed = False

    def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return the result of `call`, or None where it fails or an earlier one has failed."""
        if self._has_failed:
            return None
        try:
            return call(*args, **kwargs)
        except self._passes:
            raise
        except Exception as error:
            self._has_failed = True
            self._warn(f"{self._lost} ({describe_error(error)}). {self._kept}")
            return None

    def watch(self, begin: Callable[[str], Watch | None], split: str) -> Watch | None:
        """Call `begin`; what it returns for the batches of `split` is called in this way too."""
        watch = self(begin, split)
        return None if watch is None else lambda *batch: self(watch, *batch)


class FailSafeTracker:
    """Wraps a tracker that may fail: on its first exception, warn once and drop it.

    `make` makes the tracker, and may fail too; `name` is what the warning calls it.
    """

    def __init__(
        self, make: Callable[[], ObservingTracker], *, name: str, warn: Callable[[str], None]
    ) -> None:
        self._warn = warn
        # None while it is made: where `make` fails, `_drop` has nothing to close.
        self._tracker: ObservingTracker | None = None
        self._fail_safe = FailSafe(
            f"{name} gets no more records",
            "Training continues; metrics.jsonl is complete.",
            warn=self._drop,
        )
        self._tracker = self._fail_safe(make)

    def record(self, record: Record) -> None:
        self._call("record", record)

    def flush(self) -> None:
        self._call("flush")

    def close(self, outcome: RunStatus, metrics: Metrics | None) -> None:
        self._call("close", outcome, metrics)

    def wants_update(self, step: int) -> bool:
        return bool(self._call("wants_update", step))

    def update(self, step: int, update: Update) -> None:
        self._call("update", step, update)

    def watch(self, split: str) -> Watch | None:
        return None if self._tracker is None else self._fail_safe.watch(self._tracker.watch, split)

    def _call(self, method: str, *args: object) -> Any:
        if self._tracker is None:
            return None
        return self._fail_safe(getattr(self._tracker, method), *args)

    def _drop(self, warning: str) -> None:
        if self._tracker is not None:
            # A tracker whose disk is full cannot close either; one warning is enough.
            with contextlib.suppress(Exception):
                # Not "failed": the run has not.
                self._tracker.close(RunStatus.INTERRUPTED, None)
        self._tracker = None
        self._warn(warning)


def describe_error(error: Exception) -> str:
    """Why something failed, as a phrase for a warning.

    With TRAINER_DEBUG=1 the traceback is printed at once.
    """
    if is_debugging():
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = error.what if isinstance(error, TrainerError) else f"{type(error).__name__}: {error}"
    # An exception of a library may have many lines: the warning is one.
    return printable(" ".join(text.split()))[:200]
