"""Numbers that judge a model, counted as tensors on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class ClassCounts:
    """Counts (C,) by class of samples, predictions and right predictions.

    The memory is linear in the classes: a confusion matrix is made only where one is drawn.
    """

    def __init__(self, num_classes: int, *, device: torch.device) -> None:
        self._num_classes = num_classes
        # Whether the prediction is right is the last bit of a count's place: one pass counts both.
        # In place of torchmetrics, whose import adds 1.2 s to a start.
        self._by_target = torch.zeros(2 * num_classes, dtype=torch.int64, device=device)
        self._predicted = torch.zeros(num_classes, dtype=torch.int64, device=device)

    def add(self, predictions: Tensor, targets: Tensor) -> None:
        """Count predictions (N,) and targets (N,), both class indices."""
        places = 2 * targets + (predictions == targets)
        self._by_target += torch.bincount(places, minlength=2 * self._num_classes)
        self._predicted += torch.bincount(predictions, minlength=self._num_classes)

    @property
    def right(self) -> Tensor:
        """Right predictions of each class (C,)."""
        return self._by_target[1::2]

    @property
    def support(self) -> Tensor:
        """Samples of each class (C,)."""
        return self._by_target.view(-1, 2).sum(1)

    @property
    def predicted(self) -> Tensor:
        """Predictions of each class (C,)."""
        return self._predicted


@dataclass(frozen=True, slots=True)
class ClassReport:
    """How well one class is recognised; `support` is its number of samples."""

    precision: float
    recall: float
    f1: float
    support: int


def class_reports(counts: ClassCounts) -> list[ClassReport]:
    """The report of every class; 0 where a ratio is undefined."""
    columns = (counts.right, counts.predicted, counts.support)
    reports = []
    for right, predicted, support in zip(*(column.tolist() for column in columns), strict=True):
        precision = _ratio(right, predicted)
        recall = _ratio(right, support)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        reports.append(ClassReport(precision, recall, f1, support))
    return reports


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
