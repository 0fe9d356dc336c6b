"""Keeps verified, unpacked files, so that a second start neither unpacks nor hashes. Fetching is
not here.

In the cache folder, for each content: `<sha256>.idx`, the bytes, and `<sha256>.json`, the stamp,
which says of which files on disk, in which state, that content is known to be.
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

from trainer.data.image_sets.catalog import DataFile
from trainer.data.image_sets.idx import Bytes, is_gzip, items_of, read_idx_bytes
from trainer.errors import DataError, EnvironmentFault

_MAX_SOURCES = 32  # a stamp forgets the oldest beyond these: the folders of past tests and clones
_MAX_STAMP_BYTES = 1 << 18
_TEMPORARY = ".tmp"
_STALE_S = 3600.0  # no write lasts this long: its process was killed

State = list[int]
"""Size in bytes, modification time in ns and inode of a file: when one differs, the file is read and hashed again."""


def read_verified(path: Path, file: DataFile) -> Bytes:
    """All unpacked bytes of the IDX file at `path`, read in full. Raises DataError unless they
    are those of `file`.
    """
    raw = read_idx_bytes(path, shape=file.shape)
    found = hashlib.sha256(raw.data).hexdigest()
    if found != file.sha256:
        name = path.name.removesuffix(".part")
        raise DataError(
            f"{name}: the content is not the published one (SHA-256 {found[:12]}… instead of "
            f"{file.sha256[:12]}…).",
            where=f"File: {path}",
            hint="Delete the file to have it fetched again, or put an undamaged one in its place.",
        )
    return raw


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """`$XDG_CACHE_HOME/trainer`, else `$HOME/.cache/trainer`, else None. Relative paths count as
    unset, as XDG says.
    """
    for key, inside in (("XDG_CACHE_HOME", ()), ("HOME", (".cache",))):
        base = Path(environ.get(key, ""))
        if base.is_absolute():
            return base.joinpath(*inside, "trainer")
    return None


class Cache:
    """The cache in `folder`; with None, or where it cannot be written, it keeps nothing and
    `problem` says why.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.problem: str | None = None
        if folder is None:
            self._give_up("neither XDG_CACHE_HOME nor HOME is set")

    def load(self, path: Path, file: DataFile) -> Bytes:
        """The values, of shape `file.shape`, of the file at `path`: known to be `file`'s, or found
        to be now.

        Raises DataError when they are not, EnvironmentFault when `path` cannot be read.
        """
        raw = self._recall(path, file)
        if raw is None:
            before = _state(path)
            raw = read_verified(path, file)
            if before is not None:
                # Its state before it was read: had it changed meanwhile, the stamp would not fit
                # what lies there now.
                self._remember(path, file, raw, state=before)
        return items_of(raw, shape=file.shape)

    def _recall(self, path: Path, file: DataFile) -> Bytes | None:
        """The bytes without unpacking or hashing, if the stamp knows `path` in its present state."""
        if self._folder is None:
            return None
        stamp = _read_stamp(self._stamp_path(file))
        state = _state(path)
        if state is None or stamp["sources"].get(str(path.absolute())) != state:
            return None
        try:
            # A plain file needs no unpacked copy: it is one.
            kept = self._content_path(file) if is_gzip(path) else path
            if kept != path and stamp["cached"].get("state") != _state(kept):
                return None
            return read_idx_bytes(kept, shape=file.shape)
        except (OSError, DataError, EnvironmentFault):
            return None

    def _remember(self, path: Path, file: DataFile, raw: Bytes, *, state: State) -> None:
        if self._folder is None:
            return
        content, stamp_path = self._content_path(file), self._stamp_path(file)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove_stale(self._folder)
            stamp = _read_stamp(stamp_path)
            if is_gzip(path):
                stamp["cached"] = {"state": _replace(content, raw.data)}
            stamp["sources"].pop(str(path.absolute()), None)
            stamp["sources"][str(path.absolute())] = state
            stamp["sources"] = dict(list(stamp["sources"].items())[-_MAX_SOURCES:])
            # Two processes at once: the later stamp stays, and at worst a file is hashed once more.
            _replace(stamp_path, json.dumps(stamp, indent=1).encode())
        except OSError as error:
            self._give_up(f"{self._folder}: {error.strerror or error}")

    def _give_up(self, why: str) -> None:
        self._folder = None
        self.problem = (
            f"Working without a cache ({why}); every start unpacks and checks the data again."
        )

    def _content_path(self, file: DataFile) -> Path:
        return (self._folder or Path()) / f"{file.sha256}.idx"

    def _stamp_path(self, file: DataFile) -> Path:
        return (self._folder or Path()) / f"{file.sha256}.json"


def _state(path: Path) -> State | None:
    try:
        return _as_state(path.stat())
    except OSError:
        return None


def _as_state(found: os.stat_result) -> State:
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _read_stamp(path: Path) -> dict[str, dict[str, State]]:
    """The stamp at `path`; an empty one when there is none or it is damaged, for it only saves time."""
    with suppress(OSError, ValueError, RecursionError):
        with path.open("rb") as stream:
            found = json.loads(stream.read(_MAX_STAMP_BYTES))
        if isinstance(found, dict) and all(
            isinstance(found.get(key), dict) for key in ("cached", "sources")
        ):
            return {"cached": found["cached"], "sources": found["sources"]}
    return {"cached": {}, "sources": {}}


def _remove_stale(folder: Path) -> None:
    for left in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                left.unlink()


def _replace(path: Path, content: memoryview | bytes) -> State:
    """Puts `content` at `path` in one step, so that others see the old file or the new one.
    Gives its state.
    """
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            state = _as_state(os.fstat(stream.fileno()))
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    return state
