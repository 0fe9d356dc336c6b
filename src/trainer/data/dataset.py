"""A person's own map-style data set: divided, its samples seeded one by one, and streamed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, default_collate, get_worker_info

from trainer.config.data import val_size_hint
from trainer.data.batches import Batch, epoch_size
from trainer.data.sample_generators import SampleGenerators
from trainer.data.samples import ConvertedDataset, RefusedSample
from trainer.data.seeding import derive_seed, epoch_order, generator
from trainer.data.workers import Positions, death_of_worker, load
from trainer.errors import (
    ConfigError,
    CustomCodeError,
    DataError,
    TrainerError,
    is_out_of_memory,
    out_of_memory,
)
from trainer.process_state import ProcessState
from trainer.signals import SignalExit
from trainer.user_code import exit_error


def split_dataset(
    dataset: Dataset[object],
    val_size: int,
    *,
    seed: int,
    held_out_from: Dataset[object] | None = None,
) -> tuple[Dataset[object], Dataset[object] | None]:
    """The training part and the held-out part (None for `val_size` 0).

    The held-out samples are read from `held_out_from` where there is one. Raises ConfigError when
    the training part is empty.
    """
    length = length_of(dataset)
    if val_size >= length:
        raise ConfigError(
            f"data.val_size={val_size} leaves nothing of the {length} training samples.",
            hint=val_size_hint(length),
        )
    if val_size == 0:
        return dataset, None
    order = torch.randperm(length, generator=generator(seed, "split"))
    train = Subset(dataset, order[val_size:].sort().values.tolist())
    source = dataset if held_out_from is None else held_out_from
    return train, Subset(source, order[:val_size].tolist())


def limited(dataset: Dataset[object], limit: int | None) -> Dataset[object]:
    """The first `limit` samples; all for None."""
    if limit is None or limit >= length_of(dataset):
        return dataset
    return Subset(dataset, range(limit))


def length_of(dataset: Dataset[object]) -> int:
    """The number of samples; torch does not declare it."""
    return len(dataset)  # type: ignore[arg-type]


def _index_in_source(dataset: Dataset[object], place: int) -> int:
    """The index in the person's own data set of the sample at `place` of a part of it."""
    while isinstance(dataset, Subset):
        place = dataset.indices[place]
        dataset = dataset.dataset
    return place


class EpochHook:
    """Calls `set_epoch(epoch)` of a person's data set, where it has that, before samples are read.

    A validation in the middle of an epoch may read the same object as of epoch 0.
    """

    def __init__(self, dataset: object) -> None:
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        if isinstance(dataset, ConvertedDataset):
            dataset = dataset.source
        self.dataset = dataset
        self._set_epoch: Callable[[int], object] | None = getattr(dataset, "set_epoch", None)
        self._epoch: int | None = None

    def set(self, epoch: int) -> None:
        """The samples that are read next are those of `epoch`."""
        if self._set_epoch is not None and epoch != self._epoch:
            self._set_epoch(epoch)
        self._epoch = epoch


