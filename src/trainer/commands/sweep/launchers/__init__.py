"""Where the jobs of a sweep run: what each launcher does for the loop."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol

from trainer.commands.sweep.task import JobOutcome, Task
from trainer.errors import EnvironmentFault

# Jobs of a cluster that are submitted and have not ended. A cluster may grow when jobs wait, but an
# array of Slurm is limited, to 1001 as a rule.
MAX_JOBS = 1000

_SAFE_PATH = "PYTHONSAFEPATH"
# A value of ours, which tells it from a person's.
_OURS = "trainer"


class Handle(Protocol):
    """A job that was started."""

    def outcome(self) -> JobOutcome | None:
        """How it ended; None while it runs or waits.

        A job whose process died is `failed`, with the reason. Never raises.
        """

    def stop(self) -> None:
        """Let the job save and stop; a second call ends it at once."""


class OnceHandle(ABC):
    """A handle that looks for the outcome until it finds one, and counts its stops."""

    def __init__(self) -> None:
        self.num_stops = 0
        self._outcome: JobOutcome | None = None

    def outcome(self) -> JobOutcome | None:
        if self._outcome is None:
            self._outcome = self._look()
        return self._outcome

    @abstractmethod
    def _look(self) -> JobOutcome | None:
        """Whether and how the job ended."""


class Launcher(Protocol):
    """Starts jobs; `slots` is how many may be started and not ended.

    `threads` are the CPU threads of each job; None leaves them to the job. With `uses_terminal` the
    jobs write to the terminal, since there is one at a time.
    """

    slots: int
    threads: int | None
    uses_terminal: bool

    def start(self, tasks: Sequence[Task]) -> Sequence[Handle]:
        """Start some jobs; raises EnvironmentFault when the machine or the cluster refuses."""

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        """Return when one of them may have ended, and after `seconds` at the latest."""

    def close(self) -> None:
        """End the jobs that still run, and release the machine."""


def missing_package(launcher: str, package: str) -> EnvironmentFault:
    """The error where the package that a launcher needs is not installed."""
    return EnvironmentFault(
        f"launcher={launcher} needs the package {package}, which is not installed.",
        hint=f"pip install 'trainer[{launcher}]'",
    )


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Start Python without the working folder in its path, where it would find a random.py.

    The processes call `forget_safe_path`.
    """
    if os.environ.get(_SAFE_PATH):
        yield
        return
    os.environ[_SAFE_PATH] = _OURS
    try:
        yield
    finally:
        del os.environ[_SAFE_PATH]


def forget_safe_path() -> None:
    """Drop what `safe_path` set: scripts that a person's code starts need their own folder."""
    if os.environ.get(_SAFE_PATH) == _OURS:
        del os.environ[_SAFE_PATH]
