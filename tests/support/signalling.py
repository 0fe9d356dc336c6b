"""Signals at a named moment of a process, and how it must end then. Used as `prepare` of
processes.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import Started
from waiting import wait_until

from trainer.checkpoint import store
from trainer.commands.fit import components as parts
from trainer.engine.progress import Progress
from trainer.metrics import ClassCounts
from trainer.signals import Signals

# The plan of faults (group G) promises 10 s. A slow machine that runs other tests beside this one
# may take six times as long.
SECONDS_TO_STOP = 6 * 10.0


def as_from_a_shell() -> None:
    """Lead a group, as a job of a shell does, and fork the workers."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)


def to_all(number: int) -> None:
    """From another process to this one and its workers, as a terminal and some job queues do."""
    group = os.getpid()
    sender = os.fork()
    if not sender:
        os.setsid()
        os.killpg(group, number)
        os._exit(0)
    os.waitpid(sender, 0)


def hang(number: int) -> None:
    time.sleep(60)


def at_call(owner: Any, name: str, *, call: int, act: Callable[[int], None], number: int) -> None:
    """Let `act(number)` happen just before the `call`-th call of `owner.name`; a file says that
    it has come to it.
    """
    function, calls = getattr(owner, name), 0

    @functools.wraps(function)
    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            reached(name).touch()
            act(number)
        return function(*arguments, **options)

    setattr(owner, name, watched)


def reached(name: str) -> Path:
    return Path(f".reached-{name}")


# The moment of each phase.
PHASES = {
    "startup": (parts, "prepare_model", 1),
    "train": (Progress, "count_batch", 13),
    "validation": (ClassCounts, "add", 6),
    "saving": (store, "write_file", 4),
}


def hang_in_phase(phase: str) -> None:
    in_phase(phase, 0, hang)
    at_call(Signals, "_note_stop", call=1, act=lambda number: None, number=0)


def in_phase(phase: str, number: int, act: Callable[[int], None] = to_all) -> None:
    as_from_a_shell()
    owner, name, call = PHASES[phase]
    at_call(owner, name, call=call, act=act, number=number)


def processes_of(session: int) -> list[str]:
    """The processes of a session that are not over."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(path.parent.name)
    return found


def stopped(started: Started, number: int) -> str:
    """The messages of a run that a signal stopped.

    Fails if it was slow or wordy, or left a process behind.
    """
    outcome = started.wait(SECONDS_TO_STOP)
    assert outcome.code == 128 + number, outcome.err
    assert "Traceback" not in outcome.err and len(outcome.err.splitlines()) <= 3
    wait_until(lambda: not processes_of(started.pid))
    return outcome.err
