"""The scalars of a run: the values of its rows, the best so far, memory; and, where asked for,
against other axes.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trainer.tracking.records import (
    BEST,
    BY_SAMPLES,
    BY_SECONDS,
    MEMORY,
    EvalRecord,
    TrainRecord,
    as_row,
    scalar_tags,
)
from trainer.tracking.tensorboard.writer import EventWriter

_BETTER = {"loss": min, "accuracy": max}


class Scalars:
    """Writes each record's values; `rows` are those of before a resume, from which the best is known.

    Axes other than the step are written anew from them, for a resume drops what has no step to be
    cut at; with `replays` all is, for a run that wrote no events until now.
    """

    def __init__(
        self,
        writer: EventWriter,
        *,
        axes: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        replays: bool,
    ) -> None:
        self._writer, self._axes = writer, axes
        self._best: dict[str, float] = {}
        for row in rows:
            if replays:
                self._write(row)
            else:
                self._write_axes(row)
            if row["split"] == "val":
                self._take_best(row)

    def record(self, record: TrainRecord | EvalRecord) -> None:
        """Write the values of a record, with memory in training and the best in validation."""
        row = as_row(record)
        self._write(row)
        if record.split == "train":
            for name, megabytes in _memory().items():
                self._writer.scalar(f"{MEMORY}/{name}", megabytes, record.step)
        elif record.split == "val":
            self._take_best(row)
            for name, value in self._best.items():
                self._writer.scalar(f"{BEST}/val_{name}", value, record.step)

    def _write(self, row: Mapping[str, Any]) -> None:
        for name, tag in scalar_tags(row["split"]).items():
            if row[name] is not None:
                self._writer.scalar(tag, row[name], row["step"])
        self._write_axes(row)

    def _write_axes(self, row: Mapping[str, Any]) -> None:
        at = {
            "samples": (BY_SAMPLES, row["samples"]),
            "seconds": (BY_SECONDS, round(1000 * row["seconds"])),
        }
        for axis in self._axes:
            group, value = at[axis]
            for name, tag in scalar_tags(row["split"]).items():
                if row[name] is not None:
                    self._writer.scalar(f"{group}/{tag}", row[name], value)

    def _take_best(self, row: Mapping[str, Any]) -> None:
        for name, better in _BETTER.items():
            value = row[name]
            if value is not None and value == value:  # a NaN is never the best
                self._best[name] = better(value, self._best.get(name, value))


def _memory() -> dict[str, float]:
    """Megabytes: the most that the process had resident so far, and what CUDA has given out now."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"peak_resident": most / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda_allocated"] = torch.cuda.memory_allocated() / 1e6
    return found
