"""What is known at a moment of a run, as plain numbers on the host."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecord:
    """A window of training: means over the samples since the last one.

    `step` counts completed updates, `epoch` completed epochs, `samples` all samples trained on,
    `seconds` the training time so far. `grad_norm` is that of the last update, before clipping.
    """

    split: ClassVar[str] = "train"
    epoch: int
    step: int
    samples: int
    seconds: float
    loss: float
    accuracy: float | None
    learning_rate: float
    grad_norm: float | None
    samples_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRecord:
    """One evaluation of one split (`val` or `test`); `count` is how many samples it has."""

    split: str
    epoch: int
    step: int
    samples: int
    seconds: float
    loss: float
    accuracy: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """An epoch as a whole: means over its samples, and how long it took, evaluation included."""

    epoch: int
    step: int
    loss: float
    accuracy: float | None
    learning_rate: float
    seconds: float
    samples_per_second: float


Record = TrainRecord | EvalRecord | EpochRecord


def as_row(record: TrainRecord | EvalRecord) -> dict[str, Any]:
    """The record as a row of metrics.jsonl: its values by name, `split` first."""
    return {"split": record.split, **asdict(record)}


# The first part of the tags whose second part is the split that they are about; all else is about
# training.
_ABOUT_A_SPLIT = (
    "Loss",
    "Accuracy",
    "Best",
    "Confusion",
    "Reliability",
    "Mistakes",
    "Precision_recall",
)
# The first part of the tags of values against another axis than the step.
BY_SAMPLES, BY_SECONDS = "By_samples", "By_milliseconds"
# The first part of the tags of scalars that TensorBoard has besides those of the rows of
# metrics.jsonl.
WEIGHT_MEAN, WEIGHT_STD, GRADIENT_NORM, UPDATE_RATIO = (
    "Weight_mean",
    "Weight_std",
    "Gradient_norm",
    "Update_ratio",
)
BEST, MEMORY, EMA, SCALER = "Best", "Memory", "EMA", "Scaler"
BESIDES_ROWS = frozenset(
    {
        WEIGHT_MEAN,
        WEIGHT_STD,
        GRADIENT_NORM,
        UPDATE_RATIO,
        BEST,
        MEMORY,
        EMA,
        SCALER,
        BY_SAMPLES,
        BY_SECONDS,
    }
)


def split_of(tag: str) -> str:
    """The split that a tag of TensorBoard is about: `Loss/val`, `Best/val_loss` and
    `Mistakes/val` are about val.
    """
    group, _, rest = tag.partition("/")
    split = re.split("[/_]", rest, maxsplit=1)[0]
    return split if group in _ABOUT_A_SPLIT and split in SPLITS else "train"


def scalar_tags(split: str) -> dict[str, str]:
    """TensorBoard's tag for each value of a record of `split` that it shows, by the value's name."""
    tags = {"loss": f"Loss/{split}", "accuracy": f"Accuracy/{split}"}
    if split == "train":
        tags |= {
            "learning_rate": "Learning/learning_rate",
            "grad_norm": "Gradients/norm",
            "samples_per_second": "Throughput/samples_per_second",
        }
    return tags


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where a run is gone on from: the step of the checkpoint, and the splits that had their
    record there.
    """

    step: int
    splits: frozenset[str]

    def has(self, split: str, *, at: int) -> bool:
        """Whether a record of `split` at step `at` was made before the checkpoint."""
        return at < self.step or (at == self.step and split in self.splits)
