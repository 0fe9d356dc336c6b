"""Signals outside of training, where nothing is there to save yet; training sets its own (commands.stopping)."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

# Ctrl-C, a job queue or `kill`, a terminal that was closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def set_signals() -> None:
    """Let a signal that stops leave with its exit code, what is half done tidied away; a second one leaves at once."""
    for number in STOPPING:
        # Started by nohup, SIGHUP is ignored and stays so.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    # Asks for a save; by default it would kill.
    signal.signal(signal.SIGUSR1, pass_over)


def pass_signals_over() -> None:
    """What is left is leaving: a late signal must not turn the exit code into another, or into a traceback."""
    for number in STOPPING:
        signal.signal(number, pass_over)


def ignore_signals() -> None:
    """As `pass_signals_over`, and also when Python, as it ends, takes its own handlers away; of a whole process."""
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
    """Whether a module is being loaded, which takes an exception for a failure of its own, or swallows it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
