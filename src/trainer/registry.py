"""Looking a name up in a table, with a useful answer when it is not there. The tables live with
what they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from trainer.errors import ConfigError, suggestion

T = TypeVar("T")


def look_up(table: Mapping[str, T], name: str, *, kind: str) -> T:
    """The entry `name` of `table`; raises ConfigError with the nearest names. `kind` is the
    config group.
    """
    if name not in table:
        raise ConfigError(f"{kind}={name}: there is no such {kind}.", hint=suggestion(name, table))
    return table[name]
