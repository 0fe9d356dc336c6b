"""Batches of a person's data set that are read together, as long as that is quick."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

# A message of one or more batches: at most so many, so large, waited for no longer than this.
_MAX_BATCHES = 16
_MESSAGE_BYTES = 1 << 20
_QUICK_S = 0.02

Collate = Callable[[Sequence[Any]], Any]


def read_here(
    read: Callable[[list[int]], Sequence[Any]],
    *,
    collate: Collate,
    num_samples: int,
    batch_size: int,
) -> Iterator[Any]:
    """Batches of the samples that `read` returns for positions, without other processes.

    In groups, since to keep the state of the process takes as long as to read ten simple samples.
    Not by a DataLoader, whose loop takes a tenth of the time that a batch of them takes.
    """
    groups = Groups(num_samples, batch_size)
    for positions in groups:
        start = time.perf_counter()
        # A batch that comes alone may be slow, and leave garbage that is large.
        is_quick = len(positions) > batch_size
        with _without_collections() if is_quick else contextlib.nullcontext():
            message = as_message(read(positions), collate=collate, batch_size=batch_size)
        groups.adapt(message, seconds=time.perf_counter() - start)
        yield from batches_of(message, batch_size, is_copied=True)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Start no garbage collection: a thousand samples would, and it walks all of torch, 30 ms."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Groups:
    """The positions of the samples of each message: of one batch, and more while that is quick."""

    def __init__(self, num_samples: int, batch_size: int) -> None:
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._num_batches = 1

    def __iter__(self) -> Iterator[list[int]]:
        first = 0
        while first < self._num_samples:
            last = min(first + self._num_batches * self._batch_size, self._num_samples)
            yield list(range(first, last))
            first = last

    def adapt(self, message: list[Any], *, seconds: float) -> None:
        """Double the size of messages that are small and were not waited for."""
        num_bytes = sum(value.nbytes for value in message[0] if isinstance(value, torch.Tensor))
        is_quick = seconds < _QUICK_S and 2 * num_bytes <= _MESSAGE_BYTES
        if len(message) == 1 and is_quick and self._num_batches < _MAX_BATCHES:
            self._num_batches *= 2


def as_message(samples: Sequence[Any], *, collate: Collate, batch_size: int) -> list[Any]:
    """All samples as one batch; as several where that cannot be, as of sequences by length."""
    try:
        return [collate(samples)]
    except RuntimeError:
        if len(samples) <= batch_size:
            raise
    parts = range(0, len(samples), batch_size)
    return [collate(samples[first : first + batch_size]) for first in parts]


def batches_of(message: list[Any], batch_size: int, *, is_copied: bool) -> Iterator[Any]:
    """The batches of a message.

    Copied where they are computed with: the last bits of a product may depend on where in memory
    its factors begin.
    """
    batch = message[0]
    is_pair = isinstance(batch, (list, tuple)) and all(
        isinstance(value, torch.Tensor) for value in batch
    )
    if len(message) > 1 or not is_pair or len(batch[0]) <= batch_size:
        yield from message
        return
    for parts in zip(*(torch.split(value, batch_size) for value in batch), strict=True):
        yield [part.clone() if is_copied else part for part in parts]
