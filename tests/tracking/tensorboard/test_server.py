"""A real TensorBoard server gives every plugin's data of a run of images, and the hparams of a
sweep, over HTTP.
"""

from __future__ import annotations

import io
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
from commandline import DATASETS
from PIL import Image
from running import SMALL, Run
from serving import Server, serving
from waiting import wait_until

IMAGES = (
    "data=fashion_mnist", "model=cnn", "model.channels=[4,6]", "model.hidden=16",
    "data.train_limit=640", "data.eval_limit=200", "data.val_size=200",
    "data.transforms=[random_horizontal_flip]", "trainer.epochs=2", "logger=tensorboard_full",
    "logger.projector_samples=100", "logger.layers_every=5", "logger.log_every=5",
    "logger.histograms_every=10", "logger.images_every=10",
)  # fmt: skip
SWEEP = (*SMALL, "trainer.epochs=1", "-m", "optimizer.lr=0.3,0.01", "seed=0,1")


def answer(server: Server, route: str, **query: Any) -> Any:
    """The answer to a GET, as JSON."""
    return json.loads(server.get(route, **query))


def has_ended(server: Server, num_runs: int) -> bool:
    """Whether so many runs have been read to their ends."""
    runs = answer(server, "plugin/scalars/tags")
    return len(runs) == num_runs and all("Accuracy/test" in tags for tags in runs.values())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not DATASETS.is_dir():
        pytest.skip(f"the image data is not in {DATASETS}")
    folder = tmp_path_factory.mktemp("images")
    outcome = processes.run("fit", *IMAGES, f"data.root={DATASETS}", "run.dir=logs/run", cwd=folder)
    assert outcome.code == 0, outcome.err
    return folder / "logs"


@pytest.fixture(scope="module")
def server(images: Path) -> Iterator[Server]:
    with serving(images, runs=1) as server:
        wait_until(lambda: has_ended(server, 1))
        yield server


def test_there_is_one_run_and_no_other(server: Server) -> None:
    assert answer(server, "runs") == ["run"]


def test_scalars(server: Server, images: Path) -> None:
    rows = Run(images / "run").split("train")
    shown = answer(server, "plugin/scalars/scalars", run="run", tag="Loss/train")
    assert [(step, value) for _, step, value in shown] == [
        (row["step"], pytest.approx(row["loss"], rel=1e-5)) for row in rows
    ]
    tags = set(answer(server, "plugin/scalars/tags")["run"])
    assert {
        "Update_ratio/conv1",
        "Weight_mean/fc2",
        "Memory/peak_resident",
        "Best/val_accuracy",
    } <= tags


def test_custom_scalars(server: Server) -> None:
    layout = answer(server, "plugin/custom_scalars/layout")
    charts = {chart["title"]: chart["multiline"]["tag"] for chart in layout["category"][0]["chart"]}
    assert {"Loss", "Accuracy"} <= set(charts)
    found = answer(server, "plugin/custom_scalars/scalars", run="run", tag=charts["Loss"][0])
    assert found["regex_valid"] and set(found["tag_to_events"]) == {
        "Loss/train",
        "Loss/train_epoch",
        "Loss/val",
        "Loss/test",
    }
    layers = {chart["title"]: chart["multiline"]["tag"] for chart in layout["category"][1]["chart"]}
    found = answer(
        server, "plugin/custom_scalars/scalars", run="run", tag=layers["Gradient norm"][0]
    )
    assert set(found["tag_to_events"]) == {
        f"Gradient_norm/{layer}" for layer in ("conv1", "conv2", "fc1", "fc2")
    }


@pytest.mark.parametrize("plugin", ["histograms", "distributions"])
def test_histograms_and_distributions(server: Server, plugin: str) -> None:
    tags = set(answer(server, f"plugin/{plugin}/tags")["run"])
    layers = [
        f"{layer}.{part}"
        for layer in ("conv1", "conv2", "fc1", "fc2")
        for part in ("weight", "bias")
    ]
    assert {f"{kind}/{name}" for kind in ("Parameters", "Gradients") for name in layers} <= tags
    assert {
        f"Activations/{name}"
        for name in ("conv1", "relu1", "conv2", "relu2", "fc1", "relu3", "fc2")
    } <= tags
    shown = answer(server, f"plugin/{plugin}/{plugin}", run="run", tag="Parameters/conv1.weight")
    assert [point[1] for point in shown] == [1, 10, 20]
    if plugin == "histograms":
        assert sum(count for _, _, count in shown[0][2]) == 4 * 9


def test_the_graph(server: Server) -> None:
    assert answer(server, "plugin/graphs/info")["run"]["run_graph"]
    graph = server.get("plugin/graphs/graph", run="run").decode()
    assert all(
        f'name: "{layer}"' in graph
        for layer in ("input", "conv1", "pool1", "relu1", "fc2", "output")
    )


