"""A job of a sweep that is resumed alone: a warning before, the report brought up to date after."""

from __future__ import annotations

import copy
from pathlib import Path

from trainer.commands.fit.saved_step import SavedStep
from trainer.commands.sweep import report
from trainer.commands.sweep.record import JobRecord, SweepRecord, read_record
from trainer.commands.sweep.resume import settings_of_job, update
from trainer.errors import EnvironmentFault, UsageError
from trainer.run.lock import locked
from trainer.tracking import describe_error
from trainer.tracking.console import Terminal


def warn_of_change(saved: SavedStep, *, terminal: Terminal) -> None:
    """Warn before a job is trained with other settings: then it no longer counts in its sweep."""
    found = _find(saved.run)
    changes = settings_of_job(saved.changes)
    if found is None or not changes:
        return
    record, job = found
    changed = ", ".join(f"{key} {values}" for key, values in changes.items())
    terminal.warn(
        f"This run is job {job.number} of the sweep {record.folder}, and is left out there once it "
        f"is changed ({changed}). To keep it too, continue in a new folder: run.dir=…"
    )


def refresh_report(run: Path, *, terminal: Terminal) -> None:
    """Write the report of the sweep of `run` anew, if it is a job of one and no sweep runs in it.

    A sweep that runs there writes it at its own end. The run is over by now: what goes wrong here
    is a warning.
    """
    if _find(run) is None:
        return
    try:
        with locked(run.parent):
            found = _find(run)
            if found is None:
                return
            record, job = found
            before = copy.deepcopy(job)
            update(record)
            if job == before:
                return  # the resume was refused
            # What the seeds vary depends on the configs of all jobs, which have not changed.
            seeds = record.summary.get("seeds", "")
            record.summary = report.summarize(record, seeds=seeds)
            record.write()
            report.write_files(record)
    except UsageError:
        return
    except (OSError, EnvironmentFault) as error:
        why = describe_error(error).rstrip(".")
        terminal.warn(f"The report in {run.parent} is not up to date: {why}.")
        return
    what = "leaves it out" if job.is_changed else "has the new result"
    terminal.note(f"{record.folder / report.CSV_NAME} {what}.")


def _find(run: Path) -> tuple[SweepRecord, JobRecord] | None:
    """The record of the sweep that `run` is a job of, and that job."""
    record = read_record(run.parent)
    if record is None:
        return None
    jobs = (*record.jobs, *record.former)
    return next(((record, job) for job in jobs if job.run == run.name), None)
