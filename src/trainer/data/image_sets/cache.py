"""Keeps verified, unpacked files, so that a second start neither unpacks nor hashes.

In the cache folder there are, for each content, its bytes in `<sha256>.idx` and its stamp in
`<sha256>.json`: which files on the disk, in which state, are known to have that content.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from trainer.data.image_sets.catalog import DataFile
from trainer.data.image_sets.idx import DAMAGED_HINT, Bytes, is_gzip, items_of, read_idx_bytes
from trainer.errors import DataError, EnvironmentFault, reason_of

_MAX_SOURCES = 32  # a stamp forgets the oldest beyond these: the folders of past tests and clones
_MAX_STAMP_BYTES = 1 << 18
_TEMPORARY = ".tmp"
_STALE_S = 3600.0  # no write lasts this long: its process was killed

# Size in bytes, modification time in ns and inode of a file: when one differs, the file is read and
# hashed again.
_State: TypeAlias = list[int]


def read_verified(path: Path, file: DataFile) -> Bytes:
    """All unpacked bytes of the IDX file at `path`; raises DataError unless they are `file`'s."""
    raw = read_idx_bytes(path, shape=file.shape)
    found = hashlib.sha256(raw.data).hexdigest()
    if found != file.sha256:
        name = path.name.removesuffix(".part")
        raise DataError(
            f"{name}: the content is not the published one (SHA-256 {found[:12]}… instead of "
            f"{file.sha256[:12]}…).",
            where=f"File: {path}",
            hint=DAMAGED_HINT,
        )
    return raw


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """`$XDG_CACHE_HOME/trainer`, else `$HOME/.cache/trainer`, else None.

    A relative path counts as unset, as the XDG specification has it.
    """
    for key, inside in (("XDG_CACHE_HOME", "trainer"), ("HOME", ".cache/trainer")):
        base = Path(environ.get(key, ""))
        if base.is_absolute():
            return base / inside
    return None


class Cache:
    """The cache in `folder`; with None, or where it cannot write, it keeps nothing.

    `problem` is then the reason, as a sentence.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.problem: str | None = None
        if folder is None:
            self._give_up("neither XDG_CACHE_HOME nor HOME is set")

    def load(self, path: Path, file: DataFile) -> Bytes:
        """The values, of shape `file.shape`, of the file at `path`, verified now or before.

        Raises DataError when they are not `file`'s, EnvironmentFault when `path` cannot be read.
        """
        raw = self._recall(path, file)
        if raw is None:
            # The state before it is read: had the file changed meanwhile, the stamp would not fit
            # what lies there now.
            before = _state(path)
            raw = read_verified(path, file)
            if before is not None:
                self._remember(path, file, raw, state=before)
        return items_of(raw, shape=file.shape)

    def _recall(self, path: Path, file: DataFile) -> Bytes | None:
        """The bytes without unpacking or hashing, if the stamp has the present state of `path`."""
        if self._folder is None:
            return None
        stamp = _read_stamp(self._folder / f"{file.sha256}.json")
        state = _state(path)
        if state is None or stamp["sources"].get(str(path.absolute())) != state:
            return None
        try:
            # A plain file is read as fast as a copy of it would be, so there is none.
            if not is_gzip(path):
                return read_idx_bytes(path, shape=file.shape)
            content = self._folder / f"{file.sha256}.idx"
            if stamp["cached"].get("state") != _state(content):
                return None
            return read_idx_bytes(content, shape=file.shape)
        except (OSError, DataError, EnvironmentFault):
            return None

    def _remember(self, path: Path, file: DataFile, raw: Bytes, *, state: _State) -> None:
        if self._folder is None:
            return
        stamp_path = self._folder / f"{file.sha256}.json"
        try:
            # For this user alone: what a stamp says is believed without hashing.
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove_stale(self._folder)
            stamp = _read_stamp(stamp_path)
            if is_gzip(path):
                content = self._folder / f"{file.sha256}.idx"
                stamp["cached"] = {"state": _replace(content, raw.data)}
            sources = stamp["sources"]
            sources.pop(str(path.absolute()), None)
            sources[str(path.absolute())] = state
            stamp["sources"] = dict(list(sources.items())[-_MAX_SOURCES:])
            # Two processes at once: the later stamp stays, and at worst a file is hashed once more.
            _replace(stamp_path, json.dumps(stamp, indent=1).encode())
        except OSError as error:
            self._give_up(f"{self._folder}: {reason_of(error)}")

    def _give_up(self, why: str) -> None:
        self._folder = None
        self.problem = (
            f"Working without a cache ({why}); every start unpacks and checks the data again."
        )


def _state(path: Path) -> _State | None:
    try:
        return _as_state(path.stat())
    except OSError:
        return None


def _as_state(found: os.stat_result) -> _State:
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _read_stamp(path: Path) -> dict[str, dict[str, _State]]:
    """The stamp at `path`; an empty one when there is none or it is damaged: it only saves time."""
    stamp: dict[str, dict[str, _State]] = {"cached": {}, "sources": {}}
    with suppress(OSError, ValueError, RecursionError):
        with path.open("rb") as stream:
            found = json.loads(stream.read(_MAX_STAMP_BYTES))
        if isinstance(found, dict) and all(isinstance(found.get(key), dict) for key in stamp):
            return {key: found[key] for key in stamp}
    return stamp


def _remove_stale(folder: Path) -> None:
    for temporary in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime > _STALE_S:
                temporary.unlink()


def _replace(path: Path, content: memoryview | bytes) -> _State:
    """Put `content` at `path` in one step: others see the old file or the new one. Gives its state.

    The temporary name is unique, because several processes may fill the cache at once.
    """
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(handle)
            # Of the open file: after the rename another process may have put its own there.
            state = _as_state(os.fstat(handle))
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    return state
