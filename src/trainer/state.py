"""A check on state that comes back from a checkpoint: it is data from outside, however it is sealed."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, NoneType)


def check(state: Mapping[str, Any], /, **kinds: type | tuple[type, ...]) -> None:
    """Raises ValueError unless `state` has exactly these keys, with values of these kinds (a bool is no number)."""
    if not isinstance(state, Mapping) or set(state) != set(kinds):
        raise ValueError(f"expected {', '.join(kinds)}")
    for key, kind in kinds.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if type(state[key]) not in allowed:
            raise ValueError(f"{key} has the wrong type")
