"""Which runs are there: `trainer runs ls` and `best`, with filters and an order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trainer.commands.runs import when
from trainer.commands.runs.read import (
    as_text,
    description_of,
    is_finite,
    is_maximized,
    metrics_of,
    monitored,
    quick_config_of,
)
from trainer.config.overrides import eval_words, override
from trainer.config.synonyms import our_key
from trainer.errors import UsageError, as_called, command_line, counted, suggestion
from trainer.files import JsonObject
from trainer.run.find import MIN_DIGITS
from trainer.run.index import METRICS, Entry, Notes, read_index, read_notes
from trainer.run.record import RunStatus
from trainer.tracking.console import Terminal
from trainer.tracking.table import Narrow, ago, write_json, write_table
from trainer.tracking.text import number_in, number_text

FILTERS = ("name", "status", "tag", *when.KEYS)
_TITLES = ("ID", "STARTED", "NAME", "STATUS", "BEST", "TEST", "TAGS", "NOTE")
_NARROW = Narrow(
    cut=("NOTE", "NAME", "TAGS"),
    leave_out=("STARTED", "NOTE", "TAGS", "TEST", "BEST", "STATUS"),
)
_MAX_NOTE = 60
_DEFAULT_LIMIT = "20"


@dataclass(kw_only=True)
class RunRow:
    """One run of the list.

    What is not in run.json is read when it is first needed: so five hundred runs are listed in a
    quarter of a second.
    """

    entry: Entry

    @cached_property
    def status(self) -> RunStatus:
        """How the run was when it was first looked at: a lock may be taken meanwhile."""
        return self.entry.status

    @cached_property
    def notes(self) -> Notes:
        """Its tags and its note."""
        return read_notes(self.entry.path)

    @cached_property
    def config(self) -> dict[str, object]:
        """Its config by dotted keys."""
        return quick_config_of(self.entry, self.description)

    @cached_property
    def description(self) -> JsonObject:
        """The description in its best checkpoint."""
        return description_of(self.entry)

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Its final metrics, or those so far."""
        return self.entry.metrics or metrics_of(self.description)

    @property
    def monitored(self) -> str | None:
        """The metric that chose its best checkpoint."""
        return monitored(self.metrics, self.config)

    def plain(self) -> dict[str, object]:
        """The row as JSON for programs."""
        entry = self.entry
        metric = self.monitored
        return {
            "id": entry.id,
            "path": str(entry.path),
            "name": entry.name,
            "status": self.status,
            "started": entry.record.get("started"),
            "ended": entry.record.get("ended"),
            "monitor": metric,
            "best": None if metric is None else self.metrics[metric],
            # A loss that became NaN or infinite is null: JSON has neither.
            "metrics": {
                name: value if is_finite(value) else None for name, value in self.metrics.items()
            },
            "tags": list(self.notes.tags),
            "note": self.notes.note,
        }

    def cells(self) -> list[str]:
        """The row of the table, one cell a title."""
        best = self.monitored
        # Of targets that are values, there is no accuracy.
        test = next((key for key in ("test/accuracy", "test/loss") if self._has(key)), None)
        note = next((line for line in self.notes.note.splitlines() if line.strip()), "")
        if len(note) > _MAX_NOTE:
            note = f"{note[: _MAX_NOTE - 1]}…"
        return [
            self.entry.id,
            ago(self.entry.started),
            self.entry.name,
            self.status,
            self._metric_text(best),
            self._metric_text(test).removeprefix("test/"),
            ",".join(self.notes.tags),
            note,
        ]

    def _has(self, metric: str) -> bool:
        return is_finite(self.metrics.get(metric))

    def _metric_text(self, metric: str | None) -> str:
        return "-" if metric is None else f"{metric} {number_text(self.metrics[metric])}"


