"""What `trainer check-run` finds in metrics.jsonl, read row by row. No torch."""

from __future__ import annotations

import bisect
import itertools
import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from trainer.commands.check_run.checkpoints import (
    DAMAGED,
    OK,
    UNREADABLE,
    CheckedStep,
    Finding,
    RunFiles,
    absence,
)
from trainer.errors import reason_of
from trainer.files import as_table
from trainer.run.folder import METRICS_FILE
from trainer.tracking.metrics_file import MAX_LINE_BYTES, is_number, parse_row
from trainer.tracking.records import SPLITS, scalar_tags

SPLIT_OF = {tag: split for split in SPLITS for tag in scalar_tags(split).values()}
# The metrics in a checkpoint, by the tag with the same value at its step.
_VALUES_OF_A_STEP = {
    tag: f"{split}/{name}"
    for split, rows in (("train", "train_epoch"), ("val", "val"))
    for name, tag in scalar_tags(rows).items()
}
# Of metrics.jsonl, and of an event file: some million rows.
MAX_FILE_BYTES = 1_000_000_000


@dataclass(slots=True)
class Points:
    """The values of one TensorBoard tag by step, in 32 bits as there; NaN where a row has null."""

    # 12 bytes a value, where lists of numbers take about 70.
    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("f"))

    def add(self, step: int, value: float) -> bool:
        """Add a value; False, without adding it, when its step is not past the last."""
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
    """The sound rows of metrics.jsonl: their values by tag, and the number of rows of each split.

    `damage` says what is wrong with the others. `is_torn` is true when the last line has no end,
    `num_past` counts the rows that a resume would drop.
    """

    points: dict[str, Points] = field(default_factory=lambda: {tag: Points() for tag in SPLIT_OF})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    damage: str = ""
    is_torn: bool = False
    num_past: int = 0


def check_metrics(files: RunFiles) -> tuple[Finding, Rows]:
    """The finding on metrics.jsonl, and its rows for the comparison with TensorBoard."""
    path = files.run / METRICS_FILE
    rows = Rows(damage=absence(path))
    if rows.damage == "it is missing" and not files.steps and not files.is_done:
        rows.damage = ""
        detail = "the run ended before its first row"
        return Finding(METRICS_FILE, "not written", detail=detail), rows
    try:
        if not rows.damage:
            _read_rows(path, rows, files)
    except OSError as error:
        rows.damage = "it cannot be read"
        return Finding(METRICS_FILE, UNREADABLE, detail=reason_of(error)), rows
    rows.damage = rows.damage or _disagreement(rows, files)
    return _finding_of(rows, files), rows


def _finding_of(rows: Rows, files: RunFiles) -> Finding:
    if rows.damage:
        return Finding(METRICS_FILE, DAMAGED, detail=rows.damage)
    by_split = ", ".join(f"{number} {split}" for split, number in rows.counts.items())
    counted = f"{sum(rows.counts.values())} rows: {by_split}"
    notes = []
    if rows.is_torn:
        notes.append("the last line is incomplete")
    if rows.num_past:
        newest = files.newest
        past = "with no checkpoint" if newest is None else f"past {newest.folder.name}"
        notes.append(f"{rows.num_past} {past}")
    if not notes:
        return Finding(METRICS_FILE, OK, detail=counted)
    detail = f"{counted}; {', '.join(notes)}: {files.outlook}"
    return Finding(METRICS_FILE, files.unfinished_state, detail=detail)


def _read_rows(path: Path, rows: Rows, files: RunFiles) -> None:
    """Fill `rows` up to the first damage; raises OSError."""
    if path.stat().st_size > MAX_FILE_BYTES:
        rows.damage = "it is larger than any of trainer's"
        return
    number = 0
    with path.open("rb") as file:
        # A line without an end could be the whole file.
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            why = _add_row(line, rows, files)
            # A row is written in one call, and taken back when the disk is full: only a kill in the
            # midst of it leaves a part.
            if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                rows.is_torn = True
                if files.is_done:
                    rows.damage = f"line {number} is incomplete, and the run is done"
            elif why:
                rows.damage = f"line {number} {why}; a resume would drop it"
            if rows.damage:
                return


def _add_row(line: bytes, rows: Rows, files: RunFiles) -> str:
    """Add a row; what is wrong with it instead, in a phrase, or nothing."""
    row = parse_row(line)
    if isinstance(row, str):
        return row
    split = row["split"]
    step = row["step"]
    tags = scalar_tags(split)
    # Every row has a loss, so its steps are those of the split. The test has one row.
    known = rows.points[tags["loss"]].steps
    if known and (step <= known[-1] or split == "test"):
        return f"has step {step} of {split} after step {known[-1]}"
    for name in tags.keys() & row.keys():
        rows.points[tags[name]].add(step, math.nan if row[name] is None else row[name])
    rows.counts[split] += 1
    rows.num_past += not files.is_done and not is_kept(split, step, files)
    return ""


def is_kept(split: str, step: int, files: RunFiles) -> bool:
    """Whether a record stays: all of a run that is done, else those that a resume keeps."""
    if files.is_done:
        return True
    # The end of the resumed run writes the row of the test again.
    return split != "test" and files.point is not None and files.point.has(split, at=step)


def _disagreement(rows: Rows, files: RunFiles) -> str:
    """Where the rows differ from what the checkpoints and run.json say of the same numbers."""
    for step in files.steps:
        if why := _disagreement_with(step, rows):
            return why
    if not files.is_done:
        return ""
    loss = as_table(files.record.get("metrics")).get("test/loss")
    points = rows.points["Loss/test"]
    if loss is not None and not (points.steps and _is_same(loss, points, points.steps[0])):
        return "it has not the test/loss that run.json has"
    # Where the newest step is damaged, rows past the intact one are as they should be.
    if files.point is None or files.newest != files.steps[-1]:
        return ""
    last = _last_step(rows)
    if last > files.point.step:
        return f"its rows reach step {last}, past the last checkpoint of a run that is done"
    return ""


def _last_step(rows: Rows) -> int:
    """The last step of any row but that of the test, 0 without one."""
    ends = [rows.points[f"Loss/{split}"].steps[-1:] for split in SPLITS if split != "test"]
    return max([0, *itertools.chain.from_iterable(ends)])


def _disagreement_with(step: CheckedStep, rows: Rows) -> str:
    if step.description is None:
        return ""
    metrics = step.description.metrics
    at = step.description.progress["step"]
    for tag, name in _VALUES_OF_A_STEP.items():
        points = rows.points[tag]
        # Only a step that ends an epoch has such a row.
        if tag.endswith("/train_epoch") and points.at(at) is None:
            continue
        if name in metrics and not _is_same(metrics[name], points, at):
            return f"it has not the {name} that {step.folder.name} has"
    return ""


def _is_same(value: object, points: Points, step: int) -> bool:
    """Whether `value` from JSON, null for one that is not finite, is the one at `step`."""
    found = points.at(step)
    if found is None or not is_number(value):
        return False
    # In 32 bits, as `points` are: the last digits of a float in JSON would differ.
    return math.isnan(found) if value is None else found == array("f", [value])[0]
