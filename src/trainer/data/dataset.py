"""A person's own map-style data set: divided, its samples seeded one by one, and streamed."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from trainer.config.data import val_size_hint
from trainer.data.batches import Batch, epoch_size
from trainer.data.samples import RefusedSample
from trainer.data.seeding import derive_seed, epoch_order, generator
from trainer.errors import ConfigError, CustomCodeError, DataError, EnvironmentFault

# What a terminal, a job queue or a person sends to the processes of a run, often to all at once.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_SECONDS_TO_END = 3


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
    length = _length(dataset)
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
    if limit is None or limit >= _length(dataset):
        return dataset
    return Subset(dataset, range(limit))


def _length(dataset: Dataset[object]) -> int:
    return len(dataset)  # type: ignore[arg-type]


def _index_in_source(dataset: Dataset[object], place: int) -> int:
    """The index in the person's own data set of the sample at `place` of a part of it."""
    while isinstance(dataset, Subset):
        place = dataset.indices[place]
        dataset = dataset.dataset
    return place


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
        self._length = _length(dataset)
        self.num_batches, self.num_samples = epoch_size(
            self._length, batch_size, drop_last=drop_last
        )

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        order = self._order(epoch)
        chosen = order[start * self._batch_size : self.num_batches * self._batch_size]
        loader = DataLoader(
            self._samples(chosen.tolist(), epoch=epoch),
            batch_size=self._batch_size,
            num_workers=self._num_workers,
            # DataLoader draws its workers' seed from here; without it, from the global generator.
            generator=generator(self._seed, "workers", epoch),
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_leave_signals_to_training,
        )
        samples: object = None
        try:
            with _signals_blocked():
                samples = iter(loader)
            for inputs, targets in samples:
                yield self._to_device(inputs), self._to_device(targets)
        except RefusedSample as error:
            raise DataError(error.what, hint=error.hint) from error
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError, OSError) as error:
            self._check_machine(error, has_started=samples is not None)
            raise CustomCodeError(
                f"data.target: loading a batch raised {type(error).__name__}: {error}."
            ) from error
        finally:
            # At once and in order: the traceback of an error keeps the workers until the program
            # ends, which kills them, and torch reports that too.
            if hasattr(samples, "_shutdown_workers"):
                samples._shutdown_workers()

    def first(self, num: int) -> Batch:
        chosen = range(min(num, self._length))
        samples = self._samples(chosen, epoch=0)
        try:
            inputs, targets = default_collate([samples[position] for position in chosen])
        except RefusedSample as error:
            raise DataError(error.what, hint=error.hint) from error
        return self._to_device(inputs), self._to_device(targets)

    def sample_index(self, epoch: int, *, batch: int, place: int) -> int:
        place += batch * self._batch_size
        return _index_in_source(self._dataset, int(self._order(epoch)[place]))

    def _order(self, epoch: int) -> Tensor:
        # Drawn here and not by a sampler, so that an epoch may start at any batch.
        if self._is_shuffled:
            return epoch_order(self._length, seed=self._seed, epoch=epoch)
        return torch.arange(self._length)

    def _samples(self, indices: Sequence[int], *, epoch: int) -> SeededSamples:
        return SeededSamples(self._dataset, indices, seed=derive_seed(self._seed, "samples", epoch))

    def _check_machine(self, error: Exception, *, has_started: bool) -> None:
        """Raises EnvironmentFault when workers or their shared memory are the cause of `error`."""
        # A DataLoader reports both as a RuntimeError, with the cause in its text only.
        text = str(error)
        if "shared memory" in text or ("torch_" in text and "No space left" in text):
            raise EnvironmentFault(
                f"data.num_workers={self._num_workers}: no shared memory is left for the workers "
                "(/dev/shm is full).",
                hint="Use data.num_workers=0 or a smaller data.batch_size, or enlarge it (docker "
                "run --shm-size=1g).",
            ) from error
        if not has_started and isinstance(error, OSError):
            raise EnvironmentFault(
                f"data.num_workers={self._num_workers}: the workers cannot be started "
                f"({error.strerror}).",
                hint="Use fewer; data.num_workers=0 loads in the training process.",
            ) from error

    def _to_device(self, values: Tensor) -> Tensor:
        # What comes from NumPy is often float64, which no model here computes in.
        dtype = torch.float32 if values.is_floating_point() else values.dtype
        return values.to(self._device, dtype, non_blocking=True)


class SeededSamples(Dataset[object]):
    """The samples `indices` of a data set, the global generators seeded anew for each.

    A sample is then the same in any worker and after any resume, and what the data set draws does
    not move the generators of the model.
    """

    def __init__(self, dataset: Dataset[object], indices: Sequence[int], *, seed: int) -> None:
        self._dataset = dataset
        self._indices = indices
        self._seed = seed

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> object:
        index = self._indices[position]
        with _seeded(derive_seed(self._seed, index)):
            return self._dataset[index]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators of Python, torch (on the CPU) and NumPy, and put them back afterwards."""
    # Only where the data set has loaded it: nothing of ours draws from NumPy.
    numpy = sys.modules.get("numpy")
    python_state = random.getstate()
    torch_state = torch.get_rng_state()
    numpy_state = numpy.random.get_state() if numpy else None
    random.seed(seed)
    # Not torch.manual_seed: that would seed the GPU's generators as well.
    torch.default_generator.manual_seed(seed)
    if numpy:
        numpy.random.seed(seed % 2**32)  # it takes no more bits
    try:
        yield
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        if numpy:
            numpy.random.set_state(numpy_state)


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
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_soon(_number: int, _frame: FrameType | None) -> None:
    """End in some seconds: a SIGTERM may go to all processes, and training still awaits a batch."""
    # SIGALRM ends the process by the system's own action, whatever the person's code is doing.
    signal.alarm(_SECONDS_TO_END)
