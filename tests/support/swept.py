"""A sweep folder read back, and what its tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import SMALL, Run

from trainer.run.lock import is_locked

# Jobs of a fifth of a second.
TINY = (*SMALL, "logger=none", "trainer.max_steps=1")


@dataclass(frozen=True)
class Swept:
    """The folder of a sweep."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "sweep.json").read_text())
        return content

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The records of the jobs, in their order."""
        found: list[dict[str, Any]] = self.record["jobs"]
        return sorted(found, key=lambda job: int(job["number"]))

    @property
    def statuses(self) -> list[str]:
        return [job["status"] for job in self.jobs]

    @property
    def runs(self) -> list[Run]:
        """Of each job its run, in their order; every job must have one."""
        return [Run(self.folder / job["run"]) for job in self.jobs]

    @property
    def folders(self) -> list[Path]:
        """What run folders there are, also such as no job names."""
        return sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir())

    def states(self) -> list[str]:
        """The statuses in the run folders, as they are now."""
        return [
            Run(path.parent).record["status"]
            for path in sorted(self.folder.glob("[0-9]*/run.json"))
        ]

    def contents(self) -> dict[str, bytes]:
        """Every run.json, byte for byte."""
        return {path.parent.name: path.read_bytes() for path in self.folder.glob("[0-9]*/run.json")}

    def is_busy(self) -> bool:
        """Whether a process holds one of its runs."""
        return any(is_locked(path) for path in self.folders)


def sweeps_in(folder: Path) -> list[Swept]:
    """The sweeps that commands in `folder` made, the oldest first."""
    return [Swept(path) for path in sorted((folder / "runs").glob("*/*-sweep*"))]


def only_sweep(folder: Path) -> Swept:
    (found,) = sweeps_in(folder)
    return found
