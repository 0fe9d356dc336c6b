"""Records of sweeps without their runs, and what a report makes of them, read back."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.report import show, summarize, write_files
from trainer.commands.sweep.task import JobStatus
from trainer.tracking.console import Terminal

ACCURACY = "val/accuracy"


def job(number: int, values: dict[str, str], value: float | None = None, **more: Any) -> JobRecord:
    content: dict[str, Any] = {
        "status": JobStatus.DONE,
        "run": f"{number:03d}-dirichlet-mlp",
        "metrics": {} if value is None else {ACCURACY: value},
        "seconds": 1.5,
        "command": ["trainer", "fit", *(f"{key}={text}" for key, text in values.items())],
    }
    return JobRecord(number=number, values=values, **(content | more))


def sweep(folder: Path, jobs: list[JobRecord], **more: Any) -> SweepRecord:
    keys = list(dict.fromkeys(key for one in jobs for key in one.values))
    content: dict[str, Any] = {
        "kind": "grid",
        "identity": "x",
        "command": ["trainer", "fit", "-m", "optimizer.lr=0.1,0.01"],
        "keys": keys,
        "monitor": ACCURACY,
        "maximize": True,
        "started": "2026-11-21T10:00:00+00:00",
    }
    return SweepRecord(folder=folder, jobs=jobs, **(content | more))


def rates(folder: Path, *values: float | None, **more: Any) -> SweepRecord:
    """A sweep of learning rates 0, 1, 2, … whose jobs have these values."""
    return sweep(
        folder,
        [job(at, {"optimizer.lr": str(at)}, value) for at, value in enumerate(values)],
        **more,
    )


def shown(record: SweepRecord) -> None:
    record.summary = summarize(record)
    show(record, terminal=Terminal())


def written(record: SweepRecord) -> None:
    record.summary = summarize(record)
    write_files(record)


def table_of(out: str) -> list[str]:
    """The lines below the titles of the table."""
    lines = [line.strip() for line in out.splitlines()]
    start = 1 + next(at for at, line in enumerate(lines) if set(line) == {"─"})
    return lines[start : lines.index("", start)]


def first_words(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def rows_of(out: str) -> list[str]:
    return first_words(table_of(out))


def cells(markdown: str, title: str) -> list[list[str]]:
    """The rows of the table in a section of sweep.md, as Markdown reads them."""
    section = markdown.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def csv_of(record: SweepRecord) -> list[dict[str, str]]:
    written(record)
    with (record.folder / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
