"""Samples of a person's own data set as one batch, the usual ones without a look at each."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from trainer.data.batches import Batch
from trainer.data.samples import ConvertedDataset, Form

_PAIRS = {tuple, list}
_WHOLE_NUMBERS = {int, np.int64}
# Of other types there are some that torch lacks, or can hardly compute with.
_ARRAYS = (np.float32, np.float64, np.int64)
_DTYPE = operator.attrgetter("dtype")


def collate(dataset: ConvertedDataset, samples: Sequence[object], indices: Sequence[int]) -> Batch:
    """Inputs (N, …) and targets (N,) or (N, K) of what `dataset.source` gave for `indices`.

    Raises RefusedSample for a sample that does not have the form, RuntimeError for inputs of
    several shapes where the form allows them.
    """
    batch = _usual(samples, dataset.form)
    if batch is not None:
        return batch
    converted = [
        dataset.convert(sample, index) for sample, index in zip(samples, indices, strict=True)
    ]
    inputs, targets = default_collate(converted)
    return inputs, targets


def _usual(samples: Sequence[object], form: Form) -> Batch | None:
    """The batch of samples that are converted all alike; None where one has to be looked at.

    To look at each takes a quarter of the time that simple samples take to read.
    """
    if not set(map(type, samples)) <= _PAIRS:
        return None
    try:
        given, targets = zip(*samples, strict=True)
    except ValueError:  # they are no pairs
        return None
    inputs = _inputs(given, form)
    if inputs is None:
        return None
    if form.num_classes is None:
        found = _values(targets, form.num_values)
    else:
        found = _labels(targets, form.num_classes)
    return None if found is None else (inputs, found)


def _stacked(values: tuple[object, ...]) -> Tensor | None:
    """Tensors or arrays as one tensor; None for anything else, and for several types or shapes."""
    kinds = set(map(type, values))
    try:
        if kinds == {Tensor} and len(set(map(_DTYPE, values))) == 1:
            # In a worker it writes to the memory that the training process reads.
            return default_collate(list(values))  # type: ignore[no-any-return]
        if kinds == {np.ndarray} and len(set(map(_DTYPE, values))) == 1:
            arrays = np.stack(cast(tuple[NDArray[Any], ...], values))
            return torch.from_numpy(arrays) if arrays.dtype in _ARRAYS else None
    except (RuntimeError, ValueError):  # several shapes
        pass
    return None


def _inputs(given: tuple[object, ...], form: Form) -> Tensor | None:
    """Inputs (N, …); None where one of them needs more than another number of digits."""
    inputs = _stacked(given)
    if inputs is None or inputs.is_complex() or inputs.layout is not torch.strided:
        return None
    if form.is_float:
        is_like_first = inputs.is_floating_point() and inputs.shape[1:] == form.input_shape
        return inputs.to(torch.float32) if is_like_first else None
    return inputs if form.input_shape in (None, inputs.shape[1:]) else None


def _values(targets: tuple[object, ...], num_values: int | None) -> Tensor | None:
    """Values (N, K); None where one is not `num_values` fractions."""
    values = _stacked(targets)
    if values is None and set(map(type, targets)) == {float}:
        values = torch.from_numpy(np.array(targets))
    if values is None or not values.is_floating_point():
        return None
    rows = values.to(torch.float32).reshape(len(targets), -1)
    return rows if rows.shape[1] == num_values else None


def _labels(targets: tuple[object, ...], num_classes: int) -> Tensor | None:
    """Class indices (N,); None where one is not a whole number from 0 to `num_classes` - 1."""
    labels = _stacked(targets)
    if labels is None and set(map(type, targets)) <= _WHOLE_NUMBERS:
        try:
            labels = torch.from_numpy(np.array(targets, dtype=np.int64))
        except OverflowError:
            return None
    if labels is None or labels.dtype is not torch.int64 or labels.ndim != 1:
        return None
    lowest, highest = labels.aminmax()
    return labels if lowest.item() >= 0 and highest.item() < num_classes else None
