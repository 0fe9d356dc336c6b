"""People's own data sets for tests: any object as `data.target`, without a file for each."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import Dataset

MODULE = "own_sets_of_the_test"
TARGET = f"{MODULE}.make"
NAMES = ("ant", "bee", "cat")


class Listed(Dataset[Any]):
    """The given samples; `classes` and `__len__` are as given."""

    def __init__(self, samples: Sequence[Any], *, classes: Any = NAMES, length: Any = None) -> None:
        self.samples = samples
        self.length = length
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.samples) if self.length is None else self.length

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def points(
    num: int = 30,
    *,
    target_of: Callable[[int], Any] = lambda index: index % 3,
    input_of: Callable[[torch.Tensor], Any] = lambda values: values,
    shape: tuple[int, ...] = (6,),
    **more: Any,
) -> Listed:
    """`num` samples of float32 values of `shape`, target `target_of(index)`."""
    values = torch.rand(num, *shape, generator=torch.Generator().manual_seed(0))
    return Listed([(input_of(values[index]), target_of(index)) for index in range(num)], **more)


@contextmanager
def own_sets(train: Any, *, val: Any = None, test: Any = None) -> Iterator[tuple[str, ...]]:
    """The overrides with which a run has these objects as its data sets."""

    def make(split: str = "train") -> Any:
        made = {"train": train, "val": val, "test": test}[split]
        return made() if isinstance(made, type) else made

    module = types.ModuleType(MODULE)
    module.make = make  # type: ignore[attr-defined]
    sys.modules[MODULE] = module
    words = ["data=custom", f"data.target={TARGET}"]
    if val is not None:
        words += ["data.val_kwargs={split: val}", "data.val_size=9"]
    if test is not None:
        words.append("data.test_kwargs={split: test}")
    try:
        yield tuple(words)
    finally:
        del sys.modules[MODULE]