def ls(words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal) -> None:
    """List the runs below `root` that pass the filters `words`, sorted and limited by `options`."""
    rows = ordered(chosen(words, root), options.get("sort", "started"))
    # A program that reads the list wants all of it.
    is_for_programs = "json" in options or "quiet" in options
    limit = int(options.get("limit", "0" if is_for_programs else _DEFAULT_LIMIT))
    listed = rows[:limit] if limit else rows
    if "json" in options:
        write_json([row.plain() for row in listed], terminal=terminal)
    elif "quiet" in options:
        for row in listed:
            terminal.line(row.entry.id)
    elif not rows:
        terminal.note(f"There is no run in {root}{' that passes' if words else ''}.")
    else:
        cells = [row.cells() for row in listed]
        write_table(_TITLES, cells, terminal=terminal, narrow=_NARROW)
        if len(listed) < len(rows):
            terminal.note(f"{len(rows) - len(listed)} more: limit=0 shows all.")


def best(
    words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal
) -> None:
    """Show the run with the best value of a metric: the first of `words`, or the newest run's own.

    The other words are filters. Raises UsageError when no run has a value.
    """
    metric, filters = _split_metric(words)
    rows = chosen(filters, root)
    if metric is None:  # the rows are still in the order of their start, the newest first
        metric = next((row.monitored for row in rows if row.monitored), METRICS[0])
    rows = [row for row in ordered(rows, metric) if is_finite(row.metrics.get(metric))]
    if not rows:
        raise _no_best(metric, filters, root)
    row = rows[0]
    entry = row.entry
    if "json" in options:
        write_json(row.plain(), terminal=terminal)
    elif "quiet" in options:
        terminal.line(entry.id)
    else:
        facts = [
            ("id", entry.id),
            (metric, number_text(row.metrics[metric])),
            ("run", str(entry.path)),
            ("evaluate", _evaluate(row)),
            # run.json has the command as `trainer …`, however it was called then.
            ("repeat", as_called(str(entry.record.get("command") or "-"))),
        ]
        terminal.facts(f"Best of {counted(len(rows), 'run')} by {metric}", facts)


def _evaluate(row: RunRow) -> str:
    """The command that evaluates the best checkpoint of a run."""
    config: dict[str, JsonObject] = {}
    for dotted, value in row.config.items():
        group, _, name = dotted.partition(".")
        config.setdefault(group, {})[name] = value
    return command_line("eval", override("ckpt", str(row.entry.path)), *eval_words(config))


def _no_best(metric: str, filters: Sequence[str], root: Path) -> UsageError:
    """The error where no run is the best: none passes the filters, or none has the metric."""
    if filters and not chosen(filters, root):
        return UsageError(
            f"No run in {root} passes {' '.join(filters)}.",
            hint=f"A word without a = is a part of a name. Metrics: {', '.join(METRICS)}.",
        )
    passing = " that passes" if filters else ""
    return UsageError(
        f"No run in {root}{passing} has {metric}.", hint=f"See: {command_line('runs', 'ls')}"
    )


