"""A person's own map-style data set: its samples seeded one by one, and streamed in batches
through a DataLoader.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from trainer.data.batches import Batch
from trainer.data.seeding import derive_seed, epoch_order, generator
from trainer.errors import ConfigError, CustomCodeError, DataError, EnvironmentFault
from trainer.user_code import call, import_class


class SeededSamples(Dataset[Any]):
    """The samples `indices` of a data set, in that order, each made with the global generators
    seeded for it alone.

    So it is the same sample whichever worker makes it, and wherever in an epoch a run went on from;
    and what a data set draws does not move the generators of the model.
    """

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int], *, seed: int) -> None:
        self._dataset, self._indices, self._seed = dataset, indices, seed

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Any:
        index = self._indices[position]
        with _seeded(derive_seed(self._seed, index)):
            return self._dataset[index]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, torch (on the CPU) and NumPy, and put them back
    afterwards.
    """
    numpy = sys.modules.get("numpy")
    before = random.getstate(), torch.get_rng_state(), numpy.random.get_state() if numpy else None
    random.seed(seed)
    # Not torch.manual_seed: that would seed the GPU's generators as well.
    torch.default_generator.manual_seed(seed)
    if numpy:
        numpy.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before[0])
        torch.set_rng_state(before[1])
        if numpy:
            numpy.random.set_state(before[2])


# What a terminal, a job queue or a person sends to the processes of a run, often to all of them at
# once.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_SECONDS_TO_END = 3


def make_dataset(target: str, kwargs: dict[str, Any]) -> Dataset[Any]:
    """The person's data set; raises ConfigError when it has no length or no samples."""
    dataset = call(import_class(target, key="data.target"), kwargs, key="data.target")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ConfigError(
            f"data.target={target} is not a map-style Dataset.",
            hint="It needs __len__ and __getitem__(index).",
        )
    if len(dataset) == 0:
        raise ConfigError(f"data.target={target} is empty.")
    return dataset  # type: ignore[no-any-return]


def first_sample(dataset: Dataset[Any], target: str) -> tuple[Tensor, Tensor]:
    """Sample 0 as tensors (input, target); raises CustomCodeError or ConfigError when it is not
    such a pair.
    """
    try:
        sample = dataset[0]
    except Exception as error:
        raise CustomCodeError(
            f"data.target={target} raised {type(error).__name__} for sample 0: {error}."
        ) from error
    if (
        not isinstance(sample, (tuple, list))
        or len(sample) != 2
        or not isinstance(sample[0], Tensor)
    ):
        raise ConfigError(
            f"data.target={target}: a sample must be a pair (input tensor, target), and sample 0 "
            "is not.",
            hint="Let its transform end in torchvision.transforms.v2.ToDtype(torch.float32, "
            "scale=True), say.",
        )
    try:
        return sample[0], torch.as_tensor(sample[1])
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(sample[1]).__name__
        raise ConfigError(
            f"data.target={target}: the target of sample 0 is a {kind}, not a number."
        ) from error


