"""Writing and reading small files: atomically, as JSON or text; and the names files have until
they are complete.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any


def aside_of(path: Path) -> Path:
    """Where a step folder or a file is written before it gets its name."""
    return path.with_name(f".{path.name}.part")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, as far as it goes; nothing is followed, and a device or
    a pipe stays.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.is_symlink() or path.is_file():
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never half of one."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """As `write_json`, for text."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_json`, for bytes."""
    aside = aside_of(path)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        remove(aside)
        raise


def finite_or_null(value: Any) -> Any:
    """`value`, or None where it is a number that is not finite: JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no file or a damaged one (a run that died
    while it was made).
    """
    try:
        # Looked at before opening: to open a named pipe would wait for its writer.
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
