"""Jobs of a Slurm cluster, submitted and read back by submitit; or processes here that mimic it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.sweep.launchers import (
    MAX_JOBS,
    Handle,
    OnceHandle,
    missing_package,
    safe_path,
)
from trainer.commands.sweep.task import JobOutcome, JobStatus, Task
from trainer.commands.sweep.worker import run_task
from trainer.config.sweep import SlurmConfig
from trainer.errors import EnvironmentFault, printable

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job

# Seconds between two calls of squeue: Slurm serves others too.
_ASK_EVERY = 15.0
# Seconds for processes to stop when the launcher is closed.
_LEAVE_TIME = 10.0
# Seconds between two looks at the folder of results.
_LOOK_EVERY = {"slurm": 2.0, "local": 0.1}
# Seconds until a shared folder shows what another machine wrote.
_SETTLE_TIME = 15.0
# Seconds before a time limit at which Slurm warns a job, so that it can save.
_WARNING_TIME = 90
# Starts a job in its own session, so that Ctrl-C comes to the sweep alone, which passes it on.
_OWN_SESSION = "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"
# States of squeue for jobs that have processes.
_RUNNING = ("RUNNING", "SUSPENDED", "COMPLETING")
_FORGOTTEN = "FORGOTTEN"  # not a state of Slurm
# States of squeue for jobs that ended: how they count, and the reason to give.
_ENDED = {
    "CANCELLED": (JobStatus.INTERRUPTED, "was cancelled"),
    "PREEMPTED": (JobStatus.INTERRUPTED, "was preempted by other jobs"),
    "TIMEOUT": (JobStatus.INTERRUPTED, "ran into its time limit (launcher.timeout_min)"),
    "DEADLINE": (JobStatus.INTERRUPTED, "ran into its deadline"),
    "NODE_FAIL": (JobStatus.INTERRUPTED, "lost its machine"),
    "BOOT_FAIL": (JobStatus.INTERRUPTED, "lost its machine"),
    "OUT_OF_MEMORY": (JobStatus.FAILED, "needed more memory than it had (launcher.mem_gb)"),
    "FAILED": (JobStatus.FAILED, "died"),
    "COMPLETED": (JobStatus.FAILED, "ended without a result"),
    # A job that is cancelled while it waits leaves the array, and Slurm forgets ended jobs after
    # some minutes.
    _FORGOTTEN: (
        JobStatus.INTERRUPTED,
        "is no longer known to Slurm: cancelled while it waited, perhaps",
    ),
}


class Slurm:
    """Slurm by its commands: by squeue, since sacct needs a database that few clusters have."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        # When squeue was called, and when it answered last.
        self._tried: float | None = None
        self._answered: float | None = None
        self._first_seen: dict[str, float] = {}
        self._every = _ASK_EVERY

    def end_of(self, job: Job[JobOutcome]) -> str | None:
        """The state in which it ended, of `_ENDED`; None while it runs, waits, or is unknown."""
        first_seen = self._first_seen.setdefault(job.job_id, time.monotonic())
        self._update_states(self._every)
        if self._answered is None or self._answered < first_seen:
            return None  # the answer is older than the job
        state = self._states.get(job.job_id, _FORGOTTEN)
        return state if state in _ENDED else None

    def stop(self, job: Job[JobOutcome], *, at_once: bool) -> None:
        """Let a job save and stop, or end it at once."""
        self._update_states(1.0)
        self._every = min(_ASK_EVERY, 2.0)  # a person waits
        if at_once or self._states.get(job.job_id) not in _RUNNING:
            self.end([job])
        else:
            # With --full to the batch script, which is the job. Without a signal, scancel would
            # kill it after KillWait (30 s as a rule); --batch fails for an element of an array.
            _call("scancel", "--signal=TERM", "--full", job.job_id)

    def end(self, jobs: Sequence[Job[JobOutcome]]) -> None:
        """End them all."""
        _call("scancel", *(job.job_id for job in jobs))

    def end_all(self, name: str) -> None:
        """Cancel all jobs of this name; the running ones have KillWait to save."""
        _call("scancel", f"--name={name}", f"--user={os.getuid()}")

    def _update_states(self, max_age: float) -> None:
        """Call squeue, unless that was less than `max_age` seconds ago."""
        if self._tried is not None and time.monotonic() - self._tried < max_age:
            return
        self._tried = time.monotonic()
        answer = _call("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T")
        if answer is not None:
            rows = [line.split() for line in answer.splitlines()]
            self._states = {row[0]: row[1] for row in rows if len(row) == 2}
            self._answered = self._tried


