"""metrics.jsonl, the source of truth of a run: one JSON object a line, written at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeGuard

from trainer.config.overrides import override
from trainer.errors import EnvironmentFault, command_line, printable, reason_of
from trainer.files import append_whole, finite_or_null, write_bytes
from trainer.run.folder import METRICS_FILE
from trainer.state_checks import LARGEST
from trainer.tracking.records import (
    MORE_FIELDS,
    ROW_FIELDS,
    SPLITS,
    MetricsRow,
    Record,
    ResumePoint,
    as_row,
)

# A row has some hundred bytes; a longer line from outside could fill the memory.
MAX_LINE_BYTES = 100_000


class MetricsFile:
    """Appends each record as a line; a resume first drops the lines past its point.

    It drops lines that are no rows too, with a call of `warn`. A file that cannot be written raises
    EnvironmentFault: unlike other trackers, a run is nothing without it.
    """

    def __init__(
        self, run: Path, *, warn: Callable[[str], None], resumed: ResumePoint | None = None
    ) -> None:
        self._path = run / METRICS_FILE
        try:
            if self._path.exists() and not self._path.is_file():
                raise OSError("it is not a file")
            if resumed is not None:
                _rewind(self._path, resumed, warn)
            # Unbuffered: a line is written at once and as a whole, or removed again.
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise self._refused(error) from error

    def record(self, record: Record) -> None:
        """Append a line."""
        try:
            append_whole(self._file, (as_json(as_row(record)) + "\n").encode())
        except OSError as error:
            raise self._refused(error) from error

    def flush(self) -> None:
        """Do nothing: every line is with the operating system, which outlives this process."""

    def close(self, *_: object) -> None:
        self._file.close()

    def _refused(self, error: OSError) -> EnvironmentFault:
        resume = command_line("fit", override("resume", str(self._path.parent)))
        return EnvironmentFault(
            f"Could not write {self._path}: {reason_of(error)}.",
            hint=f"Fix this, then: {resume}",
        )


def as_json(row: Mapping[str, object]) -> str:
    """One line of strict JSON: a number that is not finite becomes null."""
    finite = {key: finite_or_null(value) for key, value in row.items()}
    return json.dumps(finite, allow_nan=False, ensure_ascii=False)


def read_rows(run: Path) -> list[MetricsRow]:
    """Read the rows of a run; skip a line that is no row, such as one that a kill cut off."""
    return [row for row in map(parse_row, _lines(run / METRICS_FILE)) if not isinstance(row, str)]


def parse_row(line: bytes) -> MetricsRow | str:
    """Return the row in a line; where the line is no row of trainer's, say why in a phrase."""
    try:
        row = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "is longer than any of trainer's" if len(line) >= MAX_LINE_BYTES else "is not JSON"
    return _problem_of(row) or dict(row)


def _problem_of(row: object) -> str | None:
    """Why a JSON value is no row, in a phrase."""
    if not isinstance(row, dict) or row.get("split") not in SPLITS:
        return "has no split that trainer knows"
    fields = {*ROW_FIELDS[row["split"]]}
    if unlike := (row.keys() - {*MORE_FIELDS[row["split"]]}) ^ fields:
        name = min(unlike)
        kind = "has the unknown field" if name in row else "lacks the field"
        return f"{kind} {printable(name)[:40]}"
    for name, value in row.items():
        if name != "split" and not is_number(value):
            return f"has a {name} that is invalid"
    # Unlike the other values it is never null: a resume cuts by it.
    if type(row["step"]) is not int or row["step"] < 0:
        return "has a step that is invalid"
    return None


def is_number(value: object) -> TypeGuard[float | None]:
    """A number as trainer writes it, or null."""
    if isinstance(value, float):
        return math.isfinite(value)
    # By `type`, since True is an int too; and an int from outside may have a thousand digits.
    return value is None or (type(value) is int and abs(value) <= LARGEST)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _lines(path: Path) -> list[bytes]:
    # To open a named pipe would wait for its writer.
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []


def _rewind(path: Path, point: ResumePoint, warn: Callable[[str], None]) -> None:
    """Drop the rows past `point`, and those of the test, which the end of the run writes again."""
    kept = []
    num_bad = 0
    last = dict.fromkeys(SPLITS, -1)
    for line in _lines(path):
        row = parse_row(line)
        # The steps of a split only grow: a row out of order is damage too.
        if isinstance(row, str) or row["step"] <= last[row["split"]]:
            # A kill may leave a last line without its end: that needs no warning.
            num_bad += line.endswith(b"\n")
            continue
        last[row["split"]] = row["step"]
        if row["split"] != "test" and point.has(row["split"], at=row["step"]):
            kept.append(line.rstrip(b"\n") + b"\n")
    if num_bad:
        lines, are = ("line", "is") if num_bad == 1 else ("lines", "are")
        warn(f"Dropped {num_bad} {lines} of {path} that {are} damaged.")
    write_bytes(path, b"".join(kept))
