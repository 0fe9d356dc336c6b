"""How a job stands and how it is stopped: by the commands of Slurm, or of submitit's processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Protocol

# Seconds between two questions to Slurm, which serves others too, and in which processes that are to leave have left.
_ASK_EVERY, _LEAVE_TIME = 15.0, 10.0
FORGOTTEN = "FORGOTTEN"  # not a state of Slurm
# States of squeue: of jobs that have processes, and of those that ended, with what to say and how they count.
_RUNNING = ("RUNNING", "SUSPENDED", "COMPLETING")
ENDED = {
    "CANCELLED": ("interrupted", "was cancelled"),
    "PREEMPTED": ("interrupted", "had to make room for others"),
    "TIMEOUT": ("interrupted", "ran into its time limit (launcher.timeout_min)"),
    "DEADLINE": ("interrupted", "ran into its deadline"),
    "NODE_FAIL": ("interrupted", "lost its machine"),
    "BOOT_FAIL": ("interrupted", "lost its machine"),
    "OUT_OF_MEMORY": ("failed", "needed more memory than it had (launcher.mem_gb)"),
    "FAILED": ("failed", "died"),
    "COMPLETED": ("failed", "ended without a result"),
    # What is cancelled while it waits leaves the array; and after a few minutes Slurm forgets what has ended.
    FORGOTTEN: ("interrupted", "is no longer known to Slurm: cancelled while it waited, perhaps"),
}


class Cluster(Protocol):
    """What Slurm and submitit's own processes do each in their way."""

    def end_of(self, job: Any) -> str | None:
        """The state in which it ended; None while it runs, waits, or is not known."""

    def stop(self, job: Any, *, at_once: bool) -> None:
        """Ask it to save and stop, or to leave at once."""

    def end(self, jobs: Sequence[Any]) -> None:
        """End them all."""


class Slurm:
    """Slurm by its commands; squeue and not sacct, for that needs a database which not every cluster has."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        # When it was asked, and when it answered last.
        self._tried: float | None = None
        self._asked: float | None = None
        self._seen: dict[str, float] = {}
        self._every = _ASK_EVERY

    def end_of(self, job: Any) -> str | None:
        """See `Cluster.end_of`; a job that Slurm has forgotten has ended."""
        seen = self._seen.setdefault(job.job_id, time.monotonic())
        self._ask(self._every)
        if self._asked is None or self._asked < seen:  # the answer says nothing about this job yet
            return None
        state = self._states.get(job.job_id, FORGOTTEN)
        return state if state in ENDED else None

    def stop(self, job: Any, *, at_once: bool) -> None:
        """See `Cluster.stop`."""
        self._ask(1.0)
        self._every = min(_ASK_EVERY, 2.0)  # a person waits
        if at_once or self._states.get(job.job_id) not in _RUNNING:
            self.end([job])
        else:
            # With --full to the batch script, which is the job. Without a signal, scancel would kill it after KillWait
            # (30 s as a rule); --batch fails for an element of an array.
            _call("scancel", "--signal=TERM", "--full", job.job_id)

    def end(self, jobs: Sequence[Any]) -> None:
        """See `Cluster.end`."""
        _call("scancel", *(job.job_id for job in jobs))

    def end_all(self, name: str) -> None:
        """End what is in the queue under this name; those that run have KillWait to save."""
        _call("scancel", f"--name={name}", f"--user={os.getuid()}")

    def _ask(self, age: float) -> None:
        """Have the states no older than `age` seconds, as far as Slurm answers."""
        if self._tried is not None and time.monotonic() - self._tried < age:
            return
        self._tried = time.monotonic()
        said = _call("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T")
        if said is not None:
            self._states = {words[0]: words[1] for line in said.splitlines() if len(words := line.split()) == 2}
            self._asked = self._tried


class Processes:
    """submitit's processes on this machine: a job's number is that of the process that watches over it."""

    def end_of(self, job: Any) -> str | None:
        """See `Cluster.end_of`."""
        return "FAILED" if job.done() else None

    def stop(self, job: Any, *, at_once: bool) -> None:
        """See `Cluster.stop`; a second signal means at once."""
        if not job.done():  # after that the number may be another's
            os.kill(int(job.job_id), signal.SIGTERM)

    def end(self, jobs: Sequence[Any]) -> None:
        """See `Cluster.end`."""
        until = time.monotonic() + _LEAVE_TIME
        while not all([job.done() for job in jobs]) and time.monotonic() < until:
            for job in jobs:
                self.stop(job, at_once=True)
            time.sleep(0.2)


def _call(*words: str) -> str | None:
    """What a command of Slurm prints; None where it cannot be run or fails, as it does while Slurm restarts."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
