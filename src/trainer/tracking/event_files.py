"""TensorBoard's event files on disk: read them, and cut them back to a checkpoint. No torch."""

from __future__ import annotations

import contextlib
import math
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from trainer.files import write_bytes
from trainer.tracking.metrics_file import read_rows
from trainer.tracking.records import OF_VALUES, ResumePoint, TagGroup, scalar_tags, split_of

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
# The beginnings of the tags that every start of a run writes again: texts, the layout of charts,
# hparams, other axes. A resume drops them all, or TensorBoard would show them twice.
_ANEW = (
    "Run/",
    "custom_scalars__config__",
    "_hparams_/",
    f"{TagGroup.BY_SAMPLES}/",
    f"{TagGroup.BY_SECONDS}/",
)
# Tags of the rows of training, which may come after a checkpoint of the same step.
_ROWS = frozenset(scalar_tags("train").values())


class DamagedEvents(Exception):
    """A record has a wrong checksum or is incomplete: TensorBoard stops reading there."""


class CutOffEvents(DamagedEvents):
    """An event file ends within a record, as one does whose writer was killed."""


def event_files(run: Path) -> list[Path]:
    """The event files of a run, in the order in which TensorBoard reads them."""
    # Regular files only: to open a named pipe would wait for its writer.
    return sorted(path for path in run.glob("events.out.tfevents.*") if path.is_file())


def read_events(path: Path) -> Iterator[Event]:
    """Read every event of a file; raises DamagedEvents where TensorBoard would stop reading."""
    return (event for event, _ in _read_records(path))


def _read_records(path: Path) -> Iterator[tuple[Event, bytes]]:
    content = path.read_bytes()
    start = 0
    while start < len(content):
        length = content[start : start + 8]
        checksum = content[start + 8 : start + 12]
        # The length has its own checksum: a flipped bit in it would point past the end, and the
        # damage would pass for a kill.
        if len(checksum) < 4:
            raise CutOffEvents(f"{path.name} ends within a record")
        if checksum != _checksum(length):
            raise DamagedEvents(f"{path.name} is damaged at byte {start:,}")
        end = start + 16 + _LENGTH.unpack(length)[0]
        if end > len(content):
            raise CutOffEvents(f"{path.name} ends within a record")
        data = content[start + 12 : end - 4]
        if content[end - 4 : end] != _checksum(data):
            raise DamagedEvents(f"{path.name} is damaged at byte {start:,}")
        try:
            event = Event.FromString(data)
        except DecodeError:
            raise DamagedEvents(f"{path.name} has no event at byte {start:,}") from None
        yield event, content[start:end]
        start = end


def rewind(run: Path, point: ResumePoint) -> str | None:
    """Drop what was written past `point`; returns a warning where a file is damaged.

    Where one is damaged, all files are rebuilt from metrics.jsonl, which must have been cut back
    already. The files are renamed so that they sort before a new one, whatever the clock:
    TensorBoard orders the files of a run by the time in their names. Killed at any moment, it can
    be done again.
    """
    damage = None
    for path in event_files(run):
        try:
            _keep_before(path, point)
        except DamagedEvents as error:
            damage = f"{error}: what TensorBoard shows of this run was rebuilt from metrics.jsonl."
            # One flipped bit hides the rest of a file, and TensorBoard says nothing of it: of 500
            # steps, 250 were shown.
            _rebuild(path)
            # It replaces the files before this one and after it too.
            break
    files = event_files(run)
    # Only if it must be: a TensorBoard that is running cannot follow a file to another name.
    if files and files[-1].name >= f"events.out.tfevents.{int(time.time()):010d}":
        for number, path in enumerate(files):
            path.rename(path.with_name(f"events.out.tfevents.{number:010d}.resumed"))
    return damage


def _keep_before(path: Path, point: ResumePoint) -> None:
    """Drop the records past `point` and an incomplete last one; raises DamagedEvents."""
    kept: list[bytes] = []
    with contextlib.suppress(CutOffEvents):
        for event, record in _read_records(path):
            if _is_before(event, point):
                kept.append(record)
    _replace(path, b"".join(kept))


def _rebuild(damaged: Path) -> None:
    """Write every row of metrics.jsonl into the file, in place of all files.

    A row whose event cannot be read gets the time of the one before it.
    """
    files = event_files(damaged.parent)
    times: dict[int, float] = {}
    for path in files:
        with contextlib.suppress(DamagedEvents):
            for event in read_events(path):
                times[event.step] = event.wall_time
    at = min(times.values(), default=time.time())
    made = [framed(Event(wall_time=at, file_version="brain.Event:2"))]
    for row in read_rows(damaged.parent):
        at = max(at, times.get(row["step"], at))
        for name, tag in scalar_tags(row["split"]).items():
            value = row.get(name)
            # Null is a number that was not finite, but an accuracy of null is missing.
            if value is None and name in row and name in (*OF_VALUES, "loss"):
                value = math.nan
            if value is not None:
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                made.append(framed(Event(wall_time=at, step=row["step"], summary=summary)))
    # The damaged file last: after a kill it is still there and damaged, so this is done again.
    for path in files:
        if path != damaged:
            path.unlink()
    _replace(damaged, b"".join(made))


def _replace(path: Path, content: bytes) -> None:
    # After several resumes most files have nothing to drop, and need not be written.
    if content != path.read_bytes():
        write_bytes(path, content)


def framed(event: Event) -> bytes:
    """Frame an event as TFRecord does: its length, a checksum of that, the event, its checksum."""
    data: bytes = event.SerializeToString()
    length = _LENGTH.pack(len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as TFRecord does: the CRC of data that contains CRCs is weak."""
    # By a library in C. torch's writer computes it in Python: 20 ms of the interpreter an image.
    crc: int = google_crc32c.value(data)
    return _CRC.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _is_before(event: Event, point: ResumePoint) -> bool:
    """Whether an event is from before `point` and no start of a run writes it again."""
    tags = [value.tag for value in event.summary.value]
    splits = {split_of(tag) for tag in tags}
    # The run ends again, with its test; and every start writes its graph.
    if event.HasField("graph_def") or "test" in splits:
        return False
    if any(tag.startswith(_ANEW) for tag in tags):
        return False
    # The first records of a file have no tags.
    if not tags or event.step < point.step:
        return True
    for split in ("val", "train_epoch"):
        if split in splits:
            return point.has(split, at=event.step)
    if not _ROWS.isdisjoint(tags):
        return point.has("train", at=event.step)
    # All else was recorded with its update, so before any checkpoint of it.
    is_at_point: bool = event.step == point.step
    return is_at_point
