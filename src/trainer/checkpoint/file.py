"""The only module that opens checkpoint files: checked when read, sealed when written. No torch.

A file is safetensors: eight bytes of header length, the header as JSON, the tensors' bytes. Its
metadata holds a description (JSON text) and the seal: the SHA-256 of the whole file with the seal's
own digits as zeros. So every byte counts, blanks that pad the header among them. The seal shows
damage, not malice: who changes a file on purpose can seal it anew, which is why nothing in it is
believed either.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from trainer.errors import CheckpointError, EnvironmentFault, printable, reason_of
from trainer.run.folder import MODEL_FILE, STATE_FILE, step_folders, step_of

DESCRIPTION_KEY, SEAL_KEY = "trainer", "sha256"
BLANK_SEAL = "0" * 64
_MAX_NAME = 500  # of a tensor, and of an entry in a description
_SEAL = re.compile(f"[0-9a-f]{{{len(BLANK_SEAL)}}}")
# A header of trainer's has some kilobytes. One from outside may be made to take all memory or
# time: of safetensors itself, 200,000 empty tensors take 4.8 s, and 99 MB of blanks pass.
_MAX_HEADER_BYTES = 8_000_000
_MAX_TENSORS = 50_000
# Verifying reads in parts, so that it takes no memory by the size of the model.
_PART_BYTES = 1 << 20
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of a checkpoint file: its description, its seal, and its own bytes."""

    description: str
    seal: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFile:
    """A checkpoint file in memory, whole and verified."""

    path: Path
    header: Header
    content: bytes


class _Damage(Exception):
    """Why a file is not an intact checkpoint file."""


class _NoHeader(_Damage):
    """A file that does not begin like a checkpoint file."""


def read_header(path: Path) -> Header:
    """The header of the file at `path`, its form checked.

    The seal is not verified here: that takes reading the whole file. Raises CheckpointError or
    EnvironmentFault.
    """
    try:
        with _open(path) as file:
            return _read_header(file, path, num_bytes=os.fstat(file.fileno()).st_size)
    except (OSError, _Damage) as error:
        _refuse(path, error)


def read_file(path: Path) -> CheckpointFile:
    """Read the file at `path` whole and verify its seal.

    Raises CheckpointError or EnvironmentFault.
    """
    parts: list[bytes] = []
    try:
        header = _verify(path, parts.append)
    except (OSError, _Damage) as error:
        _refuse(path, error)
    return CheckpointFile(path=path, header=header, content=b"".join((header.raw, *parts)))


def file_of(content: bytes, *, path: Path) -> CheckpointFile:
    """The bytes of a file to be written to `path`; raises ValueError if it could not be read."""
    try:
        header = _read_header(io.BytesIO(content), path, num_bytes=len(content))
    except _Damage as error:
        raise ValueError(str(error)) from error
    return CheckpointFile(path=path, header=header, content=content)


def examine(path: Path) -> Header | str:
    """The header of the file at `path`, or in a phrase why the file is not intact.

    The whole file is read and verified, but not kept. Raises OSError when it cannot be read.
    """
    try:
        return _verify(path)
    except FileNotFoundError:
        return "it is missing"
    except _Damage as error:
        return str(error)
    except CheckpointError:
        return "it does not describe itself: trainer did not write it"


def is_intact(folder: Path) -> bool:
    """Whether both files of a step folder are there and verify."""
    try:
        return all(isinstance(examine(folder / name), Header) for name in (MODEL_FILE, STATE_FILE))
    except OSError:
        return False


def write_file(path: Path, content: bytes) -> str:
    """Seal `content`, a safetensors file with a blank seal, and write it to the new file `path`.

    Returns the seal; the bytes are on the disk then. Raises OSError, and FileExistsError when
    anything is at `path`.
    """
    header_size = _header_size(content[:8], len(content))
    if header_size > _MAX_HEADER_BYTES:
        raise OSError(f"its header of {header_size:,} bytes would be too large to be read again")
    place = _seal_place(content[: 8 + header_size], BLANK_SEAL)
    seal = hashlib.sha256(content).hexdigest()
    view = memoryview(content)
    # Not by safetensors' own save_file: that gives the file mode 0600 whatever the umask, does not
    # sync it, and renames it over anything; as root it replaced the device /dev/full.
    with path.open("xb") as file:
        for part in (view[:place], seal.encode(), view[place + len(seal) :]):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return seal


def _verify(path: Path, take: Callable[[bytes], object] | None = None) -> Header:
    """Verify the file at `path` against its seal; `take` gets each part that follows the header."""
    with _open(path) as file:
        header = _read_header(file, path, num_bytes=os.fstat(file.fileno()).st_size)
        digest = _digest_of(header)
        while part := file.read(_PART_BYTES):
            digest.update(part)
            if take is not None:
                take(part)
    if digest.hexdigest() != header.seal:
        raise _Damage("its checksum differs")
    return header


def _digest_of(header: Header) -> hashlib._Hash:
    """The digest of the header with its seal blank; the tensors' bytes are still to be added."""
    digest = hashlib.sha256()
    place = _seal_place(header.raw, header.seal)
    digest.update(header.raw[:place])
    digest.update(BLANK_SEAL.encode())
    digest.update(header.raw[place + len(BLANK_SEAL) :])
    return digest


def _open(path: Path) -> BinaryIO:
    # Looked at before opening: to open a named pipe would wait for its writer.
    if not stat.S_ISREG(path.stat().st_mode):
        raise _Damage("it is not a regular file")
    return path.open("rb")


