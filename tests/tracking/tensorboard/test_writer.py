"""The writer of event files, read back with TensorBoard's own readers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from disks import Disk
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

from trainer.tracking.event_files import event_files, read_events
from trainer.tracking.tensorboard.histograms import histograms
from trainer.tracking.tensorboard.writer import EventFileError, EventWriter


def read(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run)).Reload()


def test_every_kind_is_read_back(tmp_path: Path) -> None:
    import torch

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    writer = EventWriter(tmp_path, purge_step=0)
    writer.scalar("a", 0.5, 3)
    writer.image("picture", pixels, 4)
    histogram = histograms({"h": torch.arange(10.0)}, bins=5)["h"]
    assert histogram is not None
    writer.histogram("h", histogram, 5)
    writer.text("Run/words", "*Ä*", 0)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="mine"))
    writer.tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3), metadata, 1)
    writer.close()
    events = read(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(3, 0.5)]
    (image,) = events.Images("picture")
    assert (image.step, image.width, image.height) == (4, 7, 5)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), pixels)
    (counted,) = events.Histograms("h")
    assert counted.histogram_value.bucket == [2, 2, 2, 2, 2]
    (text,) = events.Tensors("Run/words")
    assert text.tensor_proto.string_val == ["*Ä*".encode()]
    (tensor,) = events.Tensors("t")
    assert np.frombuffer(tensor.tensor_proto.tensor_content, np.float32).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_two_writers_in_one_second_have_two_files_in_order(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        writer = EventWriter(tmp_path, purge_step=int(value))
        writer.scalar("a", value, int(value))
        writer.close()
    assert len(event_files(tmp_path)) == 2
    assert [event.value for event in read(tmp_path).Scalars("a")] == [1.0, 2.0]


def test_what_waits_is_written_by_a_flush_and_not_before(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, purge_step=0)
    writer.flush()
    (path,) = event_files(tmp_path)
    size = path.stat().st_size
    writer.scalar("a", 1.0, 1)
    assert path.stat().st_size == size
    writer.flush()
    assert path.stat().st_size > size
    writer.close()


def test_much_is_written_without_a_flush(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, purge_step=0)
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    writer.image("noise", pixels, 1)
    (path,) = event_files(tmp_path)
    assert path.stat().st_size > 400_000
    writer.close()


def test_a_full_disk_leaves_whole_events(disk: Disk) -> None:
    run = disk.inside
    writer = EventWriter(run, purge_step=0)
    pixels = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    with pytest.raises(EventFileError, match="No space left"):
        for step in range(10):
            writer.image("noise", pixels, step)
    writer.close()
    (path,) = event_files(run)
    assert 1 <= sum(1 for _ in read_events(path)) - 2 < 10


def test_a_file_that_was_removed_is_not_written_in_silence(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, purge_step=0)
    writer.flush()
    event_files(tmp_path)[0].unlink()
    writer.scalar("a", 1.0, 1)
    with pytest.raises(EventFileError, match="No such file"):
        writer.close()
