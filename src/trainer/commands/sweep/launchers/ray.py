"""Jobs as tasks of Ray: of a cluster, or of a Ray that is started on this machine and ended with
the sweep.
"""

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
from typing import Any

from trainer.commands.sweep.launchers import Handle
from trainer.commands.sweep.task import Outcome, Task
from trainer.commands.sweep.worker import run_task
from trainer.config.sweep import RayConfig
from trainer.errors import EnvironmentFault, printable
from trainer.signals import STOPPING

# Of jobs that were handed in and have not ended. A cluster may grow when jobs wait.
_MAX_JOBS = 1000
# Bytes of shared memory for what tasks give to one another: nothing but outcomes here. Ray would
# take 30% of all.
_STORE = 100 * 2**20
# Seconds for an answer of a cluster's machine. Ray itself would try for two minutes, and then end
# this process.
_TIME_TO_ANSWER = 10.0


class RayHandle:
    """A task of Ray; see `Handle`."""

    def __init__(self, ref: Any) -> None:
        self.ref = ref
        self._outcome: Outcome | None = None
        self._num_stops = 0

    def outcome(self) -> Outcome | None:
        """See `Handle.outcome`."""
        import ray

        if self._outcome is None:
            try:
                ready, _ = ray.wait([self.ref], timeout=0)
                self._outcome = ray.get(self.ref) if ready else None
            except Exception as error:
                self._outcome = self._failure(error)
        return self._outcome

    def stop(self) -> None:
        """See `Handle.stop`; Ray calls what is set for SIGINT in the process of a job, and takes
        a waiting one out.
        """
        import ray

        self._num_stops += 1
        with contextlib.suppress(
            Exception
        ):  # it has ended, or the cluster is gone: `outcome` says so
            ray.cancel(self.ref, force=self._num_stops > 1)

    def _failure(self, error: Exception) -> Outcome:
        from ray import exceptions

        if isinstance(error, exceptions.TaskCancelledError) or self._num_stops:
            return Outcome(
                status="interrupted",
                error="Stopped before it could save; what it had not saved is lost.",
            )
        if isinstance(error, exceptions.OutOfMemoryError):
            return Outcome(
                status="failed", error="Ray ended it, because its machine had no memory left."
            )
        if isinstance(error, exceptions.WorkerCrashedError):
            return Outcome(
                status="failed",
                error="Its process died: killed by the system, or out of memory, perhaps.",
            )
        if isinstance(
            error, exceptions.RayTaskError
        ):  # before `run_task`: its modules are not there, say
            return Outcome(
                status="failed", error=f"Ray could not run it: {_first_line(error.cause)}"
            )
        return Outcome(status="failed", error=f"Ray lost it: {_first_line(error)}")


class RayLauncher:
    """See `Launcher`. `folder` is that of the sweep, which all machines must see; `jobs` limits how
    many are handed in.

    Raises EnvironmentFault where the package or the cluster is missing.
    """

    def __init__(self, config: RayConfig, *, folder: Path, jobs: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise EnvironmentFault(
                "launcher=ray needs the package ray, which is not installed.",
                hint="pip install 'trainer[ray]'",
            ) from error
        self.is_shown = False
        self.threads: int | None = max(1, int(config.cpus_per_job))
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(config.address)
        self.slots = jobs or (_fitting(config) if config.address is None else _MAX_JOBS)
        # A process serves one job: then nothing of it is left for the next, as on one machine.
        self._task = ray.remote(
            num_cpus=config.cpus_per_job, num_gpus=config.gpus_per_job, max_retries=0, max_calls=1
        )(run_task).options(name=f"trainer-{folder.name}")
        self._handles: list[RayHandle] = []

    def start(self, tasks: Sequence[Task]) -> list[RayHandle]:
        """See `Launcher.start`."""
        try:
            started = [RayHandle(self._task.remote(task)) for task in tasks]
        except Exception as error:
            raise EnvironmentFault(f"Ray refused the jobs: {_first_line(error)}") from error
        self._handles = [handle for handle in self._handles if handle.outcome() is None] + started
        return started

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        """See `Launcher.wait`."""
        import ray

        try:
            ray.wait(
                [handle.ref for handle in handles if isinstance(handle, RayHandle)], timeout=seconds
            )
        except Exception:  # the cluster is gone: `outcome` says so
            time.sleep(seconds)

    def close(self) -> None:
        """See `Launcher.close`."""
        import ray

        for handle in self._handles:
            if handle.outcome() is None:
                with contextlib.suppress(Exception):
                    ray.cancel(handle.ref, force=True)
        if self._is_ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    """Start a Ray here, or connect to that of `address`; raises EnvironmentFault."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else it warns of what a later Ray will do. Here a job without GPUs of its own sees none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    if address is not None:
        _reach(address)
    own: dict[str, Any] = (
        {"include_dashboard": False, "object_store_memory": _STORE} if address is None else {}
    )
    try:
        with _own_signals():
            ray.init(
                address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own
            )
    except Exception as error:
        if address is not None:
            raise _silence(address, error) from error
        raise EnvironmentFault(f"Ray could not be started here: {_first_line(error)}") from error


def _reach(address: str) -> None:
    """See that something answers at `address`, where that names a machine; raises EnvironmentFault."""
    match = re.fullmatch(r"(?:ray://)?([^:/]+):([0-9]{1,5})", address)
    if match is not None:
        try:
            socket.create_connection((match[1], int(match[2])), timeout=_TIME_TO_ANSWER).close()
        except (OSError, OverflowError) as error:
            raise _silence(address, error) from error


def _silence(address: str, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        f"No Ray cluster answers at {address}: {_first_line(error)}",
        where="launcher.address",
        hint="Start it there with `ray start --head`, or leave launcher.address out to have one "
        "started here.",
    )


def _fitting(config: RayConfig) -> int:
    """How many jobs run at a time on all that Ray has here."""
    import ray

    there = ray.cluster_resources()
    fitting = there.get("CPU", 1.0) / config.cpus_per_job
    if config.gpus_per_job:
        fitting = min(fitting, there.get("GPU", 0.0) / config.gpus_per_job)
    if fitting < 1:
        raise EnvironmentFault(
            f"A job of {config.cpus_per_job:g} CPUs and {config.gpus_per_job:g} GPUs does not fit "
            "here: there are "
            f"{there.get('CPU', 0.0):g} CPUs and {there.get('GPU', 0.0):g} GPUs.",
            hint="Give launcher.cpus_per_job and launcher.gpus_per_job less.",
        )
    return int(fitting)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray sets what SIGTERM does in this process; the sweep has that in its own hands."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _first_line(error: object) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[0].strip()) if lines else type(error).__name__
