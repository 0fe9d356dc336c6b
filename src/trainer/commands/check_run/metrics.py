"""What `trainer check-run` finds in metrics.jsonl, read row by row. No torch."""

from __future__ import annotations

import bisect
import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.commands.check_run.checkpoints import (
    DAMAGED,
    OK,
    UNREADABLE,
    Finding,
    Standing,
    absence,
)
from trainer.tracking.metrics_file import FILE_NAME, MAX_LINE_BYTES, is_number, parse_row
from trainer.tracking.records import SPLITS, scalar_tags

SPLIT_OF = {tag: split for split in SPLITS for tag in scalar_tags(split).values()}
MAX_FILE_BYTES = 1_000_000_000


@dataclass(slots=True)
class Points:
    """The values of one TensorBoard tag by step, as TensorBoard keeps them: 32 bits each. NaN
    where a row has null.
    """

    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("f"))

    def add(self, step: int, value: float) -> bool:
        """Take in a value; False, and left out, when its step is not past the last."""
        if self.steps and step <= self.steps[-1]:
            return False
        self.steps.append(step)
        self.values.append(value)
        return True

    def at(self, step: int) -> float | None:
        """The value at `step`, None when there is none."""
        index = bisect.bisect_left(self.steps, step)
        return self.values[index] if index < len(self.steps) and self.steps[index] == step else None


@dataclass(slots=True)
class Rows:
    """The rows of metrics.jsonl, as far as they are sound: their values by tag, and how many each
    split has.

    `is_torn` when the last line has no end, `num_past` of those that a resume would drop.
    """

    points: dict[str, Points] = field(default_factory=lambda: {tag: Points() for tag in SPLIT_OF})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    damage: str = ""
    is_torn: bool = False
    num_past: int = 0


def check_metrics(standing: Standing) -> tuple[Finding, Rows]:
    """metrics.jsonl, row by row, and the rows for the comparison with TensorBoard."""
    path, rows = standing.run / FILE_NAME, Rows()
    rows.damage = absence(path)
    if rows.damage == "it is missing" and not standing.steps and not standing.is_done:
        rows.damage = ""
        return Finding(
            what=FILE_NAME, state="not written", detail="the run ended before its first row"
        ), rows
    try:
        if not rows.damage:
            _read_rows(path, rows, standing)
    except OSError as error:
        rows.damage = "it cannot be read"
        return Finding(what=FILE_NAME, state=UNREADABLE, detail=error.strerror or str(error)), rows
    rows.damage = rows.damage or _disagreement(rows, standing)
    return _finding_of(rows, standing), rows


def _finding_of(rows: Rows, standing: Standing) -> Finding:
    if rows.damage:
        return Finding(what=FILE_NAME, state=DAMAGED, detail=rows.damage)
    counted = f"{sum(rows.counts.values())} rows: " + ", ".join(
        f"{n} {split}" for split, n in rows.counts.items()
    )
    notes = []
    if rows.is_torn:
        notes.append("the last line is cut off")
    if rows.num_past:
        newest = (
            "with no checkpoint"
            if standing.newest is None
            else f"past {standing.newest.folder.name}"
        )
        notes.append(f"{rows.num_past} {newest}")
    if not notes:
        return Finding(what=FILE_NAME, state=OK, detail=counted)
    return Finding(
        what=FILE_NAME,
        state=standing.cut,
        detail=f"{counted}; {', '.join(notes)}: {standing.outlook}",
    )


def _read_rows(path: Path, rows: Rows, standing: Standing) -> None:
    if path.stat().st_size > MAX_FILE_BYTES:
        rows.damage = "it is larger than any of trainer's"
        return
    number = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            is_whole = line.endswith(b"\n")
            why = _take(line, rows, standing)
            if not is_whole and len(line) < MAX_LINE_BYTES:
                rows.is_torn = True
                if standing.is_done:
                    rows.damage = f"line {number} is cut off, and the run is done"
            elif why:
                rows.damage = f"line {number} {why}; a resume would drop it"
            if rows.damage:
                return


def _take(line: bytes, rows: Rows, standing: Standing) -> str:
    """Take in a row; what is wrong with it, in a phrase, or nothing."""
    row = parse_row(line)
    if isinstance(row, str):
        return row
    split, step = row["split"], row["step"]
    known = rows.points[scalar_tags(split)["loss"]].steps
    if known and (step <= known[-1] or split == "test"):
        return f"has step {step} of {split} after step {known[-1]}"
    for name, tag in scalar_tags(split).items():
        rows.points[tag].add(step, math.nan if row[name] is None else row[name])
    rows.counts[split] += 1
    rows.num_past += not standing.is_done and not is_kept(split, step, standing)
    return ""


def is_kept(split: str, step: int, standing: Standing) -> bool:
    """Whether a record is there to stay: of a run that is done all, of any other those that a
    resume keeps.
    """
    if standing.is_done:
        return True
    return split != "test" and standing.point is not None and standing.point.has(split, at=step)


def _disagreement(rows: Rows, standing: Standing) -> str:
    """Where the rows do not agree with what the checkpoints and run.json say of the same numbers."""
    for step in standing.steps:
        if step.description is None:
            continue
        at = step.description.progress["step"]
        for tag, name in (("Loss/val", "val/loss"), ("Accuracy/val", "val/accuracy")):
            if name in step.description.metrics and not _is_same(
                step.description.metrics[name], rows.points[tag], at
            ):
                return f"it has not the {name} that {step.folder.name} has"
    if not standing.is_done:
        return ""
    newest, final = standing.point, standing.record.get("metrics")
    tested = rows.points["Loss/test"].steps
    loss = final.get("test/loss") if isinstance(final, dict) else None
    if loss is not None and not (tested and _is_same(loss, rows.points["Loss/test"], tested[0])):
        return "it has not the test/loss that run.json has"
    last = max(
        (
            rows.points[tag].steps[-1]
            for tag in ("Loss/train", "Loss/val")
            if rows.points[tag].steps
        ),
        default=0,
    )
    if newest is not None and standing.newest == standing.steps[-1] and last > newest.step:
        return f"it goes on to step {last}, past the last checkpoint of a run that is done"
    return ""


def _is_same(value: Any, points: Points, step: int) -> bool:
    found = points.at(step)
    if found is None or not is_number(value):
        return False
    return math.isnan(found) if value is None else found == array("f", [value])[0]
