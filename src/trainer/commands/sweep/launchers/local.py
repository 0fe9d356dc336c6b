"""Jobs as processes of this machine, forked from one that has torch loaded; each gets its share of
the CPUs or a GPU.

A process a job, because then a job that dies takes nobody with it, and what it held is free again.
A fork costs some 20 ms, where a fresh Python would spend 1.5 s to load torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from trainer import errors
from trainer.commands.sweep.launchers import Handle
from trainer.commands.sweep.task import Outcome, Task
from trainer.commands.sweep.worker import run_task
from trainer.config.sweep import GridConfig
from trainer.errors import EnvironmentFault, TrainerError, UsageError
from trainer.signals import STOPPING, set_signals

_NURSERY = "trainer.commands.sweep.launchers.preload"
# What Optuna loads when a trial first reports to its study: 0.6 s of each.
_TO_REPORT = (
    "optuna.storages._rdb.storage",
    "alembic.command",
    "alembic.migration",
    "sqlalchemy.orm",
)
# For the jobs that run when the sweep itself cannot go on, such as with its terminal closed;
# seconds.
_TIME_TO_SAVE = 30.0
# What a job of the largest model here takes, with room to spare; `auto` starts no more than fit.
_BYTES_A_JOB = 1.5 * 2**30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to share: CPU threads as torch counts them, GPUs, and bytes of memory to be
    had (None: unknown).
    """

    threads: int
    gpus: int
    memory: int | None


class LocalHandle:
    """A job in a process; `device` is the GPU that it has, if any."""

    def __init__(
        self,
        process: ForkServerProcess,
        receiver: connection.Connection[Any, Any],
        device: str | None,
    ) -> None:
        self.process, self.receiver, self.device = process, receiver, device
        self._outcome: Outcome | None = None
        self.num_stops = 0

    def outcome(self) -> Outcome | None:
        """See `Handle.outcome`."""
        if self._outcome is None:
            is_dead = (
                self.process.exitcode is not None
            )  # asked first: it may send its last words in between
            if self.receiver.poll():
                try:
                    self._outcome = self.receiver.recv()
                    self.process.join()
                except (EOFError, OSError):
                    self._outcome = self._death() if is_dead else None
            elif is_dead:
                self._outcome = self._death()
        return self._outcome

    def stop(self) -> None:
        """See `Handle.stop`."""
        self.num_stops += 1
        if self.process.exitcode is None:
            self.process.terminate()

    def _death(self) -> Outcome:
        code = self.process.exitcode or 0
        if self.num_stops:
            return Outcome(
                status="interrupted", error="Stopped at once; what it had not saved is lost."
            )
        if code >= 0:
            return Outcome(
                status="failed", error=f"Its process ended with code {code} and no result."
            )
        name = signal.Signals(-code).name
        why = ": out of memory, perhaps" if name == "SIGKILL" else ""
        return Outcome(status="failed", error=f"Its process was killed by {name}{why}.")


class LocalLauncher:
    """See `Launcher`. `configs` are whole configs of jobs, for what must be known of their data and
    devices.

    `warm_up` comes first.
    """

    def __init__(
        self, config: GridConfig, *, num_jobs: int | None, configs: Sequence[dict[str, Any]]
    ) -> None:
        self._context = multiprocessing.get_context("forkserver")
        machine = self._survey(configs)
        wants_gpu = all(config["trainer"]["device"] in ("auto", "cuda") for config in configs)
        places = _places(config, machine, wants_gpu=wants_gpu)
        # Not more than there are jobs: then each of the few gets more threads.
        self.slots = max(1, min(len(places), num_jobs or len(places)))
        self._free = places[: self.slots]
        self.threads = max(1, machine.threads // self.slots) if self.slots > 1 else None
        self.is_shown = self.slots == 1
        self._handles: list[LocalHandle] = []

    def start(self, tasks: Sequence[Task]) -> list[LocalHandle]:
        """See `Launcher.start`."""
        self._let_go_of_ended()  # one may have ended since the last wait, and its place is counted on
        for task in (
            tasks
        ):  # one by one: should the next not start, the last ones are known and can be ended
            self._handles.append(self._start(task))
        return self._handles[len(self._handles) - len(tasks) :]

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        """See `Launcher.wait`."""
        running = [handle for handle in self._handles if handle in handles]
        connection.wait(
            [at for handle in running for at in (handle.receiver, handle.process.sentinel)],
            timeout=seconds,
        )
        self._let_go_of_ended()

    def close(self) -> None:
        """See `Launcher.close`."""
        for handle in self._handles:
            if not handle.num_stops:  # asked again, it would not save
                handle.stop()
        deadline = time.monotonic() + _TIME_TO_SAVE
        for handle in list(self._handles):
            handle.process.join(max(0.0, deadline - time.monotonic()))
            handle.process.kill()
            self._let_go(handle)

    def _start(self, task: Task) -> LocalHandle:
        device = self._free.pop(0)
        if device is not None:
            task = dataclasses.replace(
                task,
                config={**task.config, "trainer": {**task.config["trainer"], "device": device}},
            )
        process, receiver = self._fork(_work, task)
        return LocalHandle(process, receiver, device)

    def _let_go_of_ended(self) -> None:
        for handle in [handle for handle in self._handles if handle.outcome() is not None]:
            self._let_go(handle)

    def _let_go(self, handle: LocalHandle) -> None:
        self._handles.remove(handle)
        self._free.append(handle.device)
        handle.process.join()
        handle.receiver.close()

    def _survey(self, configs: Sequence[dict[str, Any]]) -> Machine:
        """What the machine has, and the data unpacked once for all jobs; raises what is wrong
        with the data.
        """
        process, receiver = self._fork(_look_around, str(Path.cwd()), list(configs))
        try:
            found = receiver.recv()
        except EOFError:
            process.join()
            raise EnvironmentFault(
                f"torch could not be loaded: its process ended with {process.exitcode}."
            ) from None
        process.join()
        receiver.close()
        if isinstance(found, Machine):
            return found
        kind, *said = found
        raise getattr(errors, kind)(said[0], where=said[1], hint=said[2])

    def _fork(
        self, target: Any, *arguments: Any
    ) -> tuple[ForkServerProcess, connection.Connection[Any, Any]]:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=target, args=(sender, *arguments))
        try:
            process.start()
        except OSError as error:
            raise EnvironmentFault(
                f"A process for a job could not be started: {error.strerror or error}.",
                hint="Try sweep.jobs=1.",
            ) from error
        sender.close()
        return process, receiver


