"""Which runs there are: `trainer runs ls`, as a table, JSON, CSV or ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.commands.runs.comparable import mixture
from trainer.commands.runs.filters import chosen, root_words
from trainer.commands.runs.keys import COLUMNS, cell, differing_keys, named_keys, titles, typed
from trainer.commands.runs.order import ordered
from trainer.commands.runs.read import as_text
from trainer.commands.runs.row import RunRow
from trainer.errors import UsageError, command_line, listing
from trainer.run.index import METRICS
from trainer.tracking.console import Terminal
from trainer.tracking.csv_text import csv_text
from trainer.tracking.table import Narrow, write_json, write_table

_DEFAULT_LIMIT = "20"
# The keys of the config go between these.
_FIRST = COLUMNS[: COLUMNS.index("STATUS")]
_LAST = COLUMNS[COLUMNS.index("STATUS") :]
# More keys are no overview.
_MAX_KEYS = 4
_MAX_NAMED = 3


def ls(words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal) -> None:
    """List the runs below `root` that pass the filters `words`, sorted and limited by `options`.

    Raises UsageError for a wrong filter, and for a key in `columns` that no run has.
    """
    output = _output(options)
    sort = options.get("sort", "started")
    rows = ordered(chosen(words, root), sort)
    # A program that reads the list wants all of it.
    limit = int(options.get("limit", "0" if output else _DEFAULT_LIMIT))
    listed = rows[:limit] if limit else rows
    # For ids too: a wrong name must not pass in silence.
    keys = named_keys(options["columns"], listed) if "columns" in options else None
    if output:
        _write_for_programs(output, listed, keys, terminal=terminal)
    elif not rows:
        terminal.note(f"There is no run in {root}{' that passes' if words else ''}.")
    else:
        _write_list(listed, keys, terminal=terminal)
        if len(listed) < len(rows):
            terminal.note(f"{len(rows) - len(listed)} more: limit=0 shows all.")
    # Of all that were ranked: the first ones may be alike because the others measure more.
    mixed = mixture(sort, rows) if sort in METRICS else None
    if mixed is not None:
        narrowed = ["ls", *words, *mixed.filters, f"sort={sort}", *root_words(root)]
        terminal.warn(mixed.sentence(command_line("runs", *narrowed)))


def _write_for_programs(
    output: str, rows: Sequence[RunRow], named: Sequence[str] | None, *, terminal: Terminal
) -> None:
    if output == "quiet":
        for row in rows:
            terminal.line(row.entry.id)
        return
    keys = differing_keys(rows) if named is None else named
    if output == "json":
        write_json([row.plain(keys=keys) for row in rows], terminal=terminal)
    else:
        terminal.out.file.write(_csv(rows, keys))


def _output(options: Mapping[str, str]) -> str:
    """What a program reads: `json`, `csv` or `quiet`; empty for the table."""
    found = [name for name in ("csv", "json", "quiet") if name in options]
    if len(found) > 1 and found[0] == "csv":
        raise UsageError(
            f"--csv and --{found[1]} do not go together.", hint="Leave one of them out."
        )
    return found[0] if found else ""


def _write_list(rows: Sequence[RunRow], named: Sequence[str] | None, *, terminal: Terminal) -> None:
    """Print the table, with the keys `named`, or else the first ones that differ."""
    differing = differing_keys(rows) if named is None else []
    keys = differing[:_MAX_KEYS] if named is None else named
    names = titles(keys)
    cells = [
        [*row.first_cells(), *(cell(row, key) for key in keys), *row.last_cells()] for row in rows
    ]
    left_out = write_table(
        (*_FIRST, *names, *_LAST),
        cells,
        terminal=terminal,
        narrow=_narrow(names, are_named=named is not None),
    )
    hidden = [key for key, title in zip(keys, names, strict=True) if title in left_out]
    further = [typed(key) for key in (*hidden, *differing[_MAX_KEYS:])]
    listed_keys = listing(further, most=_MAX_NAMED)
    if further and named is not None:
        terminal.note(f"There is no room for {listed_keys}: --csv and --json have all.")
    elif further:
        terminal.note(f"The runs also differ in {listed_keys}; columns={further[0]} shows that.")


def _narrow(names: Sequence[str], *, are_named: bool) -> Narrow:
    """What gives way in a narrow terminal, and in which order; named keys go last."""
    keys = tuple(reversed(names))
    before, after = ((), keys) if are_named else (keys, ())
    leave_out = ("STARTED", "NOTE", "TAGS", "TEST", *before, "BEST", "STATUS", *after)
    return Narrow(cut=("NOTE", *keys, "NAME", "TAGS"), leave_out=leave_out)


def _csv(rows: Sequence[RunRow], keys: Sequence[str]) -> str:
    """A row a run, with every metric that one of them has."""
    found = {name for row in rows for name in row.metrics}
    metrics = [name for name in METRICS if name in found]
    metrics += sorted(found.difference(METRICS))
    fixed = ["id", "path", "name", "status", "started", "ended"]
    cells = []
    for row in rows:
        plain = row.plain()
        values = [as_text(row.values[key]) if key in row.values else None for key in keys]
        cells.append(
            [
                *(plain[name] for name in fixed),
                *values,
                *(row.metrics.get(name) for name in metrics),
                ",".join(row.notes.tags),
                row.notes.note,
            ]
        )
    return csv_text([*fixed, *keys, *metrics, "tags", "note"], cells)