class Processes:
    """Processes on this machine instead of Slurm: a job has the id of submitit's process."""

    def end_of(self, job: Job[JobOutcome]) -> str | None:
        return "FAILED" if job.done() else None

    def stop(self, job: Job[JobOutcome], *, at_once: bool) -> None:
        del at_once  # the second signal means that
        if not job.done():  # after that the number may be another process's
            os.kill(int(job.job_id), signal.SIGTERM)

    def end(self, jobs: Sequence[Job[JobOutcome]]) -> None:
        """Signal the jobs until all have ended, for ten seconds at most."""
        until = time.monotonic() + _LEAVE_TIME
        while not all([job.done() for job in jobs]) and time.monotonic() < until:
            for job in jobs:
                self.stop(job, at_once=True)
            time.sleep(0.2)


def _call(*words: str) -> str | None:
    """The output of a command of Slurm; None where it fails, as it does while Slurm restarts."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


class SlurmHandle(OnceHandle):
    """A job of submitit."""

    def __init__(self, job: Job[JobOutcome], cluster: Slurm | Processes, results: _Results) -> None:
        super().__init__()
        self.job = job
        self._cluster = cluster
        self._results = results
        self._name = f"Job {job.job_id}"
        self._ended_at: float | None = None

    def _look(self) -> JobOutcome | None:
        # The state first: a job whose result is not there yet may end and write it in between.
        state = self._cluster.end_of(self.job)
        if self._results.has(self.job) and self.job.done():
            return self._read()
        return None if state is None else self._without_result(state)

    def stop(self) -> None:
        self.num_stops += 1
        if self._outcome is None:
            self._cluster.stop(self.job, at_once=self.num_stops > 1)

    def _read(self) -> JobOutcome:
        try:
            outcome = self.job.result()
        except Exception as error:  # before or after `run_task`, or the file cannot be read
            reason = f"{self._name} failed: {_last_line(str(error))}{self._log}"
            return JobOutcome(status=JobStatus.FAILED, error=reason)
        if not isinstance(outcome, JobOutcome):
            reason = f"{self._name} returned a {type(outcome).__name__} and no outcome."
            return JobOutcome(status=JobStatus.FAILED, error=reason)
        if outcome.status == JobStatus.INTERRUPTED and not self.num_stops:
            # The job knows that a signal came, but not who sent it.
            why = (
                f"{self._name} was stopped by the cluster: its time limit, other jobs, or a person."
            )
            return dataclasses.replace(outcome, error=f"{why} {outcome.error or ''}".strip())
        return outcome

    def _without_result(self, state: str) -> JobOutcome | None:
        """The outcome by the `state` in which it ended; None where its result may still appear."""
        self._ended_at = self._ended_at or time.monotonic()
        status, reason = _ENDED[state]
        is_settled = time.monotonic() - self._ended_at >= self._results.settle_time
        if status == JobStatus.FAILED and not is_settled:
            return None
        if self.num_stops:
            reason = f"{self._name} was stopped before it could save."
            return JobOutcome(status=JobStatus.INTERRUPTED, error=reason)
        return JobOutcome(status=status, error=f"{self._name} {reason}.{self._log}")

    @property
    def _log(self) -> str:
        path = self.job.paths.stderr
        return f" Its log: {path}" if path.exists() else ""


class SlurmLauncher:
    """Submits jobs to Slurm, `jobs` at most at a time.

    `folder` is that of the sweep, which all machines must see. Raises EnvironmentFault where
    submitit or Slurm is missing.
    """

    def __init__(self, config: SlurmConfig, *, folder: Path, jobs: int | None) -> None:
        self.uses_terminal = False
        self.threads = config.cpus_per_task
        self._executor = _executor(config, folder)
        self._cluster: Slurm | Processes
        is_shared = config.cluster == "slurm"
        if is_shared:
            self.slots = jobs or MAX_JOBS
            self._cluster = queue = Slurm()
            # Jobs of a command that was killed. No other starts any here: the folder is locked.
            queue.end_all(_name_of(folder))
        else:
            # Only Linux says how many of the CPUs this process may use.
            has_affinity = hasattr(os, "sched_getaffinity")
            cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
            self.slots = jobs or max(1, cpus // (config.cpus_per_task or 1))
            self.threads = config.cpus_per_task or max(1, cpus // self.slots)
            self._cluster = Processes()
        self._results = _Results(self._executor.folder, is_shared=is_shared)
        self._handles: list[SlurmHandle] = []

    def start(self, tasks: Sequence[Task]) -> list[SlurmHandle]:
        """Submit the tasks, several as one job array."""
        output = io.StringIO()
        try:
            with (
                _shielded(self._executor.cluster),
                contextlib.redirect_stderr(output),
                self._executor.batch(),
            ):
                jobs = [self._executor.submit(run_task, task) for task in tasks]
        except (OSError, RuntimeError) as error:  # submitit's errors are of these
            lines = [*output.getvalue().splitlines(), str(error)]
            reason = next((line.strip() for line in lines if line.strip()), "no reason given")
            raise EnvironmentFault(
                f"The cluster refused the jobs: {printable(reason)}",
                hint="Check launcher.partition, launcher.account and the other keys of "
                "launcher=slurm.",
            ) from error
        for job in jobs:
            self._results.forget(job)
        started = [SlurmHandle(job, self._cluster, self._results) for job in jobs]
        self._handles += started
        return started

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        until = time.monotonic() + seconds
        while all(handle.outcome() is None for handle in handles):
            remaining = until - time.monotonic()
            if remaining <= 0:
                return
            time.sleep(min(remaining, 0.25))

    def close(self) -> None:
        """Cancel the jobs that wait or run."""
        running = [handle.job for handle in self._handles if handle.outcome() is None]
        if running:
            self._cluster.end(running)


class _Results:
    """The results of the jobs: one look at their folder serves all."""

    def __init__(self, folder: Path, *, is_shared: bool) -> None:
        self._folder = folder
        self._every = _LOOK_EVERY["slurm" if is_shared else "local"]
        self.settle_time = _SETTLE_TIME if is_shared else 2 * self._every
        self._names: set[str] = set()
        self._looked = -self._every

    def has(self, job: Job[JobOutcome]) -> bool:
        """Whether the result of `job` is there."""
        if time.monotonic() - self._looked >= self._every:
            with contextlib.suppress(OSError):
                # A network drive shows a listing up to a minute old until something is changed.
                self._folder.chmod(self._folder.stat().st_mode)
            with contextlib.suppress(OSError):  # the drive may come back
                self._names = {path.name for path in self._folder.iterdir()}
            self._looked = time.monotonic()
        return job.paths.result_pickle.name in self._names

    def forget(self, job: Job[JobOutcome]) -> None:
        """Remove the result of an earlier job with this number: those of processes come again."""
        self._names.discard(job.paths.result_pickle.name)
        with contextlib.suppress(OSError):
            job.paths.result_pickle.unlink()


def _executor(config: SlurmConfig, folder: Path) -> AutoExecutor:
    """submitit's executor; raises EnvironmentFault where submitit or Slurm is missing."""
    try:
        import submitit
    except ImportError as error:
        raise missing_package("slurm", "submitit") from error
    if config.cluster == "local":
        executor = submitit.AutoExecutor(
            folder / "slurm", cluster="local", local_python=_local_python(config.setup)
        )
        executor.update_parameters(
            timeout_min=config.timeout_min, gpus_per_node=config.gpus_per_node
        )
        return executor
    for command in ("sbatch", "srun", "squeue", "scancel"):  # srun is how submitit knows a cluster
        if shutil.which(command) is None:
            raise EnvironmentFault(
                f"launcher=slurm needs Slurm, but there is no command {command} here.",
                hint="Run the command on a machine of the cluster, or try it out with "
                "launcher.cluster=local",
            )
    # exec: Slurm signals the shell of the batch script, which must have become Python.
    executor = submitit.AutoExecutor(
        folder / "slurm", cluster="slurm", slurm_python=f"exec {shlex.quote(sys.executable)} -P"
    )
    executor.update_parameters(
        name=_name_of(folder),
        timeout_min=config.timeout_min,
        cpus_per_task=config.cpus_per_task,
        mem_gb=config.mem_gb,
        gpus_per_node=config.gpus_per_node,
        slurm_partition=config.partition,
        slurm_account=config.account,
        slurm_qos=config.qos,
        slurm_array_parallelism=config.array_parallelism,
        slurm_use_srun=False,
        # Where a cluster does not bind jobs to their CPUs, torch would use all of the machine.
        slurm_setup=["export OMP_NUM_THREADS=$SLURM_CPUS_ON_NODE", *config.setup],
        slurm_additional_parameters=_options(config),
    )
    return executor


