"""sweep.json: what a sweep's jobs are and how each stands, kept at every change so that a killed sweep can go on."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import printable
from trainer.rundir import read_json, write_json

FILE_NAME = "sweep.json"
# How a job stands. It is pruned when a search ended it early, interrupted when it was stopped or killed.
STATUSES = ("waiting", "running", "done", "pruned", "failed", "interrupted")


@dataclass(slots=True, kw_only=True)
class JobRecord:
    """One job of a sweep.

    `values` are those of the keys that the sweep varies, as typed: `{"optimizer.lr": "0.1", "model": "cnn"}`.
    `command` repeats the job alone. `run` is the name of its folder in that of the sweep; `metrics` are those of its
    run.json. `config_hash` is of its whole resolved config; `code` says by which versions it ran.
    """

    number: int
    values: dict[str, str]
    command: list[str]
    config_hash: str | None = None
    status: str = "waiting"
    run: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str | None = None
    seconds: float | None = None
    code: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it varies, for a person: `optimizer.lr=0.1 model=cnn`."""
        return " ".join(f"{printable(key)}={short(value)}" for key, value in self.values.items())


@dataclass(slots=True, kw_only=True)
class SweepRecord:
    """A sweep: `identity` tells its jobs from those of another command, `monitor` is what they are compared by.

    `summary` is what the report adds at the end: see `report.summarize`.
    """

    folder: Path
    kind: str
    identity: str
    command: list[str]
    keys: list[str]
    monitor: str | None
    maximize: bool
    started: str
    ended: str | None = None
    jobs: list[JobRecord] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """Put it on the disk; raises OSError."""
        content = dataclasses.asdict(self)
        del content["folder"]
        write_json(self.folder / FILE_NAME, content)


def short(value: str) -> str:
    """A value for a person: of a number that a search drew, the four digits that matter."""
    is_long = re.fullmatch(r"-?[0-9]+\.[0-9]{5,}|-?[0-9.]+e-?[0-9]+", value)
    return f"{float(value):.4g}" if is_long else printable(" ".join(value.split()))


def read_record(folder: Path) -> SweepRecord | None:
    """The record of the sweep in `folder`; None where there is none, or one that cannot be read."""
    content = read_json(folder / FILE_NAME)
    names = {item.name for item in dataclasses.fields(SweepRecord)} - {"folder"}
    try:
        jobs = [JobRecord(**job) for job in content["jobs"]]
        return SweepRecord(folder=folder, **{name: content[name] for name in names - {"jobs"}}, jobs=jobs)
    except (KeyError, TypeError):
        return None
