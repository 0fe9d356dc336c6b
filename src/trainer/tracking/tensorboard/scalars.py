"""The scalars of a run: the values of its rows, the best so far, memory, and other axes."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

import torch

from trainer.config.comparison import is_maximized
from trainer.tracking.records import (
    OF_VALUES,
    MetricsRow,
    Record,
    TagGroup,
    as_row,
    scalar_tags,
)
from trainer.tracking.tensorboard.writer import EventWriter


class Scalars:
    """Writes the values of each record; `rows` are those from before a resume, for the best so far.

    A resume drops the values against other `axes`, whose x is no step to cut at, so the rows are
    written there again. With `replays` every value is, for a run that wrote no events until now.
    """

    def __init__(
        self,
        writer: EventWriter,
        *,
        axes: Sequence[str],
        rows: Sequence[MetricsRow],
        replays: bool,
    ) -> None:
        self._writer = writer
        self._axes = axes
        self._best: dict[str, float] = {}
        for row in rows:
            if replays:
                self._write_values(row, "", row["step"])
            self._write_axes(row)
            if row["split"] == "val":
                self._take_best(row)

    def record(self, record: Record) -> None:
        """Write the values of a record, with memory in training and the best in validation."""
        row = as_row(record)
        self._write_values(row, "", record.step)
        self._write_axes(row)
        if record.split == "train":
            for name, megabytes in _memory().items():
                self._writer.scalar(f"{TagGroup.MEMORY}/{name}", megabytes, record.step)
        elif record.split == "val":
            self._take_best(row)
            for name, value in self._best.items():
                self._writer.scalar(f"{TagGroup.BEST}/val_{name}", value, record.step)

    def _write_axes(self, row: MetricsRow) -> None:
        for axis in self._axes:
            if axis == "samples":
                self._write_values(row, f"{TagGroup.BY_SAMPLES}/", row["samples"])
            else:
                self._write_values(row, f"{TagGroup.BY_SECONDS}/", round(1000 * row["seconds"]))

    def _write_values(self, row: MetricsRow, prefix: str, x: int) -> None:
        for name, tag in scalar_tags(row["split"]).items():
            if (value := row.get(name)) is not None:
                self._writer.scalar(prefix + tag, value, x)

    def _take_best(self, row: MetricsRow) -> None:
        for name in ("loss", "accuracy", *OF_VALUES):
            value = row.get(name)
            better = max if is_maximized(name) else min
            if value is not None and value == value:  # a NaN is never the best
                self._best[name] = better(value, self._best.get(name, value))


def _memory() -> dict[str, float]:
    """Megabytes: the peak that was resident so far, and what CUDA has allocated now."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS, in units of 1024 bytes elsewhere.
    found = {"peak_resident": peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda_allocated"] = torch.cuda.memory_allocated() / 1e6
    return found
