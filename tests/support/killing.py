"""Where a process is killed: named points of a save, and steps of the training. Used as
`prepare` of processes.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint import file, store
from trainer.engine.progress import Progress
from trainer.files import sync_folder


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class _AtCall:
    """Dies at the `occurrence`-th call that `is_it`: before it, or after it."""

    occurrence: int
    after: bool = False
    is_it: Callable[..., bool] = lambda *_, **__: True

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        @functools.wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += self.is_it(*arguments)
            is_now = calls == self.occurrence and self.is_it(*arguments)
            if is_now and not self.after:
                die()
            result = function(*arguments, **options)
            if is_now:
                die()
            return result

        return watched


def _is_step(path: Path, *_: Any) -> bool:
    return path.name.startswith(".step-") and path.name.endswith(".part")


def of_a_save(handle: int) -> bool:
    """Whether an open file is of a save: run.json and the like are synced too."""
    return "/checkpoints" in str(Path(f"/proc/self/fd/{handle}").readlink())


def _put(name: str, function: Callable[..., Any]) -> None:
    """Let the store call `function`."""
    setattr(store, name, function)


def _write_half(occurrence: int) -> None:
    write, calls = file.write_file, 0

    def half(path: Path, content: bytes) -> str:
        nonlocal calls
        calls += 1
        if calls == 2 * occurrence:  # the second file of that save
            path.write_bytes(content[: len(content) // 2])
            die()
        return write(path, content)

    _put("write_file", half)


def _before_open(occurrence: int) -> None:
    _put("write_file", _AtCall(2 * occurrence - 1).around(file.write_file))


def _before_fsync(occurrence: int) -> None:
    os.fsync = _AtCall(4 * occurrence - 3, is_it=of_a_save).around(os.fsync)


def _before_rename(occurrence: int) -> None:
    Path.rename = _AtCall(occurrence, is_it=_is_step).around(Path.rename)  # type: ignore[method-assign]


def _after_rename(occurrence: int) -> None:
    Path.rename = _AtCall(occurrence, after=True, is_it=_is_step).around(Path.rename)  # type: ignore[method-assign]


def _after_folder_fsync(occurrence: int) -> None:
    _put("sync_folder", _AtCall(2 * occurrence, after=True).around(sync_folder))


def _after_prune(occurrence: int) -> None:
    own = store.CheckpointStore
    own._prune = _AtCall(occurrence, after=True).around(own._prune)  # type: ignore[method-assign]


_POINTS: dict[str, Callable[[int], None]] = {
    "before open": _before_open,
    "half written": _write_half,
    "before fsync": _before_fsync,
    "before rename": _before_rename,
    "after rename": _after_rename,
    "after folder fsync": _after_folder_fsync,
    "after prune": _after_prune,
}
POINTS = tuple(_POINTS)


def in_save(point: str, occurrence: int) -> None:
    """Die at a named point of the `occurrence`-th save."""
    _POINTS[point](occurrence)


def at_batch(batches: int) -> None:
    """Die when this process has trained on `batches` batches."""
    Progress.count_batch = _AtCall(batches, after=True).around(Progress.count_batch)  # type: ignore[method-assign]
