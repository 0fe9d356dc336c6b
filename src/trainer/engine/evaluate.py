"""One evaluation: a model over a split, weighted by samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.data.batches import Batches
from trainer.engine.progress import Progress
from trainer.losses import Loss
from trainer.metrics import confusion_matrix
from trainer.tracking.observer import Watch
from trainer.tracking.records import EvalRecord


class EvaluationStopped(Exception):
    """A stop signal came before the pass was complete: there is no result."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean loss and accuracy over `count` samples, and the confusion matrix (C, C), row = true.

    Accuracy and confusion are None where the targets are values.
    """

    loss: float
    accuracy: float | None
    count: int
    confusion: Tensor | None

    def as_record(self, split: str, *, at: Progress, seconds: float) -> EvalRecord:
        """The record for trackers, with the counters `at` which the weights were."""
        return EvalRecord(
            split=split,
            epoch=at.epoch,
            step=at.step,
            samples=at.samples,
            seconds=seconds,
            loss=self.loss,
            accuracy=self.accuracy,
            count=self.count,
        )


def evaluate(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    device: torch.device,
    num_classes: int | None,
    autocast: torch.dtype | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    watch: Watch | None = None,
) -> Evaluation:
    """Evaluate `model` on one pass over `batches`; `num_classes` is None where targets are values.

        for inputs, targets in batches:
            outputs = model(inputs)
            sum the loss, weighted by samples; count (target, prediction); call `watch`

    The model's mode is restored, whatever happens; the host waits for the device once, at the end.
    Raises EvaluationStopped when `should_stop` is true between two batches.
    """
    was_training = model.training
    model.eval()
    # The loss of 60,000 samples in float32 would lose the digits in which two epochs differ.
    total = torch.zeros((), dtype=torch.float64, device=device)
    confusion = None
    if num_classes is not None:
        confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    precision = torch.autocast(device.type, dtype=autocast, enabled=autocast is not None)
    try:
        with torch.inference_mode(), precision:
            # Always epoch 0: a data set that draws at random gives the same samples each time.
            for inputs, targets in batches.epoch(0):
                if should_stop():
                    raise EvaluationStopped
                outputs = model(inputs).float()  # as in training, where the loss is in fp32
                total += loss(outputs, targets).double() * len(targets)
                if confusion is not None:
                    predicted = outputs.argmax(1)
                    confusion += confusion_matrix(predicted, targets, num_classes=len(confusion))
                if watch is not None:
                    watch(inputs, outputs, targets)
    finally:
        model.train(was_training)
    count = batches.num_samples
    accuracy = None if confusion is None or not count else int(confusion.diag().sum()) / count
    mean = total.item() / count if count else math.nan
    return Evaluation(mean, accuracy, count, None if confusion is None else confusion.cpu())
