"""TensorBoard's event files on disk: read as they are, and taken back to a checkpoint when a run goes on. No torch."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from trainer.tracking.records import ResumePoint

_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")


class DamagedEvents(Exception):
    """An event file has a record whose checksum differs, or ends within one: TensorBoard reads only up to there."""


def event_files(run: Path) -> list[Path]:
    """The event files of a run, in the order in which TensorBoard reads them."""
    return sorted(run.glob("events.out.tfevents.*"))


def read_events(path: Path) -> Iterator[Event]:
    """Every event of a file; raises DamagedEvents where TensorBoard would stop reading."""
    content = path.read_bytes()
    end = 0
    for start, end in _frames(content):
        length, data = content[start : start + 8], content[start + 12 : end - 4]
        checksums = _CRC.pack(masked_crc32c(length)), _CRC.pack(masked_crc32c(data))
        if checksums != (content[start + 8 : start + 12], content[end - 4 : end]):
            raise DamagedEvents(f"{path.name} is damaged at byte {start:,}")
        yield Event.FromString(data)
    if end != len(content):
        raise DamagedEvents(f"{path.name} ends within a record")


def rewind(run: Path, point: ResumePoint) -> None:
    """Drop what was written past `point`, and let the files of before sort before any new one, whatever the clock.

    TensorBoard orders the files of a run by the time in their names. Killed at any moment, it can be done again.
    """
    for number, path in enumerate(event_files(run)):
        _keep(path, lambda event: _is_before(event, point))
        path.rename(path.with_name(f"events.out.tfevents.{number:010d}.resumed"))


def _keep(path: Path, is_kept: Callable[[Event], bool]) -> None:
    """Leave only some of the records of a file, byte for byte; a last one that was cut off is dropped."""
    content = path.read_bytes()
    kept, end = bytearray(), 0
    for start, end in _frames(content):
        try:
            is_wanted = is_kept(Event.FromString(content[start + 12 : end - 4]))
        except ValueError:  # damaged: TensorBoard reads no further either
            break
        if is_wanted:
            kept += content[start:end]
    if len(kept) != len(content):
        aside = path.with_name(f".{path.name}.part")
        aside.write_bytes(kept)
        aside.replace(path)


def _frames(content: bytes) -> Iterator[tuple[int, int]]:
    """Where each whole record begins and ends: length, its checksum, the event, its checksum."""
    start = 0
    while start + 16 <= len(content):
        end = start + 16 + _LENGTH.unpack_from(content, start)[0]
        if end > len(content):
            return
        yield start, end
        start = end


def _is_before(event: Event, point: ResumePoint) -> bool:
    """Whether an event belongs to the past of `point`. A file's first record has no step and always stays."""
    if event.HasField("session_log"):
        return False
    tags = [value.tag for value in event.summary.value]
    # Written when a run ends; it will end again.
    if any(tag.endswith("/test") or tag.startswith("_hparams_/") for tag in tags):
        return False
    split = "val" if any(tag.endswith("/val") for tag in tags) else "train"
    return event.step < point.step or not tags or point.has(split, at=event.step)
