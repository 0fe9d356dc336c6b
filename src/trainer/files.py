"""Writing files so that no kill and no full disk leaves half of anything; reading damaged JSON."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

# An object in a JSON file. Nothing is known of its values until they are checked.
JsonObject: TypeAlias = dict[str, Any]


def part_path(path: Path) -> Path:
    """Where a file or a folder is written before it gets its name `path`."""
    # In the same folder, because a rename is atomic within one file system only.
    return path.with_name(f".{path.name}.part")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; what cannot be removed, a device and a pipe stay."""
    # Errors are ignored: a removal is clean-up, often after the error that a person must see.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.is_symlink() or path.is_file():
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def without_empty(folder: Path) -> Iterator[None]:
    """In the end, remove `folder` and those above it that did not exist, where they are empty."""
    new = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        yield
    finally:
        for top in new[-1:]:
            for path, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(path).rmdir()


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk; raises OSError."""
    # A rename is a change of the folder: without this a power cut may undo it.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: JsonObject) -> None:
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
            # Before the rename: after a power cut the new name would else have an empty file.
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:  # a Ctrl-C leaves no part either
        remove(part)
        raise


def append_whole(file: io.FileIO, content: bytes) -> None:
    """Append all of `content` to an unbuffered file, or nothing of it; raises OSError."""
    size = file.seek(0, os.SEEK_END)
    try:
        # A disk that becomes full takes a part of it without an error.
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def finite_or_null(value: T) -> T | None:
    """`value`, or None where it is a number that is not finite: JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(value: object) -> JsonObject:
    """`value` if it is a JSON object, else an empty one: a file from outside may have anything."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def read_json(path: Path) -> JsonObject:
    """The object in a JSON file; empty when there is no such file, or a damaged one."""
    try:
        # Checked before opening: to open a named pipe would wait for its writer.
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):  # deep nesting, in a file from outside
        return {}
    return as_table(content)
