"""metrics.jsonl, the source of truth of a run: one JSON object a line, appended and flushed at once."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.errors import EnvironmentFault
from trainer.rundir import finite_or_null
from trainer.tracking.records import EpochRecord, EvalRecord, ResumePoint, TrainRecord

FILE_NAME = "metrics.jsonl"


class MetricsFile:
    """Appends each record as a line; on a resume the lines past the point gone on from are dropped first."""

    def __init__(self, run: Path, *, resumed: ResumePoint | None = None) -> None:
        self._path = run / FILE_NAME
        try:
            if self._path.exists() and not self._path.is_file():
                raise OSError("it is not a file")
            if resumed is not None:
                _rewind(self._path, resumed)
            # Unbuffered: a line is written at once and as a whole, or taken back.
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise self._refused(error) from error

    def train(self, record: TrainRecord) -> None:
        """See `Tracker.train`."""
        self._write({"split": "train", **dataclasses.asdict(record)})

    def evaluation(self, record: EvalRecord) -> None:
        """See `Tracker.evaluation`."""
        self._write(dataclasses.asdict(record))

    def epoch(self, record: EpochRecord) -> None:
        """Nothing: an epoch is the sum of its windows."""

    def flush(self) -> None:
        """Nothing: every line is with the operating system, which outlives this process."""

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """Nothing: the evaluations are rows already."""

    def close(self) -> None:
        """See `Tracker.close`."""
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        line = (as_json(row) + "\n").encode()
        size = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            f"Could not write {self._path}: {error.strerror or error}.",
            hint=f"Put that right, then: trainer fit resume={self._path.parent}",
        )


def as_json(row: dict[str, Any]) -> str:
    """One line of strict JSON: a number that is not finite becomes null."""
    return json.dumps({key: finite_or_null(value) for key, value in row.items()}, allow_nan=False, ensure_ascii=False)


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a line that is none, as the last may be that was cut off, is left out."""
    path = run / FILE_NAME
    # Looked at before opening: to open a named pipe would wait for its writer.
    if not path.is_file():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("split"), str) and type(row.get("step")) is int:
                rows.append(row)
    return rows


def _rewind(path: Path, point: ResumePoint) -> None:
    """Drop the rows past `point`, and the test's, which come when a run ends: it will end again."""
    rows = [row for row in read_rows(path.parent) if row["split"] != "test"]
    kept = [row for row in rows if point.has(row["split"], at=row["step"])]
    aside = path.with_name(f".{path.name}.part")
    aside.write_text("".join(as_json(row) + "\n" for row in kept), encoding="utf-8")
    aside.replace(path)
