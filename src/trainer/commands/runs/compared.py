"""Which runs `trainer runs compare` compares: those that are named, of sweeps, or that pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.commands.runs.comparable import mixture
from trainer.commands.runs.filters import chosen, only_filters, root_words
from trainer.commands.runs.order import ordered
from trainer.commands.runs.row import RunRow
from trainer.errors import UsageError, command_line
from trainer.run.find import find_path, find_runs
from trainer.run.folder import is_sweep_folder
from trainer.run.index import Entry, read_index

# More columns are no overview.
_MAX_UNNAMED = 8
_EXPECTED = "Give runs by their ids, folders or names, or a sweep by its folder or its name."


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Runs to compare.

    `metric` is the one by which they are ordered, the best first, if any. `filters` lists the same
    runs with `runs ls`; it is empty where no filter does. `is_open` says that the runs were not
    named one by one.
    """

    rows: Sequence[RunRow]
    metric: str | None = None
    is_open: bool = False
    filters: Sequence[str] = ()

    def num_shown(self, limit: str | None) -> int:
        """How many of the runs have a column, by the key `limit`; 0 is for all."""
        if limit is not None:
            return int(limit) or len(self.rows)
        return min(_MAX_UNNAMED, len(self.rows)) if self.is_open else len(self.rows)

    def note(self, num_shown: int, *, root: Path) -> str:
        """Which runs have no column, and how to see them."""
        which = f"first {num_shown} of {len(self.rows)} runs"
        if self.metric:
            which = f"best {num_shown} of {len(self.rows)} runs by {self.metric}"
        text = f"These are the {which}. limit=0 compares all"
        if not self.filters:
            return f"{text}."
        order = [f"sort={self.metric}"] if self.metric else []
        words = [*self.filters, *order, "limit=0", *root_words(root)]
        return f"{text}; {command_line('runs', 'ls', *words)} lists all."


def to_compare(words: Sequence[str], root: Path) -> Compared:
    """The runs that words name, by themselves, by their sweep or by filters.

    Raises UsageError for a word that names nothing, and for fewer than two runs.
    """
    if not words:
        raise UsageError(
            "The runs are missing.",
            hint=f"Write: {command_line('runs', 'compare', 'last')} <run>, or name a sweep; "
            f"{command_line('runs')} lists them.",
        )
    filters = only_filters(words, verb="compare")
    if filters:
        rows, metric = _best_first(chosen(filters, root))
        found = Compared(rows=rows, metric=metric, is_open=True, filters=filters)
        if not found.rows:
            raise UsageError(f"No run in {root} passes {' '.join(filters)}.", hint=_see_list())
    else:
        found = _named(words, root)
    # One run that two words name is compared with itself, as it always was.
    if len(found.rows) < 2 and (found.is_open or len(words) < 2):
        raise _one_alone(found, root)
    return found


def _named(words: Sequence[str], root: Path) -> Compared:
    index = read_index(root)
    runs: list[str] = []
    jobs: list[str] = []
    sweeps: list[Path] = []
    for word in words:
        folder = find_path(word, root=root, index=index, takes_sweeps=True, expected=_EXPECTED)
        if not is_sweep_folder(folder):
            runs.append(word)
            continue
        sweeps.append(folder)
        found = read_index(folder)
        if not found:
            raise UsageError(f"The sweep {folder} has no run.", hint=_see_list())
        jobs += [str(job.path) for job in found]
    # Single runs first, in the order of their words; the jobs of all sweeps are ranked together.
    rows = {row.entry.path: row for row in _rows(runs, root, index)}
    ranked, metric = _best_first(_rows(jobs, root, index))
    for row in ranked:
        rows.setdefault(row.entry.path, row)
    return Compared(
        rows=list(rows.values()),
        metric=None if runs else metric,
        is_open=bool(sweeps),
        filters=_filters(sweeps[0], root) if len(words) == len(sweeps) == 1 else [],
    )


def _filters(sweep: Path, root: Path) -> list[str]:
    """The filter that lists the runs of a sweep; none for one that is not below `root`."""
    is_below = sweep.resolve().is_relative_to(root.resolve())
    return [f"sweep={sweep.name}"] if is_below else []


def _rows(words: Sequence[str], root: Path, index: Sequence[Entry]) -> list[RunRow]:
    return [RunRow(entry=entry) for entry in find_runs(words, root=root, index=index)]


def _best_first(rows: Sequence[RunRow]) -> tuple[list[RunRow], str | None]:
    """The runs by the metric that they monitor, and that metric.

    Where it does not rank them, they are in the order of their start, and there is no metric.
    """
    metric = next((row.monitored for row in rows if row.monitored), None)
    if metric is None or mixture(metric, rows) is not None:
        return list(reversed(rows)), None
    return ordered(rows, metric), metric


def _one_alone(found: Compared, root: Path) -> UsageError:
    entry = found.rows[0].entry
    if not found.is_open:
        return UsageError(
            "A second run is missing.",
            hint=f"Write: {command_line('runs', 'compare', entry.id)} <run>; "
            f"{command_line('runs')} lists them.",
        )
    return UsageError(
        f"There is one run, {entry.path}, and nothing to compare it with.",
        hint=f"See: {command_line('runs', 'show', entry.id, *root_words(root))}",
    )


def _see_list() -> str:
    return f"See: {command_line('runs', 'ls')}"
