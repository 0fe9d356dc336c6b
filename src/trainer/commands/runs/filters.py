"""Filters of runs: by name, status, tag, time and sweep, and by the keys of their configs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from trainer.commands.runs import when
from trainer.commands.runs.keys import dotted_key, near_keys
from trainer.commands.runs.read import as_text, is_finite
from trainer.commands.runs.row import RunRow
from trainer.config.overrides import override
from trainer.errors import UsageError, program, suggestion
from trainer.run.find import MIN_DIGITS
from trainer.run.index import read_index
from trainer.run.record import RunStatus
from trainer.tracking.text import number_in

FILTERS = ("name", "status", "tag", *when.KEYS)


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


def only_filters(words: Sequence[str], *, verb: str) -> list[str]:
    """The words where they are filters, and none of them where they name runs.

    Raises UsageError where some are filters and some name runs.
    """
    filters = [word for word in words if "=" in word and not os.path.lexists(word)]
    if filters and len(filters) < len(words):
        others = [word for word in words if word not in filters]
        raise UsageError(
            f"{others[0]} names a run, and {filters[0]} is a filter.",
            hint=f"Give runs, or filters alone: {program()} runs {verb} {' '.join(filters)}",
        )
    return filters


def root_words(root: Path) -> list[str]:
    """The word that names `root` in a command to copy; none for the default."""
    return [] if str(root) == "runs" else [override("run.root", str(root))]


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
    return lambda row: dotted in row.values and _is_value(row.values[dotted], value)


def _has_id(row: RunRow, digits: str) -> bool:
    return len(digits) >= MIN_DIGITS and row.entry.digest.startswith(digits.lower())


def _config_key(key: str, rows: Sequence[RunRow]) -> str:
    """The dotted key of the configs that `key` names; raises UsageError when no run has it."""
    known = {name for row in rows for name in row.values}
    # Where an earlier filter left no run, no config says which keys there are.
    dotted = dotted_key(key, known) if rows else key
    if dotted is None:
        raise UsageError(f"No run has the key {key}.", hint=_near(key, known))
    return dotted


def _near(key: str, known: Collection[str]) -> str:
    filters = ", ".join(f"{name}=" for name in FILTERS)
    return near_keys(key, [*known, *FILTERS]) or f"Filters: {filters}, or a config's key."


def _is_value(value: object, text: str) -> bool:
    """Whether a filter's text is a value as it is written, one of several, or the same number."""
    # The whole text too: a list has commas inside.
    wanted = [text, *text.split(",")]
    written = as_text(value).replace(" ", "")
    if any(word.replace(" ", "") == written for word in wanted):
        return True
    # As numbers, so that 1e-1 finds 0.1.
    return is_finite(value) and any(number_in(word) == value for word in wanted)
