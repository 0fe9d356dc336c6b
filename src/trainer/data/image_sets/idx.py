"""Reads IDX files (the format of MNIST), gzip or plain, bounded and checked."""

from __future__ import annotations

import math
import os
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DataError, EnvironmentFault, reason_of

Bytes = NDArray[np.uint8]

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 18  # 256 KiB: larger is not faster, and this is all the memory beside the result
_DTYPES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
DAMAGED_HINT = "Delete the file to have it fetched again, or put an undamaged one in its place."


def read_idx_bytes(path: Path, *, shape: tuple[int, ...]) -> Bytes:
    """All unpacked bytes, header included, of the IDX file at `path`.

    Its first bytes decide whether the file is gzip, not its name. At most one byte more than a file
    of `shape` has is ever unpacked. Raises DataError when it is not an IDX file of uint8 values of
    exactly `shape`, EnvironmentFault when it cannot be read.
    """
    limit = size_of(shape) + 1
    try:
        # Before it is opened: to open a named pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _fault(path, "is not a regular file")
        with path.open("rb") as stream:
            if _begins_as_gzip(stream):
                raw = np.frombuffer(_unpack(stream, limit=limit), np.uint8)
            else:
                # Not a memory map: what is in memory cannot change when the file does.
                raw = np.fromfile(stream, np.uint8, count=limit)
    except FileNotFoundError:
        raise _fault(path, "is not there") from None
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be read: {reason_of(error)}.") from None
    except (zlib.error, _BrokenGzip) as error:
        raise _fault(path, f"is damaged gzip ({error})") from None
    return _check(raw, shape=shape, path=path)


def is_gzip(path: Path) -> bool:
    """Whether the file at `path` begins as gzip does; raises OSError."""
    with path.open("rb") as stream:
        return _begins_as_gzip(stream)


def size_of(shape: tuple[int, ...]) -> int:
    """Bytes of an unpacked IDX file of uint8 values of `shape`, header included."""
    return 4 + 4 * len(shape) + math.prod(shape)


def items_of(raw: Bytes, *, shape: tuple[int, ...]) -> Bytes:
    """The values of a checked IDX file, of `shape`; they share the memory of `raw`."""
    return raw[4 + 4 * len(shape) :].reshape(shape)


def _check(raw: Bytes, *, shape: tuple[int, ...], path: Path) -> Bytes:
    """`raw`, once its header and its length are those of uint8 values of `shape`, or DataError."""
    start = 4 + 4 * len(shape)
    head = raw[:start].tobytes()
    _check_magic(head, path=path)
    if head[3] != len(shape):
        raise _fault(path, f"expected {len(shape)} dimensions, found {head[3]}", colon=True)
    if len(head) < start:
        raise _fault(path, f"ends after {len(head)} bytes, within its header")
    # The format is big-endian on every machine.
    dims = tuple(np.frombuffer(head, ">u4", offset=4).tolist())
    noun = {1: "labels", 3: "images"}.get(len(shape), "items")
    if dims[0] != shape[0]:
        raise _fault(path, f"expected {shape[0]} {noun}, found {dims[0]}", colon=True)
    if dims != shape:
        size, found = ("x".join(map(str, sides[1:])) for sides in (shape, dims))
        raise _fault(path, f"expected {noun} of {size}, found {found}", colon=True)
    if len(raw) < size_of(shape):
        num_complete = (len(raw) - start) // max(1, math.prod(shape[1:]))
        raise _fault(path, f"is truncated: expected {shape[0]} {noun}, found {num_complete}")
    if len(raw) > size_of(shape):
        raise _fault(path, f"continues after its {shape[0]} {noun}")
    return raw


def _check_magic(head: bytes, *, path: Path) -> None:
    if not head:
        raise _fault(path, "is empty")
    if head.lstrip().startswith(b"<"):
        start = head[:12].decode("ascii", "replace")
        raise _fault(path, f"is not an IDX file: it looks like a web page ({start}…)")
    if any(head[:2]) or (len(head) > 2 and head[2] not in _DTYPES):
        raise _fault(path, f"is not an IDX file: it begins with {head[:4].hex(' ')}")
    if len(head) < 4:
        raise _fault(path, f"ends after {len(head)} bytes, within its header")
    if head[2] != 0x08:
        raise _fault(path, f"expected uint8 values, found {_DTYPES[head[2]]}", colon=True)


class _BrokenGzip(Exception):
    """The gzip framing is wrong where zlib itself reports nothing."""


def _unpack(stream: BinaryIO, *, limit: int) -> bytearray:
    """The content of the one gzip member in `stream`, or its first `limit` bytes.

    Not by the gzip module, which reads a second member too, and has no bound.
    """
    # 31: a gzip header is required, and its length and CRC are checked.
    unpacker = zlib.decompressobj(wbits=31)
    raw = bytearray()  # not bytes: torch warns of a tensor over memory that is read-only
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or stream.read(_CHUNK)
        if not packed:
            raise _BrokenGzip(f"truncated after {os.fstat(stream.fileno()).st_size} bytes")
        raw += unpacker.decompress(packed, min(_CHUNK * 4, limit - len(raw)))
        if len(raw) >= limit:
            return raw
    if unpacker.unused_data or stream.read(1):
        raise _BrokenGzip("there is more after its end")
    return raw


def _fault(path: Path, text: str, *, colon: bool = False) -> DataError:
    # A download in progress is named as the file will be.
    name = path.name.removesuffix(".part")
    return DataError(
        f"{name}{':' if colon else ''} {text}.", where=f"File: {path}", hint=DAMAGED_HINT
    )


def _begins_as_gzip(stream: BinaryIO) -> bool:
    begins = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    stream.seek(0)
    return begins
