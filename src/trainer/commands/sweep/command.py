"""`trainer fit -m`: from what was asked for to the report; the parts are the other files of this
folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer import __version__
from trainer.commands.sweep import plan, report
from trainer.commands.sweep.display import Board
from trainer.commands.sweep.launchers import Launcher
from trainer.commands.sweep.launchers.local import LocalLauncher, warm_up
from trainer.commands.sweep.loop import Loop, Shown, command_of
from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.resume import Place, placed
from trainer.commands.sweep.samplers import make_source
from trainer.config import FitConfig, to_plain
from trainer.config.compatibility import monitored_metric
from trainer.config.sweep import LocalConfig, OptunaConfig, RandomConfig, SlurmConfig, SweepRequest
from trainer.errors import EnvironmentFault, UsageError
from trainer.run.record import git_commit, now
from trainer.signals import Signals
from trainer.tracking.console import Terminal

# How many of the jobs that were not started are named when a sweep is stopped.
_MAX_NAMED = 8
_LENGTH_OF_COMMIT = 9
# So many jobs take a few seconds to compose.
_MANY = 50


def run(request: SweepRequest, *, terminal: Terminal) -> int:
    """Run what is asked for, go on where the same command was cut, and report; gives the exit code.

    Raises UsageError, and what is wrong with the data or the machine, before any job has begun.
    """
    request = _as_search(request) if isinstance(request.sweep, RandomConfig) else request
    if isinstance(request.launcher, LocalConfig):
        warm_up(is_search=isinstance(request.sweep, OptunaConfig))
    jobs = [] if isinstance(request.sweep, RandomConfig) else plan.grid(request.axes)
    configs = plan.check(request, jobs)
    identity = plan.identity(request, configs)
    with placed(request, identity) as place:
        if place.earlier is not None and len(jobs) > _MANY:
            terminal.note(f"Reading the configs of {len(jobs)} jobs …")
        record = _record(request, place, jobs, configs, identity=identity)
        total = _total(request, record)
        terminal.line(f"Sweep of {total} job{'s' * (total != 1)}, in {place.folder}", style="bold")
        _say_going_on(request, place, record, terminal)
        stopped_by = None
        if not jobs or any(job.status not in ("done", "pruned") for job in record.jobs):
            with contextlib.closing(_launcher(request, place, jobs, configs)) as launcher:
                stopped_by = _run_all(request, record, launcher, terminal)
        _say_other_code(record, terminal)
        record.ended = now()
        record.summary = report.summarize(record)
        try:
            _keep(record)
        finally:
            _show(record, terminal, is_stopped=stopped_by is not None)
    if stopped_by is not None:
        return 128 + stopped_by
    return 1 if any(job.status in ("failed", "interrupted") for job in record.jobs) else 0


def _show(record: SweepRecord, terminal: Terminal, *, is_stopped: bool) -> None:
    """The report, and what is not done; a closed terminal is what stopped it, perhaps."""
    with contextlib.suppress(OSError) if is_stopped else contextlib.nullcontext():
        report.show(record, terminal=terminal)
        if is_stopped:
            _say_stopped(record)
        elif num_cut := sum(job.status == "interrupted" for job in record.jobs):
            terminal.warn(
                f"{num_cut} of the jobs were interrupted. Continue with the same command."
            )


def _keep(record: SweepRecord) -> None:
    try:
        record.write()
        report.write_files(record)
    except OSError as error:
        raise EnvironmentFault(
            f"The report could not be written to {record.folder}: {error.strerror or error}.",
            hint="Put that right and give the same command again: what is done is not run again.",
        ) from error


def _as_search(request: SweepRequest) -> SweepRequest:
    if not request.axes:
        name = request.sweep.name
        raise UsageError(
            f"sweep={name} has nothing to vary.",
            hint="Give a key several values: 'optimizer.lr=interval(0.01,0.1)'",
        )
    axes = [
        axis if axis.step is None else dataclasses.replace(axis, values=()) for axis in request.axes
    ]
    return dataclasses.replace(request, axes=axes)


def _record(
    request: SweepRequest,
    place: Place,
    jobs: Sequence[plan.Values],
    configs: Sequence[FitConfig],
    *,
    identity: str,
) -> SweepRecord:
    """The record of the sweep as it begins; what an earlier command left is taken over job by job."""
    monitor = monitored_metric(configs[0])
    planned = _planned(request, place, jobs)
    return SweepRecord(
        folder=place.folder,
        kind=request.sweep.name,
        identity=identity,
        command=request.command,
        keys=[axis.key for axis in request.axes],
        monitor=monitor,
        maximize=monitor.endswith("accuracy"),
        started=now() if place.earlier is None else place.earlier.started,
        jobs=planned if jobs else place.ended(),
        former=place.left() if jobs else [] if place.earlier is None else place.earlier.former,
    )


def _planned(request: SweepRequest, place: Place, jobs: Sequence[plan.Values]) -> list[JobRecord]:
    """The jobs of a grid, each as an earlier command left it: that stays noted, whatever becomes
    of this command.
    """
    planned = [
        JobRecord(number=number, values=values, command=command_of(request, values))
        for number, values in enumerate(jobs)
    ]
    return (
        planned if place.earlier is None else [_taken_over(request, place, job) for job in planned]
    )


def _taken_over(request: SweepRequest, place: Place, job: JobRecord) -> JobRecord:
    try:
        earlier = place.take(plan.config_hash(plan.config_of(request, job.values)))
    except UsageError:  # it fails, and is told, when its turn comes
        return job
    return (
        job
        if earlier is None
        else dataclasses.replace(earlier, number=job.number, values=job.values)
    )


def _launcher(
    request: SweepRequest, place: Place, jobs: Sequence[plan.Values], configs: Sequence[FitConfig]
) -> Launcher:
    if isinstance(request.launcher, LocalConfig):
        plain = [to_plain(config) for config in configs]
        return LocalLauncher(request.sweep, num_jobs=len(jobs) or None, configs=plain)
    # Imported here: each needs a package of its own.
    if isinstance(request.launcher, SlurmConfig):
        from trainer.commands.sweep.launchers.slurm import SlurmLauncher

        return SlurmLauncher(request.launcher, folder=place.folder, jobs=request.sweep.num_jobs)
    from trainer.commands.sweep.launchers.ray import RayLauncher

    return RayLauncher(request.launcher, folder=place.folder, jobs=request.sweep.num_jobs)


def _run_all(
    request: SweepRequest, record: SweepRecord, launcher: Launcher, terminal: Terminal
) -> int | None:
    """Run the jobs; gives the signal that stopped them, if one did."""
    with (
        contextlib.closing(make_source(request, record)) as source,
        _shown(request, record, launcher, terminal) as shown,
        Signals() as signals,
    ):
        Loop(request, record, launcher=launcher, source=source, shown=shown, signals=signals).run()
    return signals.stopped_by


@contextlib.contextmanager
def _shown(
    request: SweepRequest, record: SweepRecord, launcher: Launcher, terminal: Terminal
) -> Iterator[Shown]:
    if launcher.is_shown:
        yield _Headings(terminal)
        return
    with Board(
        terminal, total=_total(request, record), monitor=record.monitor, maximize=record.maximize
    ) as board:
        yield board


class _Headings:
    """One job at a time shows itself: this is the line above each."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._started: set[int] = set()

    def keep(self, job: JobRecord) -> None:
        """Nothing: what is kept is told as a whole."""

    def start(self, job: JobRecord, *, run: Path, epochs: int, max_steps: int | None) -> None:
        """See `Shown.start`."""
        self._started.add(job.number)
        self._terminal.line(f"Job {job.number}: {job.label}".removesuffix(": "), style="bold")

    def end(self, job: JobRecord) -> None:
        """See `Shown.end`."""
        if job.status == "failed" and job.number not in self._started:  # else it has said so
            self._terminal.warn(f"Job {job.number} ({job.label}) failed: {job.error}")

    def refresh(self) -> None:
        """Nothing: the job shows how it goes."""

    def warn(self, text: str) -> None:
        """See `Shown.warn`."""
        self._terminal.warn(text)


