"""Checks on single config values, worded once. Checks across groups live in `fits.py`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.errors import ConfigError, suggestion

# More threads than any machine has use for, and few enough that a system can start them.
MAX_THREADS = 1024
# Of a layer: what has more does not fit into any memory, and the product of two still fits into 64
# bits.
_MAX_SIZE = 2**31


def at_least(key: str, value: float | None, low: float) -> None:
    """Refuse a number under `low`, infinite or NaN; None passes (the key is unset)."""
    if value is not None and not (value >= low and math.isfinite(value)):
        raise ConfigError(f"{key}={value} is out of range: it must be at least {low:g}.")


def above(key: str, value: float | None, low: float) -> None:
    """Refuse a number that is not greater than `low`; None passes."""
    if value is not None and not (value > low and math.isfinite(value)):
        raise ConfigError(f"{key}={value} is out of range: it must be greater than {low:g}.")


def within(
    key: str, value: float | None, low: float, high: float, *, open_end: bool = False
) -> None:
    """Refuse a number outside [low, high], or outside [low, high) with `open_end`; None passes."""
    if value is None:
        return
    if not (low <= value < high if open_end else low <= value <= high):
        bracket = ")" if open_end else "]"
        raise ConfigError(f"{key}={value} is out of range: it must lie in [{low}, {high}{bracket}.")


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is not among `choices`."""
    if value not in choices:
        raise ConfigError(f"{key}={value} is not known.", hint=suggestion(value, choices))


def filled(key: str, value: str | None) -> None:
    """Refuse an empty text; None passes."""
    if value == "":
        raise ConfigError(f"{key} is empty.", hint=f"Write {key}=… with a path, or leave it out.")


def sizes(key: str, values: Sequence[int], *, length: int | None = None) -> None:
    """Refuse a list of layer sizes that are not all positive, or not `length` many."""
    if length is not None and len(values) != length:
        raise ConfigError(f"{key}={list(values)} must hold {length} numbers.")
    if not all(1 <= value <= _MAX_SIZE for value in values):
        limit = "at least 1" if any(value < 1 for value in values) else f"at most {_MAX_SIZE:,}"
        raise ConfigError(f"{key}={list(values)} is out of range: every size must be {limit}.")


def betas(key: str, values: Sequence[float]) -> None:
    """Refuse anything but two decay rates in [0, 1)."""
    if len(values) != 2:
        raise ConfigError(f"{key}={list(values)} must hold 2 numbers.")
    for index, value in enumerate(values):
        within(f"{key}[{index}]", value, 0, 1, open_end=True)


_CADENCE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(epoch|step|min)s?")


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often something is done: every `count` epochs, steps (optimizer updates) or minutes."""

    count: float
    unit: str

    @classmethod
    def parse(cls, key: str, text: str) -> Cadence:
        """Read `1epoch`, `50steps` or `10min`; raises ConfigError."""
        match = _CADENCE.fullmatch(text.strip())
        hint = "Write a number and a unit: 1epoch, 50steps or 10min."
        if match is None:
            raise ConfigError(f"{key}={text} is not a cadence.", hint=hint)
        count, unit = float(match[1]), match[2]
        if count <= 0 or (unit != "min" and not count.is_integer()):
            raise ConfigError(f"{key}={text} is out of range.", hint=hint)
        return cls(count, unit)
