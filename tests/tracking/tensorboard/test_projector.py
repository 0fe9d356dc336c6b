"""The projector's files, read back by a real TensorBoard, and how features and samples for them
are found.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from serving import serving
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import Tensor, nn

from trainer.errors import ConfigError
from trainer.tracking.tensorboard.projector import (
    balanced,
    features,
    find_layer,
    last_layer,
    rewind,
    write,
)
from trainer.tracking.tensorboard.writer import EventWriter


class Net(nn.Module):
    """Two layers, one of them in evaluation mode for good, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm1d(5).eval()
        self.head = nn.Linear(5, 3)
        self.loose = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        head: Tensor = self.head(self.frozen(self.body(x)))
        return head


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(7, 1, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


def test_penultimate_features_are_what_goes_into_the_last_layer(model: Net, inputs: Tensor) -> None:
    called, found, outputs = features(model, inputs, layer=None, batch_size=3)
    assert called == "into head" and found.shape == (7, 5) and outputs.shape == (7, 3)
    torch.testing.assert_close(model.head(found), outputs)
    torch.testing.assert_close(outputs, model.eval()(inputs))
    assert features(model.head, torch.randn(7, 5), layer=None)[0] == "input"


def test_by_name_it_is_what_comes_out_flattened(model: Net, inputs: Tensor) -> None:
    called, found, _ = features(model, inputs, layer="body.1")
    assert called == "body.1"
    torch.testing.assert_close(found, model.body[1](inputs.flatten(1)))
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(4, 3))
    assert features(convolution, inputs, layer="0")[1].shape == (7, 4)
    assert find_layer(model, "body.1") is model.body[1]


def test_a_model_is_left_as_it_was(model: Net, inputs: Tensor) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, found, outputs = features(model, inputs, layer=None)
    with pytest.raises(ConfigError):
        features(model, inputs, layer="loose")
    assert not found.requires_grad and not outputs.requires_grad
    assert model.training and model.body.training and not model.frozen.training
    assert all(
        not module._forward_hooks and not module._forward_pre_hooks for module in model.modules()
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_wrong_layer_is_answered_with_the_nearest(model: Net, inputs: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"logger\.projector_layer=haed is not") as caught:
        find_layer(model, "haed")
    assert "Did you mean head?" in str(caught.value)
    with pytest.raises(ConfigError, match="is not a layer"):
        find_layer(model, "")
    with pytest.raises(ConfigError, match="loose has no features"):
        features(model, inputs, layer="loose")


class Aux(nn.Module):
    """A head named last that is used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(12, 5), nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.flatten(1))
        out: Tensor = self.head(x)
        return out + 0.1 * self.aux(x) if self.training else out


class SequenceFirst(nn.Module):
    """Steps of time come before samples, up to the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1, 2)).transpose(0, 1)
        out: Tensor = self.head(x).mean(0)
        return out


def test_the_last_layer_is_the_one_that_is_used_last_with_a_row_a_sample(inputs: Tensor) -> None:
    assert last_layer(Aux(), inputs) == "head"
    assert last_layer(SequenceFirst(), inputs) == "embed"
    assert last_layer(nn.Sequential(nn.Flatten(), nn.ReLU()), inputs) == ""
    assert features(nn.Sequential(nn.Flatten(), nn.ReLU()), inputs, layer=None)[1].shape == (7, 12)


def test_feature_maps_of_many_values_are_averaged_over_their_places() -> None:
    model, inputs = (
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(2028, 2)),
        torch.randn(4, 1, 28, 28),
    )
    _, found, _ = features(model, inputs, layer="0")
    torch.testing.assert_close(found, model[0](inputs).mean((2, 3)))


class Stream:
    """Batches of four samples, whose only value is their place; counts how many were asked for."""

    def __init__(self, targets: list[int]) -> None:
        self.targets, self.num_asked = targets, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.targets), 4):
            self.num_asked += 1
            part = torch.tensor(self.targets[start : start + 4])
            yield torch.arange(start, start + len(part)).float().reshape(-1, 1), part


def test_a_sample_has_the_first_of_each_class_and_stops_when_it_is_full() -> None:
    stream = Stream([0, 0, 0, 1, 2, 0, 1, 1, 2, 2, 0, 0, 1, 1, 1, 1])
    inputs, targets = balanced(stream, num=7, num_classes=3)
    assert targets.tolist() == [0, 0, 1, 2, 1, 2]
    assert inputs.flatten().tolist() == [0, 1, 3, 4, 6, 8]
    assert stream.num_asked == 3