class StreamedBatches:
    """Batches of a ConvertedDataset, or a part of one, through a DataLoader, moved to `device`.

    The order depends on (seed, epoch) only, and a sample's randomness on them and the sample, not
    on `num_workers`. Targets are classes (N,) or values (N, K), as the data set gives them.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        *,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        seed: int,
        is_shuffled: bool = False,
        drop_last: bool = False,
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._device = device
        self._seed = seed
        self._is_shuffled = is_shuffled
        self._generators = SampleGenerators()
        # Shared, by the caller, where several parts of one data set are streamed.
        self.hook = EpochHook(dataset)
        self._length = length_of(dataset)
        self.num_batches, self.num_samples = epoch_size(
            self._length, batch_size, drop_last=drop_last
        )

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        chosen = self.order(epoch)[start * self._batch_size : self.num_batches * self._batch_size]
        samples = self._samples(chosen.tolist(), epoch=epoch)
        with _reading_errors(), contextlib.closing(self._load(samples, epoch=epoch)) as batches:
            for inputs, targets in batches:
                yield self._to_device(inputs), self._to_device(targets)

    def first(self, num: int, *, epoch: int = 0) -> Batch:
        samples = self._samples(range(min(num, self._length)), epoch=epoch)
        try:
            inputs, targets = default_collate(samples.read(slice(None)))
        except RefusedSample as error:
            raise DataError(error.what, hint=error.hint) from error
        return self._to_device(inputs), self._to_device(targets)

    def sample_index(self, epoch: int, *, batch: int, place: int) -> int:
        place += batch * self._batch_size
        return _index_in_source(self._dataset, int(self.order(epoch)[place]))

    def order(self, epoch: int) -> Tensor:
        """The indices of the data set in the order of an epoch."""
        # Drawn here and not by a sampler, so that an epoch may start at any batch.
        if self._is_shuffled:
            return epoch_order(self._length, seed=self._seed, epoch=epoch)
        return torch.arange(self._length)

    def _samples(self, indices: Sequence[int], *, epoch: int) -> SeededSamples:
        return SeededSamples(
            self._dataset,
            indices,
            seed=derive_seed(self._seed, "samples", epoch),
            generators=self._generators,
            set_epoch=functools.partial(self.hook.set, epoch),
            positions=Positions(self._num_workers) if self._num_workers else None,
        )

    def _load(self, samples: SeededSamples, *, epoch: int) -> Generator[Any]:
        """Collated batches, read here or by workers."""
        if samples.positions is None:
            # Not by a DataLoader: its loop takes a tenth of the time that simple samples take.
            for first in range(0, len(samples), self._batch_size):
                last = min(first + self._batch_size, len(samples))
                yield default_collate(samples.read(slice(first, last)))
            return
        yield from load(
            samples,
            batch_size=self._batch_size,
            num_workers=self._num_workers,
            positions=samples.positions,
            generator=generator(self._seed, "workers", epoch),
            pin_memory=self._device.type == "cuda",
        )

    def _to_device(self, values: Tensor) -> Tensor:
        # What comes from NumPy is often float64, which no model here computes in.
        dtype = torch.float32 if values.is_floating_point() else values.dtype
        return values.to(self._device, dtype, non_blocking=True)


class SeededSamples(Dataset[object]):
    """The samples `indices` of a data set, as if the global generators were seeded for each.

    A sample is then the same in any worker and after any resume, and what the data set draws does
    not move the generators of the model. `positions`, where there are workers, gets the number of
    each sample before it is read.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        indices: Sequence[int],
        *,
        seed: int,
        generators: SampleGenerators,
        set_epoch: Callable[[], None],
        positions: Positions | None = None,
    ) -> None:
        self._set_epoch = set_epoch
        self.positions = positions
        self._dataset = dataset
        self._indices = indices
        self._seed = seed
        self._generators = generators

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Any:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """A batch at once, as torch calls it."""
        indices = [self._indices[position] for position in positions]
        return self._read(indices)

    def read(self, positions: slice) -> list[Any]:
        """A batch of neighbours."""
        return self._read(self._indices[positions])

    def _read(self, indices: Sequence[int]) -> list[Any]:
        worker = get_worker_info()
        get = self._dataset.__getitem__
        if worker is not None and self.positions is not None:
            get = functools.partial(self._get_noted, self.positions, worker.id)
        with ProcessState.kept_by_samples():
            self._set_epoch()
            return self._generators.read(get, indices, seed=self._seed)

    def _get_noted(self, positions: Positions, worker: int, index: int) -> Any:
        positions.note(worker, _index_in_source(self._dataset, index))
        return self._dataset[index]


@contextlib.contextmanager
def _reading_errors() -> Iterator[None]:
    """Report what reading samples raised: DataError, CustomCodeError, or a fault of the machine."""
    try:
        yield
    except TrainerError:
        raise
    except RefusedSample as error:
        raise DataError(error.what, hint=error.hint) from error
    except SystemExit as error:
        if isinstance(error, SignalExit):
            raise
        raise exit_error("data.target: reading a sample", error) from error
    except Exception as error:
        if fault := death_of_worker(error):
            raise fault from None
        if is_out_of_memory(error):
            raise out_of_memory("loading a batch of data.target") from error
        raise CustomCodeError(
            f"data.target: loading a batch raised {type(error).__name__}: {error}."
        ) from error
