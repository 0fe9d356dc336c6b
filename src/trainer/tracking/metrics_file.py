"""metrics.jsonl, the source of truth of a run: one JSON object a line, appended and flushed at
once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from trainer.errors import EnvironmentFault, printable
from trainer.files import finite_or_null, write_bytes
from trainer.state_checks import LARGEST
from trainer.tracking.records import (
    SPLITS,
    EpochRecord,
    EvalRecord,
    Record,
    ResumePoint,
    TrainRecord,
    as_row,
)

FILE_NAME = "metrics.jsonl"
# A row of ours has some hundred bytes; a stranger's may try to fill the memory.
MAX_LINE_BYTES = 100_000
_FIELDS = {
    "train": {"split", *(item.name for item in dataclasses.fields(TrainRecord))},
    **{split: {item.name for item in dataclasses.fields(EvalRecord)} for split in ("val", "test")},
}


class MetricsFile:
    """Appends each record as a line; on a resume the lines past the point gone on from are dropped
    first.

    Of lines that are no rows, which are dropped as well, it tells `warn`.
    """

    def __init__(
        self, run: Path, *, warn: Callable[[str], None], resumed: ResumePoint | None = None
    ) -> None:
        self._path = run / FILE_NAME
        try:
            if self._path.exists() and not self._path.is_file():
                raise OSError("it is not a file")
            if resumed is not None:
                _rewind(self._path, resumed, warn)
            # Unbuffered: a line is written at once and as a whole, or taken back.
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise self._refused(error) from error

    def record(self, record: Record) -> None:
        """Append a line; an epoch has none, as it is the sum of its windows."""
        if not isinstance(record, EpochRecord):
            self._write(as_row(record))

    def flush(self) -> None:
        """Every line is with the operating system already, which outlives this process."""

    def close(self, *_: object) -> None:
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
    return json.dumps(
        {key: finite_or_null(value) for key, value in row.items()},
        allow_nan=False,
        ensure_ascii=False,
    )


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a line that is none, as the last may be that was cut
    off, is left out.
    """
    return [row for row in map(parse_row, _lines(run / FILE_NAME)) if not isinstance(row, str)]


def parse_row(line: bytes) -> dict[str, Any] | str:
    """The row in a line, with all of its fields and no other; else in a phrase what is wrong
    with the line.
    """
    try:
        row = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "is longer than any of trainer's" if len(line) >= MAX_LINE_BYTES else "is not JSON"
    split = row.get("split") if isinstance(row, dict) else None
    if not isinstance(split, str) or split not in _FIELDS:
        return "has no split that trainer knows"
    if set(row) != _FIELDS[split]:
        odd = min(set(row) ^ _FIELDS[split])
        return (
            f"{'has the unknown field' if odd in row else 'lacks the field'} {printable(odd)[:40]}"
        )
    wrong = [name for name, value in row.items() if name != "split" and not is_number(value)]
    if wrong or type(row["step"]) is not int or row["step"] < 0:
        return f"has a {wrong[0] if wrong else 'step'} that makes no sense"
    return dict(row)


def is_number(value: Any) -> bool:
    """A number as trainer writes it, or null."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (type(value) is int and abs(value) <= LARGEST)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _lines(path: Path) -> list[bytes]:
    # Looked at before opening: to open a named pipe would wait for its writer.
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []


def _rewind(path: Path, point: ResumePoint, warn: Callable[[str], None]) -> None:
    """Drop the rows past `point`, and the test's, which come when a run ends: it will end again."""
    kept, num_bad, last = [], 0, dict.fromkeys(SPLITS, -1)
    for line in _lines(path):
        row = parse_row(line)
        if isinstance(row, str) or row["step"] <= last[row["split"]]:
            num_bad += line.endswith(b"\n")  # the end of a line that was cut off is nothing new
            continue
        last[row["split"]] = row["step"]
        if row["split"] != "test" and point.has(row["split"], at=row["step"]):
            kept.append(line.rstrip(b"\n") + b"\n")
    if num_bad:
        warn(
            f"Dropped {num_bad} line{'s' * (num_bad > 1)} of {path} that "
            f"{'is' if num_bad == 1 else 'are'} damaged."
        )
    write_bytes(path, b"".join(kept))
