"""Jobs as tasks of Ray: of a cluster, or of a Ray on this machine that ends with the sweep."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.commands.sweep.launchers import MAX_JOBS, Handle, OnceHandle, missing_package
from trainer.commands.sweep.task import JobOutcome, JobStatus, Task
from trainer.commands.sweep.worker import run_task
from trainer.config.sweep import RayConfig
from trainer.errors import EnvironmentFault, printable
from trainer.signals import STOPPING

# Bytes of shared memory for what tasks give to one another: only outcomes here. Ray would take 30%
# of all.
_STORE = 100 * 2**20
# Seconds for a cluster to answer. Ray itself would try for two minutes, and then end this process.
_TIME_TO_ANSWER = 10.0


class RayHandle(OnceHandle):
    """A task of Ray."""

    def __init__(self, ref: object) -> None:
        super().__init__()
        self.ref = ref

    def _look(self) -> JobOutcome | None:
        import ray

        try:
            ready, _ = ray.wait([self.ref], timeout=0)
            return ray.get(self.ref) if ready else None
        except Exception as error:
            return self._failure(error)

    def stop(self) -> None:
        """Let Ray raise what SIGINT raises in the job; one that waits is removed."""
        import ray

        self.num_stops += 1
        # It may have ended, or the cluster may be gone: `outcome` reports that.
        with contextlib.suppress(Exception):
            ray.cancel(self.ref, force=self.num_stops > 1)

    def _failure(self, error: Exception) -> JobOutcome:
        from ray import exceptions

        if isinstance(error, exceptions.TaskCancelledError) or self.num_stops:
            return JobOutcome(
                status=JobStatus.INTERRUPTED,
                error="Stopped before it could save; what it had not saved is lost.",
            )
        if isinstance(error, exceptions.OutOfMemoryError):
            reason = "Ray ended it, because its machine had no memory left."
        elif isinstance(error, exceptions.WorkerCrashedError):
            reason = "Its process died: killed by the system, or out of memory, perhaps."
        elif isinstance(error, exceptions.RayTaskError):
            # Before `run_task`: its modules are missing there, for example.
            reason = f"Ray could not run it: {_first_line(error.cause)}"
        else:
            reason = f"Ray lost it: {_first_line(error)}"
        return JobOutcome(status=JobStatus.FAILED, error=reason)


class RayLauncher:
    """Submits jobs to Ray, `jobs` at most at a time.

    `folder` is that of the sweep, which all machines must see. Raises EnvironmentFault where the
    package or the cluster is missing.
    """

    def __init__(self, config: RayConfig, *, folder: Path, jobs: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise missing_package("ray", "ray") from error
        self.uses_terminal = False
        self.threads: int | None = max(1, int(config.cpus_per_job))
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(config.address)
        self.slots = jobs or (_num_fitting(config) if config.address is None else MAX_JOBS)
        # A process serves one job, so that the next begins with a fresh one. Ray repeats none: the
        # same command continues it from its checkpoint.
        self._task = ray.remote(
            num_cpus=config.cpus_per_job, num_gpus=config.gpus_per_job, max_retries=0, max_calls=1
        )(run_task).options(name=f"trainer-{folder.name}")
        self._handles: list[RayHandle] = []

    def start(self, tasks: Sequence[Task]) -> list[RayHandle]:
        try:
            started = [RayHandle(self._task.remote(task)) for task in tasks]
        except Exception as error:
            raise EnvironmentFault(f"Ray refused the jobs: {_first_line(error)}") from error
        self._handles += started
        return started

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        import ray

        refs = [handle.ref for handle in handles if isinstance(handle, RayHandle)]
        try:
            ray.wait(refs, timeout=seconds)
        except Exception:  # the cluster is gone: `outcome` reports that
            time.sleep(seconds)

    def close(self) -> None:
        """Kill the jobs that still run, and end a Ray that was started here."""
        import ray

        for handle in self._handles:
            if handle.outcome() is None:
                with contextlib.suppress(Exception):
                    ray.cancel(handle.ref, force=True)
        if self._is_ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    """Start a Ray here, or connect to the one at `address`; raises EnvironmentFault."""
    import ray

    # Ray sends usage statistics unless this is 0.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else Ray warns of a change in a later version. Here a job without GPUs sees none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": _STORE}
    else:
        _check_answer(address)
    try:
        with _own_signals():
            ray.init(address=address or "local", **options)
    except Exception as error:
        if address is not None:
            raise _no_answer(address, error) from error
        raise EnvironmentFault(f"Ray could not be started here: {_first_line(error)}") from error


def _check_answer(address: str) -> None:
    """Raise EnvironmentFault where `address` names a machine and nothing answers there."""
    match = re.fullmatch(r"(?:ray://)?([^:/]+):([0-9]{1,5})", address)
    if match is not None:
        try:
            socket.create_connection((match[1], int(match[2])), timeout=_TIME_TO_ANSWER).close()
        except (OSError, OverflowError) as error:
            raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        f"No Ray cluster answers at {address}: {_first_line(error)}",
        where="launcher.address",
        hint="Start it there with `ray start --head`, or leave launcher.address out to have one "
        "started here.",
    )


def _num_fitting(config: RayConfig) -> int:
    """The number of jobs that run at a time on this machine; raises EnvironmentFault for none."""
    import ray

    resources = ray.cluster_resources()
    cpus = resources.get("CPU", 0.0)
    gpus = resources.get("GPU", 0.0)
    num = cpus / config.cpus_per_job
    if config.gpus_per_job:
        num = min(num, gpus / config.gpus_per_job)
    if num < 1:
        raise EnvironmentFault(
            f"A job of {config.cpus_per_job:g} CPUs and {config.gpus_per_job:g} GPUs does not fit "
            f"here: there are {cpus:g} CPUs and {gpus:g} GPUs.",
            hint="Reduce launcher.cpus_per_job or launcher.gpus_per_job.",
        )
    return int(num)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the sweep's handlers of signals: Ray sets another for SIGTERM."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _first_line(error: object) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[0].strip()) if lines else type(error).__name__
