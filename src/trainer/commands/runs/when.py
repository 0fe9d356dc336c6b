"""Filters by when and where a run is: `older=30d`, `newer=2h`, `day=2026-01`, `sweep=lr`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from trainer.errors import UsageError
from trainer.run.folder import is_sweep_folder
from trainer.run.index import Entry

KEYS = ("older", "newer", "day", "sweep")
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(min|h|d|w)[a-z]*", re.IGNORECASE)
_SECONDS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAY = re.compile(r"[0-9]{4}(-[0-9]{2}){0,2}")


def passes(key: str, value: str) -> Callable[[Entry], bool]:
    """Whether a run passes the filter of one of KEYS; raises UsageError for a wrong value."""
    if key == "day":
        day = _read_day(value)
        # A run without a known start is of no day and of no age.
        return lambda entry: entry.started > 0 and _day_of(entry).startswith(day)
    if key == "sweep":
        return lambda entry: is_sweep_folder(entry.path.parent) and value in entry.path.parent.name
    limit = time.time() - _read_age(key, value)
    if key == "older":
        return lambda entry: 0 < entry.started < limit
    return lambda entry: entry.started >= limit


def _day_of(entry: Entry) -> str:
    return f"{datetime.fromtimestamp(entry.started):%Y-%m-%d}"


def _read_age(key: str, value: str) -> float:
    match = _AGE.fullmatch(value)
    if match is None or not float(match[1]):
        raise UsageError(
            f"{key}={value} is not an age.",
            hint=f"Write a number and a unit: {key}=90min, 12h, 30d, 4w",
        )
    return float(match[1]) * _SECONDS[match[2].lower()]


def _read_day(value: str) -> str:
    days_ago = {"today": 0, "yesterday": 1}.get(value)
    if days_ago is not None:
        return f"{datetime.now() - timedelta(days=days_ago):%Y-%m-%d}"
    if not _DAY.fullmatch(value):
        raise UsageError(
            f"day={value} is not a day.",
            hint="Write it as the folders are named: day=2026-01-31. Or 2026-01, today, yesterday.",
        )
    return value
