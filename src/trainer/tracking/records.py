"""The records that trackers receive, as plain numbers on the host, and their tags."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

# A row of metrics.jsonl: the values of a record by name, and its `split`.
MetricsRow: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecord:
    """A window of training: means over the samples since the previous record.

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
    """One evaluation of a split (`val` or `test`) of `count` samples.

    The mean squared and absolute error `mse` and `mae` are of targets that are values only.
    """

    split: str
    epoch: int
    step: int
    samples: int
    seconds: float
    loss: float
    accuracy: float | None
    count: int
    mse: float | None = None
    mae: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """An epoch as a whole: means over its samples.

    `duration` and `samples_per_second` are for the terminal: evaluation and saving count, and after
    a resume only what this process has trained. No row has them.
    """

    split: ClassVar[str] = "train_epoch"
    epoch: int
    step: int
    samples: int
    seconds: float
    loss: float
    accuracy: float | None
    learning_rate: float
    duration: float
    samples_per_second: float


Record = TrainRecord | EvalRecord | EpochRecord


def _names(kind: type[Record], *, without: Collection[str] = ()) -> tuple[str, ...]:
    names = [item.name for item in fields(kind) if item.name not in ("split", *without)]
    return ("split", *names)


# What a row of an evaluation has besides, where the targets are values; a row of an older version
# lacks it.
OF_VALUES = ("mse", "mae")
# The names of the values in every row of a split, in their order.
ROW_FIELDS = {
    "train": _names(TrainRecord),
    "train_epoch": _names(EpochRecord, without=("duration", "samples_per_second")),
    "val": _names(EvalRecord, without=OF_VALUES),
    "test": _names(EvalRecord, without=OF_VALUES),
}
# Those that some rows have.
MORE_FIELDS = {"train": (), "train_epoch": (), "val": OF_VALUES, "test": OF_VALUES}
# A train row is a window of training, a train_epoch row an epoch as a whole.
SPLITS = tuple(ROW_FIELDS)


def as_row(record: Record) -> MetricsRow:
    """The record as a row of metrics.jsonl: its values by name, `split` first."""
    # Not asdict, which copies every value: an epoch may take a millisecond.
    row = {name: getattr(record, name) for name in ROW_FIELDS[record.split]}
    for name in MORE_FIELDS[record.split]:
        if (value := getattr(record, name)) is not None:
            row[name] = value
    return row


# The first part of the tags whose second part is a split; all other tags are about training.
_OF_A_SPLIT = (
    "Loss", "Accuracy", "MSE", "MAE", "Best", "Confusion", "Reliability", "Mistakes",
    "Precision_recall",
)  # fmt: skip


class TagGroup(StrEnum):
    """The first part of the tags of scalars that are not values of a row of metrics.jsonl."""

    WEIGHT_MEAN = "Weight_mean"
    WEIGHT_STD = "Weight_std"
    GRADIENT_NORM = "Gradient_norm"
    UPDATE_RATIO = "Update_ratio"
    BEST = "Best"
    MEMORY = "Memory"
    EMA = "EMA"
    SCALER = "Scaler"
    # Against another axis than the step. TensorBoard's axis is a whole number: milliseconds keep
    # the records of a fast run apart.
    BY_SAMPLES = "By_samples"
    BY_SECONDS = "By_milliseconds"


BESIDES_ROWS = frozenset(TagGroup)


def split_of(tag: str) -> str:
    """The split that a tag is about: val for `Loss/val`, `Best/val_loss` and `Mistakes/val`."""
    group, _, rest = tag.partition("/")
    if rest == "train_epoch":
        return rest
    # Both separators: `Best/val_loss` and `Precision_recall/val/cat`.
    split = re.split("[/_]", rest, maxsplit=1)[0]
    return split if group in _OF_A_SPLIT and split in SPLITS else "train"


def scalar_tags(split: str) -> dict[str, str]:
    """TensorBoard's tag for each value that a row of `split` may have, by the value's name."""
    tags = {"loss": f"Loss/{split}", "accuracy": f"Accuracy/{split}"}
    tags |= {name: f"{name.upper()}/{split}" for name in MORE_FIELDS[split]}
    if split == "train":
        tags |= {
            "learning_rate": "Learning/learning_rate",
            "grad_norm": "Gradients/norm",
            "samples_per_second": "Throughput/samples_per_second",
        }
    return tags


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where a run continues: the step of the checkpoint, and the splits with a record there."""

    step: int
    splits: frozenset[str]

    def has(self, split: str, *, at: int) -> bool:
        """Whether a record of `split` at step `at` was made before the checkpoint."""
        return at < self.step or (at == self.step and split in self.splits)