def _say_going_on(
    request: SweepRequest, place: Place, record: SweepRecord, terminal: Terminal
) -> None:
    """That this is not a new sweep, and how to have one."""
    if place.earlier is None:
        return
    num_done = sum(job.status in ("done", "pruned") for job in record.jobs)
    anew = "sweep.fresh=true" if request.run.dir is None else "another run.dir"
    terminal.note(
        f"Going on with {place.folder}: {num_done} of {_total(request, record)} jobs are done. To "
        f"begin anew: {anew}"
    )
    if record.former:
        terminal.note(
            f"{len(record.former)} earlier jobs have another config: they stay as they are."
        )


def _say_other_code(record: SweepRecord, terminal: Terminal) -> None:
    """That what was not run again was made by another version, if so."""
    this = {"trainer": __version__, "commit": git_commit() or "none"}
    for was in {
        tuple(job.code.get(name, "none") for name in this): None for job in record.jobs if job.code
    }:
        if was != tuple(this.values()):
            told = [
                f"{version}, commit {commit[:_LENGTH_OF_COMMIT]}"
                for version, commit in (was, tuple(this.values()))
            ]
            terminal.note(f"Some jobs were done by trainer {told[0]}; this is {told[1]}.")


def _say_stopped(record: SweepRecord) -> None:
    """What is done and what is not."""
    counts = Counter("done" if job.status == "pruned" else job.status for job in record.jobs)
    words = {"done": "done", "failed": "failed", "interrupted": "stopped", "waiting": "not started"}
    said = ", ".join(f"{counts[status]} {word}" for status, word in words.items() if counts[status])
    left = [job.label for job in record.jobs if job.status == "waiting"]
    names = "; ".join(left[:_MAX_NAMED]) + (
        f"; and {len(left) - _MAX_NAMED} more" if left[_MAX_NAMED:] else ""
    )
    sys.stderr.write(f"Stopped: {said}{f' ({names})' if names else ''}.\n")
    sys.stderr.write("Continue with the same command.\n")


def _total(request: SweepRequest, record: SweepRecord) -> int:
    """How many jobs it comes to; the record of a search has those that were suggested."""
    return request.sweep.trials if isinstance(request.sweep, RandomConfig) else len(record.jobs)
