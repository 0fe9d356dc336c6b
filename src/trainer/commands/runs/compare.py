"""How runs differ: `trainer runs compare` and `diff`."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence

from trainer.commands.runs.read import (
    as_text,
    config_of,
    curves_of,
    is_finite,
    scale_of,
    sparkline,
)
from trainer.commands.runs.row import RunRow
from trainer.config import affects
from trainer.config.comparison import is_maximized, what_differs
from trainer.errors import printable
from trainer.run.index import Entry
from trainer.tracking.console import Terminal
from trainer.tracking.table import write_table_in_parts
from trainer.tracking.text import number_text

_CURVE_WIDTH = 16
_NO_VALUE = "-"


def compare(rows: Sequence[RunRow], *, num_shown: int, terminal: Terminal) -> None:
    """Print the first `num_shown` runs side by side: config, final metrics, and curves.

    Of the config, there are the keys that differ among all `rows`.
    """
    configs = [config_of(row.entry) for row in rows]
    shown = rows[:num_shown]
    curves = [curves_of(row.entry.path) for row in shown]
    scales = _scales(curves)
    differences = _differences(shown, configs)
    table = [
        ["name", *(row.entry.name for row in shown)],
        ["status", *(row.status for row in shown)],
        *_config_rows(configs, num_shown),
        *_metric_rows(shown, unmarked=differences),
        *_curve_rows(curves, scales),
    ]
    titles = ["", *(row.entry.id for row in shown)]
    write_table_in_parts(titles, table, terminal=terminal)
    if scales:
        terminal.line("")
        terminal.facts("", [("curves", _scales_text(scales))], prose=("curves",))
    for reason in dict.fromkeys(differences.values()):
        names = [name for name in differences if differences[name] == reason]
        terminal.note(f"There is no * for {', '.join(names)}: {reason}.")
    _warn_of_unread(rows, configs, terminal=terminal)


def _warn_of_unread(
    rows: Sequence[RunRow], configs: Sequence[Mapping[str, object]], *, terminal: Terminal
) -> None:
    # A config that cannot be read has no keys, so it would look like one that differs in all.
    unread = [row.entry.id for row, config in zip(rows, configs, strict=True) if not config]
    if unread:
        terminal.warn(f"The config of {', '.join(unread)} cannot be read.")


def diff(one: Entry, other: Entry, *, terminal: Terminal) -> bool:
    """Print the changes from the config of `one` to that of `other`; whether there are any."""
    configs = [config_of(one), config_of(other)]
    keys = differing(configs)
    if keys:
        terminal.line(f"--- {one.id} {printable(one.name)}", style="bold")
        terminal.line(f"+++ {other.id} {printable(other.name)}", style="bold")
    for key in keys:
        for sign, style, config in (("-", "red", configs[0]), ("+", "green", configs[1])):
            if key in config:
                terminal.line(printable(f"{sign} {key}: {as_text(config[key])}"), style=style)
    return bool(keys)


def differing(configs: Sequence[Mapping[str, object]]) -> list[str]:
    """The keys whose values are not the same in all configs, those of a group together."""
    keys = _keys_of(configs)
    changed = [
        key
        for key in keys
        if affects(key) != "command"
        and any(_value(config, key) != _value(configs[0], key) for config in configs)
    ]
    # A key that only a later run has joins its group, instead of following all others.
    groups = list(dict.fromkeys(map(_group, keys)))
    return sorted(changed, key=lambda key: groups.index(_group(key)))


def _keys_of(tables: Iterable[Mapping[str, object]]) -> list[str]:
    """Every key of any of the tables, in the order in which they come."""
    return list(dict.fromkeys(itertools.chain.from_iterable(tables)))


def _group(key: str) -> str:
    return key.partition(".")[0]


def _value(config: Mapping[str, object], key: str) -> str:
    return as_text(config[key]) if key in config else _NO_VALUE


def _config_rows(configs: Sequence[Mapping[str, object]], num_shown: int) -> list[list[str]]:
    """A row a key that differs, but none that only runs without a column have."""
    rows = []
    for key in differing(configs):
        values = [_value(config, key) for config in configs[:num_shown]]
        if any(value != _NO_VALUE for value in values):
            rows.append([key, *values])
    return rows


def _differences(rows: Sequence[RunRow], configs: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Why runs cannot be compared, by each metric for which there is such a reason."""
    reasons = {}
    for name in _keys_of(row.metrics for row in rows):
        # There may be more configs, of runs that have no column.
        pairs = zip(rows, configs, strict=False)
        found = what_differs(
            name, [config for row, config in pairs if is_finite(row.metrics.get(name))]
        )
        if found is not None:
            reasons[name] = found.reason
    return reasons


def _metric_rows(rows: Sequence[RunRow], *, unmarked: Container[str]) -> list[list[str]]:
    table = []
    for name in _keys_of(row.metrics for row in rows):
        values = [row.metrics.get(name) for row in rows]
        texts = list(map(number_text, values)) if name in unmarked else _marked(name, values)
        table.append([name, *texts])
    return table


def _marked(metric: str, values: Sequence[float | None]) -> list[str]:
    """The values as text, the best with an asterisk where they differ."""
    finite = {value for value in values if value is not None and is_finite(value)}
    # Of equal values, or a single one, none is the best.
    if len(finite) < 2:
        return [number_text(value) for value in values]
    best = max(finite) if is_maximized(metric) else min(finite)
    return [number_text(value) + (" *" if value == best else "") for value in values]


def _scales(curves: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, tuple[float, float]]:
    """The lowest and the highest value that is drawn of each metric, in all runs."""
    scales = {}
    for name in sorted(_keys_of(curves)):
        found = [scale_of(curve[name], width=_CURVE_WIDTH) for curve in curves if name in curve]
        scales[name] = (min(low for low, _ in found), max(high for _, high in found))
    return scales


def _scales_text(scales: Mapping[str, tuple[float, float]]) -> str:
    ranges = [
        f"{name} {number_text(low)} to {number_text(high)}" for name, (low, high) in scales.items()
    ]
    return f"one scale for all runs, from ▁ to █: {', '.join(ranges)}"


def _curve_rows(
    curves: Sequence[Mapping[str, Sequence[float]]], scales: Mapping[str, tuple[float, float]]
) -> list[list[str]]:
    """A row a metric. All runs have one scale, so that their heights can be compared."""
    return [
        [
            f"{name} over steps",
            *(sparkline(found.get(name, []), width=_CURVE_WIDTH, scale=scale) for found in curves),
        ]
        for name, scale in scales.items()
    ]
