"""The samples of a streamed data set, kept in memory once all of them were read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.batches import Batch, TensorBatches, unchanged
from trainer.data.dataset import StreamedBatches
from trainer.process_state import free_memory

# Of the memory that is free when the first batch comes; the rest is for the model and others.
_SHARE = 0.5
_CGROUP = Path("/sys/fs/cgroup")


class SampleStore:
    """The samples of a data set on the training device, as far as they were read.

    It gives up, with a warning, where they do not fit, or a sample is another one when it is read
    again.
    """

    def __init__(self, num_samples: int, *, warn: Callable[[str], None]) -> None:
        self._num_samples = num_samples
        self._warn = warn
        self._is_given_up = False
        self._seen = torch.zeros(num_samples, dtype=torch.bool)
        self._samples: Batch | None = None

    @property
    def is_filling(self) -> bool:
        """Whether samples are missing that are still wanted."""
        return not self._is_given_up and not bool(self._seen.all())

    @property
    def samples(self) -> Batch | None:
        """All inputs and targets; None until every sample is there."""
        return None if self._is_given_up or self.is_filling else self._samples

    def keep(self, indices: Tensor, batch: Batch) -> None:
        """Keep the samples `indices` of the data set."""
        if self._samples is None:
            self._samples = self._allocate(batch)
        if self._samples is None:
            return
        for kept, values in zip(self._samples, batch, strict=True):
            if kept.shape[1:] != values.shape[1:] or kept.dtype != values.dtype:
                self.give_up("the samples are of several shapes or types")
                return
        for kept, values in zip(self._samples, batch, strict=True):
            kept[indices.to(kept.device)] = values
        self._seen[indices] = True

    def check(self, batch: Batch) -> None:
        """Give up unless `batch`, the first samples read again, is what was kept."""
        if self._samples is None or self._is_given_up:
            return
        for kept, values in zip(self._samples, batch, strict=True):
            same = kept[: len(values)] == values
            if values.is_floating_point():
                same |= kept[: len(values)].isnan() & values.isnan()
            same = same.reshape(len(values), -1).all(1)
            if not same.all():
                index = int((~same).nonzero()[0])
                self.give_up(f"sample {index} is another one when it is read again")
                return

    def give_up(self, reason: str) -> None:
        """Read the samples anew in every epoch, as without the store."""
        self._is_given_up = True
        self._samples = None
        self._warn(f"data.cache=true: {reason}, so the samples are read in every epoch.")

    def _allocate(self, batch: Batch) -> Batch | None:
        device = batch[0].device
        num_bytes = sum(values[:1].nbytes for values in batch) * self._num_samples
        free = _free_bytes(device)
        if free is not None and num_bytes > _SHARE * free:
            self.give_up(
                f"the {self._num_samples:,} samples need {num_bytes / 1e9:.1f} GB, and "
                f"{free / 1e9:.1f} GB are free"
            )
            return None
        inputs, targets = (
            values.new_empty((self._num_samples, *values.shape[1:])) for values in batch
        )
        return inputs, targets


class CachedBatches:
    """Batches of `streamed` until all samples are in `store`, then the same ones from there.

    The store is that of its data set: several ways through the set may share it.
    """

    def __init__(
        self,
        streamed: StreamedBatches,
        store: SampleStore,
        *,
        batch_size: int,
        shuffle_seed: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.num_batches = streamed.num_batches
        self.num_samples = streamed.num_samples
        self._streamed = streamed
        self._store = store
        self._batch_size = batch_size
        self._shuffle_seed = shuffle_seed
        self._drop_last = drop_last

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        if self._store.samples is not None:
            yield from self._in_memory(self._store.samples).epoch(epoch, start=start)
            return
        order = self._streamed.order(epoch)
        first = start * self._batch_size
        for batch in self._streamed.epoch(epoch, start=start):
            last = first + len(batch[1])
            if self._store.is_filling:
                self._keep(order[first:last], batch, epoch=epoch)
            first = last
            yield batch

    def first(self, num: int) -> Batch:
        if self._store.samples is not None:
            return self._in_memory(self._store.samples).first(num)
        return self._streamed.first(num)

    def sample_index(self, epoch: int, *, batch: int, place: int) -> int:
        return self._streamed.sample_index(epoch, batch=batch, place=place)

    def _keep(self, indices: Tensor, batch: Batch, *, epoch: int) -> None:
        self._store.keep(indices, batch)
        if self._store.samples is not None:  # that was the last
            self._store.check(self._streamed.first(self._batch_size, epoch=epoch + 1))

    def _in_memory(self, samples: Batch) -> TensorBatches:
        return TensorBatches(
            *samples,
            batch_size=self._batch_size,
            prepare=unchanged,
            shuffle_seed=self._shuffle_seed,
            drop_last=self._drop_last,
        )


def _free_bytes(device: torch.device) -> int | None:
    """Bytes of free memory of the device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [free_memory(), _free_of_group()]
    return min((free for free in found if free is not None), default=None)


def _free_of_group() -> int | None:
    """What a container may take."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="utf-8"))
        return limit - int((_CGROUP / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is no limit
        return None
