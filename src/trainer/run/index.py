"""The runs below a folder at a glance: their short ids, their records, a person's words on them,
and finding one.

Of each run only run.json is read, which makes five hundred of them a matter of milliseconds. Torch
is never imported.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import UsageError, nearest, printable
from trainer.files import read_json, write_json
from trainer.run.folder import (
    CHECKPOINTS,
    NOTES_FILE,
    all_runs,
    find_run,
    is_retired,
    near_path,
    started_at,
)
from trainer.run.lock import is_locked

RECORD = "run.json"
# Digits of an id that are shown, where more are not needed, and that must be typed.
NUM_DIGITS, LEAST_DIGITS = 6, 4
# A run lies at most this many folders below its root: the date, the sweep, the run.
_DEPTH = 3
_HEX = re.compile(f"[0-9a-f]{{{LEAST_DIGITS},64}}")
_MAX_NAMED = 5
# What run.json may say; everything else is damage.
_RECORDED = ("running", "done", "failed", "interrupted", "pruned")
# How a run stands: what run.json says, that nobody trains in it though it says so, that it cannot
# be read.
STATUSES = (*_RECORDED, "cut", "damaged")
METRICS = ("val/accuracy", "val/loss", "test/accuracy", "test/loss", "train/accuracy", "train/loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run of the index: `digest` is its whole id, `id` as much of it as tells it from the others."""

    path: Path
    digest: str
    id: str
    record: dict[str, Any]
    started: float

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    @property
    def status(self) -> str:
        """One of STATUSES. A run that says running is cut where no process holds its lock: it was killed."""
        said = self.record.get("status")
        if said not in _RECORDED:
            return "damaged"
        return "cut" if said == "running" and not is_locked(self.path) else str(said)

    @property
    def metrics(self) -> dict[str, float | None]:
        """The final metrics in run.json: of the validation at the best checkpoint, and of the test."""
        found = self.record.get("metrics")
        content = found if isinstance(found, dict) else {}
        return {str(name): value for name, value in content.items() if _is_value(value)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a person said of a run."""

    tags: tuple[str, ...] = ()
    note: str = ""


def read_index(root: Path) -> list[Entry]:
    """Every run below `root`, the newest start first; empty where there is no such folder."""
    return _entries(_run_folders(root, _DEPTH))


def entry_of(run: Path) -> Entry:
    """The entry of one run folder by itself."""
    return _entries([run])[0]


def read_notes(run: Path) -> Notes:
    """The tags and the note of a run, none where there are none."""
    content = read_json(run / NOTES_FILE)
    tags, note = content.get("tags"), content.get("note")
    words = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return Notes(tags=tuple(dict.fromkeys(words)), note=note if isinstance(note, str) else "")


def write_notes(run: Path, notes: Notes) -> None:
    """Keep what a person said of a run beside run.json, which its own process may be writing;
    raises OSError.
    """
    write_json(run / NOTES_FILE, {"tags": list(notes.tags), "note": notes.note})


def named(reference: str, *, root: Path) -> str:
    """The path of the run that `reference` names by an id or by a part of its name, or else
    `reference` as it is.

    So a path that exists wins, and so does `last`. Raises UsageError, which names them, where
    several are meant.
    """
    if (
        reference in ("", "last", "auto", "null")
        or _exists(reference)
        or os.sep in reference
        or "=" in reference
    ):
        return reference
    found = _meant(reference, read_index(root))
    return str(found.path) if found is not None else reference


def find(reference: str, *, root: Path, index: Sequence[Entry] | None = None) -> Entry:
    """The run that `reference` means: a path, `last`, an id, or a part of a name; raises
    UsageError or InputError.
    """
    index = read_index(root) if index is None else index
    # Its id is as long as the others need it, where it is one of them.
    known = {os.path.realpath(entry.path): entry for entry in index}
    if reference == "last":
        if not index:
            find_run("last", root=root)  # says what there is not
        return index[0]
    if reference and _exists(reference):
        path = Path(reference)
        if not os.path.lexists(path / RECORD):
            raise UsageError(f"{reference} is not a run folder.", hint=_hint_for(path))
        return known.get(os.path.realpath(path)) or entry_of(path)
    if (found := _meant(reference, index)) is not None:
        return found
    near = nearest(reference, [*(entry.name for entry in index), "last"]) if reference else None
    hint = f"Did you mean {near}?" if near else near_path(Path(reference)) if reference else None
    raise UsageError(
        f"There is no run {reference or 'without a name'} in {root}.",
        hint=hint
        or "Name one by its id, its folder, a part of its name, or last; trainer runs lists them.",
    )


def _meant(reference: str, index: Sequence[Entry]) -> Entry | None:
    """The entry that an id or a part of a name means, ids first; None for none, UsageError for
    several.
    """
    digits = reference.lower()
    found = (
        [entry for entry in index if entry.digest.startswith(digits)]
        if _HEX.fullmatch(digits)
        else []
    )
    found = found or [entry for entry in index if entry.name == reference]
    found = found or [entry for entry in index if reference and reference in entry.name]
    if len(found) <= 1:
        return found[0] if found else None
    shown = ", ".join(f"{entry.id} ({entry.path})" for entry in found[:_MAX_NAMED])
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    raise UsageError(
        f"{reference} may mean {len(found)} runs.",
        where=f"{shown}{more}.",
        hint="Name one of them.",
    )


def _entries(folders: Sequence[Path]) -> list[Entry]:
    records = [read_json(folder / RECORD) for folder in folders]
    digests = [_digest(folder, record) for folder, record in zip(folders, records, strict=True)]
    length, num_runs = (
        NUM_DIGITS,
        len(set(digests)),
    )  # a copy has the id of its original, however long
    while len({digest[:length] for digest in digests}) < num_runs:
        length += 1
    entries = [
        Entry(
            path=path,
            digest=digest,
            id=digest[:length],
            record=record,
            started=started_at(path, record),
        )
        for path, digest, record in zip(folders, digests, records, strict=True)
    ]
    return sorted(entries, key=lambda entry: (entry.started, str(entry.path)), reverse=True)


def _digest(folder: Path, record: dict[str, Any]) -> str:
    """From the folder's name and the start alone: it survives a move, and needs no file."""
    name = folder.name or Path(os.path.realpath(folder)).name
    return hashlib.sha256(
        f"{name}\n{record.get('started', '')}".encode(errors="surrogateescape")
    ).hexdigest()


def _run_folders(root: Path, depth: int) -> list[Path]:
    return [Path(path) for path in _scan(str(root), depth)]


def _scan(folder: str, depth: int) -> Iterator[str]:
    """The folders below with a run.json. What lies in a run is not looked at: it has hundreds of
    files, and no run.
    """
    try:
        with os.scandir(folder) as found:
            inside = [
                entry.path for entry in found if entry.is_dir() and not is_retired(entry.name)
            ]
    except OSError:
        return
    for path in inside:
        if os.path.lexists(f"{path}{os.sep}{RECORD}"):
            yield path
        elif depth > 1:
            yield from _scan(path, depth - 1)


def _hint_for(path: Path) -> str:
    above = next(
        (part.parent for part in (path, *path.absolute().parents) if part.name == CHECKPOINTS), None
    )
    if above is not None:
        return f"Name the run itself: {printable(above)}"
    inside = all_runs(path) if path.is_dir() else []
    return (
        f"There are runs in it, such as {inside[-1]}"
        if inside
        else "trainer runs lists the runs there are."
    )


def _exists(reference: str) -> bool:
    try:
        return os.path.lexists(reference)
    except ValueError:  # a zero byte
        return False


def _is_value(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
