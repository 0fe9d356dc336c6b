"""Checks on the value of one key, worded once. Those across groups live in `compatibility`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.errors import ConfigError, printable

# More threads than any machine has use for, and few enough that a system can start them.
MAX_THREADS = 1024

# Of a file or a folder, on the usual file systems.
MAX_NAME_BYTES = 255


def at_least(key: str, value: float, low: float) -> None:
    """Refuse a number under `low`, infinite or NaN."""
    _check_range(key, value, value >= low, f"be at least {low:g}")


def above(key: str, value: float, low: float) -> None:
    """Refuse a number that is not greater than `low`, infinite or NaN."""
    _check_range(key, value, value > low, f"be greater than {low:g}")


def at_most(key: str, value: float, high: float) -> None:
    """Refuse a number over `high`, infinite or NaN."""
    _check_range(key, value, value <= high, f"be at most {high:g}")


def within(key: str, value: float, low: float, high: float, *, open_end: bool = False) -> None:
    """Refuse a number outside [low, high], or outside [low, high) with `open_end`."""
    if open_end:
        _check_range(key, value, low <= value < high, f"lie in [{low}, {high})")
    else:
        _check_range(key, value, low <= value <= high, f"lie in [{low}, {high}]")


def _check_range(key: str, value: float, is_within: bool, must: str) -> None:
    # Comparisons that hold within, and not those that hold outside: with NaN each one is false.
    if not (is_within and math.isfinite(value)):
        raise ConfigError(f"{key}={value} is out of range: it must {must}.")


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is not among `choices`."""
    if value not in choices:
        from trainer.config.synonyms import suggest  # long tables, for errors only

        raise ConfigError(f"{key}={value} is not known.", hint=suggest(key, value, choices))


def filled(key: str, value: str) -> None:
    """Refuse an empty text."""
    if value == "":
        raise ConfigError(f"{key} is empty.", hint=f"Write {key}=… with a path, or leave it out.")


def path(key: str, value: str) -> None:
    """Refuse an empty path, and one with a longer name than file systems take."""
    filled(key, value)
    for name in value.split("/"):
        # Some systems count bytes, others letters.
        size = len(os.fsencode(name))
        if size > MAX_NAME_BYTES:
            raise ConfigError(
                f"{key} has a name of {size} bytes ({printable(name)[:30]}…); {MAX_NAME_BYTES} are "
                "the most."
            )


def class_path(key: str, target: str) -> None:
    """Refuse anything but `package.module.Class`; nothing is imported here."""
    # Of two names at least: a class alone has no module to import.
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"{key}={target} is not the path of a class.",
            hint=f"Write {key}=my_package.my_module.MyClass; docs/custom.md has an example.",
        )


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
        count = float(match[1])
        unit = match[2]
        # Half a minute passes; half an epoch or half an update is never complete.
        if count <= 0 or (unit != "min" and not count.is_integer()):
            raise ConfigError(f"{key}={text} is out of range.", hint=hint)
        return cls(count, unit)
