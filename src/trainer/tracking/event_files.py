"""TensorBoard's event files on disk: read as they are, and taken back to a checkpoint when a run
goes on. No torch.
"""

from __future__ import annotations

import contextlib
import math
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from trainer.files import write_bytes
from trainer.tracking.metrics_file import read_rows
from trainer.tracking.records import BY_SAMPLES, BY_SECONDS, ResumePoint, scalar_tags, split_of

_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")
# What every start of a run writes anew, by the beginning of its tag: texts, the layout of charts,
# hparams, other axes.
_ANEW = ("Run/", "custom_scalars__config__", "_hparams_/", f"{BY_SAMPLES}/", f"{BY_SECONDS}/")
# Tags of the rows of training, which may come after a checkpoint of the same step.
_ROWS = frozenset(scalar_tags("train").values())


class DamagedEvents(Exception):
    """An event file has a record whose checksum differs, or ends within one: TensorBoard reads
    only up to there.
    """


class CutOffEvents(DamagedEvents):
    """An event file ends within a record, as one does whose writer was killed."""


def event_files(run: Path) -> list[Path]:
    """The event files of a run, in the order in which TensorBoard reads them."""
    # Regular files: to open a named pipe would wait for its writer.
    return sorted(path for path in run.glob("events.out.tfevents.*") if path.is_file())


def read_events(path: Path) -> Iterator[Event]:
    """Every event of a file; raises DamagedEvents where TensorBoard would stop reading."""
    return (event for event, _ in _read_records(path))


def _read_records(path: Path) -> Iterator[tuple[Event, bytes]]:
    content = path.read_bytes()
    end = 0
    for start, end in _frames(content):
        length, data = content[start : start + 8], content[start + 12 : end - 4]
        if (_checksum(length), _checksum(data)) != (
            content[start + 8 : start + 12],
            content[end - 4 : end],
        ):
            raise DamagedEvents(f"{path.name} is damaged at byte {start:,}")
        try:
            event = Event.FromString(data)
        except DecodeError:
            raise DamagedEvents(f"{path.name} holds what is no event at byte {start:,}") from None
        yield event, content[start:end]
    if end != len(content):
        length, checksum = content[end : end + 8], content[end + 8 : end + 12]
        if len(checksum) == 4 and checksum != _checksum(length):
            raise DamagedEvents(f"{path.name} is damaged at byte {end:,}")
        raise CutOffEvents(f"{path.name} ends within a record")


def rewind(run: Path, point: ResumePoint) -> str | None:
    """Drop what was written past `point`, and let the files of before sort before a new one,
    whatever the clock.

    Where a file is damaged, all are made anew from metrics.jsonl, which must have been taken back
    already; says so. TensorBoard orders the files of a run by the time in their names. Killed at
    any moment, it can be done again.
    """
    damage = None
    for path in event_files(run):
        try:
            _keep(path, lambda event: _is_before(event, point))
        except DamagedEvents as error:
            damage = (
                f"{error}: what TensorBoard shows of this run was made anew from metrics.jsonl."
            )
            _make_anew(path)
            break
    files = event_files(run)
    # Only then: a TensorBoard that is running never finds its way from a name that is gone.
    if files and files[-1].name >= f"events.out.tfevents.{int(time.time()):010d}":
        for number, path in enumerate(files):
            path.rename(path.with_name(f"events.out.tfevents.{number:010d}.resumed"))
    return damage


def _keep(path: Path, is_kept: Callable[[Event], bool]) -> None:
    """Leave only some of the records of a file, byte for byte, and no last one that was cut off.

    Raises DamagedEvents.
    """
    kept: list[bytes] = []
    with contextlib.suppress(CutOffEvents):
        for event, record in _read_records(path):
            if is_kept(event):
                kept.append(record)
    _replace(path, b"".join(kept))


def _make_anew(damaged: Path) -> None:
    """Put every row of metrics.jsonl into the file, in place of all files; what cannot be read has
    no time of its own.

    It is replaced last, so that a kill leaves it to be found damaged again.
    """
    times: dict[int, float] = {}
    for path in event_files(damaged.parent):
        with contextlib.suppress(DamagedEvents):
            for event in read_events(path):
                times[event.step] = event.wall_time
    at = min(times.values(), default=time.time())
    made = [framed(Event(wall_time=at, file_version="brain.Event:2"))]
    for row in read_rows(damaged.parent):
        at = max(at, times.get(row["step"], at))
        for name, tag in scalar_tags(row["split"]).items():
            # Only a loss is always there: where it is null, it was not finite.
            value = math.nan if name == "loss" and row[name] is None else row[name]
            if value is not None:
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                made.append(framed(Event(wall_time=at, step=row["step"], summary=summary)))
    for path in event_files(damaged.parent):
        if path != damaged:
            path.unlink()
    _replace(damaged, b"".join(made))


def _replace(path: Path, content: bytes) -> None:
    if content != path.read_bytes():
        write_bytes(path, content)


def framed(event: Event) -> bytes:
    """An event as a record of a file: its length, a checksum of that, the event, a checksum of
    it (TFRecord).
    """
    data: bytes = event.SerializeToString()
    length = _LENGTH.pack(len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as TFRecord has it, since a checksum of data that holds checksums is a weak one."""
    crc: int = google_crc32c.value(data)
    return _CRC.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


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
    """Whether an event belongs to the past of `point` and is not written anew when the run goes on.

    A file's first records have no tags and always stay.
    """
    if event.HasField("graph_def"):
        return False
    tags = [value.tag for value in event.summary.value]
    splits = {split_of(tag) for tag in tags}
    # Of the test split is what a run ends with; it will end again.
    if "test" in splits or any(tag.startswith(_ANEW) for tag in tags):
        return False
    if not tags or event.step < point.step:
        return True
    if "val" in splits or not _ROWS.isdisjoint(tags):
        return point.has("val" if "val" in splits else "train", at=event.step)
    is_at_point: bool = event.step == point.step
    return is_at_point  # looked at when the update was made, so before any checkpoint of it
