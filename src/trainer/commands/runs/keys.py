"""Keys of the configs of runs: which one a word names, which differ, and how a column shows one."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence

from trainer.commands.runs.read import as_text
from trainer.commands.runs.row import RunRow
from trainer.config import SCHEMAS, SECTIONS, TOP_LEVEL, affects, find_key, known_keys
from trainer.config.keys import Affects
from trainer.config.synonyms import our_key
from trainer.errors import UsageError, printable, suggestion
from trainer.run.index import METRICS
from trainer.tracking.text import shortened

# What may explain that two runs have other results. Keys of the command, the logger and the place
# of the data cannot.
_EXPLAINING: tuple[Affects, ...] = ("result", "order", "samples", "evaluation", "rounding")
# The columns that a list has without any key.
COLUMNS = ("ID", "STARTED", "NAME", "STATUS", "BEST", "TEST", "TAGS", "NOTE")
# The text of a cell is cut here, and a number that is longer to four digits.
_MAX_CELL = 40
_MAX_NUMBER = 8
_ABSENT = object()


def dotted_key(word: str, known: Collection[str]) -> str | None:
    """The dotted key of `known` that a word names, if any; that of a group is its choice."""
    if word in known:
        return word
    # run.name is a name, and no choice of a group.
    return f"{word}.name" if f"{word}.name" in known and word != "run" else None


def near_keys(word: str, known: Collection[str]) -> str:
    """`Did you mean …?` with the keys that a wrong word may stand for, or an empty text."""
    groups = [name.removesuffix(".name") for name in known if name.endswith(".name")]
    names = [*known, *groups]
    # `lr` is near nothing, and the end of optimizer.lr.
    same = [name for name in names if name.rpartition(".")[2] == word]
    whole = our_key(word)
    if whole in names and not same:
        same = [str(whole)]
    if same:
        return f"Did you mean {' or '.join(sorted(set(same))[:3])}?"
    # A group without a choice, such as trainer.
    inside = [name for name in known if name.startswith(f"{word}.")]
    if inside:
        return f"Did you mean a key in it, such as {min(inside, key=_place)}?"
    # Without a near key all keys of a config would fill the screen.
    near, question, _ = suggestion(word, names).partition("? ")
    return f"{near}?" if question else ""


@functools.cache
def config_keys() -> frozenset[str]:
    """Every key that the config of a run may have; those in tables are not known."""
    heads = {*SCHEMAS, *SECTIONS, *TOP_LEVEL}
    return frozenset(name for name in known_keys() if name.partition(".")[0] in heads)


def named_keys(text: str, rows: Sequence[RunRow]) -> list[str]:
    """The keys that `columns=` names, such as `optimizer.lr,model`.

    Raises UsageError for a word that is no key, and for no word at all.
    """
    # A key in a table, such as model.kwargs.width, is known to the runs alone.
    known = config_keys().union(*(row.values for row in rows))
    words = [word.strip() for word in text.split(",")]
    found = []
    for word in filter(None, words):
        dotted = dotted_key(word, known)
        if dotted is None:
            raise _no_column(word, known)
        found.append(dotted)
    if not found:
        raise UsageError("columns= is empty.", hint="Name keys: columns=optimizer.lr,model")
    return list(dict.fromkeys(found))


def _no_column(word: str, known: Collection[str]) -> UsageError:
    what = f"columns={word}: no run has the key {word}."
    hint = near_keys(word, known) or "Name keys of the config: columns=optimizer.lr,model"
    if word.upper() in COLUMNS:
        what = f"columns={word}: the list has this column anyway."
        hint = "Name keys of the config: columns=optimizer.lr,model"
    elif word in METRICS:
        what = f"columns={word}: a metric is no key of the config."
        hint = f"Write sort={word} for the order. --csv and --json have all metrics."
    return UsageError(what, hint=hint)


def differing_keys(rows: Sequence[RunRow]) -> list[str]:
    """The keys that may explain other results and differ among the runs that have them.

    The most used ones come first.
    """
    keys = dict.fromkeys(key for row in rows for key in row.values)
    found = [key for key in keys if affects(key) in _EXPLAINING and _differs(key, rows)]
    return sorted(found, key=_place)


def _differs(key: str, rows: Sequence[RunRow]) -> bool:
    values = _values(key, rows)
    first = next(values, _ABSENT)
    return any(value != first for value in values)


def _values(key: str, rows: Sequence[RunRow]) -> Iterator[object]:
    """The values of a key; a table is none, because the keys in it are compared one by one."""
    table = ".".join(key.split(".")[:2])
    for row in rows:
        value = row.values.get(key, _ABSENT)
        # Another model has other keys. In a table, such as model.kwargs, a key is left out for its
        # default, which differs from any value.
        if value is not _ABSENT and not isinstance(value, dict):
            yield value
        elif key != table and table in row.values:
            yield _ABSENT


def _place(key: str) -> int:
    """The place of a key among those that people compare by."""
    known = find_key(key)
    return 1000 if known is None or known.column is None else known.column


def titles(keys: Sequence[str]) -> list[str]:
    """The title of a column for each key: its last part where no other of them has that."""
    last = [typed(key).rpartition(".")[2] for key in keys]
    return [
        printable(short if last.count(short) == 1 else typed(key))
        for short, key in zip(last, keys, strict=True)
    ]


def typed(key: str) -> str:
    """A key as a filter takes it: `model` for `model.name`."""
    group = key.removesuffix(".name")
    return group if group in SCHEMAS else key


def cell(row: RunRow, key: str) -> str:
    """The value of a key in a column, `-` for none."""
    if key not in row.values:
        return "-"
    value = row.values[key]
    text = as_text(value)
    if isinstance(value, float) and len(text) > _MAX_NUMBER:
        return f"{value:.4g}"
    return shortened(text, _MAX_CELL)
