"""The order of runs: by start, name, status, or a metric, the best first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from trainer.commands.runs.read import is_finite
from trainer.commands.runs.row import RunRow
from trainer.config.comparison import is_maximized

_TEXTS: dict[str, Callable[[RunRow], str]] = {
    "name": lambda row: row.entry.name,
    "status": lambda row: row.status,
}


def ordered(rows: Sequence[RunRow], by: str) -> list[RunRow]:
    """The runs by start, the newest first; by name or status, from A to Z; or by a metric.

    By a metric the best comes first, and a run without a value last.
    """
    if by == "started":
        return list(rows)
    if by in _TEXTS:
        return sorted(rows, key=_TEXTS[by])
    # Equal values keep the order by start, because sorting is stable; a NaN would break it.
    sign = -1 if is_maximized(by) else 1

    def key(row: RunRow) -> float:
        value = row.metrics.get(by)
        return sign * value if value is not None and is_finite(value) else math.inf

    return sorted(rows, key=key)
