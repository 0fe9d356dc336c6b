"""Processes that read the samples of a data set, through torch's DataLoader."""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.sharedctypes import RawArray
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from trainer.data.groups import Collate, Groups, as_message, batches_of
from trainer.errors import CustomCodeError, EnvironmentFault, TrainerError, reason_of

# What a terminal, a job queue or a person sends to the processes of a run, often to all at once.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_SECONDS_TO_END = 3
# Until the exit code of a process that died is known.
_SECONDS_TO_DIE = 1
# Signals that end a process whose C code is wrong, or that aborts.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
_FEWER = "Use fewer workers; data.num_workers=0 reads in the training process."


class WorkerKilled(EnvironmentFault):
    """The machine or a person killed a process that read samples."""


class Positions:
    """The number of the sample that each worker reads, in memory that the workers share."""

    def __init__(self, num_workers: int) -> None:
        self._numbers = RawArray("q", [-1] * num_workers)

    def note(self, worker: int, number: int) -> None:
        """Called in a worker: it is about to read sample `number`."""
        self._numbers[worker] = number

    def describe(self, worker: int) -> str:
        """`sample 17`, the one that a worker read last."""
        number = self._numbers[worker]
        return f"sample {number}" if number >= 0 else "its first sample"


class _Started:
    """The workers that were started last, for a death that is noticed outside of `load`."""

    workers: Sequence[Any] = ()
    positions: Positions | None = None


def load(
    samples: Dataset[Any],
    *,
    collate: Collate,
    batch_size: int,
    num_workers: int,
    positions: Positions,
    generator: torch.Generator,
    pin_memory: bool,
) -> Iterator[Any]:
    """Batches of `samples` in their order, as `collate` makes them: pairs of tensors as a rule.

    Quick ones come in groups, since a message from a worker takes 1 ms.

    Raises EnvironmentFault when workers cannot be started or were killed, CustomCodeError when a
    person's code crashes or ends one, and what reading a sample raises.
    """
    groups = Groups(len(samples), batch_size)  # type: ignore[arg-type]
    loader = DataLoader(
        samples,
        batch_sampler=groups,
        num_workers=num_workers,
        collate_fn=functools.partial(as_message, collate=collate, batch_size=batch_size),
        # DataLoader draws its workers' seed from here; without it, from the global generator.
        generator=generator,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_training,
    )
    batches: Any = None
    try:
        with _signals_blocked():
            batches = iter(loader)
        _Started.workers = batches._workers
        _Started.positions = positions
        start = time.perf_counter()
        for message in batches:
            groups.adapt(message, seconds=time.perf_counter() - start)
            yield from batches_of(message, batch_size, is_copied=not pin_memory)
            start = time.perf_counter()
    except (RuntimeError, OSError, EOFError) as error:
        _check_machine(error, num_workers=num_workers, has_started=batches is not None)
        if fault := death_of_worker(error):
            raise fault from None
        raise
    finally:
        # At once and in order: the traceback of an error keeps the workers until the program
        # ends, which kills them, and torch reports that too.
        if batches is not None:
            batches._shutdown_workers()


def death_of_worker(error: BaseException) -> TrainerError | None:
    """The fault when `error` shows that a worker died; None for any other error.

    torch notices it by a signal, so that it may be raised anywhere in the training process; or a
    message of the worker breaks off.
    """
    is_noticed = isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)
    if not is_noticed and not isinstance(error, (EOFError, ConnectionError)):
        return None
    deadline = time.monotonic() + _SECONDS_TO_DIE
    while time.monotonic() < deadline:
        for number, worker in enumerate(_Started.workers):
            if worker.exitcode and _Started.positions is not None:
                return _death(worker.exitcode, _Started.positions.describe(number))
        time.sleep(0.01)
    return WorkerKilled(f"A worker of data.num_workers ended: {error}", hint=_FEWER)


def _death(code: int, sample: str) -> TrainerError:
    """What ended a worker with this exit code (negative: by a signal)."""
    if code > 0:
        return CustomCodeError(
            f"data.target: a worker ended with exit code {code} while it read {sample}.",
            hint="Its code calls os._exit, perhaps.",
        )
    number = signal.Signals(-code)
    if number in _CRASHES:
        return CustomCodeError(
            f"data.target: a worker died by {number.name} while it read {sample}.",
            hint="C code that it calls crashed. With data.num_workers=0, python -X faulthandler -m "
            "trainer shows where.",
        )
    if number == signal.SIGBUS:
        return _no_shared_memory(f"A worker died by SIGBUS while it read {sample}")
    # After a SIGTERM a worker waits, and then ends by an alarm.
    name = "SIGTERM" if number == signal.SIGALRM else number.name
    reason = ": memory ran out, probably" if number == signal.SIGKILL else ""
    return WorkerKilled(
        f"A worker of data.num_workers was killed by {name} while it read {sample}{reason}.",
        hint=_FEWER,
    )


def _check_machine(error: Exception, *, num_workers: int, has_started: bool) -> None:
    """Raises EnvironmentFault when workers or their shared memory are the cause of `error`."""
    text = str(error)
    if "shared memory" in text or ("torch_" in text and "No space left" in text):
        raise _no_shared_memory(f"data.num_workers={num_workers}") from error
    if not has_started and isinstance(error, OSError):
        raise EnvironmentFault(
            f"data.num_workers={num_workers}: the workers cannot be started ({reason_of(error)}).",
            hint="Use fewer; data.num_workers=0 loads in the training process.",
        ) from error


def _no_shared_memory(what: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{what}: no shared memory is left for the workers (/dev/shm is full).",
        hint="Use data.num_workers=0 or a smaller data.batch_size, or enlarge it (docker "
        "run --shm-size=1g).",
    )


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals while workers start: each has them blocked until its handlers are set."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_training(_worker: int) -> None:
    """Ignore signals in a worker: its death would break a step or a save of the training."""
    for number in _SIGNALS:
        # Never ignored in between: a SIGTERM that is pending would be lost.
        signal.signal(number, _end_soon if number == signal.SIGTERM else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_soon(_number: int, _frame: FrameType | None) -> None:
    """End in some seconds: a SIGTERM may go to all processes, and training still awaits a batch."""
    signal.alarm(_SECONDS_TO_END)
