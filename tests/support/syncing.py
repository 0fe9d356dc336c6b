"""A disk that tests do not wait for: files are the same to every process of a machine before and
after they are synced, which only a power cut could tell apart. It would take a fifth of the time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any

_connect = sqlite3.dbapi2.connect


def wait_for_no_disk() -> None:
    """Let `os.fsync` of this process only check what it is given, and SQLite not sync."""
    os.fsync = _check  # type: ignore[assignment]
    sqlite3.dbapi2.connect = _connect_without_sync  # type: ignore[assignment]


def _check(file: int) -> None:
    os.fstat(file)


def _connect_without_sync(*arguments: Any, **options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = _connect(*arguments, **options)
    with contextlib.suppress(sqlite3.Error):  # a damaged file: whoever reads it finds out
        connection.execute("PRAGMA synchronous=OFF")
    return connection
