"""Samples whose random augmentation depends on the seed, the epoch and the sample only."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from trainer.data.order import derive_seed


class SeededSamples(Dataset[Any]):
    """The samples `indices` of a data set, in that order, each made with the global generators seeded for it alone.

    So it is the same sample whichever worker makes it, and wherever in an epoch a run went on from; and what a data
    set draws does not move the generators of the model.
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
    """Seed the global generators of Python, torch (on the CPU) and NumPy, and put them back afterwards."""
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
