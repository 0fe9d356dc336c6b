"""What there is to tidy up: the runs and sweeps that `rm` removes, and `du`, the disk they take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.commands.runs.filters import chosen, only_filters
from trainer.errors import counted
from trainer.run.find import find_path, find_runs, no_run
from trainer.run.folder import is_sweep_folder
from trainer.run.index import Entry, read_index
from trainer.tracking.console import Terminal
from trainer.tracking.table import size_text, write_json, write_table


@dataclass(frozen=True, slots=True)
class ToRemove:
    """Runs, and folders of sweeps in which no run is left."""

    entries: Sequence[Entry]
    sweeps: Sequence[Path] = ()


def to_remove(words: Sequence[str], root: Path) -> ToRemove:
    """What the words name: runs and folders of sweeps, or filters, which all runs must pass.

    Raises UsageError for a word that names nothing, and for runs and filters together.
    """
    filters = only_filters(words, verb="rm")
    if not filters:
        return _named(words, root)
    return ToRemove([row.entry for row in chosen(filters, root)])


def _named(words: Sequence[str], root: Path) -> ToRemove:
    index = read_index(root)
    runs: list[str] = []
    sweeps: list[Path] = []
    for word in words:
        folder = find_path(word, root=root, index=index)
        if not is_sweep_folder(folder):
            runs.append(word)
        elif jobs := read_index(folder):
            runs += [str(job.path) for job in jobs]
        else:
            sweeps.append(folder)
    return ToRemove(find_runs(runs, root=root, index=index), list(dict.fromkeys(sweeps)))


def du(words: Sequence[str], *, as_json: bool, root: Path, terminal: Terminal) -> None:
    """The disk that runs take, by day and sweep, the largest first; `words` are filters."""
    entries = [row.entry for row in chosen(words, root)]
    if not entries and not words:
        raise no_run(root)
    sizes: dict[Path, list[int]] = {}
    for entry in entries:
        sizes.setdefault(entry.path.parent, []).append(size_of(entry.path))
    places = sorted(sizes, key=lambda place: (-sum(sizes[place]), str(place)))
    if as_json:
        rows = [
            {"path": str(place), "runs": len(sizes[place]), "bytes": sum(sizes[place])}
            for place in places
        ]
        write_json(rows, terminal=terminal)
        return
    cells = [[size_text(sum(sizes[place])), str(len(sizes[place])), str(place)] for place in places]
    if cells:
        write_table(("SIZE", "RUNS", "WHERE"), cells, terminal=terminal)
    total = sum(map(sum, sizes.values()))
    terminal.line(f"{counted(len(entries), 'run')}, {size_text(total)} in all.")


def size_of(run: Path) -> int:
    """The bytes of the files in a run; links are not followed."""
    if run.is_symlink():
        return 0
    total = 0
    for folder, _, names in os.walk(run):
        for name in names:
            with contextlib.suppress(OSError):  # removed since the folder was listed
                total += os.lstat(Path(folder, name)).st_size
    return total
