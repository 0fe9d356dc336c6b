"""One writer: the lock on a run folder, held by the process that trains in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from trainer.errors import EnvironmentFault, UsageError, reason_of
from trainer.run.folder import LOCK_FILE

# A process that has just taken the lock may not have written its name yet, or only checks whether
# the lock is free. In seconds.
_TIME_TO_WRITE = 0.5
# No link is followed: in a folder from elsewhere it could have us empty a file of this machine.
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of `run`.

    A record lock of the system on `.lock`: it ends with the process, however that ends; its child
    processes do not inherit it; and a copy of the folder is not locked, for the lock is not in the
    file. The file names its owner. Raises UsageError when another process holds it,
    EnvironmentFault when the folder or the file system cannot have a lock.
    """
    hint = "Make it a folder that you can write to, or choose another one: run.dir=…"
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(run / LOCK_FILE, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
            stack.callback(os.close, handle)
            hint = "Use a file system with locks."
            owner = _take(handle)
        except OSError as error:
            raise EnvironmentFault(
                f"{run} cannot be locked: {reason_of(error)}.", hint=hint
            ) from error
        if owner is not None:
            raise UsageError(
                f"{run} is in use by {owner}.",
                hint="Wait for it, stop it, or use another folder: run.dir=…",
            )
        name = json.dumps({"process": os.getpid(), "host": socket.gethostname()})
        with contextlib.suppress(OSError):  # a full disk: it is locked all the same
            os.ftruncate(handle, 0)
            os.pwrite(handle, name.encode(), 0)
        try:
            yield
        finally:
            # So that the next one to fail does not read the name of a process that has ended.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)


def is_locked(run: Path) -> bool:
    """Whether another process holds the lock of `run`.

    Never called where this process holds it: to close any handle of a file drops its record locks.
    """
    try:
        # To read, which is enough for a shared lock: the run may be another person's.
        handle = os.open(run / LOCK_FILE, os.O_RDONLY | _FLAGS)
    except OSError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def check_free(run: Path) -> None:
    """Raise UsageError naming the process that holds the lock of `run`, if one does."""
    if is_locked(run):
        with locked(run):
            pass


def _take(handle: int) -> str | None:
    """Take the lock; else its owner, `process 4711 on host h` where the file names it.

    Raises OSError where there are no locks.
    """
    deadline = time.monotonic() + _TIME_TO_WRITE
    while True:
        # A system may answer EAGAIN or EACCES where the lock is taken.
        with contextlib.suppress(BlockingIOError, PermissionError):
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        try:
            content = json.loads(os.pread(handle, 1000, 0))
            return f"process {int(content['process'])} on host {str(content['host'])[:100]}"
        except (OSError, ValueError, TypeError, KeyError):
            if time.monotonic() > deadline:
                return "another process"
        time.sleep(0.01)