def test_a_sample_lacks_a_class_that_does_not_come_and_is_never_larger_than_asked_for() -> None:
    inputs, targets = balanced(Stream([2, 0, 0, 2, 2]), num=6, num_classes=3)
    assert (targets.tolist(), inputs.flatten().tolist()) == ([2, 0, 0, 2], [0, 1, 2, 3])
    assert balanced(Stream([0, 1, 2, 3, 4]), num=2, num_classes=5)[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match="no samples"):
        balanced(Stream([]), num=6, num_classes=3)


def test_targets_may_be_one_hot() -> None:
    batches = [(torch.arange(4), torch.eye(3)[[1, 1, 0, 2]])]
    assert balanced(batches, num=3, num_classes=3)[1].tolist() == [1, 0, 2]


def written(run: Path, tag: str, **changed: Any) -> Tensor:
    values = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    names = ["Sneaker", "Bag", "Bag", "T-shirt\ttop\n", ""]
    what: dict[str, Any] = {
        "layer": "into fc2",
        "features": values,
        "labels": names,
        "predicted": ["Sneaker", "Bag", "Sneaker", "T-shirt\ttop\n", "Bag"],
        "thumbnails": torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 6, 8),
    }
    write(run, tag=tag, **(what | changed))
    return values


def config_of(run: Path) -> dict[str, str]:
    """The tensors that the config names, with the folder of each."""
    config = ProjectorConfig()
    text_format.Parse((run / "projector_config.pbtxt").read_text(encoding="utf-8"), config)
    assert all((run / entry.tensor_path).is_file() for entry in config.embeddings)
    return {entry.tensor_name: str(Path(entry.tensor_path).parent) for entry in config.embeddings}


def test_no_epoch_overwrites_another_and_the_same_is_replaced(tmp_path: Path) -> None:
    written(tmp_path, "step-000938")
    first = (tmp_path / "projector/step-000938/tensors.tsv").read_bytes()
    written(tmp_path, "step-001876", features=torch.ones(5, 4))
    assert config_of(tmp_path) == {
        "step 000938, into fc2": "projector/step-000938",
        "step 001876, into fc2": "projector/step-001876",
    }
    assert (tmp_path / "projector/step-000938/tensors.tsv").read_bytes() == first
    written(tmp_path, "step-000938", features=torch.zeros(5, 4), layer="fc&1")
    assert list(config_of(tmp_path)) == ["step 000938, fc_1", "step 001876, into fc2"]
    assert (tmp_path / "projector/step-000938/tensors.tsv").read_text() == "0\t0\t0\t0\n" * 5
    assert sorted(path.name for path in (tmp_path / "projector").iterdir()) == [
        "step-000938",
        "step-001876",
    ]


def test_what_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    written(tmp_path, "step-000001")
    config = config_of(tmp_path)
    with pytest.raises(ValueError):
        written(tmp_path, "step-000002", labels=["one"])
    with pytest.raises(ValueError, match=r"\(N, F\)"):
        written(tmp_path, "step-000002", features=torch.zeros(0, 4))
    assert [path.name for path in (tmp_path / "projector").iterdir()] == ["step-000001"]
    assert config_of(tmp_path) == config
    written(tmp_path, "step-000002")
    assert len(config_of(tmp_path)) == 2
    assert {path.name for path in (tmp_path / "projector").iterdir()} == {
        "step-000001",
        "step-000002",
    }