def _name_of(folder: Path) -> str:
    """The name of a sweep's jobs in the queue, different for every folder."""
    digest = hashlib.sha256(str(folder.absolute()).encode("utf-8", "surrogateescape")).hexdigest()
    return f"trainer-{folder.name}-{digest[:8]}"


def _options(config: SlurmConfig) -> dict[str, object]:
    """More options of sbatch; no requeue, since the same command continues a sweep."""
    # B: to the batch script. submitit would send USR2, upon which it drops what is not saved.
    warning = min(_WARNING_TIME, 30 * config.timeout_min)
    options = {"signal": f"B:TERM@{warning}", "no-requeue": True, **config.extra}
    return {
        key: value for key, value in options.items() if value is not None and value is not False
    }


def _local_python(setup: Sequence[str]) -> str:
    """The command by which submitit starts Python here: in its own session, after `setup`."""
    shell = ["bash", "-c", " && ".join([*setup, 'exec "$0" "$@"'])] if setup else []
    # Without the variable: the job must not take the signal that is for submitit's process.
    start = ["env", "-u", "SUBMITIT_PREEMPT_SIGNAL", sys.executable, "-c", _OWN_SESSION]
    # -P: without the working folder in its path, where it would find a person's random.py.
    return shlex.join([*start, *shell, sys.executable, "-P"])


@contextlib.contextmanager
def _shielded(cluster: str) -> Iterator[None]:
    """Start processes that do not get the signals of the terminal.

    submitit's own process around a job here is to announce a time limit by SIGTERM, as Slurm does.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    before = dict(os.environ)
    if cluster == "local":
        os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "TERM"
    try:
        with safe_path():
            yield
    finally:
        os.environ.pop("SUBMITIT_PREEMPT_SIGNAL", None)
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _last_line(trace: str) -> str:
    """The error itself, of a text in which submitit has the traceback between two rules."""
    parts = trace.split("----------------------")
    lines = [line for line in parts[len(parts) // 2].splitlines() if line.strip()]
    return printable(lines[-1].strip()) if lines else "no reason given"
