"""Jobs as processes of this machine, forked from one that has torch loaded.

Each job has its own process, so that one that dies ends no other, and its memory is freed. A fork
costs about 20 ms, where a fresh Python needs 1.5 s to load torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeAlias

from trainer import errors
from trainer.commands.sweep.launchers import Handle, OnceHandle, safe_path
from trainer.commands.sweep.task import JobOutcome, JobStatus, Task
from trainer.commands.sweep.worker import run_task
from trainer.config import ConfigTree
from trainer.config.sweep import GridConfig
from trainer.errors import EnvironmentFault, TrainerError, UsageError, reason_of
from trainer.process_state import free_memory
from trainer.signals import STOPPING, set_signals

# One end of a pipe: whatever can be pickled goes through it.
Pipe: TypeAlias = "connection.Connection[Any, Any]"
_PRELOAD = "trainer.commands.sweep.launchers.preload"
# What Optuna loads when a trial first reports to its study: 0.6 s of each.
_PRELOAD_FOR_SEARCH = (
    "optuna.storages._rdb.storage",
    "alembic.command",
    "alembic.migration",
    "sqlalchemy.orm",
)
# Seconds for running jobs to save when the sweep cannot continue, as with its terminal closed.
_TIME_TO_SAVE = 30.0
# Memory of a job with the largest model here, and room to spare; `auto` starts no more than fit.
_BYTES_A_JOB = 1.5 * 2**30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the jobs share: threads as torch counts them, GPUs, free bytes (None: unknown)."""

    threads: int
    gpus: int
    memory: int | None


class LocalHandle(OnceHandle):
    """A job in a process; `device` is its GPU, if it has one."""

    def __init__(
        self,
        process: ForkServerProcess,
        receiver: Pipe,
        device: str | None,
    ) -> None:
        super().__init__()
        self.process = process
        self.receiver = receiver
        self.device = device

    def _look(self) -> JobOutcome | None:
        # Read first: the process may send its outcome and end in between.
        is_dead = self.process.exitcode is not None
        # EOFError: the pipe ends a moment before the process, whose exit code is not known yet.
        with contextlib.suppress(EOFError, OSError):
            if self.receiver.poll():
                outcome: JobOutcome = self.receiver.recv()
                self.process.join()
                return outcome
        return self._death() if is_dead else None

    def stop(self) -> None:
        self.num_stops += 1
        if self.process.exitcode is None:
            self.process.terminate()

    def _death(self) -> JobOutcome:
        code = self.process.exitcode or 0
        if self.num_stops:
            return JobOutcome(
                status=JobStatus.INTERRUPTED,
                error="Stopped at once; what it had not saved is lost.",
            )
        if code >= 0:
            reason = f"Its process ended with code {code} and no result."
        else:
            name = signal.Signals(-code).name
            why = ": out of memory, perhaps" if name == "SIGKILL" else ""
            reason = f"Its process was killed by {name}{why}."
        return JobOutcome(status=JobStatus.FAILED, error=reason)


class LocalLauncher:
    """Starts jobs here; `configs` are sample configs, for their data sets and devices.

    Call `warm_up` before. Raises the errors of the data, and UsageError or EnvironmentFault where
    the GPUs are not as the config says.
    """

    def __init__(
        self, config: GridConfig, *, num_jobs: int | None, configs: Sequence[ConfigTree]
    ) -> None:
        self._context = multiprocessing.get_context("forkserver")
        capacity = self._survey(configs)
        wants_gpu = all(config["trainer"]["device"] in ("auto", "cuda") for config in configs)
        places = _places(config, capacity, wants_gpu=wants_gpu)
        # No more than there are jobs: then each of the few gets more threads.
        self.slots = max(1, min(len(places), num_jobs or len(places)))
        self._free = places[: self.slots]
        self.threads = max(1, capacity.threads // self.slots) if self.slots > 1 else None
        self.uses_terminal = self.slots == 1
        self._handles: list[LocalHandle] = []

    def start(self, tasks: Sequence[Task]) -> list[LocalHandle]:
        self._release_ended()  # one may have ended since the last wait, and the loop knows
        # One by one: where the next cannot start, the last ones are known and can be ended.
        for task in tasks:
            self._handles.append(self._start(task))
        return self._handles[len(self._handles) - len(tasks) :]

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        ends: list[Pipe | int] = []
        for handle in self._handles:
            if handle in handles:
                ends += [handle.receiver, handle.process.sentinel]
        connection.wait(ends, timeout=seconds)
        self._release_ended()

    def close(self) -> None:
        """Let the jobs save and stop, and kill those that still run after half a minute."""
        for handle in self._handles:
            if not handle.num_stops:  # a second stop would keep it from saving
                handle.stop()
        deadline = time.monotonic() + _TIME_TO_SAVE
        for handle in list(self._handles):
            handle.process.join(max(0.0, deadline - time.monotonic()))
            handle.process.kill()
            self._release(handle)

    def _start(self, task: Task) -> LocalHandle:
        device = self._free.pop(0)
        if device is not None:
            trainer = {**task.config["trainer"], "device": device}
            task = dataclasses.replace(task, config={**task.config, "trainer": trainer})
        process, receiver = self._fork(_work, task)
        return LocalHandle(process, receiver, device)

    def _release_ended(self) -> None:
        for handle in list(self._handles):
            if handle.outcome() is not None:
                self._release(handle)

    def _release(self, handle: LocalHandle) -> None:
        self._handles.remove(handle)
        self._free.append(handle.device)
        handle.process.join()
        handle.receiver.close()

    def _survey(self, configs: Sequence[ConfigTree]) -> Capacity:
        """Look at the machine, and unpack the data once for all jobs; raises errors of the data."""
        process, receiver = self._fork(_survey, str(Path.cwd()), list(configs))
        try:
            found = receiver.recv()
        except EOFError:
            process.join()
            raise EnvironmentFault(
                f"torch could not be loaded: its process ended with {process.exitcode}."
            ) from None
        process.join()
        receiver.close()
        if isinstance(found, Capacity):
            return found
        kind, what, where, hint = found
        raise getattr(errors, kind)(what, where=where, hint=hint)

    def _fork(
        self, target: Callable[..., None], *arguments: object
    ) -> tuple[ForkServerProcess, Pipe]:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=target, args=(sender, *arguments))
        try:
            process.start()
        except OSError as error:
            raise EnvironmentFault(
                f"A process for a job could not be started: {reason_of(error)}.",
                hint="Try sweep.jobs=1.",
            ) from error
        # The process alone must have this end: its death then ends the pipe, and `recv` raises.
        sender.close()
        return process, receiver