def test_a_resume_drops_what_lies_past_it_and_what_a_kill_left(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        written(tmp_path, f"step-{step:06}")
    (tmp_path / "projector/.step-000004.part").mkdir()
    (tmp_path / "projector/.step-000001.old").mkdir()
    rewind(tmp_path, step=2)
    assert sorted(path.name for path in (tmp_path / "projector").iterdir()) == [
        "step-000001",
        "step-000002",
    ]
    assert len(config_of(tmp_path)) == 2
    rewind(tmp_path, step=0)
    assert list(tmp_path.iterdir()) == []
    rewind(tmp_path, step=0)


def test_a_folder_that_was_removed_or_is_damaged_is_not_named(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        written(tmp_path, f"step-{step:06}")
    (tmp_path / "projector/step-000001/entry.pbtxt").write_bytes(b"\xff{")
    (tmp_path / "projector/step-000002/entry.pbtxt").unlink()
    rewind(tmp_path, step=9)
    assert list(config_of(tmp_path)) == ["step 000003, into fc2"]


def sprite_of(run: Path, thumbnails: Tensor) -> Image.Image:
    num = len(thumbnails)
    names = ["a"] * num
    written(
        run,
        "step-000001",
        features=torch.ones(num, 2),
        labels=names,
        predicted=names,
        thumbnails=thumbnails,
    )
    return Image.open(io.BytesIO((run / "projector/step-000001/sprite.png").read_bytes()))


def test_thumbnails_lie_in_rows_and_keep_their_colours(tmp_path: Path) -> None:
    colours = torch.tensor([[0, 50, 100], [200, 7, 3], [255, 0, 9]], dtype=torch.uint8)
    image = sprite_of(tmp_path, colours.reshape(3, 3, 1, 1).expand(3, 3, 4, 6))
    assert image.size == (12, 8)
    pixels = np.asarray(image)
    assert [pixels[1, 1].tolist(), pixels[1, 7].tolist(), pixels[5, 1].tolist()] == colours.tolist()
    assert pixels[5, 7].tolist() == [0, 0, 0]


def test_large_pictures_are_made_smaller_and_too_many_left_out(tmp_path: Path) -> None:
    assert sprite_of(tmp_path, torch.rand(4, 1, 100, 200)).size == (128, 64)
    assert max(sprite_of(tmp_path, torch.rand(2048, 1, 70, 70)).size) == 46 * 64
    with pytest.raises(FileNotFoundError):
        sprite_of(tmp_path, torch.rand(2049, 1, 2, 2))


def test_a_thousand_samples_are_written_quickly(tmp_path: Path) -> None:
    names = ["a"] * 1000
    start = time.process_time()
    written(
        tmp_path,
        "step-000001",
        features=torch.randn(1000, 128),
        labels=names,
        predicted=names,
        thumbnails=None,
    )
    assert time.process_time() - start < 0.2


@pytest.mark.slow
def test_tensorboard_shows_every_epoch_with_its_table_and_thumbnails(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    writer = EventWriter(run, purge_step=0)
    writer.scalar("Loss/train", 1.0, 1)
    writer.close()
    values = written(run, "step-000938")
    written(
        run,
        "step-001876",
        layer="body.1",
        features=torch.tensor([[1.0], [2.0], [3.0], [4.0], [torch.nan]]),
    )
    with serving(tmp_path, runs=1) as server:
        assert server.runs() == ["run"]
        assert json.loads(server.get("plugin/projector/runs")) == ["run"]
        config = json.loads(server.get("plugin/projector/info", run="run"))
        shapes = {entry["tensorName"]: entry["tensorShape"] for entry in config["embeddings"]}
        # Of fewer than two numbers TensorBoard's page shows nothing.
        assert shapes == {"step 000938, into fc2": [5, 4], "step 001876, body.1": [5, 2]}
        query = {"run": "run", "name": "step 000938, into fc2"}
        table = server.get("plugin/projector/metadata", **query).decode().splitlines()
        assert table[0].split("\t") == ["label", "predicted", "right"]
        assert [line.split("\t") for line in table[1:]] == [
            ["Sneaker", "Sneaker", "yes"],
            ["Bag", "Bag", "yes"],
            ["Bag", "Sneaker", "no"],
            ["T-shirt top", "T-shirt top", "yes"],
            ["?", "Bag", "no"],
        ]
        tensor = np.frombuffer(server.get("plugin/projector/tensor", **query), np.float32).reshape(
            5, 4
        )
        np.testing.assert_allclose(tensor, values.numpy(), rtol=1e-3)
        sprite = Image.open(io.BytesIO(server.get("plugin/projector/sprite_image", **query)))
        assert config["embeddings"][0]["sprite"]["singleImageDim"] == [8, 6] and sprite.size == (
            24,
            12,
        )
        assert [np.asarray(sprite)[row, column] for row, column in ((0, 0), (0, 23), (6, 8))] == [
            0,
            128,
            255,
        ]
