"""Look a name up in a table; the tables live with their entries."""

# Names, not import paths: what a saved config names can only be an entry of a table.

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from trainer.errors import ConfigError, suggestion

T = TypeVar("T")


def look_up(table: Mapping[str, T], name: str, *, kind: str) -> T:
    """The entry `name` of `table`, of the config group `kind`.

    Raises ConfigError with the nearest names.
    """
    if name not in table:
        raise ConfigError(f"{kind}={name}: there is no such {kind}.", hint=suggestion(name, table))
    return table[name]
