"""A check on state from a checkpoint: it is data from outside, even with the right checksum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType
from typing import Any, TypeAlias

# What a `state_dict` returns: values, tensors, and tables of them, by name.
StateDict: TypeAlias = dict[str, Any]
NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, NoneType)
# More than any counter reaches, and no more than torch, files and clocks take.
LARGEST = 2**53


class Count:
    """In `check`: an integer from 0 to LARGEST."""


Kind: TypeAlias = type | tuple[type, ...]


def check(state: object, optional: Mapping[str, Kind] | None = None, /, **kinds: Kind) -> None:
    """Raise ValueError unless `state` has exactly these keys, with values of these kinds.

    It may have the `optional` keys too, such as one that an older version did not save. A bool is
    no number, nor are NaN and integers beyond LARGEST; infinities are.
    """
    if optional is not None and isinstance(state, Mapping):
        kinds |= {key: kind for key, kind in optional.items() if key in state}
    if not isinstance(state, Mapping) or set(state) != set(kinds):
        raise ValueError(f"expected {', '.join(kinds)}")
    for key, kind in kinds.items():
        _check_value(key, state[key], kind)


def _check_value(key: str, value: object, kind: Kind) -> None:
    plain = int if kind is Count else kind
    allowed = plain if isinstance(plain, tuple) else (plain,)
    least = 0 if kind is Count else -LARGEST
    # Not isinstance, for which True is an int.
    if type(value) not in allowed:
        raise ValueError(f"{key} has the wrong type")
    if isinstance(value, int) and not least <= value <= LARGEST:
        raise ValueError(f"{key} is out of range")
    # Every later comparison with a NaN is false: no value would ever be the best.
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{key} is not a number")