def _read_header(file: BinaryIO, path: Path, *, num_bytes: int) -> Header:
    raw = file.read(8)
    # The sizes are compared before the header is read, and the header before the tensors.
    size = _header_size(raw, num_bytes)
    if size > _MAX_HEADER_BYTES:
        raise _Damage(f"its header of {size:,} bytes is larger than any of trainer's")
    raw += file.read(size)
    try:
        header = json.loads(raw[8:].decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:  # RecursionError: nested some thousand deep
        raise _Damage(f"its header is not JSON: {printable(error)[:60]}") from None
    metadata = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get(DESCRIPTION_KEY), str):
        raise CheckpointError(
            f"{path} is a safetensors file, but not one that trainer wrote: it does not describe "
            "itself.",
            hint="Give a checkpoint that `trainer fit` saved.",
        )
    # safetensors would refuse most of this, but it loads torch: eval says what is wrong without.
    _check_tensors(header, num_bytes=num_bytes - len(raw))
    if set(metadata) != {DESCRIPTION_KEY, SEAL_KEY} or not _SEAL.fullmatch(str(metadata[SEAL_KEY])):
        raise _Damage("it has no checksum")
    return Header(description=metadata[DESCRIPTION_KEY], seal=metadata[SEAL_KEY], raw=raw)


def _header_size(first: bytes, num_bytes: int) -> int:
    size: int = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 2 <= size <= num_bytes - 8:  # the shortest JSON is {}
        raise _NoHeader("it is truncated, or not a safetensors file")
    return size


def _check_tensors(tensors: Mapping[str, object], *, num_bytes: int) -> None:
    """Check that names are harmless and that shapes, spans and the file's length agree."""
    if len(tensors) > _MAX_TENSORS:
        raise _Damage(f"it has {len(tensors):,} tensors, more than any of trainer's")
    # In the order of the bytes, not of the names: a hole could carry what no tensor covers.
    place = 0
    for begin, end in sorted(_span(name, entry) for name, entry in tensors.items()):
        if begin != place:
            raise _Damage("its tensors overlap or leave a hole")
        place = end
    if place != num_bytes:
        raise _Damage("it is longer or shorter than its tensors")


def _span(name: str, entry: object) -> tuple[int, int]:
    """Where the bytes of a tensor begin and end; raises _Damage unless they fit its shape."""
    # Errors and check-run print names: escapes in one would drive the terminal.
    if not is_name(name):
        raise _Damage(f"a tensor has a name that trainer gives to none: {printable(name)[:40]!r}")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Damage(f"its entry for {name} is invalid")
    shape, offsets = entry["shape"], entry["data_offsets"]
    bits = _BITS.get(str(entry["dtype"]), 0)
    is_readable = _are_counts(shape, most=16) and _are_counts(offsets, most=2) and len(offsets) == 2
    if not is_readable or not bits or math.prod(shape) * bits != 8 * (offsets[1] - offsets[0]):
        raise _Damage(f"the shape of {name} does not fit its bytes")
    return offsets[0], offsets[1]


def is_name(text: str) -> bool:
    """Whether trainer may have given this name to a tensor or an entry."""
    return len(text) <= _MAX_NAME and text.isprintable()


def _are_counts(values: object, *, most: int) -> bool:
    """Whether `values` is a list of at most `most` counts."""
    # An empty tensor may claim any size on another axis, and 2^62 would overflow in a product.
    if not isinstance(values, list) or len(values) > most:
        return False
    # By type, not isinstance: JSON's true is a bool, which is an int.
    return all(type(value) is int and 0 <= value < 2**48 for value in values)


def _without_repeats(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    # json takes the last of two equal keys, and safetensors accepts them too: another reader could
    # see another tensor.
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {key!r} occurs twice")
        table[key] = value
    return table


def _seal_place(raw: bytes, seal: str) -> int:
    """Where the digits of the seal begin in the header."""
    # The description cannot contain the same text: JSON escapes its quotes.
    key = f'"{SEAL_KEY}":"'.encode()
    field = key + seal.encode() + b'"'
    if raw.count(field) != 1:
        raise _Damage("it has no checksum")
    return raw.index(field) + len(key)


def _refuse(path: Path, error: OSError | _Damage) -> NoReturn:
    """Raise the error for a file that cannot be used, naming the intact steps of the same run."""
    folder = path.parent
    is_in_step = step_of(folder) is not None
    # Between the look-up and the reading a run that trains may have pruned the step.
    if isinstance(error, FileNotFoundError) and is_in_step and not folder.exists():
        raise CheckpointError(
            f"{folder} was removed while it was read: its run is training and removes older steps.",
            hint="Take a newer one; with trainer.keep=… a run keeps more of them.",
        ) from error
    if isinstance(error, OSError):
        raise EnvironmentFault(f"{path} cannot be read: {reason_of(error)}.") from error
    if isinstance(error, _NoHeader) and not is_in_step:
        raise CheckpointError(
            f"{path} is not a safetensors file, or is truncated.",
            hint="Give a checkpoint that `trainer fit` saved.",
        ) from error
    raise _damaged(path, error) from error


def _damaged(path: Path, damage: _Damage) -> CheckpointError:
    folder = path.parent
    steps = step_folders(folder.parent.parent) if step_of(folder) is not None else []
    # Reads all other steps whole (0.25 s per 100 MB), for the name of one that can be used instead.
    intact = [step.name for step in steps if step != folder and is_intact(step)]
    hint = f"Nothing was loaded. Intact: {', '.join(intact)}." if intact else "Nothing was loaded."
    return CheckpointError(f"{path} is damaged ({damage}).", hint=hint)
