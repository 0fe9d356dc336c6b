"""Jobs of a Slurm cluster, handed in by submitit; and following jobs whose processes are
elsewhere.
"""

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
from typing import Any, Protocol

from trainer.commands.sweep.launchers import Handle
from trainer.commands.sweep.task import Outcome, Task
from trainer.commands.sweep.worker import run_task
from trainer.config.sweep import SlurmConfig
from trainer.errors import EnvironmentFault, printable

# Seconds between two questions to Slurm, which serves others too, and in which processes that are
# to leave have left.
_ASK_EVERY, _LEAVE_TIME = 15.0, 10.0
FORGOTTEN = "FORGOTTEN"  # not a state of Slurm
# States of squeue: of jobs that have processes, and of those that ended, with what to say and how
# they count.
_RUNNING = ("RUNNING", "SUSPENDED", "COMPLETING")
ENDED = {
    "CANCELLED": ("interrupted", "was cancelled"),
    "PREEMPTED": ("interrupted", "had to make room for others"),
    "TIMEOUT": ("interrupted", "ran into its time limit (launcher.timeout_min)"),
    "DEADLINE": ("interrupted", "ran into its deadline"),
    "NODE_FAIL": ("interrupted", "lost its machine"),
    "BOOT_FAIL": ("interrupted", "lost its machine"),
    "OUT_OF_MEMORY": ("failed", "needed more memory than it had (launcher.mem_gb)"),
    "FAILED": ("failed", "died"),
    "COMPLETED": ("failed", "ended without a result"),
    # What is cancelled while it waits leaves the array; and after a few minutes Slurm forgets what
    # has ended.
    FORGOTTEN: ("interrupted", "is no longer known to Slurm: cancelled while it waited, perhaps"),
}


class Cluster(Protocol):
    """What Slurm and submitit's own processes do each in their way."""

    def end_of(self, job: Any) -> str | None:
        """The state in which it ended; None while it runs, waits, or is not known."""

    def stop(self, job: Any, *, at_once: bool) -> None:
        """Ask it to save and stop, or to leave at once."""

    def end(self, jobs: Sequence[Any]) -> None:
        """End them all."""


class Slurm:
    """Slurm by its commands; squeue and not sacct, for that needs a database which not every
    cluster has.
    """

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        # When it was asked, and when it answered last.
        self._tried: float | None = None
        self._asked: float | None = None
        self._seen: dict[str, float] = {}
        self._every = _ASK_EVERY

    def end_of(self, job: Any) -> str | None:
        """See `Cluster.end_of`; a job that Slurm has forgotten has ended."""
        seen = self._seen.setdefault(job.job_id, time.monotonic())
        self._ask(self._every)
        if self._asked is None or self._asked < seen:  # the answer says nothing about this job yet
            return None
        state = self._states.get(job.job_id, FORGOTTEN)
        return state if state in ENDED else None

    def stop(self, job: Any, *, at_once: bool) -> None:
        """See `Cluster.stop`."""
        self._ask(1.0)
        self._every = min(_ASK_EVERY, 2.0)  # a person waits
        if at_once or self._states.get(job.job_id) not in _RUNNING:
            self.end([job])
        else:
            # With --full to the batch script, which is the job. Without a signal, scancel would
            # kill it after KillWait (30 s as a rule); --batch fails for an element of an array.
            _call("scancel", "--signal=TERM", "--full", job.job_id)

    def end(self, jobs: Sequence[Any]) -> None:
        """See `Cluster.end`."""
        _call("scancel", *(job.job_id for job in jobs))

    def end_all(self, name: str) -> None:
        """End what is in the queue under this name; those that run have KillWait to save."""
        _call("scancel", f"--name={name}", f"--user={os.getuid()}")

    def _ask(self, age: float) -> None:
        """Have the states no older than `age` seconds, as far as Slurm answers."""
        if self._tried is not None and time.monotonic() - self._tried < age:
            return
        self._tried = time.monotonic()
        said = _call("squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T")
        if said is not None:
            self._states = {
                words[0]: words[1] for line in said.splitlines() if len(words := line.split()) == 2
            }
            self._asked = self._tried


class Processes:
    """submitit's processes on this machine: a job's number is that of the process that watches
    over it.
    """

    def end_of(self, job: Any) -> str | None:
        """See `Cluster.end_of`."""
        return "FAILED" if job.done() else None

    def stop(self, job: Any, *, at_once: bool) -> None:
        """See `Cluster.stop`; a second signal means at once."""
        if not job.done():  # after that the number may be another's
            os.kill(int(job.job_id), signal.SIGTERM)

    def end(self, jobs: Sequence[Any]) -> None:
        """See `Cluster.end`."""
        until = time.monotonic() + _LEAVE_TIME
        while not all([job.done() for job in jobs]) and time.monotonic() < until:
            for job in jobs:
                self.stop(job, at_once=True)
            time.sleep(0.2)


