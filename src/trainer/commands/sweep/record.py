"""sweep.json: the jobs of a sweep and their states.

It is written at every change, so that a sweep that was killed can be continued.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from trainer.commands.sweep.task import JobOutcome, JobStatus
from trainer.errors import EnvironmentFault, printable, reason_of
from trainer.files import JsonObject, read_json, write_json
from trainer.run.folder import SWEEP_FILE
from trainer.state_checks import NUMBER_OR_NONE, Count, check
from trainer.tracking.metrics_file import is_number

FILE_NAME = SWEEP_FILE
# How the `error` of a job begins whose run was changed. Older records have no other mark of it.
CHANGED = "It was changed when it was resumed: "
_TEXT_OR_NONE = (str, NoneType)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "identity": str,
    "command": list,
    "keys": list,
    "monitor": str,
    "maximize": bool,
    "started": str,
    "ended": _TEXT_OR_NONE,
    "summary": dict,
}
_KINDS_OF_A_JOB: dict[str, type | tuple[type, ...]] = {
    "number": Count,
    "values": dict,
    "command": list,
    "config_hash": _TEXT_OR_NONE,
    "status": str,
    "run": _TEXT_OR_NONE,
    "metrics": dict,
    "error": _TEXT_OR_NONE,
    "seconds": NUMBER_OR_NONE,
    "code": dict,
    "is_changed": bool,
}
# Of a sweep of ten thousand jobs; a stranger's file may try to fill the memory.
_MAX_BYTES = 50_000_000


@dataclass(slots=True, kw_only=True)
class JobRecord:
    """One job of a sweep.

    `values` are those of the varied keys, as typed: `{"optimizer.lr": "0.1", "model": "cnn"}`.
    `command` repeats the job alone. `run` is the name of its folder inside that of the sweep.
    `config_hash` is of its whole resolved config. `is_changed` is whether the run was resumed with
    other settings, which `error` names. The other fields are those of `JobOutcome`.
    """

    number: int
    values: dict[str, str]
    command: list[str]
    config_hash: str | None = None
    status: JobStatus = JobStatus.WAITING
    run: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str | None = None
    seconds: float | None = None
    code: dict[str, str] = field(default_factory=dict)
    is_changed: bool = False

    @property
    def label(self) -> str:
        """The varied values for a person: `optimizer.lr=0.1 model=cnn`."""
        return " ".join(f"{printable(key)}={short(value)}" for key, value in self.values.items())

    @property
    def name(self) -> str:
        """`Job 3 (optimizer.lr=0.1)`, or `Job 3` where nothing is varied."""
        return f"Job {self.number} ({self.label})" if self.values else f"Job {self.number}"

    @property
    def failure(self) -> str:
        """The sentence that it failed, and why: printed when it fails, and not again."""
        return f"{self.name} failed: {' '.join((self.error or 'it gave no reason').split())}"

    def end(self, outcome: JobOutcome) -> None:
        """Take over how the job ended."""
        self.status = outcome.status
        self.error = outcome.error
        self.metrics = outcome.metrics
        self.code = outcome.code


@dataclass(slots=True, kw_only=True)
class SweepRecord:
    """A sweep: `identity` distinguishes its jobs from those of another command.

    Jobs are compared by the metric `monitor`. `former` are jobs of earlier commands in this folder
    that the newest command does not name: a later command that names them need not run them again.
    Jobs whose run was changed are among them, and are left out of the report.
    `summary` is what `report.summarize` gives at the end.
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
    summary: JsonObject = field(default_factory=dict)

    def write(self) -> None:
        """Write sweep.json; raises OSError: see `write_errors`."""
        content = dataclasses.asdict(self)
        del content["folder"]
        write_json(self.folder / FILE_NAME, content)

    def job(self, number: int) -> JobRecord | None:
        """The job with this number."""
        return next((job for job in self.jobs if job.number == number), None)

    @property
    def left_out(self) -> list[JobRecord]:
        """The jobs whose run was changed, so that it is no result of the sweep."""
        return [job for job in self.former if job.is_changed]

    def num(self, *statuses: JobStatus) -> int:
        """The number of jobs in any of these states."""
        return sum(job.status in statuses for job in self.jobs)


def short(value: str) -> str:
    """A value for a person: of a long number the four digits that matter."""
    is_long = re.fullmatch(r"-?[0-9]+\.[0-9]{5,}|-?([0-9]+\.?[0-9]*|\.[0-9]+)e-?[0-9]+", value)
    return f"{float(value):.4g}" if is_long else printable(" ".join(value.split()))


@contextlib.contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into an EnvironmentFault: the sweep in `folder` cannot be written."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"Could not write to the folder of the sweep {folder}: {reason_of(error)}.",
            hint="Fix this and give the same command again: jobs that are done are not run again.",
        ) from error


def read_record(folder: Path) -> SweepRecord | None:
    """The record of the sweep in `folder`; None without one, or where trainer did not write it.

    The file may come from a stranger: no name in it leads out of the folder, and no command in it
    is another program's.
    """
    path = folder / FILE_NAME
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return None
    content = read_json(path)
    names = {item.name for item in dataclasses.fields(SweepRecord)} - {"folder", "jobs", "former"}
    try:
        fields: JsonObject = {name: content[name] for name in names}
        check(fields, **_KINDS)
        fields |= {name: [_job(job) for job in content[name]] for name in ("jobs", "former")}
        return SweepRecord(folder=folder, **fields)
    except (KeyError, TypeError, ValueError):
        return None


def _job(content: Any) -> JobRecord:
    """Check and convert one job; raises ValueError or TypeError for anything that is none."""
    if isinstance(content, dict) and "is_changed" not in content:
        content = content | {"is_changed": str(content.get("error")).startswith(CHANGED)}
    check(content, **_KINDS_OF_A_JOB)
    job = JobRecord(**content)
    job.status = JobStatus(job.status)
    texts = [*job.values, *job.values.values(), *job.command, *job.code, *job.code.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its words are not text")
    if not all(map(is_number, job.metrics.values())):
        raise ValueError("its metrics are not numbers")
    if job.run is not None and (job.run != Path(job.run).name or job.run in ("", ".", "..")):
        raise ValueError("its run is not in the folder")
    # The report prints it, to be copied into a shell.
    if job.command[:2] != ["trainer", "fit"]:
        raise ValueError("its command is another program's")
    return job
