"""One evaluation: a model over a split, weighted by samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.data.batches import Batches
from trainer.device import sum_dtype
from trainer.engine.outputs import OutputCheck
from trainer.engine.progress import Progress
from trainer.losses import Loss, l1, mse
from trainer.metrics import ClassCounts
from trainer.models.modes import evaluating
from trainer.tracking.observer import Watch
from trainer.tracking.records import EvalRecord


class EvaluationStopped(Exception):
    """A stop signal came before the pass was complete: there is no result."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean loss and accuracy over `count` samples, and the counts of each class.

    Accuracy and counts by class are None where the targets are values; the mean squared and
    absolute error over samples and outputs, `mse` and `mae`, where they are classes.
    """

    loss: float
    accuracy: float | None
    count: int
    by_class: ClassCounts | None
    mse: float | None = None
    mae: float | None = None

    def metrics(self, split: str) -> dict[str, float | None]:
        """The metrics by name, such as `val/loss`; the accuracy of values is None."""
        found = {f"{split}/loss": self.loss, f"{split}/accuracy": self.accuracy}
        if self.mse is not None:
            found |= {f"{split}/mse": self.mse, f"{split}/mae": self.mae}
        return found

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
            mse=self.mse,
            mae=self.mae,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationWay:
    """The split by name, the number format, and whether the model is a person's own.

    Such a model may keep tensors for training, or take gradients: torch's inference mode, which is
    faster, forbids both.
    """

    split: str = "a split"
    autocast: torch.dtype | None = None
    is_own: bool = False


def evaluate(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    device: torch.device,
    num_classes: int | None,
    way: EvaluationWay = EvaluationWay(),
    should_stop: Callable[[], bool] = lambda: False,
    watch: Watch | None = None,
) -> Evaluation:
    """Evaluate `model` on one pass over `batches`; `num_classes` is None where targets are values.

        for inputs, targets in batches:
            outputs = model(inputs)
            sum the loss, weighted by samples; of values, the squared and the absolute error too
            count predictions by class; call `watch`

    Every module's mode is restored, whatever happens; the host waits for the device once, at the
    end. Raises ConfigError when the outputs do not fit the targets, and EvaluationStopped when
    `should_stop` is true between two batches.
    """
    # The errors do not depend on the loss, so that runs with different ones can be compared.
    sums = _Sums([loss, mse, l1] if num_classes is None else [loss], device=device)
    by_class = None if num_classes is None else ClassCounts(num_classes, device=device)
    is_half = way.autocast is not None
    precision = torch.autocast(device.type, dtype=way.autocast, enabled=is_half)
    run: Callable[[Tensor], Any] = model
    without_gradients: AbstractContextManager[object] = torch.inference_mode()
    if way.is_own:
        run, without_gradients = functools.partial(own_outputs, model), torch.no_grad()
    check = OutputCheck(f"In evaluation on {way.split}", num_outputs=num_classes)
    with evaluating(model), without_gradients, precision:
        # Always epoch 0: a data set that draws at random gives the same samples each time.
        for inputs, targets in batches.epoch(0):
            if should_stop():
                raise EvaluationStopped
            outputs = run(inputs)
            check(outputs, targets)
            outputs = outputs.float()  # as in training, where the loss is in fp32
            sums.add(outputs, targets)
            if by_class is not None:
                by_class.add(outputs.argmax(1), targets)
            if watch is not None:
                watch(inputs, outputs, targets)
    count = batches.num_samples
    accuracy = None
    if by_class is not None and count:
        accuracy = int(by_class.right.sum()) / count
    mean_loss, *errors = sums.means(count)
    return Evaluation(mean_loss, accuracy, count, by_class, *errors)


class _Sums:
    """Sums of means over batches, weighted by samples, on the device."""

    def __init__(self, functions: Sequence[Loss], *, device: torch.device) -> None:
        self._functions = functions
        # The loss of 60,000 samples in float32 would lose the digits in which two epochs differ.
        self._dtype = sum_dtype(device)
        self._totals = [torch.zeros((), dtype=self._dtype, device=device) for _ in functions]

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        for total, function in zip(self._totals, self._functions, strict=True):
            total += function(outputs, targets).to(self._dtype) * len(targets)

    def means(self, count: int) -> list[float]:
        """The means over `count` samples; waits for the device once."""
        totals: list[float] = torch.stack(self._totals).tolist()
        return [total / count if count else math.nan for total in totals]


def own_outputs(model: nn.Module, inputs: Tensor) -> object:
    """What a person's own model returns for `inputs`, also where it takes gradients to compute it.

    To be called without gradients. The model gets a copy: `inputs` may be a part of a data set in
    memory, and the model may change them in place.
    """
    try:
        return model(inputs.clone())
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
    with torch.enable_grad():
        outputs = model(inputs.clone())
    return outputs.detach() if isinstance(outputs, Tensor) else outputs
