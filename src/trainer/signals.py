"""Signals: outside of training they end the process; in training they stop the loop, or save."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn, TypeAlias

# A handler as `signal.signal` takes and returns it.
_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None
# Ctrl-C, a job queue or `kill`, a terminal that was closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Until the code has ended in which an exception is ignored.
_MOMENT_S = 0.02


class SignalExit(SystemExit):
    """A signal ends the process, and no code that was running."""


def set_signals() -> None:
    """Make a stop signal leave with its exit code after clean-up, and a second one at once."""
    for number in _handled():
        signal.signal(number, _leave)
    # Requests a save in training; by default it would kill.
    signal.signal(signal.SIGUSR1, pass_over)
    sys.unraisablehook = _signal_again


def _handled() -> list[signal.Signals]:
    """The stop signals that get a handler: not SIGHUP where nohup had it ignored."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOPPING if number != signal.SIGHUP or not is_ignored]


def pass_signals_over() -> None:
    """Ignore stop signals from here on.

    One that arrives during shutdown must not change the exit code, or print a traceback.
    """
    for number in STOPPING:
        signal.signal(number, pass_over)


def ignore_signals() -> None:
    """As `pass_signals_over`, and also after Python has removed its own handlers at its end."""
    pass_signals_over()
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def pass_over(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. With SIG_IGN instead, Python prints a traceback for a signal that is pending."""


def _leave(number: int, frame: FrameType | None) -> None:
    for other in STOPPING:
        signal.signal(other, _leave_at_once)
    if _is_importing(frame):
        if number == signal.SIGINT:
            os.write(2, b"Stopped.\n")
        _leave_at_once(number, frame)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SignalExit(128 + number)


def _signal_again(ignored: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python ignores, as in a finaliser or around a fork."""
    error = ignored.exc_value
    if isinstance(error, KeyboardInterrupt):
        number: int = signal.SIGINT
    elif isinstance(error, SignalExit) and isinstance(error.code, int):
        number = error.code - 128
    else:
        sys.__unraisablehook__(ignored)
        return
    import threading  # a start takes 5 ms longer with it

    for other in _handled():
        signal.signal(other, _leave)
    # Not from here: its exception would be ignored as well.
    timer = threading.Timer(_MOMENT_S, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: an import may swallow an exception, or report it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _leave_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


class Signals:
    """A context in which signals set flags that the training loop reads; `stopped_by` is the first.

    A second signal, or with `at_once` the first, ends the process after a call of `before_leaving`,
    which must be quick: it may interrupt anything.
    """

    def __init__(
        self, *, at_once: bool = False, before_leaving: Callable[[], None] = lambda: None
    ) -> None:
        self.stopped_by: int | None = None
        self._at_once = at_once
        self._before_leaving = before_leaving
        self._is_leaving = False
        self._is_save_requested = False
        self._before: dict[int, _Handler] = {}

    def __enter__(self) -> Signals:
        for number in _handled():
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
            # After a stop the process ends as fast as it can: a further signal must not cut its
            # last message.
            signal.signal(number, handler if self.stopped_by is None else pass_over)

    def should_stop(self) -> bool:
        """Whether a stop signal has come."""
        return self.stopped_by is not None

    def pop_save_request(self) -> bool:
        """Whether a save was requested since the last call."""
        is_requested, self._is_save_requested = self._is_save_requested, False
        return is_requested

    def _note_stop(self, number: int, _frame: FrameType | None) -> None:
        if self._at_once or self.stopped_by is not None:
            if not self._is_leaving:  # a third signal does not wait for that
                self._is_leaving = True
                with contextlib.suppress(Exception):
                    self._before_leaving()
            _exit_now(128 + number)
        self.stopped_by = number
        # A signal to the whole group may kill workers, and DataLoader raises wherever we are when
        # one dies. Not undone: they may still die when the process leaves.
        signal.signal(signal.SIGCHLD, pass_over)

    def _note_save(self, _number: int, _frame: FrameType | None) -> None:
        self._is_save_requested = True


def _exit_now(code: int) -> NoReturn:
    """End the process. SystemExit would wait for a save in progress, and may be swallowed."""
    # Looked up, not imported: this may run in the middle of an import, and without the module there
    # are no children.
    if (loaded := sys.modules.get("multiprocessing")) is not None:
        for child in loaded.active_children():
            child.kill()
    if os.isatty(1):
        os.write(1, b"\r\x1b[K\x1b[?25h")  # the bar had hidden the cursor
    os._exit(code)
