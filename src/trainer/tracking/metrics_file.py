"""metrics.jsonl, the source of truth of a run: one JSON object a line, appended and flushed at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import EnvironmentFault
from trainer.rundir import finite_or_null
from trainer.tracking.records import EpochRecord, EvalRecord, TrainRecord

FILE_NAME = "metrics.jsonl"


class MetricsFile:
    """Appends each record as a line; on a resume the lines past the step gone on from are dropped first."""

    def __init__(self, run: Path, *, resumed_step: int | None = None) -> None:
        self._path = run / FILE_NAME
        if resumed_step is not None:
            _drop_after(self._path, resumed_step)
        self._file = self._path.open("a", encoding="utf-8")

    def train(self, record: TrainRecord) -> None:
        """See `Tracker.train`."""
        self._write({"split": "train", **dataclasses.asdict(record)})

    def evaluation(self, record: EvalRecord) -> None:
        """See `Tracker.evaluation`."""
        self._write(dataclasses.asdict(record))

    def epoch(self, record: EpochRecord) -> None:
        """Nothing: an epoch is the sum of its windows."""

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """Nothing: the evaluations are rows already."""

    def close(self) -> None:
        """See `Tracker.close`."""
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        try:
            self._file.write(as_json(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise EnvironmentFault(f"Could not write {self._path}: {error.strerror or error}.") from error


def as_json(row: dict[str, Any]) -> str:
    """One line of strict JSON: a number that is not finite becomes null."""
    return json.dumps({key: finite_or_null(value) for key, value in row.items()}, allow_nan=False, ensure_ascii=False)


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a last line that was cut off in writing is left out."""
    path = run / FILE_NAME
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        rows.append(row)
    return rows


def _drop_after(path: Path, step: int) -> None:
    kept = [row for row in read_rows(path.parent) if row.get("step", 0) <= step]
    aside = path.with_name(f".{path.name}.part")
    aside.write_text("".join(as_json(row) + "\n" for row in kept), encoding="utf-8")
    aside.replace(path)