def _split_metric(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The metric that the first word names, if any, and the filters."""
    if not words:
        return None, words
    first = words[0]
    if first in METRICS:
        return first, words[1:]
    # No folder has a slash in its name, so this is no filter either: it is a metric misspelt.
    if ("/" in first or _is_half_a_metric(first)) and "=" not in first:
        raise UsageError(
            f"There is no metric {first}.", hint=suggestion(_whole(first), METRICS, label="Metrics")
        )
    return None, words


def _is_half_a_metric(word: str) -> bool:
    """Whether a word is `accuracy`, `loss`, a short form, or a metric without its slash."""
    return _whole(word) in METRICS


def _whole(word: str) -> str:
    """The metric that `acc`, `loss` or `val_loss` may stand for; else the word."""
    name = word.lower().replace("-", "_")
    split, _, rest = name.rpartition("_")
    metric = f"{split or 'val'}/{'accuracy' if rest == 'acc' else rest}"
    return metric if metric in METRICS else word


def chosen(words: Sequence[str], root: Path) -> list[RunRow]:
    """The runs below `root` that pass every filter.

    Raises UsageError for a key that none of them has, and for a status that does not exist.
    """
    rows = [RunRow(entry=entry) for entry in read_index(root)]
    for word in words:
        # Each sees only those that passed so far: a status first spares reading their configs.
        passes = _filter(word, rows)
        rows = [row for row in rows if passes(row)]
    return rows


_TEXTS: dict[str, Callable[[RunRow], str]] = {
    "name": lambda row: row.entry.name,
    "status": lambda row: row.status,
}


def ordered(rows: list[RunRow], by: str) -> list[RunRow]:
    """The runs by start, the newest first; by name or status, from A to Z; or by a metric.

    By a metric the best comes first, and a run without a value last.
    """
    if by == "started":
        return rows
    if by in _TEXTS:
        return sorted(rows, key=_TEXTS[by])
    # Equal values keep the order by start, because sorting is stable; a NaN would break it.
    sign = -1 if is_maximized(by) else 1

    def key(row: RunRow) -> float:
        value = row.metrics.get(by)
        return sign * value if value is not None and is_finite(value) else math.inf

    return sorted(rows, key=key)


def _filter(word: str, rows: Sequence[RunRow]) -> Callable[[RunRow], bool]:
    """Whether a run passes the filter `word`; raises UsageError when it is wrong."""
    key, equals, value = word.partition("=")
    if not equals:
        return lambda row: word in row.entry.name or _has_id(row, word)
    if key in when.KEYS:
        is_passing = when.passes(key, value)
        return lambda row: is_passing(row.entry)
    if key == "name":
        return lambda row: value in row.entry.name
    if key == "tag":
        return lambda row: not {*value.split(",")}.isdisjoint(row.notes.tags)
    if key == "status":
        names = value.split(",")
        # Misspelt it would pass no run, which looks like an answer.
        for name in names:
            if name not in tuple(RunStatus):
                raise UsageError(
                    f"status={name}: there is no such status.", hint=suggestion(name, RunStatus)
                )
        return lambda row: row.status in names
    dotted = _config_key(key, rows)
    return lambda row: dotted in row.config and _is_value(row.config[dotted], value)


def _has_id(row: RunRow, digits: str) -> bool:
    return len(digits) >= MIN_DIGITS and row.entry.digest.startswith(digits.lower())


def _config_key(key: str, rows: Sequence[RunRow]) -> str:
    """The dotted key of the configs that `key` names; that of a group is its name.

    Raises UsageError when no run has it.
    """
    known = {name for row in rows for name in row.config}
    # Where an earlier filter left no run, no config says which keys there are.
    if key in known or not rows:
        return key
    if f"{key}.name" in known and key != "run":  # run.name is a name, and no choice of a group
        return f"{key}.name"
    groups = [name.removesuffix(".name") for name in known if name.endswith(".name")]
    raise UsageError(
        f"No run has the key {key}.", hint=_near_keys(key, [*known, *groups, *FILTERS])
    )


def _near_keys(key: str, known: Iterable[str]) -> str:
    names = list(known)
    # `lr` is near nothing, and the end of optimizer.lr.
    whole = our_key(key)
    same = [name for name in names if name.rpartition(".")[2] == key]
    if whole in names and not same:
        same = [str(whole)]
    if same:
        return f"Did you mean {' or '.join(sorted(set(same))[:3])}?"
    near, question, _ = suggestion(key, names).partition("? ")
    # Without a near key all keys of a config would fill the screen.
    filters = ", ".join(f"{name}=" for name in FILTERS)
    return f"{near}?" if question else f"Filters: {filters}, or a config's key."


def _is_value(value: object, text: str) -> bool:
    """Whether a filter's text is a value as it is written, one of several, or the same number."""
    # The whole text too: a list has commas inside.
    wanted = [text, *text.split(",")]
    written = as_text(value).replace(" ", "")
    if any(word.replace(" ", "") == written for word in wanted):
        return True
    # As numbers, so that 1e-1 finds 0.1.
    return is_finite(value) and any(number_in(word) == value for word in wanted)
