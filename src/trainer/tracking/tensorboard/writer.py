"""Writes TensorBoard's event files: each value is an event, buffered, and never half of one."""

from __future__ import annotations

import errno
import io
import itertools
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING

from trainer.files import append_whole
from trainer.tracking.event_files import framed

# Events are written once as many bytes wait, or as many seconds have passed: a TensorBoard that is
# running should see progress.
_BUFFER_BYTES = 1 << 18
_BUFFER_S = 5.0
# A process may open two files in one second, as for two runs: their names differ by this.
_numbers = itertools.count()


class EventFileError(OSError):
    """The event file cannot be written, so that no kind of record can be."""


class EventWriter:
    """Appends events to a new file in the folder of a run.

    A TensorBoard that is running drops what it has read from `purge_step` on. Methods raise
    EventFileError when the disk refuses; the file then ends with a whole event.
    """

    def __init__(self, run: Path, *, purge_step: int) -> None:
        host = socket.gethostname()
        # TensorBoard reads the files of a run in the order of their names, hence the time first.
        name = f"events.out.tfevents.{int(time.time()):010d}.{host}.{os.getpid()}.{next(_numbers)}"
        self._file = (run / name).open("xb", buffering=0)
        self._waiting = bytearray()
        self._flushed_at = time.monotonic()
        # From version 2 on, TensorBoard purges at the start of a session only; before, wherever the
        # step of a tag went back.
        self._write(Event(step=purge_step, file_version="brain.Event:2"))
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a number."""
        self._value(Summary.Value(tag=tag, simple_value=value), step)

    def histogram(self, tag: str, histogram: HistogramProto, step: int) -> None:
        """Add a histogram."""
        self._value(Summary.Value(tag=tag, histo=histogram), step)

    def image(self, tag: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add an image (H, W, 3)."""
        height, width, _ = pixels.shape
        file = io.BytesIO()
        # PNG's fastest compression has twice the speed of the usual one, for a tenth more bytes.
        Image.fromarray(pixels).save(file, format="png", compress_level=1)
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=file.getvalue()
        )
        self._value(Summary.Value(tag=tag, image=image), step)

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Add a text in Markdown."""
        metadata = SummaryMetadata(plugin_data={"plugin_name": "text"})
        self.message(tag, markdown.encode(), metadata, step)

    def message(self, tag: str, content: bytes, metadata: SummaryMetadata, step: int) -> None:
        """Add bytes for the plugin that `metadata` names."""
        tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape_proto((1,)), string_val=[content])
        self._value(Summary.Value(tag=tag, metadata=metadata, tensor=tensor), step)

    def tensor(
        self, tag: str, values: NDArray[np.float32], metadata: SummaryMetadata, step: int
    ) -> None:
        """Add numbers of any shape for the plugin that `metadata` names."""
        tensor = TensorProto(
            dtype=DT_FLOAT, tensor_shape=shape_proto(values.shape), tensor_content=values.tobytes()
        )
        self._value(Summary.Value(tag=tag, metadata=metadata, tensor=tensor), step)

    def summary(self, summary: Summary, step: int) -> None:
        """Add a summary."""
        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def graph(self, graph: GraphDef) -> None:
        """Add the graph of the model."""
        self._write(Event(wall_time=time.time(), graph_def=graph.SerializeToString()))

    def flush(self) -> None:
        """Give the events that wait to the operating system."""
        content = bytes(self._waiting)
        # Also where it fails: the tracker flushes again as it closes, and would raise once more.
        self._waiting.clear()
        self._flushed_at = time.monotonic()
        # What is written to a file that was removed is lost.
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise EventFileError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            append_whole(self._file, content)
        except OSError as error:
            raise EventFileError(error.errno, error.strerror) from error

    def close(self) -> None:
        """Write the events that wait, and close the file whether that works or not."""
        with self._file:
            self.flush()

    def _value(self, value: Summary.Value, step: int) -> None:
        self.summary(Summary(value=[value]), step)

    def _write(self, event: Event) -> None:
        self._waiting += framed(event)
        if len(self._waiting) >= _BUFFER_BYTES or time.monotonic() - self._flushed_at >= _BUFFER_S:
            self.flush()


def shape_proto(sizes: Sequence[int]) -> TensorShapeProto:
    """TensorBoard's message for a shape; a size of -1 is unknown."""
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
