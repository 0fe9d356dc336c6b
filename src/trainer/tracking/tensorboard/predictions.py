"""The predictions of a classifier for a split, and the numbers of them. No images, no events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating]
Counts = NDArray[np.int64]


class Mistake(NamedTuple):
    """A sample taken for another class: its input (…), both classes, the predicted probability."""

    input: Tensor
    true: int
    predicted: int
    confidence: float


class PrCurve(NamedTuple):
    """Values (T,) at T thresholds, in the order of TensorBoard's pr_curves; a ratio 0 / 0 is 0."""

    true_positives: Counts
    false_positives: Counts
    true_negatives: Counts
    false_negatives: Counts
    precision: Floats
    recall: Floats


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy in B bins of equal width from 0 to 1, NaN in an empty bin.

    `error` is the expected calibration error: the mean of |accuracy - confidence|, weighted by the
    `count` of each bin.
    """

    confidence: Floats
    accuracy: Floats
    count: Counts
    error: float


class _Joined(NamedTuple):
    probabilities: NDArray[np.float32]
    confidences: NDArray[np.float32]
    predicted: Counts
    targets: Counts


class Predictions:
    """Collects a pass over a split on its device; its numbers are on the host.

    A softmax makes probabilities of the outputs: of log-probabilities these are their own, and for
    scores of a loss that only compares them it is the usual reading. A NaN becomes 0. The
    probabilities of the first `num_curves` classes are kept, of all for None.
    """

    def __init__(
        self, *, num_classes: int, num_mistakes: int, num_curves: int | None = None
    ) -> None:
        self._num_classes = num_classes
        self._num_mistakes = num_mistakes
        self._num_kept = num_classes if num_curves is None else min(num_curves, num_classes)
        self._batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        # Inputs, targets, predicted classes and confidences of the worst so far, worst first. The
        # confidence of a right prediction is -1.
        self._worst: list[Tensor] | None = None
        self._host: _Joined | None = None

    def add(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Take a batch without waiting for its device: inputs (N, …), outputs (N, C), classes (N,).

        The outputs are logits, log-probabilities or other scores.
        """
        assert outputs.shape == (len(targets), self._num_classes), (
            f"{tuple(outputs.shape)} for {len(targets)} targets"
        )
        outputs = outputs.detach()
        # A new tensor: a compiled model may write its next outputs into the same memory.
        probabilities = outputs.float().softmax(1).nan_to_num(nan=0.0)
        # As the evaluation does: two outputs that differ may round to one probability.
        predicted = outputs.argmax(1)
        confidences = probabilities.gather(1, predicted[:, None])[:, 0]
        if self._num_kept < self._num_classes:
            probabilities = probabilities[:, : self._num_kept].clone()
        self._batches.append((probabilities, confidences, predicted, targets))
        self._host = None
        if self._num_mistakes:
            confidences = torch.where(predicted == targets, -1.0, confidences)
            self._keep_worst(inputs.detach(), targets, predicted, confidences)

    def _keep_worst(
        self, inputs: Tensor, targets: Tensor, predicted: Tensor, confidences: Tensor
    ) -> None:
        """Keep the largest k of the batch, so that few inputs are copied, then of all so far."""
        batch = (inputs, targets, predicted, confidences)
        chosen = confidences.topk(min(self._num_mistakes, len(confidences))).indices
        found = [part.index_select(0, chosen) for part in batch]
        if self._worst is not None:
            found = [torch.cat(parts) for parts in zip(self._worst, found, strict=True)]
            chosen = found[3].topk(min(self._num_mistakes, len(found[3]))).indices
            found = [part.index_select(0, chosen) for part in found]
        self._worst = found

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Probabilities (N, kept classes) of each sample, in the order in which they came."""
        return self._joined().probabilities

    @property
    def targets(self) -> Counts:
        """True classes (N,)."""
        return self._joined().targets

    @property
    def confusion(self) -> Counts:
        """Counts (C, C), row = true class, column = predicted class."""
        _, _, predicted, targets = self._joined()
        size = self._num_classes
        return np.bincount(targets * size + predicted, minlength=size**2).reshape(size, size)

    @property
    def mistakes(self) -> list[Mistake]:
        """At most `num_mistakes` mistakes, those of the highest confidence first."""
        if self._worst is None:
            return []
        inputs, *rest = (part.cpu() for part in self._worst)
        rows = zip(inputs, *(part.tolist() for part in rest), strict=True)
        return [Mistake(*row) for row in rows if row[3] >= 0]

    def reliability(self, bins: int = 10) -> Reliability:
        """How far the probability of the predicted class can be trusted (Guo et al., 2017).

        Bin m, counted from 0, holds the confidences in (m / B, (m + 1) / B].
        """
        _, confidences, predicted, targets = self._joined()
        edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
        # 0 itself goes into the first bin; a softmax may round to slightly more than 1.
        which = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, bins - 1)
        count = np.bincount(which, minlength=bins)
        total = np.bincount(which, weights=confidences, minlength=bins)
        confidence = _ratio(total, count, empty=np.nan)
        right = np.bincount(which, weights=predicted == targets, minlength=bins)
        accuracy = _ratio(right, count, empty=np.nan)
        gap = np.nansum(np.abs(accuracy - confidence) * count)
        return Reliability(confidence, accuracy, count, float(gap / max(1, len(targets))))

    def pr_curve(self, class_index: int, num_thresholds: int = 127) -> PrCurve:
        """Count one class against the rest, predicted where its probability >= the threshold.

        The thresholds are i / (T - 1) as 32-bit numbers, as the probabilities are. torch writes 127
        at most.
        """
        probabilities, _, _, targets = self._joined()
        thresholds = np.linspace(0, 1, num_thresholds, dtype=np.float32)
        # A sample that reaches k thresholds counts at each of the first k.
        reached = np.searchsorted(thresholds, probabilities[:, class_index], side="right")
        is_class = targets == class_index
        positives = np.bincount(reached[is_class], minlength=num_thresholds + 1)
        negatives = np.bincount(reached[~is_class], minlength=num_thresholds + 1)
        true_positives = positives[:0:-1].cumsum()[::-1]
        false_positives = negatives[:0:-1].cumsum()[::-1]
        true_negatives = negatives.sum() - false_positives
        false_negatives = positives.sum() - true_positives
        precision = _ratio(true_positives, true_positives + false_positives, empty=0.0)
        recall = _ratio(true_positives, true_positives + false_negatives, empty=0.0)
        counts = (true_positives, false_positives, true_negatives, false_negatives)
        return PrCurve(*counts, precision, recall)

    def _joined(self) -> _Joined:
        if self._host is None:
            if not self._batches:
                nothing = np.zeros(0, np.int64)
                probabilities = np.zeros((0, self._num_kept), np.float32)
                return _Joined(probabilities, np.zeros(0, np.float32), nothing, nothing)
            parts = (torch.cat(part).cpu().numpy() for part in zip(*self._batches, strict=True))
            self._host = _Joined(*parts)
        return self._host


def _ratio(part: NDArray[np.number], whole: Counts, *, empty: float) -> NDArray[np.float64]:
    """`part` / `whole`, and `empty` where `whole` is 0."""
    ratio = np.full(whole.shape, empty)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
