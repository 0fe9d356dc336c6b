"""Which runs are there: `trainer runs ls` and `best`, with filters and an order."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.commands.runs.read import (
    as_number,
    as_text,
    description_of,
    is_finite,
    is_maximized,
    metrics_of,
    monitored,
    quick_config_of,
)
from trainer.config.overrides import override
from trainer.errors import UsageError, suggestion
from trainer.run.find import MIN_DIGITS
from trainer.run.index import METRICS, Entry, Notes, read_index, read_notes
from trainer.run.record import RunStatus
from trainer.tracking.console import Terminal
from trainer.tracking.table import ago, write_table

FILTERS = ("status", "tag")
_NOTE_LENGTH = 60


@dataclass(kw_only=True)
class Row:
    """One run of the list; what is not in run.json is read when it is first asked for."""

    entry: Entry

    @cached_property
    def status(self) -> RunStatus:
        """As `Entry.status`; whether a lock is held may change while we look."""
        return self.entry.status

    @cached_property
    def notes(self) -> Notes:
        """Its tags and its note."""
        return read_notes(self.entry.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its config by dotted keys."""
        return quick_config_of(self.entry, self.description)

    @cached_property
    def description(self) -> dict[str, Any]:
        """What its best checkpoint says of itself."""
        return description_of(self.entry)

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Its final metrics, or those so far."""
        return self.entry.metrics or metrics_of(self.entry, self.description)

    @property
    def monitored(self) -> str | None:
        """The metric it went by."""
        return monitored(self.metrics, self.config)

    def plain(self) -> dict[str, Any]:
        """What a program is told."""
        entry, best = self.entry, self.monitored
        return {
            "id": entry.id,
            "path": str(entry.path),
            "name": entry.name,
            "status": self.status,
            "started": entry.record.get("started"),
            "ended": entry.record.get("ended"),
            "monitor": best,
            "best": None if best is None else self.metrics[best],
            "metrics": {
                name: value if is_finite(value) else None for name, value in self.metrics.items()
            },
            "tags": list(self.notes.tags),
            "note": self.notes.note,
        }


def ls(words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal) -> None:
    """List the runs below `root` that pass the filters in `words`, the newest first, or as
    `options` say.
    """
    rows = ordered(chosen(words, root), options.get("sort", "started"))
    # A program that asks wants them all.
    limit = int(options.get("limit", "0" if {"json", "quiet"} & set(options) else "20"))
    shown = rows[:limit] if limit else rows
    if "json" in options:
        terminal.out.file.write(
            json.dumps([row.plain() for row in shown], indent=2, ensure_ascii=False) + "\n"
        )
    elif "quiet" in options:
        for row in shown:
            terminal.line(row.entry.id)
    elif not rows:
        terminal.note(f"There is no run in {root}{' that passes' if words else ''}.")
    else:
        titles = ("ID", "STARTED", "NAME", "STATUS", "BEST", "TEST", "TAGS", "NOTE")
        write_table(
            titles,
            [_cells(row) for row in shown],
            terminal=terminal,
            giving_way=("NOTE", "NAME", "TAGS"),
        )
        if len(shown) < len(rows):
            terminal.note(f"{len(rows) - len(shown)} more: limit=0 shows all.")


def best(
    words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal
) -> None:
    """Show the run with the best value of a metric, the first of `words` if it is one; raises
    UsageError without.
    """
    asked = words[0] if words and words[0] in METRICS else None
    if asked is None and words and "/" in words[0] and "=" not in words[0]:
        raise UsageError(
            f"There is no metric {words[0]}.", hint=suggestion(words[0], METRICS, label="Metrics")
        )
    rows = chosen(words[1:] if asked else words, root)
    metric = asked or next((row.monitored for row in rows if row.monitored), METRICS[0])
    rows = [row for row in ordered(rows, metric) if is_finite(row.metrics.get(metric))]
    if not rows:
        raise UsageError(
            f"No run in {root}{' that passes' if words else ''} has {metric}.",
            hint="See: trainer runs ls",
        )
    if "json" in options:
        terminal.out.file.write(json.dumps(rows[0].plain(), indent=2, ensure_ascii=False) + "\n")
        return
    if "quiet" in options:
        terminal.line(rows[0].entry.id)
        return
    entry = rows[0].entry
    facts = [
        ("id", entry.id),
        (metric, as_number(rows[0].metrics[metric])),
        ("run", str(entry.path)),
        ("evaluate", shlex.join(["trainer", "eval", override("ckpt", str(entry.path))])),
        ("repeat", str(entry.record.get("command") or "-")),
    ]
    terminal.facts(f"Best of {len(rows)} run{'s' * (len(rows) > 1)} by {metric}", facts)


def chosen(words: Sequence[str], root: Path) -> list[Row]:
    """The runs below `root` that pass every filter; raises UsageError for a key or a status that
    no run could have.
    """
    rows = [Row(entry=entry) for entry in read_index(root)]
    for word in words:
        passes = _filter(word, rows)
        rows = [row for row in rows if passes(row)]
    return rows


def ordered(rows: list[Row], by: str) -> list[Row]:
    """The runs in order: the newest or the best first, names and states from A to Z, those
    without a value last.
    """
    if by == "started":
        return rows
    if by in ("name", "status"):
        return sorted(rows, key=lambda row: row.entry.name if by == "name" else row.status)
    sign = -1 if is_maximized(by) else 1

    def key(row: Row) -> float:
        value = row.metrics.get(by)
        return sign * value if value is not None and is_finite(value) else math.inf

    return sorted(rows, key=key)


def _filter(word: str, rows: list[Row]) -> Callable[[Row], bool]:
    key, equals, value = word.partition("=")
    if not equals:
        is_id = len(word) >= MIN_DIGITS
        return lambda row: (
            word in row.entry.name or (is_id and row.entry.digest.startswith(word.lower()))
        )
    if key == "status":
        for name in value.split(","):
            if name not in tuple(RunStatus):
                raise UsageError(
                    f"status={name}: there is no such status.", hint=suggestion(name, RunStatus)
                )
        return lambda row: row.status in value.split(",")
    if key == "tag":
        return lambda row: bool({*value.split(",")} & {*row.notes.tags})
    known = {key for row in rows for key in row.config}
    groups = {
        name.removesuffix(".name"): name
        for name in known
        if name.endswith(".name") and name != "run.name"
    }
    if rows and key not in known and key not in groups:
        raise UsageError(
            f"No run has the key {key}.", hint=_near_keys(key, [*known, *groups, *FILTERS])
        )
    dotted = key if key in known else groups.get(key, key)
    return lambda row: dotted in row.config and _is_value(row.config[dotted], value)


def _near_keys(key: str, known: list[str]) -> str:
    hint = suggestion(key, known)
    # All keys of a config would fill the screen.
    return (
        hint.partition("? ")[0] + "?"
        if hint.startswith("Did you")
        else "Filters: status=, tag=, or a config's key."
    )


def _is_value(value: Any, text: str) -> bool:
    """Whether a filter means a value: as it is written, or one of several between commas, or the
    same number.
    """
    wanted = [text, *text.split(",")]
    if as_text(value) in wanted or as_text(value).replace(" ", "") in [
        word.replace(" ", "") for word in wanted
    ]:
        return True
    return is_finite(value) and any(_number(word) == value for word in wanted)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _cells(row: Row) -> list[str]:
    best, metrics = row.monitored, row.metrics
    test = next(
        (name for name in ("test/accuracy", "test/loss") if is_finite(metrics.get(name))), None
    )
    note = next((line for line in row.notes.note.splitlines() if line.strip()), "")
    return [
        row.entry.id,
        ago(row.entry.started),
        row.entry.name,
        row.status,
        "-" if best is None else f"{best} {as_number(metrics[best])}",
        "-" if test is None else f"{test.removeprefix('test/')} {as_number(metrics[test])}",
        ",".join(row.notes.tags),
        note if len(note) <= _NOTE_LENGTH else note[: _NOTE_LENGTH - 1] + "…",
    ]
