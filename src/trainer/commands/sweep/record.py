"""sweep.json: what a sweep's jobs are and how each stands, kept at every change so that a killed
sweep can go on.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from trainer.errors import printable
from trainer.files import read_json, write_json
from trainer.state_checks import NUMBER_OR_NONE, Count, check
from trainer.tracking.metrics_file import is_number

FILE_NAME = "sweep.json"
# How a job stands. It is pruned when a search ended it early, interrupted when it was stopped or
# killed.
STATUSES = ("waiting", "running", "done", "pruned", "failed", "interrupted")
_TEXT_OR_NONE = (str, NoneType)
_KINDS: dict[str, Any] = {
    "kind": str, "identity": str, "command": list, "keys": list, "monitor": str, "maximize": bool, "started": str,
    "ended": _TEXT_OR_NONE, "summary": dict,
}  # fmt: skip
_KINDS_OF_A_JOB: dict[str, Any] = {
    "number": Count, "values": dict, "command": list, "config_hash": _TEXT_OR_NONE, "status": str,
    "run": _TEXT_OR_NONE, "metrics": dict, "error": _TEXT_OR_NONE, "seconds": NUMBER_OR_NONE, "code": dict,
}  # fmt: skip
# Of a sweep of ten thousand jobs; a stranger's file may try to fill the memory.
_MAX_BYTES = 50_000_000


@dataclass(slots=True, kw_only=True)
class JobRecord:
    """One job of a sweep.

    `values` are those of the keys that the sweep varies, as typed: `{"optimizer.lr": "0.1",
    "model": "cnn"}`. `command` repeats the job alone. `run` is the name of its folder in that of
    the sweep; `metrics` are those of its run.json. `config_hash` is of its whole resolved config;
    `code` says by which versions it ran.
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
    """A sweep: `identity` tells its jobs from those of another command, `monitor` is what they are
    compared by.

    `former` are jobs of earlier commands in this folder that the newest one did not ask for: should
    they be asked for again, they are done. `summary` is what the report adds at the end: see
    `report.summarize`.
    """

    folder: Path
    kind: str
    identity: str
    command: list[str]
    keys: list[str]
    monitor: str
    maximize: bool
    started: str
    ended: str | None = None
    jobs: list[JobRecord] = field(default_factory=list)
    former: list[JobRecord] = field(default_factory=list)
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


def figure(value: float) -> str:
    """A metric for a person: four decimals, or four digits where decimals would show nothing or
    too much.
    """
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


def read_record(folder: Path) -> SweepRecord | None:
    """The record of the sweep in `folder`; None where there is none, or one that trainer did not
    write.

    It may be a stranger's: no name in it leads out of the folder, and no command is another
    program's.
    """
    path = folder / FILE_NAME
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return None
    content = read_json(path)
    names = {item.name for item in dataclasses.fields(SweepRecord)} - {"folder", "jobs", "former"}
    try:
        fields: dict[str, Any] = {name: content[name] for name in names}
        check(fields, **_KINDS)
        fields |= {name: [_job(job) for job in content[name]] for name in ("jobs", "former")}
        return SweepRecord(folder=folder, **fields)
    except (KeyError, TypeError, ValueError):
        return None


def _job(content: Any) -> JobRecord:
    """Raises ValueError or TypeError for anything that no job is."""
    check(content, **_KINDS_OF_A_JOB)
    job = JobRecord(**content)
    is_named = job.run is None or (job.run == Path(job.run).name and job.run not in ("", ".", ".."))
    texts = [*job.values, *job.values.values(), *job.command, *job.code, *job.code.values()]
    numbers = all(map(is_number, job.metrics.values()))
    if (
        not is_named
        or not numbers
        or job.status not in STATUSES
        or not all(isinstance(text, str) for text in texts)
    ):
        raise ValueError("no job is like that")
    if job.command[:2] != ["trainer", "fit"]:
        raise ValueError("its command is another program's")
    return job
