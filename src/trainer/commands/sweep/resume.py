"""Going on with a sweep that was cut, or that failed in part: finding its folder, and how each
of its jobs stands.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.commands.sweep.record import FILE_NAME, JobRecord, SweepRecord, read_record
from trainer.commands.sweep.study import FILE_NAME as STUDY_NAME
from trainer.config.sweep import SweepRequest
from trainer.errors import InputError, UsageError, printable
from trainer.files import part_path, read_json, remove
from trainer.run.folder import LOCK_FILE, create_dated_folder, create_exact_folder
from trainer.run.lock import check_free, is_locked, locked
from trainer.tracking.metrics_file import is_number


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

    def left(self) -> list[JobRecord]:
        """The earlier jobs that nobody took and that have a run."""
        return [job for found in self.jobs.values() for job in found if job.run is not None]

    def ended(self) -> list[JobRecord]:
        """All earlier jobs, each with its status as its run folder has it."""
        return (
            []
            if self.earlier is None
            else [_as_it_stands(job, self.folder) for job in self.earlier.jobs]
        )


@contextlib.contextmanager
def placed(request: SweepRequest, identity: str) -> Iterator[Place]:
    """The folder of a sweep, locked: of an earlier one of the same jobs, or a new one, which goes
    if nothing began.

    Raises UsageError when run.dir is in use or holds something else, InputError when its record is
    damaged, EnvironmentFault when it cannot be made.
    """
    with contextlib.ExitStack() as held:
        folder, earlier = _found(request, identity)
        if folder is not None and request.run.dir is None:
            try:
                held.enter_context(locked(folder))
            except (
                UsageError
            ):  # the same command took it a moment ago: then this is a sweep of its own
                folder, earlier = None, None
        elif folder is not None:
            held.enter_context(locked(folder))
        if folder is None:
            folder = held.enter_context(_new(request))
        _refuse_links(folder)
        place = Place(folder=folder, earlier=earlier)
        for job in (*earlier.jobs, *earlier.former) if earlier is not None else ():
            if job.config_hash is not None:
                place.jobs[job.config_hash].append(job)
        yield place


@contextlib.contextmanager
def _new(request: SweepRequest) -> Iterator[Path]:
    """A new folder, locked; when nothing began in it, what was made goes again."""
    exactly = None if request.run.dir is None else Path(request.run.dir)
    was_there = exactly is not None and exactly.exists()
    if exactly is not None:
        check_free(exactly)
        folder = create_exact_folder(exactly)
    else:
        folder = create_dated_folder(Path(request.run.root), request.run.name or "sweep")
    with locked(folder):
        try:
            yield folder
        finally:
            # Still locked: another command that was given the same folder must not lose it.
            if not (folder / FILE_NAME).exists():
                _take_back(folder)
                with contextlib.suppress(OSError):  # something of the person's own is in it
                    if not was_there:
                        folder.rmdir()
                    if exactly is None:
                        folder.parent.rmdir()


def _take_back(folder: Path) -> None:
    """Remove what a sweep makes before its first job begins: folders of runs that are empty, and
    the study.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty, so not of a job that never began
                path.rmdir()
        elif path.name in (LOCK_FILE, STUDY_NAME, part_path(folder / FILE_NAME).name):
            remove(path)


def _refuse_links(folder: Path) -> None:
    """Raises InputError for a link where trainer makes a file or folder: it would write to
    wherever that leads.
    """
    for path in folder.iterdir():
        if path.is_symlink():
            raise InputError(
                f"{path} is a link, which trainer never makes.",
                hint="Remove it, or choose another folder: run.dir=…",
            )


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
            # A grid may be given more values; trials are about one search.
            is_search = "grid" not in (record.kind, request.sweep.name)
            if record.kind != request.sweep.name or (is_search and record.identity != identity):
                raise UsageError(
                    f"run.dir={folder} holds another sweep, of {record.kind}.",
                    hint="Name another folder: run.dir=…",
                )
        elif (folder / FILE_NAME).exists():
            raise InputError(
                f"{folder / FILE_NAME} is damaged, or not of this version.",
                hint="Choose another folder: run.dir=…",
            )
        return (None, None) if record is None else (folder, record)
    if request.sweep.fresh:
        return None, None
    for path in sorted(Path(request.run.root).glob(f"*/*/{FILE_NAME}"), reverse=True):
        # The same command started twice at once is two sweeps.
        if read_json(path).get("identity") == identity and not is_locked(path.parent):
            record = read_record(path.parent)
            if record is not None:
                return path.parent, record
    return None, None


def _as_it_stands(job: JobRecord, folder: Path) -> JobRecord:
    """The job with what its run.json says, which outlives a kill of the sweep: `waiting` where
    it has none.
    """
    if job.run is None:
        return job
    record = read_json(folder / job.run / "run.json")
    status = record.get("status")
    if not record:
        job.status = "waiting"
        return job
    now = "interrupted" if status not in ("done", "pruned", "failed") else str(status)
    if (
        job.status == "failed" and now == "interrupted"
    ):  # its process died: run.json did not hear of it
        return job
    job.status = now
    metrics, error = record.get("metrics"), record.get("error")
    found = metrics.items() if isinstance(metrics, dict) else ()
    job.metrics = {str(name): value for name, value in found if is_number(value)}
    job.error = str(error) if error is not None else None
    job.code = code_of(record)
    return job


def code_of(record: dict[str, Any]) -> dict[str, str]:
    """By which versions a run.json says that its run was made: what a report shows where they differ."""
    versions = record.get("versions")
    found = (
        {name: printable(versions[name]) for name in ("trainer", "torch") if name in versions}
        if isinstance(versions, dict)
        else {}
    )
    return {
        **found,
        **({"commit": printable(record["git_commit"])[:60]} if record.get("git_commit") else {}),
    }