def _call(*words: str) -> str | None:
    """What a command of Slurm prints; None where it cannot be run or fails, as it does while
    Slurm restarts.
    """
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


# Of jobs that were handed in and have not ended. Slurm's own limit for an array is 1001 as a rule.
_MAX_JOBS = 1000
# Seconds between two looks at the folder of results, and in which it shows what another machine
# wrote.
_LOOK_EVERY, _SETTLE_TIME = {"slurm": 2.0, "local": 0.1}, 15.0
# A time limit is announced so many seconds before, which is for saving.
_WARNING_TIME = 90
# Started in a session of its own, a job does not get the Ctrl-C that is for the sweep, which passes
# it on.
_OWN_SESSION = "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"


class SlurmHandle:
    """A job of submitit; see `Handle`."""

    def __init__(self, job: Any, cluster: Cluster, results: _Results) -> None:
        self.job, self._cluster, self._results = job, cluster, results
        self._outcome: Outcome | None = None
        self._num_stops = 0
        self._lost_since: float | None = None

    def outcome(self) -> Outcome | None:
        """See `Handle.outcome`."""
        if self._outcome is None:
            state = self._cluster.end_of(self.job)
            if self._results.has(self.job) and self.job.done():
                self._outcome = self._read()
            elif state is not None:
                self._outcome = self._lost(state)
        return self._outcome

    def stop(self) -> None:
        """See `Handle.stop`."""
        self._num_stops += 1
        if self._outcome is None:
            self._cluster.stop(self.job, at_once=self._num_stops > 1)

    def _read(self) -> Outcome:
        try:
            outcome = self.job.result()
        except (
            Exception
        ) as error:  # what the job met before or after `run_task`, or a file that cannot be read
            return Outcome(
                status="failed", error=f"{self._name} failed: {_last_line(str(error))}{self._log}"
            )
        if not isinstance(outcome, Outcome):
            return Outcome(
                status="failed",
                error=f"{self._name} gave a {type(outcome).__name__} and no outcome.",
            )
        if outcome.status == "interrupted" and not self._num_stops:
            # Its own words say that a signal came, and where to go on; not who sent it.
            why = (
                f"{self._name} was stopped by the cluster: its time limit, other jobs, or a person."
            )
            return dataclasses.replace(outcome, error=f"{why} {outcome.error or ''}".strip())
        return outcome

    def _lost(self, state: str) -> Outcome | None:
        """The outcome of a job that ended in `state` and wrote no result; None where one may
        still be on its way.
        """
        self._lost_since = self._lost_since or time.monotonic()
        status, what = ENDED[state]
        if status == "failed" and time.monotonic() - self._lost_since < self._results.settle_time:
            return None
        if self._num_stops:
            return Outcome(
                status="interrupted", error=f"{self._name} was stopped before it could save."
            )
        return Outcome(status=status, error=f"{self._name} {what}.{self._log}")

    @property
    def _name(self) -> str:
        return f"Job {self.job.job_id}"

    @property
    def _log(self) -> str:
        path = self.job.paths.stderr
        return f" Its log: {path}" if path.exists() else ""