def warm_up(*, is_search: bool) -> None:
    """Begin to load torch, in the process that jobs will be forked from, while the sweep is
    still reading configs.
    """
    modules = [_NURSERY, *(_TO_REPORT if is_search else ())]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    resource_tracker.ensure_running()  # of multiprocessing's own; it would lift the block below
    # A signal to all is for the sweep, which passes it on to the jobs; without this process it
    # could not see them end. Blocked and not ignored: what comes to a job that was just forked
    # waits until it is ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _places(config: GridConfig, machine: Machine, *, wants_gpu: bool) -> list[str | None]:
    """The device of each job that may run at a time; None is the CPU, or what the job's config says."""
    gpus = list(range(machine.gpus)) if config.devices is None else config.devices
    if config.devices is not None and not wants_gpu:
        raise UsageError(
            f"sweep.devices={config.devices} names GPUs, and trainer.device is another one.",
            hint="Leave one of them out: with sweep.devices, each job gets its GPU.",
        )
    if config.devices is not None and (missing := [gpu for gpu in gpus if gpu >= machine.gpus]):
        there = f"there are {machine.gpus}" if machine.gpus else "there is none"
        raise EnvironmentFault(
            f"sweep.devices={config.devices}: there is no GPU {missing[0]}; {there}."
        )
    if gpus and wants_gpu:
        places: list[str | None] = [
            f"cuda:{gpu}" for _ in range(config.jobs_per_device) for gpu in gpus
        ]
        return (
            places
            if config.num_jobs is None
            else [places[i % len(places)] for i in range(config.num_jobs)]
        )
    fitting = machine.threads if machine.memory is None else int(machine.memory // _BYTES_A_JOB)
    return [None] * (config.num_jobs or max(1, min(machine.threads, fitting)))


def _work(sender: connection.Connection[Any, Any], task: Task) -> None:
    """The process of a job."""
    os.setpgrp()  # Ctrl-C is for the sweep, which passes it on; twice would mean at once
    set_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # see warm_up
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    outcome = run_task(task)
    with contextlib.suppress(OSError):  # the sweep is gone; run.json says how it ended
        sender.send(outcome)
        sender.close()


def _leave_with_parent() -> None:
    """When the sweep is killed, save and stop: the same command then goes on with this job."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "it was started by a sweep"
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _look_around(
    sender: connection.Connection[Any, Any], folder: str, configs: Sequence[dict[str, Any]]
) -> None:
    os.chdir(folder)
    for number in STOPPING:  # nothing is there to save; the sweep says that it was stopped
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    import torch

    from trainer.data.image_sets.catalog import IMAGE_SETS
    from trainer.data.image_sets.locate import load_image_set
    from trainer.tracking.console import Terminal

    found: Any = Machine(
        threads=torch.get_num_threads(), gpus=torch.cuda.device_count(), memory=_memory()
    )
    sets = {(config["data"]["name"], config["data"].get("root")) for config in configs}
    try:
        for name, root in sorted((name, root) for name, root in sets if name in IMAGE_SETS):
            load_image_set(name, root=Path(root), report=Terminal())
    except TrainerError as error:
        if (
            len(sets) == 1
        ):  # else the jobs with other data can run, and this one's say what is wrong
            found = (type(error).__name__, error.what, error.where, error.hint)
    except (OSError, MemoryError) as error:
        found = (
            "EnvironmentFault",
            f"The data could not be read: {type(error).__name__}: {error}",
            None,
            None,
        )
    with contextlib.suppress(OSError):  # the sweep was stopped
        sender.send(found)


def _memory() -> int | None:
    """Bytes of memory that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(
            1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration, ValueError):
        return None
