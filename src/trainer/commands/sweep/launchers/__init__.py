"""Where the jobs of a sweep run: what each launcher does for the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trainer.commands.sweep.task import JobOutcome, Task


class Handle(Protocol):
    """A job that was started."""

    def outcome(self) -> JobOutcome | None:
        """How it ended; None while it runs or waits.

        A job whose process died is `failed`, with the reason. Never raises.
        """

    def stop(self) -> None:
        """Let the job save and stop; a second call ends it at once."""


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