class SlurmLauncher:
    """See `Launcher`. `folder` is that of the sweep, which all machines must see; `jobs` limits how
    many are handed in.

    Raises EnvironmentFault where submitit or Slurm is missing.
    """

    def __init__(self, config: SlurmConfig, *, folder: Path, jobs: int | None) -> None:
        self.is_shown = False
        self.slots, self.threads = jobs or _MAX_JOBS, config.cpus_per_task
        if config.cluster == "local":
            cpus, threads = len(os.sched_getaffinity(0)), config.cpus_per_task or 1
            self.slots = jobs or max(1, cpus // threads)
            self.threads = config.cpus_per_task or max(1, cpus // self.slots)
        self._executor = _executor(config, folder)
        self._cluster: Cluster = Processes()
        if config.cluster == "slurm":
            self._cluster = queue = Slurm()
            # What a killed command left in the queue. Nobody else begins anything here: the sweep's
            # folder is locked.
            queue.end_all(_name_of(folder))
        self._results = _Results(self._executor.folder, is_shared=config.cluster == "slurm")
        self._handles: list[SlurmHandle] = []

    def start(self, tasks: Sequence[Task]) -> list[SlurmHandle]:
        """See `Launcher.start`; several tasks are one job array."""
        if not tasks:
            return []
        said = io.StringIO()
        try:
            with (
                _undisturbed(self._executor.cluster),
                contextlib.redirect_stderr(said),
                self._executor.batch(),
            ):
                jobs = [self._executor.submit(run_task, task) for task in tasks]
        except (OSError, RuntimeError) as error:  # submitit's errors are of these
            why = next(
                (line for line in (*said.getvalue().splitlines(), str(error)) if line.strip()),
                "no reason given",
            )
            raise EnvironmentFault(
                f"The cluster refused the jobs: {printable(why.strip())}",
                hint="Look at launcher.partition, launcher.account and the other keys of "
                "launcher=slurm.",
            ) from error
        for job in jobs:
            self._results.forget(job)
        started = [SlurmHandle(job, self._cluster, self._results) for job in jobs]
        self._handles = [handle for handle in self._handles if handle.outcome() is None] + started
        return started

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        """See `Launcher.wait`."""
        until = time.monotonic() + seconds
        while (
            all(handle.outcome() is None for handle in handles)
            and (left := until - time.monotonic()) > 0
        ):
            time.sleep(min(left, 0.25))

    def close(self) -> None:
        """See `Launcher.close`."""
        left = [handle.job for handle in self._handles if handle.outcome() is None]
        if left:
            self._cluster.end(left)


class _Results:
    """Which results are there: one look at the folder serves all jobs, and shows what a network
    drive has new.
    """

    def __init__(self, folder: Path, *, is_shared: bool) -> None:
        self._folder, self._every = folder, _LOOK_EVERY["slurm" if is_shared else "local"]
        self.settle_time = _SETTLE_TIME if is_shared else 2 * self._every
        self._names: set[str] = set()
        self._looked = -self._every

    def has(self, job: Any) -> bool:
        """Whether the result of `job` is there."""
        if time.monotonic() - self._looked >= self._every:
            with contextlib.suppress(OSError):
                # A network drive shows what it has kept, up to a minute old, until something is
                # changed.
                self._folder.chmod(self._folder.stat().st_mode)
            with contextlib.suppress(OSError):  # the drive may come back
                self._names = {path.name for path in self._folder.iterdir()}
            self._looked = time.monotonic()
        return _result_of(job).name in self._names

    def forget(self, job: Any) -> None:
        """Take away what an earlier job of the same number left: those of processes come again."""
        self._names.discard(_result_of(job).name)
        with contextlib.suppress(OSError):
            _result_of(job).unlink()


def _executor(config: SlurmConfig, folder: Path) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise EnvironmentFault(
            "launcher=slurm needs the package submitit, which is not installed.",
            hint="pip install 'trainer[slurm]'",
        ) from error
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
                hint="Give the command on a machine of the cluster, or try it out with "
                "launcher.cluster=local",
            )
    executor = submitit.AutoExecutor(
        folder / "slurm", cluster="slurm", slurm_python=f"exec {shlex.quote(sys.executable)}"
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
        # Where a cluster does not bind jobs to their CPUs, torch would take all that the machine
        # has.
        slurm_setup=["export OMP_NUM_THREADS=$SLURM_CPUS_ON_NODE", *config.setup],
        slurm_additional_parameters=_options(config),
    )
    return executor


def _name_of(folder: Path) -> str:
    """What the jobs of a sweep are called in the queue: sweeps of another folder have another name."""
    digest = hashlib.sha256(str(folder.absolute()).encode("utf-8", "surrogateescape")).hexdigest()
    return f"trainer-{folder.name}-{digest[:8]}"


def _options(config: SlurmConfig) -> dict[str, Any]:
    """More options of sbatch. Not put back into the queue: the same command goes on with what is
    left of a sweep.
    """
    # B: to the batch script. submitit would send USR2, upon which it breaks off what is not saved.
    warning = min(_WARNING_TIME, 30 * config.timeout_min)
    options = {"signal": f"B:TERM@{warning}", "no-requeue": True, **config.extra}
    return {
        key: value for key, value in options.items() if value is not None and value is not False
    }


def _local_python(setup: Sequence[str]) -> str:
    """How submitit's process starts Python: without its own setting of the signal, in a session,
    after `setup`.
    """
    shell = ["bash", "-c", " && ".join([*setup, 'exec "$0" "$@"'])] if setup else []
    start = ["env", "-u", "SUBMITIT_PREEMPT_SIGNAL", sys.executable, "-c", _OWN_SESSION]
    return shlex.join([*start, *shell, sys.executable])


@contextlib.contextmanager
def _undisturbed(cluster: str) -> Iterator[None]:
    """What is started here meanwhile does not get the signals of the terminal.

    submitit's own process, which watches over a job, is to announce a time limit by SIGTERM as
    well.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    before = dict(os.environ)
    if cluster == "local":
        os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "TERM"
    try:
        yield
    finally:
        os.environ.pop("SUBMITIT_PREEMPT_SIGNAL", None)
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _result_of(job: Any) -> Path:
    return Path(job.paths.result_pickle)


def _last_line(trace: str) -> str:
    """The error itself, out of what submitit says about it: between two rules stands the traceback."""
    parts = trace.split("----------------------")
    lines = [line for line in parts[len(parts) // 2].splitlines() if line.strip()]
    return printable(lines[-1].strip()) if lines else "it says no more"
