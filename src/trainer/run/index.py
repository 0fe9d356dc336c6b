"""The runs below a folder at a glance: their short ids, their records, and notes on them.

Of each run only run.json is read, so that five hundred of them take milliseconds. Torch is never
imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trainer.files import JsonObject, as_list, as_table, read_json, write_json
from trainer.run.folder import NOTES_FILE, RECORD_FILE, is_retired
from trainer.run.record import RunStatus, status_of

METRICS = (
    "val/accuracy", "val/loss", "val/mse", "val/mae", "test/accuracy", "test/loss", "test/mse",
    "test/mae", "train/accuracy", "train/loss",
)  # fmt: skip
# Digits of an id, where no other id begins with the same ones.
_NUM_DIGITS = 6
# A run lies at most this many folders below its root: the date, the sweep, the run.
_DEPTH = 3
_DATED = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{2})-([0-9]{2})-([0-9]{2})-[^/]*(/[^/]*)?$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run of the index.

    `digest` is its whole id, `id` the first digits, as many as no other run has; `started` is
    in seconds since the epoch.
    """

    path: Path
    digest: str
    id: str
    record: JsonObject
    started: float

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def status(self) -> RunStatus:
        """How the run is now."""
        return status_of(self.path, self.record)

    @property
    def metrics(self) -> dict[str, float | None]:
        """The final metrics in run.json: of the validation at the best checkpoint, and the test."""
        found = as_table(self.record.get("metrics"))
        return {str(name): value for name, value in found.items() if _is_metric(value)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The tags and the note that a person gave a run."""

    tags: tuple[str, ...] = ()
    note: str = ""


def read_index(root: Path) -> list[Entry]:
    """Every run below `root`, the newest start first; empty where there is no such folder."""
    return _entries([Path(path) for path in _run_folders(str(root), _DEPTH)])


def entry_of(run: Path) -> Entry:
    """The entry of one run folder by itself."""
    return _entries([run])[0]


def read_notes(run: Path) -> Notes:
    """The tags and the note of a run, none where there are none."""
    content = read_json(run / NOTES_FILE)
    words = [tag for tag in as_list(content.get("tags")) if isinstance(tag, str)]
    note = content.get("note")
    return Notes(tags=tuple(dict.fromkeys(words)), note=note if isinstance(note, str) else "")


def write_notes(run: Path, notes: Notes) -> None:
    """Write notes beside run.json, which the run's own process may be writing; raises OSError."""
    write_json(run / NOTES_FILE, {"tags": list(notes.tags), "note": notes.note})


def _entries(folders: Sequence[Path]) -> list[Entry]:
    records = [read_json(folder / RECORD_FILE) for folder in folders]
    digests = [_digest(folder, record) for folder, record in zip(folders, records, strict=True)]
    # A copy has the id of its original, however long.
    num_ids = len(set(digests))
    length = _NUM_DIGITS
    while len({digest[:length] for digest in digests}) < num_ids:
        length += 1
    entries = [
        Entry(
            path=path,
            digest=digest,
            id=digest[:length],
            record=record,
            started=_started(path, record),
        )
        for path, digest, record in zip(folders, digests, records, strict=True)
    ]
    return sorted(entries, key=lambda entry: (entry.started, str(entry.path)), reverse=True)


def _digest(folder: Path, record: Mapping[str, object]) -> str:
    """From the folder's name and the start alone: it survives a move, and needs no file."""
    name = folder.name or Path(os.path.realpath(folder)).name
    # surrogateescape below: the bytes of a folder's name need not be text.
    text = f"{name}\n{record.get('started', '')}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _started(run: Path, record: Mapping[str, object]) -> float:
    """When a run was started, by its record, else by its folder's name, else 0."""
    starts = [str(record.get("started"))]
    if dated := _DATED.search(str(run)):
        starts.append(f"{dated[1]} {dated[2]}:{dated[3]}:{dated[4]}")
    for start in starts:
        # OverflowError for a year that has no timestamp, in a damaged record.
        with contextlib.suppress(ValueError, OverflowError):
            return datetime.fromisoformat(start).timestamp()
    return 0.0


def _run_folders(folder: str, depth: int) -> Iterator[str]:
    """The folders below with a run.json. None is looked for in a run, which has many files."""
    try:
        # scandir brings the kind of each entry with its name, without a call for each.
        with os.scandir(folder) as found:
            inside = [
                entry.path for entry in found if entry.is_dir() and not is_retired(entry.name)
            ]
    except OSError:
        return
    for path in inside:
        if os.path.lexists(f"{path}{os.sep}{RECORD_FILE}"):
            yield path
        elif depth > 1:
            yield from _run_folders(path, depth - 1)


def _is_metric(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
