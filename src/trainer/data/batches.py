"""Batches as slices of tensors that live in memory on the training device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from trainer.data.seeding import epoch_order, generator

# The samples of several batches are gathered at once, as far as they fit in the cache of a core: 60
# us a batch less than one by one, of 2,300 that a step of lenet5 takes on 2 cores.
_GATHERED_BYTES = 1 << 20

Batch = tuple[Tensor, Tensor]
# Turns a batch of inputs into the model's; the generator, for augmentation, is that batch's own.
Prepare = Callable[[Tensor, torch.Generator | None], Tensor]


def epoch_size(num_samples: int, batch_size: int, *, drop_last: bool) -> tuple[int, int]:
    """Batches and samples in an epoch."""
    whole, rest = divmod(num_samples, batch_size)
    num_batches = whole + bool(rest and not drop_last)
    return num_batches, min(num_batches * batch_size, num_samples)


class Batches(Protocol):
    """What the engine trains and evaluates on."""

    @property
    def num_samples(self) -> int:
        """Samples in an epoch."""

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, always the same for the same numbers."""

    def first(self, num: int) -> Batch:
        """Copies of the first `num` samples of the data set, in order (fewer if it has no more)."""

    def sample_index(self, epoch: int, *, batch: int, place: int) -> int:
        """The index in the data set of the sample at `place` in a batch of an epoch."""


def find_not_finite(
    batches: Batches, epoch: int, *, start: int = 0, stop: int | None = None
) -> str | None:
    """`the input of sample 37`: the first with a value that is not finite, or None.

    Looks at the batches of an epoch from number `start` to before `stop`, and reads them again.
    """
    with contextlib.closing(batches.epoch(epoch, start=start)) as samples:  # type: ignore[type-var]
        for number, batch in enumerate(samples, start):
            if number == stop:
                break
            for what, values in zip(("input", "target"), batch, strict=True):
                if not values.is_floating_point():
                    continue
                is_wrong = ~values.reshape(len(values), -1).isfinite().all(1)
                if is_wrong.any():
                    place = int(is_wrong.nonzero()[0])
                    index = batches.sample_index(epoch, batch=number, place=place)
                    return f"the {what} of sample {index}"
    return None


def unchanged(inputs: Tensor, _: torch.Generator | None) -> Tensor:
    """The `Prepare` of inputs that are the model's already."""
    return inputs


class TensorBatches:
    """Batches of `inputs` (N, …) and `targets` (N, …), both on the training device.

    There is no work per sample, and there are no workers.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        prepare: Prepare,
        shuffle_seed: int | None = None,
        drop_last: bool = False,
        is_random: bool = False,
    ) -> None:
        self._inputs = inputs
        self._targets = targets
        self._prepare = prepare
        self._batch_size = batch_size
        self._shuffle_seed = shuffle_seed
        self._is_random = is_random
        self.num_batches, self.num_samples = epoch_size(
            len(inputs), batch_size, drop_last=drop_last
        )
        num_bytes = batch_size * inputs[:1].nbytes
        self._num_gathered = max(1, _GATHERED_BYTES // max(1, num_bytes))

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        size = self._batch_size
        seed = self._shuffle_seed
        order = None
        # Moved once an epoch: from pageable memory, a copy to a GPU makes the host wait.
        if seed is not None:
            order = epoch_order(len(self._inputs), seed=seed, epoch=epoch).to(self._inputs.device)
        for first in range(start, self.num_batches, self._num_gathered):
            batches = range(first, min(first + self._num_gathered, self.num_batches))
            part = slice(first * size, batches.stop * size)
            if order is None:
                inputs = self._inputs[part]
                targets = self._targets[part]
            else:
                inputs = self._inputs.index_select(0, order[part])
                targets = self._targets.index_select(0, order[part])
            # Views of what was gathered: no copy.
            for batch, some, theirs in zip(
                batches, torch.split(inputs, size), torch.split(targets, size), strict=True
            ):
                own = generator(seed or 0, "augment", epoch, batch) if self._is_random else None
                yield self._prepare(some, own), theirs

    def first(self, num: int) -> Batch:
        own = generator(self._shuffle_seed or 0, "augment", 0, 0) if self._is_random else None
        # Copies: a person's own model may change its inputs in place.
        return self._prepare(self._inputs[:num].clone(), own), self._targets[:num].clone()

    def sample_index(self, epoch: int, *, batch: int, place: int) -> int:
        place += batch * self._batch_size
        if self._shuffle_seed is None:
            return place
        return int(epoch_order(len(self._inputs), seed=self._shuffle_seed, epoch=epoch)[place])