class StreamedBatches:
    """Batches of a map-style Dataset through a DataLoader with `num_workers` processes, moved to
    `device`.

    The order depends on (seed, epoch) only, a sample's randomness on them and the sample (see
    data.seeded).
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        num_workers: int,
        device: torch.device,
        num_classes: int | None,
        seed: int,
        is_shuffled: bool = False,
        drop_last: bool = False,
    ) -> None:
        self._dataset, self._batch_size, self._num_workers = dataset, batch_size, num_workers
        self._device, self._num_classes, self._seed, self._is_shuffled = (
            device,
            num_classes,
            seed,
            is_shuffled,
        )
        length = len(dataset)  # type: ignore[arg-type]
        whole, rest = divmod(length, batch_size)
        self.num_batches = whole + bool(rest and not drop_last)
        self.num_samples = min(self.num_batches * batch_size, length)
        self._length = length

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """See `Batches.epoch`."""
        order = torch.arange(self._length)
        if self._is_shuffled:
            order = epoch_order(self._length, seed=self._seed, epoch=epoch)
        chosen = order[start * self._batch_size : self.num_batches * self._batch_size]
        loader = DataLoader(
            SeededSamples(
                self._dataset, chosen.tolist(), seed=derive_seed(self._seed, "samples", epoch)
            ),
            batch_size=self._batch_size,
            num_workers=self._num_workers,
            # DataLoader draws its workers' seed from here; without it, from the global generator.
            generator=torch.Generator().manual_seed(derive_seed(self._seed, "workers", epoch)),
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_leave_signals_to_training,
        )
        samples = None
        try:
            with _signals_held_back():
                samples = iter(loader)
            for inputs, targets in samples:
                yield self._to_device(inputs), self._to_device(self._checked(targets))
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError, OSError) as error:
            self._check_machine(error, has_started=samples is not None)
            raise CustomCodeError(
                f"data.target: loading a batch raised {type(error).__name__}: {error}."
            ) from error
        finally:
            # Now, and by asking them: an error that left the loop holds the workers until the
            # program ends, which would then kill them, and torch would tell of that too.
            getattr(samples, "_shutdown_workers", int)()

    def first(self, num: int) -> Batch:
        """See `Batches.first`; made in this process, without workers."""
        chosen = list(range(min(num, self._length)))
        samples = SeededSamples(self._dataset, chosen, seed=derive_seed(self._seed, "samples", 0))
        inputs, targets = default_collate([samples[index] for index in chosen])
        return self._to_device(inputs), self._to_device(self._checked(targets))

    def _check_machine(self, error: Exception, *, has_started: bool) -> None:
        """Raises EnvironmentFault when `error` came from starting workers or from the memory they share."""
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
        dtype = torch.float32 if values.is_floating_point() else values.dtype
        return values.to(self._device, dtype, non_blocking=True)

    def _checked(self, targets: Tensor) -> Tensor:
        """Classes as indices in range, values as (N, K)."""
        if self._num_classes is None:
            # One value a sample comes as (N,); the model gives (N, 1), and a loss would pair all
            # with all.
            return targets.reshape(len(targets), -1).float()
        classes = targets.long()
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= self._num_classes:
            wrong = low if low < 0 else high
            raise DataError(
                f"data.target: a sample has class {wrong}, and there are {self._num_classes} "
                "classes.",
                hint=f"Classes count from 0 to {self._num_classes - 1}; set data.num_classes if "
                "there are more.",
            )
        return classes


def split_dataset(
    dataset: Dataset[Any], val_size: int, *, seed: int
) -> tuple[Dataset[Any], Dataset[Any] | None]:
    """The training part and the held-out part (None for `val_size` 0); raises ConfigError when
    nothing is left.
    """
    length = len(dataset)  # type: ignore[arg-type]
    if val_size >= length:
        raise ConfigError(
            f"data.val_size={val_size} leaves nothing of the {length} training samples."
        )
    if val_size == 0:
        return dataset, None
    order = torch.randperm(length, generator=generator(seed, "split"))
    return Subset(dataset, order[val_size:].sort().values.tolist()), Subset(
        dataset, order[:val_size].tolist()
    )


def limited(dataset: Dataset[Any], limit: int | None) -> Dataset[Any]:
    """The first `limit` samples; all for None."""
    length = len(dataset)  # type: ignore[arg-type]
    return dataset if limit is None or limit >= length else Subset(dataset, range(limit))


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Signals come after the block; a worker started in it gets none until it has arranged what
    they do.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_training(worker: int) -> None:
    """In a worker: only the training process stops. A worker that died under it would break a
    step or a save.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_soon(number: int, frame: FrameType | None) -> None:
    """A SIGTERM may be one to all: the training process then still waits for what is being
    loaded here.
    """
    signal.alarm(_SECONDS_TO_END)
