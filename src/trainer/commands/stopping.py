"""Signals while a model trains: the first asks the loop to stop, a second leaves at once, SIGUSR1 asks for a save."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

# Ctrl-C, a job queue or `kill`, a terminal that was closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """A context in which signals set flags that the training loop asks for; `stopped_by` says which one came."""

    def __init__(self) -> None:
        self.stopped_by: int | None = None
        self._is_save_asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in STOPPING:
            # Started by nohup, SIGHUP is ignored and stays so.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note_stop)
        self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._note_save)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        """Whether a signal asked to stop."""
        return self.stopped_by is not None

    def take_save(self) -> bool:
        """Whether a save was asked for since the last call."""
        is_asked, self._is_save_asked = self._is_save_asked, False
        return is_asked

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None:
            raise SystemExit(128 + number)
        self.stopped_by = number

    def _note_save(self, number: int, frame: FrameType | None) -> None:
        self._is_save_asked = True
