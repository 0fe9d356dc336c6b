"""Signals: outside of training they leave, while a model trains they ask the loop to stop, and
SIGUSR1 to save.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

# Ctrl-C, a job queue or `kill`, a terminal that was closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def set_signals() -> None:
    """Let a signal that stops leave with its exit code, what is half done tidied away; a second
    one leaves at once.
    """
    for number in STOPPING:
        # Started by nohup, SIGHUP is ignored and stays so.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    # Asks for a save; by default it would kill.
    signal.signal(signal.SIGUSR1, pass_over)


def pass_signals_over() -> None:
    """What is left is leaving: a late signal must not turn the exit code into another, or into a
    traceback.
    """
    for number in STOPPING:
        signal.signal(number, pass_over)


def ignore_signals() -> None:
    """As `pass_signals_over`, and also when Python, as it ends, takes its own handlers away; of
    a whole process.
    """
    pass_signals_over()
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def pass_over(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN at once: where a signal has come and its handler is gone, Python prints a traceback."""


def _leave(number: int, frame: FrameType | None) -> None:
    for other in STOPPING:
        signal.signal(other, _leave_at_once)
    if _is_importing(frame):
        if number == signal.SIGINT:
            os.write(2, b"Stopped.\n")
        _leave_at_once(number, frame)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded, which takes an exception for a failure of its own, or
    swallows it.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


class Signals:
    """A context in which signals set flags that the training loop asks for; `stopped_by` says which
    one came.

    A second signal, or with `at_once` the first, leaves. Then `before_leaving` is called, which
    must be quick: it may come in the middle of anything.
    """

    def __init__(
        self, *, at_once: bool = False, before_leaving: Callable[[], None] = lambda: None
    ) -> None:
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # Stopped, the process leaves as fast as it can: a further signal must not take the
            # words from it.
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
            _exit_now(128 + number)
        self.stopped_by = number
        # DataLoader raises when a worker dies, wherever we are; of a signal to all, workers may
        # die. It stays so: they may still die when the process leaves.
        signal.signal(signal.SIGCHLD, pass_over)

    def _note_save(self, number: int, frame: FrameType | None) -> None:
        self._is_save_asked = True


def _exit_now(code: int) -> NoReturn:
    """Not SystemExit: it would wait for a save that is being written, and be lost where Python
    is tidying up.
    """
    # Looked up, not imported: this may run in the middle of an import, and without the module there
    # are no children.
    if (loaded := sys.modules.get("multiprocessing")) is not None:
        for child in loaded.active_children():
            child.kill()
    if os.isatty(1):
        os.write(1, b"\r\x1b[K\x1b[?25h")  # the bar had hidden the cursor
    os._exit(code)
