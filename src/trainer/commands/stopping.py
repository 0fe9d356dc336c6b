"""Signals while a model trains: the first asks the loop to stop, a second leaves at once, SIGUSR1 asks for a save."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from trainer.leaving import STOPPING, pass_over


class Signals:
    """A context in which signals set flags that the training loop asks for; `stopped_by` says which one came.

    A second signal, or with `at_once` the first, leaves. Then `before_leaving` is called, which must be quick: it may
    come in the middle of anything.
    """

    def __init__(self, *, at_once: bool = False, before_leaving: Callable[[], None] = lambda: None) -> None:
        self.stopped_by: int | None = None
        self._at_once, self._before_leaving, self._is_leaving = at_once, before_leaving, False
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
            # Stopped, the process leaves as fast as it can: a further signal must not take the words from it.
            signal.signal(number, handler if self.stopped_by is None else pass_over)

    def should_stop(self) -> bool:
        """Whether a signal asked to stop."""
        return self.stopped_by is not None

    def take_save(self) -> bool:
        """Whether a save was asked for since the last call."""
        is_asked, self._is_save_asked = self._is_save_asked, False
        return is_asked

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        if self._at_once or self.stopped_by is not None:
            if not self._is_leaving:  # a third signal does not wait for that
                self._is_leaving = True
                with contextlib.suppress(Exception):
                    self._before_leaving()
            _leave(128 + number)
        self.stopped_by = number
        # DataLoader raises when a worker dies, wherever we are; of a signal to all, workers may die.
        # It stays so: they may still die when the process leaves.
        signal.signal(signal.SIGCHLD, pass_over)

    def _note_save(self, number: int, frame: FrameType | None) -> None:
        self._is_save_asked = True


def _leave(code: int) -> NoReturn:
    """Not SystemExit: it would wait for a save that is being written, and be lost where Python is tidying up."""
    for child in multiprocessing.active_children():
        child.kill()
    if os.isatty(1):
        os.write(1, b"\r\x1b[K\x1b[?25h")  # the bar had hidden the cursor
    os._exit(code)
