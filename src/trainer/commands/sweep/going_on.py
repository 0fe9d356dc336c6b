"""Going on with a sweep that was cut, or that failed in part: finding its folder, and how each of its jobs stands."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import rundir
from trainer.commands.sweep.record import FILE_NAME, JobRecord, SweepRecord, read_record
from trainer.config.sweep import SweepRequest
from trainer.errors import UsageError
from trainer.runlock import check_free, is_locked, locked


@dataclass(slots=True, kw_only=True)
class Place:
    """The folder of a sweep, and what an earlier command left in it, if any."""

    folder: Path
    earlier: SweepRecord | None
    jobs: dict[str, list[JobRecord]] = field(default_factory=lambda: defaultdict(list))

    def take(self, config_hash: str) -> JobRecord | None:
        """An earlier job of that config, each once, with its status as its run folder has it."""
        found = self.jobs[config_hash]
        return _as_it_stands(found.pop(0), self.folder) if found else None

    def ended(self) -> list[JobRecord]:
        """All earlier jobs, each with its status as its run folder has it."""
        return [] if self.earlier is None else [_as_it_stands(job, self.folder) for job in self.earlier.jobs]


@contextlib.contextmanager
def placed(request: SweepRequest, identity: str) -> Iterator[Place]:
    """The folder of a sweep, locked: of an earlier one of the same jobs, or a new one, which goes if nothing began.

    Raises UsageError when run.dir is in use or holds something else, EnvironmentFault when it cannot be made.
    """
    folder, earlier = _found(request, identity)
    is_new = folder is None
    if folder is None:
        name = request.run.name or "sweep"
        exactly = request.run.dir
        folder = (
            rundir.create(Path(request.run.root), name) if exactly is None else rundir.create_exactly(Path(exactly))
        )
    place = Place(folder=folder, earlier=earlier)
    for job in earlier.jobs if earlier is not None else ():
        if job.config_hash is not None:
            place.jobs[job.config_hash].append(job)
    try:
        with locked(folder):
            yield place
    finally:
        if is_new and not (folder / FILE_NAME).exists():
            _remove_new(folder, is_dated=request.run.dir is None)


def _found(request: SweepRequest, identity: str) -> tuple[Path | None, SweepRecord | None]:
    if request.run.dir is not None:
        folder = Path(request.run.dir)
        record = read_record(folder)
        if record is not None:
            check_free(folder)
            if request.sweep.fresh:
                raise UsageError(
                    f"run.dir={folder} holds a sweep, and sweep.fresh=true asks for a new one.",
                    hint="Name another folder, or leave sweep.fresh out to go on with this one.",
                )
        return (None, None) if record is None else (folder, record)
    if request.sweep.fresh:
        return None, None
    for path in sorted(Path(request.run.root).glob(f"*/*/{FILE_NAME}"), reverse=True):
        # The same command started twice at once is two sweeps.
        if rundir.read_json(path).get("identity") == identity and not is_locked(path.parent):
            record = read_record(path.parent)
            if record is not None:
                return path.parent, record
    return None, None


def _as_it_stands(job: JobRecord, folder: Path) -> JobRecord:
    """The job with what its run.json says, which outlives a kill of the sweep: `waiting` where it has none."""
    if job.run is None:
        return job
    record = rundir.read_json(folder / job.run / "run.json")
    status = record.get("status")
    job.status = {"running": "interrupted"}.get(str(status), str(status)) if record else "waiting"
    metrics, error = record.get("metrics"), record.get("error")
    job.metrics = dict(metrics) if isinstance(metrics, dict) else {}
    job.error = str(error) if error is not None else None
    job.code = code_of(record)
    return job


def code_of(record: dict[str, Any]) -> dict[str, str]:
    """By which versions a run.json says that its run was made: what a report shows where they differ."""
    versions = record.get("versions")
    found = (
        {name: str(versions[name]) for name in ("trainer", "torch") if name in versions}
        if isinstance(versions, dict)
        else {}
    )
    return {**found, **({"commit": str(record["git_commit"])} if record.get("git_commit") else {})}


def _remove_new(folder: Path, *, is_dated: bool) -> None:
    rundir.remove(folder)
    if is_dated:
        with contextlib.suppress(OSError):  # other runs of the day are in it
            folder.parent.rmdir()
