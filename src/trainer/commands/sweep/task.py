"""What a sweep sends to the process of a job, and how the job ended. Plain values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from trainer.config import ConfigTree
from trainer.errors import printable
from trainer.files import read_json
from trainer.run.folder import RECORD_FILE
from trainer.run.record import RunStatus
from trainer.tracking.metrics_file import is_number

# A commit with the mark `+changes`; a stranger's file may have more.
_MAX_COMMIT = 60


class JobStatus(StrEnum):
    """The state of a job: before its run there is none, then it is that of the run."""

    WAITING = "waiting"
    RUNNING = RunStatus.RUNNING.value
    DONE = RunStatus.DONE.value
    PRUNED = RunStatus.PRUNED.value
    FAILED = RunStatus.FAILED.value
    INTERRUPTED = RunStatus.INTERRUPTED.value

    @property
    def is_complete(self) -> bool:
        """Whether the job need not be run again: it is done, or a search ended it early."""
        return self in (JobStatus.DONE, JobStatus.PRUNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAddress:
    """Where a job finds its trial of a search: the database, the study and the trial in it."""

    storage: str
    study: str
    trial_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a process needs to run a job.

    `config` is the whole config, with the run folder in `run.dir`: an interrupted run in that
    folder is continued. `folder` is the working directory of the sweep. The output of the job goes
    to the file `log`, or to the terminal where that is None.
    """

    number: int
    config: ConfigTree
    command: list[str]
    varied: list[str]
    folder: str
    log: str | None = None
    trial: TrialAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """How a job ended: `error` is one sentence, `code` the versions that its run was made by."""

    status: JobStatus
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str | None = None
    code: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_outcome(run: Path) -> JobOutcome | None:
    """Read from run.json how a run ended; None without one.

    A run that has not ended counts as interrupted: its process was killed, or is about to stop.
    """
    record = read_json(run / RECORD_FILE)
    if not record:
        return None
    status = record.get("status")
    metrics = record.get("metrics")
    error = record.get("error")
    if status not in (JobStatus.DONE, JobStatus.PRUNED, JobStatus.FAILED):
        status = JobStatus.INTERRUPTED
    found = metrics.items() if isinstance(metrics, dict) else ()
    return JobOutcome(
        status=JobStatus(status),
        metrics={name: value for name, value in found if is_number(value)},
        error=None if error is None else str(error),
        code=_code_of(record),
    )


def _code_of(record: Mapping[str, object]) -> dict[str, str]:
    versions = record.get("versions")
    commit = record.get("git_commit")
    if not isinstance(versions, dict):
        versions = {}
    code = {name: printable(versions[name]) for name in ("trainer", "torch") if name in versions}
    if commit:
        code["commit"] = printable(commit)[:_MAX_COMMIT]
    return code
