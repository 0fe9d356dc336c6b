"""The loop of a sweep: start jobs where there is room, take in how they ended, keep the record."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.commands.sweep.display import Board
from trainer.commands.sweep.launchers import Handle, Launcher
from trainer.commands.sweep.names import job_name
from trainer.commands.sweep.plan import command_of, config_hash, config_of
from trainer.commands.sweep.record import JobRecord, SweepRecord, write_errors
from trainer.commands.sweep.search import Search, Suggestion
from trainer.commands.sweep.task import JobOutcome, JobStatus, Task, TrialAddress, read_outcome
from trainer.config import SCHEMAS, FitConfig, to_plain
from trainer.config.sweep import SweepRequest
from trainer.errors import UsageError
from trainer.files import remove
from trainer.run.folder import LOCK_FILE, RECORD_FILE, create_exact_folder, create_numbered_folder
from trainer.signals import Signals

# Seconds between two updates of the display.
_REFRESH_EVERY = 0.25
# The folder for the output of jobs that do not write to the terminal.
OUTPUT = "output"


@dataclass(slots=True)
class _Running:
    job: JobRecord
    handle: Handle
    since: float


class Loop:
    """Runs the jobs of a sweep that an earlier command has not completed.

    A `search` learns how each job ended.
    """

    def __init__(
        self,
        request: SweepRequest,
        record: SweepRecord,
        launcher: Launcher,
        *,
        board: Board,
        search: Search | None,
        signals: Signals,
    ) -> None:
        self._request = request
        self._record = record
        self._launcher = launcher
        self._search = search
        self._board = board
        self._signals = signals
        self._running: list[_Running] = []

    def run(self, suggestions: Iterator[Suggestion]) -> None:
        """Start and await the jobs of `suggestions`; after a signal, await those that run.

        while jobs are waiting or running:
            start as many as there is room for
            wait a moment, or until one ends
            on a signal: pass it on to the running ones, and start no more
            take in those that ended

        Raises EnvironmentFault.
        """
        for job in self._record.jobs:
            if self._is_kept(job):
                self._board.keep(job)
        is_stopping = False
        while True:
            self._start_jobs(suggestions)
            if not self._running:
                return
            self._launcher.wait([each.handle for each in self._running], seconds=_REFRESH_EVERY)
            if self._signals.should_stop() and not is_stopping:
                is_stopping = True
                # The newest first: one that waits for a place would start when another ends.
                for running in reversed(self._running):
                    running.handle.stop()
            for running in list(self._running):
                outcome = running.handle.outcome()
                if outcome is not None:
                    self._running.remove(running)
                    self._end(running, outcome)
            self._board.refresh()

    def _is_kept(self, job: JobRecord) -> bool:
        """Whether the job keeps its state from an earlier command, and does not run."""
        is_final_failure = job.status == JobStatus.FAILED and not self._request.sweep.retry_failed
        return job.status.is_complete or is_final_failure

    def _start_jobs(self, suggestions: Iterator[Suggestion]) -> None:
        """Start jobs in the places that are free."""
        started: list[JobRecord] = []
        tasks: list[Task] = []
        while (
            len(self._running) + len(tasks) < self._launcher.slots
            and not self._signals.should_stop()
        ):
            suggestion = next(suggestions, None)
            if suggestion is None:
                break
            job = self._job(suggestion)
            config = self._config(job)
            if config is not None:
                started.append(job)
                tasks.append(self._task(job, config, suggestion.trial))
            self._board.refresh()
        if not tasks:
            return
        # Before they run: after a kill, the record names the run folder of each job.
        self._write()
        for job, task in zip(started, tasks, strict=True):
            trainer = task.config["trainer"]
            self._board.start(
                job,
                run=Path(task.config["run"]["dir"]),
                epochs=trainer["epochs"],
                max_steps=trainer["max_steps"],
            )
        # Otherwise the words of this process would come after those of the jobs.
        sys.stdout.flush()
        handles = self._launcher.start(tasks)
        for job, handle in zip(started, handles, strict=True):
            self._running.append(_Running(job, handle, time.monotonic()))

    def _job(self, suggestion: Suggestion) -> JobRecord:
        """The record of a job; those of a search are added as they come."""
        job = self._record.job(suggestion.number)
        if job is None:
            job = JobRecord(
                number=suggestion.number,
                values=suggestion.values,
                command=command_of(self._request, suggestion.values),
            )
            self._record.jobs.append(job)
        return job

    def _config(self, job: JobRecord) -> FitConfig | None:
        """The config to run `job` with; None where it is complete, or its values are wrong."""
        if self._is_kept(job):
            # A kill may have come between the record and the study, see `_close`.
            self._tell(job)
            self._board.keep(job)
            return None
        try:
            return config_of(self._request, job.values)
        except UsageError as error:
            job.status = JobStatus.FAILED
            job.error = error.what
            self._close(job, warnings=[])
            return None

    def _task(self, job: JobRecord, config: FitConfig, trial: TrialAddress | None) -> Task:
        """Mark `job` as running, and describe it for its process."""
        job.config_hash = config_hash(config)
        job.command = command_of(self._request, job.values)
        job.run = self._run_folder(job, config)
        if job.status != JobStatus.INTERRUPTED:
            job.seconds = None
        job.status = JobStatus.RUNNING
        job.metrics = {}
        job.error = None
        if self._launcher.threads is not None and config.trainer.threads is None:
            # Also in the command: with another number of threads the bits differ.
            config.trainer.threads = self._launcher.threads
            job.command = [*job.command, f"trainer.threads={config.trainer.threads}"]
        folder = self._record.folder
        config.run.dir = str(folder / job.run)
        config.run.name = None
        # Once nobody reads, a job that writes to the terminal would only warn of that too.
        writes_here = self._launcher.uses_terminal and not self._board.is_output_lost
        log = None if writes_here else str(folder / OUTPUT / f"{job.run}.txt")
        return Task(
            number=job.number,
            config=to_plain(config),
            command=job.command,
            varied=[f"{key}.name" if key in SCHEMAS else key for key in self._record.keys],
            folder=str(Path.cwd()),
            log=log,
            trial=trial,
        )

    def _run_folder(self, job: JobRecord, config: FitConfig) -> str:
        """The name of the run folder: that of the interrupted run, else a new one."""
        if job.run is not None and job.status == JobStatus.INTERRUPTED:
            return job.run
        if job.run is not None and job.status == JobStatus.WAITING:
            # A kill came between making the folder and writing run.json.
            with contextlib.suppress(UsageError):  # other files are in it
                return create_exact_folder(self._record.folder / job.run).name
        name = job_name(self._request, job.number, job.values, config)
        return create_numbered_folder(self._record.folder, name).name

    def _end(self, running: _Running, outcome: JobOutcome) -> None:
        """Record how a job ended: by its run.json, where that says that the run is complete."""
        job = running.job
        assert job.run is not None, "it was started"
        job.seconds = (job.seconds or 0.0) + time.monotonic() - running.since
        job.end(outcome)
        run = self._record.folder / job.run
        found = read_outcome(run)
        if found is not None and found.status.is_complete:
            job.end(found)
        elif found is not None:
            job.code = found.code
        elif not (run / RECORD_FILE).exists():  # it failed before there was a run
            remove(run / LOCK_FILE)
            with contextlib.suppress(OSError):  # other files are in it
                run.rmdir()
                job.run = None
        self._close(job, warnings=outcome.warnings)

    def _close(self, job: JobRecord, *, warnings: list[str]) -> None:
        # The record first: a study that does not know the end suggests the job again, which is
        # then found complete.
        self._write()
        self._tell(job)
        self._board.end(job, warnings=warnings)

    def _tell(self, job: JobRecord) -> None:
        if self._search is not None:
            value = job.metrics.get(self._record.monitor)
            self._search.tell(job.number, status=job.status, value=value)

    def _write(self) -> None:
        with write_errors(self._record.folder):
            self._record.write()