def warm_up(*, is_search: bool) -> None:
    """Start the process that jobs are forked from: it loads torch while the configs are read."""
    modules = [_PRELOAD, *(_PRELOAD_FOR_SEARCH if is_search else ())]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with safe_path():
        resource_tracker.ensure_running()  # multiprocessing's own; it would lift the block below
    # The sweep passes a signal on to its jobs, and without this process it could not see them end.
    # The signals are blocked, not ignored: one that comes to a job while it is forked waits until
    # the job is ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        with safe_path():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _places(config: GridConfig, capacity: Capacity, *, wants_gpu: bool) -> list[str | None]:
    """The device of each job that may run at a time; None leaves it to the job's config."""
    if config.devices is not None:
        _check_devices(config.devices, capacity, wants_gpu=wants_gpu)
    gpus = range(capacity.gpus) if config.devices is None else config.devices
    if gpus and wants_gpu:
        devices = [f"cuda:{gpu}" for gpu in gpus] * config.jobs_per_device
        return list(islice(cycle(devices), config.num_jobs or len(devices)))
    num_fitting = capacity.threads
    if capacity.memory is not None:
        num_fitting = min(num_fitting, int(capacity.memory // _BYTES_A_JOB))
    return [None] * (config.num_jobs or max(1, num_fitting))


def _check_devices(devices: Sequence[int], capacity: Capacity, *, wants_gpu: bool) -> None:
    """Raise UsageError where no job wants a GPU, EnvironmentFault where one is not there."""
    if not wants_gpu:
        raise UsageError(
            f"sweep.devices={devices} names GPUs, but trainer.device is another device.",
            hint="Leave one of them out: with sweep.devices, each job gets its GPU.",
        )
    for gpu in devices:
        if gpu >= capacity.gpus:
            there = f"there are {capacity.gpus}" if capacity.gpus else "there is none"
            raise EnvironmentFault(f"sweep.devices={devices}: there is no GPU {gpu}; {there}.")


def _work(sender: Pipe, task: Task) -> None:
    """The process of a job."""
    os.setpgrp()  # Ctrl-C is for the sweep, which passes it on; a second one would not let it save
    # In this order: a signal that waits since the fork is taken by the handler.
    set_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # see warm_up
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    outcome = run_task(task)
    with contextlib.suppress(OSError):  # the sweep was killed; it reads run.json next time
        sender.send(outcome)
        sender.close()


def _stop_with_parent() -> None:
    """Save and stop when the sweep is killed: the same command then continues this job."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "it was started by a sweep"
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _survey(sender: Pipe, folder: str, configs: Sequence[ConfigTree]) -> None:
    """The process that needs torch, and the data, before the first job."""
    os.chdir(folder)
    for number in STOPPING:  # there is nothing to save, and the sweep says that it was stopped
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    import torch

    capacity = Capacity(
        threads=torch.get_num_threads(), gpus=torch.cuda.device_count(), memory=free_memory()
    )
    found: object = capacity
    try:
        _unpack(configs)
    except TrainerError as error:
        # As plain values: pickle cannot remake an exception with keyword-only arguments.
        found = (type(error).__name__, error.what, error.where, error.hint)
    except (OSError, MemoryError) as error:
        reason = f"The data could not be read: {type(error).__name__}: {error}"
        found = ("EnvironmentFault", reason, None, None)
    with contextlib.suppress(OSError):  # the sweep was stopped
        sender.send(found)


def _unpack(configs: Sequence[ConfigTree]) -> None:
    """Unpack the image sets of the jobs, so that no two jobs do it at once."""
    from trainer.data.image_sets.catalog import IMAGE_SETS
    from trainer.data.image_sets.locate import load_image_set
    from trainer.tracking.console import Terminal

    sets = {(config["data"]["name"], config["data"].get("root")) for config in configs}
    for name, root in sorted(found for found in sets if found[0] in IMAGE_SETS):
        try:
            load_image_set(name, root=Path(root), report=Terminal())
        except TrainerError:
            # Jobs with other data can run, and this one's report the error themselves.
            if len(sets) == 1:
                raise
