"""`trainer fit -m`: the story of a sweep, from the request to the report."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from trainer import __version__
from trainer.commands.sweep import monitor, plan, report
from trainer.commands.sweep.display import Board
from trainer.commands.sweep.launchers import Launcher
from trainer.commands.sweep.launchers.local import LocalLauncher, warm_up
from trainer.commands.sweep.loop import Loop
from trainer.commands.sweep.names import sweep_name
from trainer.commands.sweep.record import JobRecord, SweepRecord, write_errors
from trainer.commands.sweep.resume import sweep_folder
from trainer.commands.sweep.search import Search, Suggestion
from trainer.commands.sweep.task import JobStatus
from trainer.config import FitConfig, to_plain
from trainer.config.comparison import is_maximized
from trainer.config.sweep import LocalConfig, OptunaConfig, RandomConfig, SlurmConfig, SweepRequest
from trainer.errors import UsageError, counted
from trainer.run.record import COMMIT_LENGTH, git_commit, now
from trainer.signals import Signals
from trainer.tracking.console import Terminal

# How many of the jobs that were not started are named when a sweep is stopped.
_MAX_NAMED = 8
# To compose the configs of so many jobs takes a few seconds.
_MANY = 50
# What a warning adds that standard output is lost.
_COMFORT = f"The jobs continue; {report.MARKDOWN_NAME} has the table at the end."


def run(request: SweepRequest, *, terminal: Terminal) -> int:
    """Run the jobs that are not done yet, write the report, and return the exit code.

    Raises UsageError, and any fault of the data or the machine, before a job has begun.
    """
    is_search = isinstance(request.sweep, RandomConfig)
    if is_search:
        request = _with_ranges(request)
    # First: another process needs 1.5 s to load torch, while this one reads the configs.
    if isinstance(request.launcher, LocalConfig):
        warm_up(is_search=isinstance(request.sweep, OptunaConfig))
    jobs = [] if is_search else plan.grid(request.axes)
    configs = plan.check(request, jobs)
    identities = plan.identities(request, configs)
    name = sweep_name(request, configs)
    terminal.outlive_output(_COMFORT)
    with sweep_folder(request, identities, name=name) as (folder, earlier):
        comparison = monitor.choose(request, configs, former=_former(earlier, identities))
        # Not before: the identity is that of the words as typed.
        request = dataclasses.replace(request, words=[*request.words, *comparison.words])
        record = _new_record(request, folder, earlier, comparison, identity=identities[0])
        if not is_search:
            _match(record, jobs, request=request, terminal=terminal)
        total = _total(request, record)
        terminal.line(f"Sweep of {counted(total, 'job')}, in {folder}", style="bold")
        comparison.show(terminal)
        if earlier is not None:
            _note_continuation(request, record, terminal)
        stopped_by = None
        # Not for a sweep that is done: a launcher looks for its cluster, or unpacks the data.
        if is_search or not all(job.status.is_complete for job in record.jobs):
            with contextlib.closing(_launcher(request, folder, jobs, configs)) as launcher:
                stopped_by = _run_jobs(request, record, launcher, terminal)
        _note_other_code(record, terminal)
        record.ended = now()
        seeds = report.seeds_vary(record.keys, [config.data for config in configs])
        record.summary = report.summarize(record, seeds=seeds)
        # Also when the disk is full: then the terminal alone has the result.
        try:
            with write_errors(folder):
                record.write()
                report.write_files(record)
        finally:
            _show(record, terminal, is_stopped=stopped_by is not None)
    if stopped_by is not None:
        return 128 + stopped_by
    return 1 if record.num(JobStatus.FAILED, JobStatus.INTERRUPTED) else 0


def _with_ranges(request: SweepRequest) -> SweepRequest:
    """The request of a search, which draws from a range with a step as from a range."""
    if not request.axes:
        raise UsageError(
            f"sweep={request.sweep.name} has nothing to vary.",
            hint="Give a key several values: 'optimizer.lr=interval(0.01,0.1)'",
        )
    axes = [
        axis if axis.step is None else dataclasses.replace(axis, values=()) for axis in request.axes
    ]
    return dataclasses.replace(request, axes=axes)


def _new_record(
    request: SweepRequest,
    folder: Path,
    earlier: SweepRecord | None,
    comparison: monitor.Comparison,
    *,
    identity: str,
) -> SweepRecord:
    """The record of this command, with the jobs of an earlier one."""
    return SweepRecord(
        folder=folder,
        kind=request.sweep.name,
        identity=identity,
        command=request.command,
        keys=[axis.key for axis in request.axes],
        monitor=comparison.metric,
        maximize=is_maximized(comparison.metric),
        started=now() if earlier is None else earlier.started,
        jobs=[] if earlier is None else earlier.jobs,
        former=[] if earlier is None else earlier.former,
        summary={"comparison": comparison.sentences},
    )


def _former(earlier: SweepRecord | None, identities: Sequence[str]) -> str | None:
    """The metric of the sweep that the same command began; None for another or none."""
    return earlier.monitor if earlier is not None and earlier.identity in identities else None


def _match(
    record: SweepRecord, grid: Sequence[plan.Values], *, request: SweepRequest, terminal: Terminal
) -> None:
    """Give `record` the jobs of a grid, each in the state of an earlier job with its config.

    The earlier jobs that have a run and match no job of the grid become former ones.
    """
    changed = record.left_out
    earlier = [*record.jobs, *record.former]
    if earlier and len(grid) > _MANY:
        terminal.note(f"Reading the configs of {len(grid)} jobs …")
    by_config = _by_config(earlier)
    record.jobs = []
    for number, values in enumerate(grid):
        job = JobRecord(number=number, values=values, command=plan.command_of(request, values))
        if earlier:
            # A wrong value is reported when the turn of its job comes.
            with contextlib.suppress(UsageError):
                # Two jobs of a grid may have one config: each earlier job is given away once.
                alike = by_config[plan.config_hash(plan.config_of(request, values))]
                if alike:
                    job = dataclasses.replace(alike.pop(0), number=number, values=values)
        record.jobs.append(job)
    unmatched = [job for alike in by_config.values() for job in alike]
    record.former = [job for job in unmatched if job.run is not None] + changed


def _by_config(jobs: Sequence[JobRecord]) -> dict[str, list[JobRecord]]:
    """The jobs whose runs are still those of their config, by its hash."""
    found: dict[str, list[JobRecord]] = defaultdict(list)
    for job in jobs:
        if job.config_hash is not None and not job.is_changed:
            found[job.config_hash].append(job)
    return found


def _total(request: SweepRequest, record: SweepRecord) -> int:
    """The number of jobs, those included that a search has not suggested yet."""
    return request.sweep.trials if isinstance(request.sweep, RandomConfig) else len(record.jobs)


def _launcher(
    request: SweepRequest, folder: Path, jobs: Sequence[plan.Values], configs: Sequence[FitConfig]
) -> Launcher:
    if isinstance(request.launcher, LocalConfig):
        plain = [to_plain(config) for config in configs]
        return LocalLauncher(request.sweep, num_jobs=len(jobs) or None, configs=plain)
    # Imported here: each needs another package.
    if isinstance(request.launcher, SlurmConfig):
        from trainer.commands.sweep.launchers.slurm import SlurmLauncher

        return SlurmLauncher(request.launcher, folder=folder, jobs=request.sweep.num_jobs)
    from trainer.commands.sweep.launchers.ray import RayLauncher

    return RayLauncher(request.launcher, folder=folder, jobs=request.sweep.num_jobs)


def _run_jobs(
    request: SweepRequest, record: SweepRecord, launcher: Launcher, terminal: Terminal
) -> int | None:
    """Run the jobs, and return the signal that stopped them, if one did."""
    with contextlib.ExitStack() as opened:
        if isinstance(request.sweep, RandomConfig):
            search = opened.enter_context(
                contextlib.closing(_open_search(request, request.sweep, record))
            )
            suggestions = search.suggestions()
        else:
            search = None
            jobs = list(record.jobs)
            suggestions = (Suggestion(number=job.number, values=job.values) for job in jobs)
        board = Board(
            terminal,
            total=_total(request, record),
            monitor=record.monitor,
            maximize=record.maximize,
            is_quiet=launcher.uses_terminal,
        )
        opened.enter_context(board)
        signals = opened.enter_context(Signals())
        loop = Loop(request, record, launcher, board=board, search=search, signals=signals)
        loop.run(suggestions)
    return signals.stopped_by


def _open_search(request: SweepRequest, config: RandomConfig, record: SweepRecord) -> Search:
    """Open the study, and drop the jobs from the record that run again under new numbers."""
    # In a database of the person's, other sweeps have their studies too.
    is_shared = isinstance(config, OptunaConfig) and config.storage is not None
    search = Search(
        config,
        request.axes,
        folder=record.folder,
        name=str(record.folder.absolute()) if is_shared else "sweep",
        maximize=record.maximize,
        known=len(record.jobs),
    )
    repeated = search.failed(changed=[job.number for job in record.left_out])
    record.jobs = [job for job in record.jobs if job.number not in repeated]
    return search


def _show(record: SweepRecord, terminal: Terminal, *, is_stopped: bool) -> None:
    report.show(record, terminal=terminal)
    if is_stopped:
        # It may have been stopped because its terminal was closed.
        with contextlib.suppress(OSError):
            _write_stopped(record)
    elif num_interrupted := record.num(JobStatus.INTERRUPTED):
        terminal.warn(f"Interrupted jobs: {num_interrupted}. Continue with the same command.")


def _note_continuation(request: SweepRequest, record: SweepRecord, terminal: Terminal) -> None:
    """Note that this is not a new sweep, and how to begin one."""
    num_done = record.num(JobStatus.DONE, JobStatus.PRUNED)
    anew = "sweep.fresh=true" if request.run.dir is None else "another run.dir"
    terminal.note(
        f"Continuing {record.folder}: {num_done} of {_total(request, record)} jobs are done. "
        f"For a new sweep: {anew}"
    )
    if num_others := len(record.former) - len(record.left_out):
        terminal.note(f"Earlier jobs with another config: {num_others}. Their folders stay.")
    for job in record.left_out[:_MAX_NAMED]:
        terminal.warn(f"{job.run} is left out, and its job runs again. {job.error}")
    if len(record.left_out) > _MAX_NAMED:
        terminal.warn(f"{len(record.left_out) - _MAX_NAMED} more are left out: see sweep.md.")


def _note_other_code(record: SweepRecord, terminal: Terminal) -> None:
    """Note where jobs were done by another version of trainer, or at another commit."""
    this = (__version__, git_commit() or "none")
    codes = [
        (job.code.get("trainer", "none"), job.code.get("commit", "none"))
        for job in record.jobs
        if job.code
    ]
    for code in dict.fromkeys(codes):
        if code != this:
            terminal.note(
                f"Some jobs were done by trainer {_describe(*code)}; this is {_describe(*this)}."
            )


def _describe(version: str, commit: str) -> str:
    return f"{version}, commit {commit[:COMMIT_LENGTH]}"


def _write_stopped(record: SweepRecord) -> None:
    """Say which jobs are done and which are not."""
    counts = Counter(job.status for job in record.jobs)
    numbers = {
        "done": counts[JobStatus.DONE] + counts[JobStatus.PRUNED],
        "failed": counts[JobStatus.FAILED],
        "stopped": counts[JobStatus.INTERRUPTED],
        "not started": counts[JobStatus.WAITING],
    }
    counted = ", ".join(f"{number} {word}" for word, number in numbers.items() if number)
    waiting = [job.label for job in record.jobs if job.status == JobStatus.WAITING]
    names = waiting[:_MAX_NAMED]
    if len(waiting) > _MAX_NAMED:
        names.append(f"and {len(waiting) - _MAX_NAMED} more")
    named = f" ({'; '.join(names)})" if names else ""
    sys.stderr.write(f"Stopped: {counted}{named}.\nContinue with the same command.\n")
