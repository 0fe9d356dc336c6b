"""Writing small files atomically, as JSON, text or bytes, and reading JSON that may be damaged."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any


def part_path(path: Path) -> Path:
    """Where a file or a folder is written before it gets its name `path`."""
    return path.with_name(f".{path.name}.part")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; what cannot be removed, a device and a pipe stay."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.is_symlink() or path.is_file():
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk; raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as JSON, as `write_bytes` does."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one whole; raises OSError."""
    part = part_path(path)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        remove(part)
        raise


def finite_or_null(value: Any) -> Any:
    """`value`, or None where it is a number that is not finite: JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one: a file from outside may have anything."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file, or a damaged one."""
    try:
        # Checked before opening: to open a named pipe would wait for its writer.
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    return as_table(content)
