"""The folder of a sweep: a new one, or that of an earlier command with the same jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.commands.sweep.record import (
    CHANGED,
    FILE_NAME,
    JobRecord,
    SweepRecord,
    read_record,
)
from trainer.commands.sweep.study import FILE_NAME as STUDY_NAME
from trainer.commands.sweep.task import JobStatus, read_outcome
from trainer.config import affects
from trainer.config.sweep import SweepRequest
from trainer.errors import InputError, UsageError, printable
from trainer.files import part_path, read_json, remove
from trainer.run.folder import LOCK_FILE, RECORD_FILE, create_dated_folder, create_exact_folder
from trainer.run.lock import check_free, is_locked, locked
from trainer.run.record import changes_of

# What a key must change for a run with another value to be another job.
_OF_A_JOB = ("result", "trials", "order", "samples", "evaluation")
# Characters of a value in a message.
_MAX_VALUE = 60


@contextlib.contextmanager
def sweep_folder(
    request: SweepRequest, identities: Collection[str], *, name: str | None = None
) -> Iterator[tuple[Path, SweepRecord | None]]:
    """The folder of a sweep, locked, and the record of an earlier command in it, if there is one.

    The earlier command has one of the `identities`. The jobs of its record are as `update` leaves
    them. A new folder has this `name` behind its time, unless run.dir names it, and is removed
    again when no job was started in it. Raises UsageError when run.dir is in use or holds something
    else, InputError when its record is damaged, EnvironmentFault when it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        earlier = _find_earlier(request, identities)
        if earlier is not None:
            try:
                stack.enter_context(locked(earlier.folder))
            except UsageError:
                if request.run.dir is not None:
                    raise
                earlier = None  # the same command has just taken it: this is another sweep
        if earlier is None:
            folder = stack.enter_context(_new_folder(request, name or "sweep"))
        else:
            folder = earlier.folder
        _refuse_links(folder)
        if earlier is not None:
            update(earlier)
        yield folder, earlier


def _find_earlier(request: SweepRequest, identities: Collection[str]) -> SweepRecord | None:
    """The record of the sweep to continue: that in run.dir, else the newest with an identity."""
    if request.run.dir is not None:
        return _record_in(Path(request.run.dir), request, identities)
    if request.sweep.fresh:
        return None
    # The names are dates and times: the last is the newest.
    for path in sorted(Path(request.run.root).glob(f"*/*/{FILE_NAME}"), reverse=True):
        # The same command started twice at once is two sweeps.
        if read_json(path).get("identity") in identities and not is_locked(path.parent):
            record = read_record(path.parent)
            if record is not None:
                return record
    return None


def _record_in(
    folder: Path, request: SweepRequest, identities: Collection[str]
) -> SweepRecord | None:
    record = read_record(folder)
    if record is None:
        if (folder / FILE_NAME).exists():
            raise InputError(
                f"{folder / FILE_NAME} is damaged, or not of this version.",
                hint="Choose another folder: run.dir=…",
            )
        return None
    check_free(folder)
    if request.sweep.fresh:
        raise UsageError(
            f"run.dir={folder} holds a sweep, and sweep.fresh=true asks for a new one.",
            hint="Name another folder, or leave sweep.fresh out to continue this one.",
        )
    # A grid may be given more values; trials belong to one search.
    is_same = record.kind == "grid" or record.identity in identities
    if record.kind != request.sweep.name or not is_same:
        raise UsageError(
            f"run.dir={folder} holds another sweep, of {record.kind}.",
            hint="Name another folder: run.dir=…",
        )
    return record


@contextlib.contextmanager
def _new_folder(request: SweepRequest, name: str) -> Iterator[Path]:
    """Make a folder, locked, and remove it again when no record was written in it."""
    if request.run.dir is None:
        folder = create_dated_folder(Path(request.run.root), name)
        made = [folder, folder.parent]
    else:
        folder = Path(request.run.dir)
        made = [] if folder.exists() else [folder]
        check_free(folder)
        create_exact_folder(folder)
    with locked(folder):
        try:
            yield folder
        finally:
            # Still locked: another command that was given the same folder must not lose it.
            if not (folder / FILE_NAME).exists():
                _remove_made(folder)
                # Files of the person's, or other runs, may be there.
                with contextlib.suppress(OSError):
                    for path in made:
                        path.rmdir()


def _remove_made(folder: Path) -> None:
    """Remove what a sweep makes before its first job: empty run folders and the study."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty, so a run that has begun
                path.rmdir()
        elif path.name in (LOCK_FILE, STUDY_NAME, part_path(folder / FILE_NAME).name):
            remove(path)


def _refuse_links(folder: Path) -> None:
    """Raise InputError for any link: trainer would write to wherever it leads."""
    for path in folder.iterdir():
        if path.is_symlink():
            raise InputError(
                f"{path} is a link, which trainer never makes.",
                hint="Remove it, or choose another folder: run.dir=…",
            )


def update(record: SweepRecord) -> None:
    """Give the jobs of `record` the states that their run folders say now.

    A job whose run was resumed with other settings becomes a former one: the run is no result of
    what the sweep asks for.
    """
    for job in (*record.jobs, *record.former):
        _update(job, record.folder)
    record.former += [job for job in record.jobs if job.is_changed]
    record.jobs = [job for job in record.jobs if not job.is_changed]


def settings_of_job(changes: Mapping[str, Any]) -> dict[str, str]:
    """`trainer.epochs: "1 -> 6"` for each of the `changes` of a resume that a job would not have.

    Where and how fast it is trained, and what is written about it, is not part of a job.
    """
    return {
        key: " -> ".join(printable(value)[:_MAX_VALUE] for value in values)
        for key, values in changes.items()
        if affects(key) in _OF_A_JOB and isinstance(values, list | tuple)
    }


def _changes_of(run: Path) -> str:
    """What resumes changed in a run since its sweep started it; empty for nothing."""
    changed: dict[str, str] = {}
    for changes in changes_of(read_json(run / RECORD_FILE)):
        changed |= settings_of_job(changes)
    return ", ".join(f"{printable(key)} {values}" for key, values in changed.items())


def _update(job: JobRecord, folder: Path) -> None:
    """Bring `job` up to date with its run.json, which may be newer than sweep.json after a kill."""
    if job.run is None:
        return
    outcome = read_outcome(folder / job.run)
    if outcome is None:
        job.status = JobStatus.WAITING
        job.error = None
    elif job.status != JobStatus.FAILED or outcome.status != JobStatus.INTERRUPTED:
        # A job that failed stays so where its process died, which run.json cannot say.
        job.end(outcome)
    changes = _changes_of(folder / job.run)
    job.is_changed = bool(changes)
    if changes:
        job.error = f"{CHANGED}{changes}."
