"""The loop of a sweep: start jobs where there is room, take in how they ended, and keep the
record of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import Protocol

from trainer.commands.sweep.launchers import Handle, Launcher
from trainer.commands.sweep.plan import Values, config_hash, config_of, words_of
from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.resume import code_of
from trainer.commands.sweep.samplers import Source
from trainer.commands.sweep.task import Outcome, Task, Trial
from trainer.config import SCHEMAS, FitConfig, to_plain
from trainer.config.sweep import SweepRequest, key_of
from trainer.errors import EnvironmentFault, UsageError
from trainer.files import read_json, remove
from trainer.run.folder import LOCK_FILE, create_exact_folder, create_numbered_folder
from trainer.signals import Signals

# How often the display is brought up to date, in seconds.
_EVERY = 0.25
# What is about the sweep and not about a job of it.
_NOT_OF_A_JOB = ("sweep", "launcher")
# Where the words of each job go that does not show itself.
OUTPUT = "output"


class Shown(Protocol):
    """What a person sees meanwhile: see `board.Board`."""

    def keep(self, job: JobRecord) -> None:
        """A job had ended before this command."""

    def start(self, job: JobRecord, *, run: Path, epochs: int, max_steps: int | None) -> None:
        """A job was started."""

    def end(self, job: JobRecord) -> None:
        """It ended."""

    def refresh(self) -> None:
        """Some time has passed."""

    def warn(self, text: str) -> None:
        """Something a person should know."""


@dataclasses.dataclass(slots=True)
class _Running:
    job: JobRecord
    handle: Handle
    since: float


class Loop:
    """Runs the jobs of a sweep, but for those that an earlier command had done."""

    def __init__(
        self,
        request: SweepRequest,
        record: SweepRecord,
        *,
        launcher: Launcher,
        source: Source,
        shown: Shown,
        signals: Signals,
    ) -> None:
        self._request, self._record = request, record
        self._launcher, self._source, self._shown, self._signals = launcher, source, shown, signals
        self._running: list[_Running] = []
        self._is_stopping = False
        self._kept: set[int] = set()

    def run(self) -> None:
        """Start and await all jobs; asked to stop, await those that run. Raises EnvironmentFault.

        while jobs are left, or run:
            where there is room, start the next ones
            wait a moment, or until one ends
            asked to stop: pass it on to those that run, and start no more
            take in those that ended
        """
        for job in self._record.jobs:
            if self._is_kept(job):
                self._keep(job)
        while True:
            self._fill()
            if not self._running:
                return
            self._launcher.wait([running.handle for running in self._running], seconds=_EVERY)
            if self._signals.should_stop() and not self._is_stopping:
                self._is_stopping = True
                for running in reversed(
                    self._running
                ):  # those that wait for a place first: else they would get it
                    running.handle.stop()
            for running in list(self._running):
                outcome = running.handle.outcome()
                if outcome is not None:
                    self._running.remove(running)
                    self._end(running, outcome)
            self._shown.refresh()

    def _fill(self) -> None:
        """Start jobs in the places that are free."""
        tasks: list[tuple[JobRecord, Task, FitConfig]] = []
        while (
            len(self._running) + len(tasks) < self._launcher.slots
            and not self._signals.should_stop()
        ):
            following = self._source.next()
            if following is None:
                break
            number, values, trial = following
            job = self._job(number, values)
            prepared = self._prepare(job, trial)
            if prepared is not None:
                tasks.append((job, *prepared))
            self._shown.refresh()
        if not tasks:
            return
        self._write()
        for job, task, config in tasks:
            run = Path(str(task.config["run"]["dir"]))
            self._shown.start(
                job, run=run, epochs=config.trainer.epochs, max_steps=config.trainer.max_steps
            )
        # What is not written yet would come after what the jobs write.
        sys.stdout.flush()
        handles = self._launcher.start([task for _, task, _ in tasks])
        for (job, _, _), handle in zip(tasks, handles, strict=True):
            self._running.append(_Running(job, handle, time.monotonic()))

    def _job(self, number: int, values: Values) -> JobRecord:
        """The record of a job; a search adds them as they come."""
        for job in self._record.jobs:
            if job.number == number:
                return job
        job = JobRecord(number=number, values=values, command=command_of(self._request, values))
        self._record.jobs.append(job)
        return job

    def _prepare(self, job: JobRecord, trial: Trial | None) -> tuple[Task, FitConfig] | None:
        """What is needed to start a job; None when it is over at once: done earlier, or its
        config is wrong.
        """
        if self._is_kept(job):
            self._source.tell(job)
            self._keep(job)
            return None
        try:
            config = config_of(self._request, job.values)
        except UsageError as error:
            job.status, job.error = "failed", error.what
            self._close(job)
            return None
        job.config_hash, job.command = config_hash(config), command_of(self._request, job.values)
        job.run, job.seconds = (
            self._folder(job, config),
            job.seconds if job.status == "interrupted" else None,
        )
        job.status, job.metrics, job.error = "running", {}, None
        if self._launcher.threads is not None and config.trainer.threads is None:
            config.trainer.threads = self._launcher.threads
            job.command = [*job.command, f"trainer.threads={config.trainer.threads}"]
        config.run.dir, config.run.name = str(self._record.folder / job.run), None
        return self._task(job, config, trial), config

    def _is_kept(self, job: JobRecord) -> bool:
        """Whether an earlier command left it so that it is not to be run."""
        is_over = job.status in ("done", "pruned")
        return is_over or (job.status == "failed" and not self._request.sweep.retry_failed)

    def _keep(self, job: JobRecord) -> None:
        if job.number not in self._kept:
            self._kept.add(job.number)
            self._shown.keep(job)

    def _folder(self, job: JobRecord, config: FitConfig) -> str:
        """The name of the run folder: that of a run that was cut, else a new one."""
        if job.run is not None:
            if job.status == "interrupted":
                return job.run
            if job.status == "waiting":  # killed before it had written anything
                with contextlib.suppress(UsageError):  # something else is in it
                    return create_exact_folder(self._record.folder / job.run).name
        return create_numbered_folder(
            self._record.folder, f"{job.number:03d}-{config.run_name}"
        ).name

    def _task(self, job: JobRecord, config: FitConfig, trial: Trial | None) -> Task:
        log = self._record.folder / OUTPUT / f"{job.run}.txt"
        return Task(
            number=job.number,
            config=to_plain(config),
            command=job.command,
            varied=[f"{key}.name" if key in SCHEMAS else key for key in self._record.keys],
            folder=str(Path.cwd()),
            log=None if self._launcher.is_shown else str(log),
            trial=trial,
        )

    def _end(self, running: _Running, outcome: Outcome) -> None:
        job = running.job
        job.status, job.metrics, job.error = outcome.status, outcome.metrics, outcome.error
        job.seconds = (job.seconds or 0.0) + time.monotonic() - running.since
        self._read_run(job)
        if not self._launcher.is_shown:
            for warning in outcome.warnings:
                self._shown.warn(f"Job {job.number}: {warning}")
        self._close(job)

    def _read_run(self, job: JobRecord) -> None:
        """What its run.json adds; a job that failed before it wrote one has no run."""
        assert job.run is not None, "it was started"
        run = self._record.folder / job.run
        job.code = code_of(read_json(run / "run.json"))
        if not (run / "run.json").exists():
            remove(run / LOCK_FILE)
            with contextlib.suppress(OSError):  # something else is in it
                run.rmdir()
                job.run = None

    def _close(self, job: JobRecord) -> None:
        # The record first: a study that was not told asks for the job again, and finds it done.
        self._write()
        self._source.tell(job)
        self._shown.end(job)

    def _write(self) -> None:
        try:
            self._record.write()
        except OSError as error:
            raise EnvironmentFault(
                f"Could not write to the folder of the sweep {self._record.folder}: "
                f"{error.strerror or error}.",
                hint="Put that right and give the same command again: it goes on from here.",
            ) from error


def command_of(request: SweepRequest, values: Values) -> list[str]:
    """The command that repeats a job alone, without the sweep around it."""
    words = [
        word
        for word in words_of(request, values)
        if key_of(word).partition(".")[0] not in _NOT_OF_A_JOB and key_of(word) != "run.dir"
    ]
    return ["trainer", "fit", *request.flags, *words]
