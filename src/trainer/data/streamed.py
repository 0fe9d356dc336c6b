"""People's own data sets: any map-style torch Dataset, streamed through a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from trainer.data.batches import Batch
from trainer.data.order import derive_seed, epoch_order, generator
from trainer.errors import ConfigError, CustomCodeError, DataError
from trainer.plugin import call, import_class


def make_dataset(target: str, kwargs: dict[str, Any]) -> Dataset[Any]:
    """The person's data set; raises ConfigError when it has no length or no samples."""
    dataset = call(import_class(target, key="data.target"), kwargs, key="data.target")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ConfigError(
            f"data.target={target} is not a map-style Dataset.", hint="It needs __len__ and __getitem__(index)."
        )
    if len(dataset) == 0:
        raise ConfigError(f"data.target={target} is empty.")
    return dataset  # type: ignore[no-any-return]


def first_sample(dataset: Dataset[Any], target: str) -> tuple[Tensor, Tensor]:
    """Sample 0 as tensors (input, target); raises CustomCodeError or ConfigError when it is not such a pair."""
    try:
        sample = dataset[0]
    except Exception as error:
        raise CustomCodeError(f"data.target={target} raised {type(error).__name__} for sample 0: {error}.") from error
    if not isinstance(sample, (tuple, list)) or len(sample) != 2 or not isinstance(sample[0], Tensor):
        raise ConfigError(
            f"data.target={target}: a sample must be a pair (input tensor, target), and sample 0 is not.",
            hint="Let its transform end in torchvision.transforms.v2.ToDtype(torch.float32, scale=True), say.",
        )
    try:
        return sample[0], torch.as_tensor(sample[1])
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(sample[1]).__name__
        raise ConfigError(f"data.target={target}: the target of sample 0 is a {kind}, not a number.") from error


class StreamedBatches:
    """Batches of a map-style Dataset through a DataLoader with `num_workers` processes, moved to `device`.

    The order and each worker's random generators depend on (seed, epoch) only, and no global generator is drawn from.
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
        self._device, self._num_classes, self._seed, self._is_shuffled = device, num_classes, seed, is_shuffled
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
            Subset(self._dataset, chosen.tolist()),
            batch_size=self._batch_size,
            num_workers=self._num_workers,
            # DataLoader draws its workers' seed from here; without it, from the global generator.
            generator=torch.Generator().manual_seed(derive_seed(self._seed, "workers", epoch)),
            pin_memory=self._device.type == "cuda",
        )
        try:
            for inputs, targets in loader:
                yield self._to_device(inputs), self._to_device(self._checked(targets))
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError, OSError) as error:
            raise CustomCodeError(f"data.target: loading a batch raised {type(error).__name__}: {error}.") from error

    def _to_device(self, values: Tensor) -> Tensor:
        dtype = torch.float32 if values.is_floating_point() else values.dtype
        return values.to(self._device, dtype, non_blocking=True)

    def _checked(self, targets: Tensor) -> Tensor:
        """Classes as indices in range, values as (N, K)."""
        if self._num_classes is None:
            # One value a sample comes as (N,); the model gives (N, 1), and a loss would pair all with all.
            return targets.reshape(len(targets), -1).float()
        classes = targets.long()
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= self._num_classes:
            wrong = low if low < 0 else high
            raise DataError(
                f"data.target: a sample has class {wrong}, and there are {self._num_classes} classes.",
                hint=f"Classes count from 0 to {self._num_classes - 1}; set data.num_classes if there are more.",
            )
        return classes


def split_dataset(dataset: Dataset[Any], val_size: int, *, seed: int) -> tuple[Dataset[Any], Dataset[Any] | None]:
    """The training part and the held-out part (None for `val_size` 0); raises ConfigError when nothing is left."""
    length = len(dataset)  # type: ignore[arg-type]
    if val_size >= length:
        raise ConfigError(f"data.val_size={val_size} leaves nothing of the {length} training samples.")
    if val_size == 0:
        return dataset, None
    order = torch.randperm(length, generator=generator(seed, "split"))
    return Subset(dataset, order[val_size:].sort().values.tolist()), Subset(dataset, order[:val_size].tolist())


def limited(dataset: Dataset[Any], limit: int | None) -> Dataset[Any]:
    """The first `limit` samples; all for None."""
    length = len(dataset)  # type: ignore[arg-type]
    return dataset if limit is None or limit >= length else Subset(dataset, range(limit))
