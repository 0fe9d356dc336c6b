"""A person's own map-style data set: divided, its samples seeded one by one, and streamed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from trainer.config.data import val_size_hint
from trainer.data.batches import Batch, epoch_size
from trainer.data.collate import collate
from trainer.data.groups import read_here
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


@dataclass(frozen=True, slots=True)
class Part:
    """The samples of a person's data set at `indices`."""

    dataset: ConvertedDataset
    indices: Sequence[int]

    @classmethod
    def whole(cls, dataset: ConvertedDataset) -> Part:
        """All samples."""
        return cls(dataset, range(len(dataset)))

    def __len__(self) -> int:
        return len(self.indices)

    def limited(self, limit: int | None) -> Part:
        """The first `limit` samples; all for None."""
        return self if limit is None else Part(self.dataset, self.indices[:limit])


def split_dataset(
    dataset: ConvertedDataset,
    val_size: int,
    *,
    seed: int,
    held_out_from: ConvertedDataset | None = None,
) -> tuple[Part, Part | None]:
    """The training part and the held-out part (None for `val_size` 0).

    The held-out samples are read from `held_out_from` where there is one. Raises ConfigError when
    the training part is empty.
    """
    length = len(dataset)
    if val_size >= length:
        raise ConfigError(
            f"data.val_size={val_size} leaves nothing of the {length} training samples.",
            hint=val_size_hint(length),
        )
    if val_size == 0:
        return Part.whole(dataset), None
    order = torch.randperm(length, generator=generator(seed, "split"))
    train = Part(dataset, order[val_size:].sort().values.tolist())
    source = dataset if held_out_from is None else held_out_from
    return train, Part(source, order[:val_size].tolist())


class EpochHook:
    """Calls `set_epoch(epoch)` of a person's data set, where it has that, before samples are read.

    A validation in the middle of an epoch may read the same object as of epoch 0.
    """

    def __init__(self, dataset: object) -> None:
        self.dataset = dataset
        self._set_epoch: Callable[[int], object] | None = getattr(dataset, "set_epoch", None)
        self._epoch: int | None = None

    def set(self, epoch: int) -> None:
        """The samples that are read next are those of `epoch`."""
        if self._set_epoch is not None and epoch != self._epoch:
            self._set_epoch(epoch)
        self._epoch = epoch


class StreamedBatches:
    """Batches of a part of a person's data set, moved to `device`.

    The order depends on (seed, epoch) only, and a sample's randomness on them and the sample, not
    on `num_workers`. Targets are classes (N,) or values (N, K), as the data set gives them.
    """

    def __init__(
        self,
        part: Part,
        *,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        seed: int,
        is_shuffled: bool = False,
        drop_last: bool = False,
    ) -> None:
        self._part = part
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._device = device
        self._seed = seed
        self._is_shuffled = is_shuffled
        self._generators = SampleGenerators()
        # Shared, by the caller, where several parts of one data set are streamed.
        self.hook = EpochHook(part.dataset.source)
        self._length = len(part)
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
        with _reading_errors():
            inputs, targets = samples.collate(samples.__getitems__(range(len(samples))))
        return self._to_device(inputs), self._to_device(targets)

    def sample_index(self, epoch: int, *, batch: int, place: int) -> int:
        place += batch * self._batch_size
        return self._part.indices[int(self.order(epoch)[place])]

    def order(self, epoch: int) -> Tensor:
        """The indices of the data set in the order of an epoch."""
        # Drawn here and not by a sampler, so that an epoch may start at any batch.
        if self._is_shuffled:
            return epoch_order(self._length, seed=self._seed, epoch=epoch)
        return torch.arange(self._length)

    def _samples(self, places: Sequence[int], *, epoch: int) -> SeededSamples:
        return SeededSamples(
            self._part,
            places,
            seed=derive_seed(self._seed, "samples", epoch),
            generators=self._generators,
            set_epoch=functools.partial(self.hook.set, epoch),
            positions=Positions(self._num_workers) if self._num_workers else None,
        )

    def _load(self, samples: SeededSamples, *, epoch: int) -> Generator[Any]:
        """Collated batches, read here or by workers."""
        if samples.positions is None:
            yield from read_here(
                samples.__getitems__,
                collate=samples.collate,
                num_samples=len(samples),
                batch_size=self._batch_size,
            )
            return
        yield from load(
            samples,
            collate=samples.collate,
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
    """The samples at `places` of a part, as if the global generators were seeded for each.

    A sample is then the same in any worker and after any resume, and what the data set draws does
    not move the generators of the model. `positions`, where there are workers, gets the number of
    each sample before it is read.
    """

    def __init__(
        self,
        part: Part,
        places: Sequence[int],
        *,
        seed: int,
        generators: SampleGenerators,
        set_epoch: Callable[[], None],
        positions: Positions | None = None,
    ) -> None:
        self._set_epoch = set_epoch
        self.positions = positions
        self._part = part
        self._places = places
        self._seed = seed
        self._generators = generators

    def __len__(self) -> int:
        return len(self._places)

    def __getitems__(self, positions: Sequence[int]) -> list[tuple[object, int]]:
        """Samples as the data set gives them, with their indices in it; torch calls it."""
        places = [self._places[position] for position in positions]
        indices = [self._part.indices[place] for place in places]
        return list(zip(self._read(indices, places), indices, strict=True))

    def collate(self, samples: Sequence[tuple[object, int]]) -> Batch:
        """A batch of what `__getitems__` gave; raises what `collate.collate` does."""
        given, indices = zip(*samples, strict=True)
        return collate(self._part.dataset, given, indices)

    def _read(self, indices: Sequence[int], places: Sequence[int]) -> list[Any]:
        source = self._part.dataset.source
        worker = get_worker_info()
        get = source.__getitem__
        if worker is not None and self.positions is not None:
            get = functools.partial(_get_noted, source, self.positions, worker.id)
        with ProcessState.kept_by_samples():
            self._set_epoch()
            return self._generators.read(get, indices, seed=self._seed, numbers=places)


def _get_noted(source: Any, positions: Positions, worker: int, index: int) -> Any:
    positions.note(worker, index)
    return source[index]


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
