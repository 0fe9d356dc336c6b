"""Where the jobs of a sweep run. A launcher starts them and says how they ended; which there are
is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trainer.commands.sweep.task import Outcome, Task


class Handle(Protocol):
    """A job that was started."""

    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs or waits. A process that died is `failed`, with the
        reason. Never raises.
        """

    def stop(self) -> None:
        """Ask it to save and stop; asked again, to leave at once."""


class Launcher(Protocol):
    """Starts jobs; `slots` is how many may be started and not ended.

    `threads` are the CPU threads that each gets; None leaves them to the job. `is_shown` says that
    a job writes to the terminal, since there is only one at a time.
    """

    slots: int
    threads: int | None
    is_shown: bool

    def start(self, tasks: Sequence[Task]) -> Sequence[Handle]:
        """Start some jobs; raises EnvironmentFault when the machine or the cluster refuses."""

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        """Return when one of them may have ended, and after `seconds` at the latest."""

    def close(self) -> None:
        """Let go of what it holds; jobs that still run are ended."""