def test_images(server: Server) -> None:
    tags = answer(server, "plugin/images/tags")["run"]
    assert set(tags) == {
        "Inputs/train", "Filters/first_convolution", "Feature_maps/conv1", "Feature_maps/conv2",
        *(
            f"{kind}/{split}"
            for kind in ("Confusion", "Reliability", "Mistakes")
            for split in ("val", "test")
        ),
    }  # fmt: skip
    for tag in tags:
        shown = answer(server, "plugin/images/images", run="run", tag=tag, sample=0)
        picture = server.get(
            "plugin/images/individualImage", **dict(urllib.parse.parse_qsl(shown[-1]["query"]))
        )
        pixels = np.asarray(Image.open(io.BytesIO(picture)))
        assert pixels.shape[2] == 3 and min(pixels.shape[:2]) > 20 and pixels.std() > 1


def test_pr_curves(server: Server) -> None:
    tags = answer(server, "plugin/pr_curves/tags")["run"]
    assert len(tags) == 20 and "Precision_recall/val/Ankle boot" in tags
    curve = answer(
        server, "plugin/pr_curves/pr_curves", run="run", tag="Precision_recall/val/Trouser"
    )["run"]
    assert len(curve) == 2 and len(curve[-1]["thresholds"]) > 10
    assert all(0 <= value <= 1 for value in (*curve[-1]["precision"], *curve[-1]["recall"]))


def test_text(server: Server) -> None:
    tags = set(answer(server, "plugin/text/tags")["run"])
    assert tags == {f"Run/{name}" for name in ("config", "command", "environment", "layers")}
    (layers,) = answer(server, "plugin/text/text", run="run", tag="Run/layers")
    assert "<table>" in layers["text"] and "conv1" in layers["text"]


def test_the_projector(server: Server) -> None:
    assert answer(server, "plugin/projector/runs") == ["run"]
    embeddings = answer(server, "plugin/projector/info", run="run")["embeddings"]
    assert len(embeddings) >= 2
    for embedding in embeddings:
        name = embedding["tensorName"]
        assert embedding["tensorShape"] == [100, 16] and name.endswith("into fc2")
        values = np.frombuffer(
            server.get("plugin/projector/tensor", run="run", name=name), np.float32
        )
        assert values.size == 1600
        table = server.get("plugin/projector/metadata", run="run", name=name).decode().splitlines()
        assert table[0] == "label\tpredicted\tright" and len(table) == 101
        sprite = Image.open(
            io.BytesIO(server.get("plugin/projector/sprite_image", run="run", name=name))
        )
        assert sprite.size == (280, 280)


def test_hparams_of_one_run(server: Server, images: Path) -> None:
    (group,) = server.post("plugin/hparams/session_groups", everything())["sessionGroups"]
    assert group["hparams"]["model.name"] == "cnn" and group["hparams"]["optimizer.lr"] == 0.05
    (session,) = group["sessions"]
    assert session["status"] == "STATUS_SUCCESS"
    metrics = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
    record = json.loads((images / "run" / "run.json").read_text())["metrics"]
    assert metrics["Accuracy/test"] == pytest.approx(record["test/accuracy"])
    assert metrics["Best/val_accuracy"] == pytest.approx(record["val/accuracy"])


def everything(**more: Any) -> dict[str, Any]:
    statuses = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"]
    columns = [{"hparam": "optimizer.lr"}, {"hparam": "model.name"}, {"hparam": "seed"}]
    metrics = [
        {"metric": {"tag": tag, "group": ""}} for tag in ("Accuracy/test", "Best/val_accuracy")
    ]
    metrics[0] |= more
    return {
        "startIndex": 0,
        "sliceSize": 100,
        "allowedStatuses": statuses,
        "colParams": columns + metrics,
    }


def test_a_sweep_can_be_sorted_by_accuracy(tmp_path: Path) -> None:
    outcome = processes.run("fit", *SWEEP, "run.dir=sweep", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    with serving(tmp_path / "sweep", runs=4) as server:
        wait_until(lambda: has_ended(server, 4))
        shown = server.post("plugin/hparams/session_groups", everything(order="ORDER_DESC"))[
            "sessionGroups"
        ]
        assert {group["hparams"]["optimizer.lr"] for group in shown} == {0.3, 0.01}
        assert {group["hparams"]["seed"] for group in shown} == {0, 1} and len(shown) == 4
        values = [value for group in shown for value in group["metricValues"]]
        found = [value["value"] for value in values if value["name"]["tag"] == "Accuracy/test"]
        recorded = [
            json.loads(path.read_text())["metrics"]["test/accuracy"]
            for path in (tmp_path / "sweep").glob("*/run.json")
        ]
        assert found == pytest.approx(sorted(recorded, reverse=True)) and len(found) == 4
        experiment = server.post("plugin/hparams/experiment", {})
        first = {info["name"] for info in experiment["hparamInfos"] if info.get("differs")}
        assert {"seed", "optimizer.lr"} <= first and len(first) == 5
        columns = [info["name"]["tag"] for info in experiment["metricInfos"]]
        assert columns[0] == "Accuracy/test" and "Best/val_loss" in columns
