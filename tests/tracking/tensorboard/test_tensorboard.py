"""A run's event files and projector, read back with TensorBoard's own readers, against what was
computed on its own.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from killing import at_batch
from running import SMALL, Fit, Run, Trainer
from safetensors.torch import load_file
from signalling import at_call
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS, STATUS_UNKNOWN
from tensorboard.util import tensor_util

from trainer.commands.build import build_data, build_model
from trainer.config import FitConfig
from trainer.config.logger import TensorBoardConfig
from trainer.data.image_sets.download import QuietReport
from trainer.engine.progress import Progress
from trainer.tracking.event_files import event_files, read_events

# Everything, at a cadence that a run of 18 updates meets.
OFTEN = (
    *SMALL, "logger=tensorboard_full", "logger.log_every=4", "logger.layers_every=3",
    "logger.histograms_every=9", "logger.images_every=9", "logger.projector_epochs=[1]",
    "logger.projector_samples=50",
)  # fmt: skip
OF_ROWS = {
    "Loss/train", "Loss/val", "Loss/test", "Accuracy/train", "Accuracy/val", "Accuracy/test",
    "Loss/train_epoch", "Accuracy/train_epoch",
    "Learning/learning_rate", "Gradients/norm", "Throughput/samples_per_second",
}  # fmt: skip
BY_LAYER = {
    f"{kind}/{layer}"
    for kind in ("Weight_mean", "Weight_std", "Gradient_norm", "Update_ratio")
    for layer in ("fc1", "fc2")
}


def read(run: Path) -> EventAccumulator:
    return EventAccumulator(
        str(run), size_guidance={"scalars": 0, "tensors": 0, "images": 0, "histograms": 0}
    ).Reload()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tensorboard")
    outcome = processes.run("fit", *OFTEN, "run.dir=run", cwd=folder)
    assert outcome.code == 0 and outcome.err == ""
    return Run(folder / "run")


@pytest.fixture(scope="module")
def events(run: Run) -> EventAccumulator:
    return read(run.folder)


def test_the_scalars_are_those_of_the_contract_and_those_by_layer(events: EventAccumulator) -> None:
    shown = set(events.Tags()["scalars"])
    other_axes = {tag for tag in shown if tag.startswith("By_")}
    assert shown - other_axes == OF_ROWS | BY_LAYER | {
        "Best/val_loss",
        "Best/val_accuracy",
        "Memory/peak_resident",
    }
    assert other_axes == {
        f"{axis}/{tag}" for axis in ("By_samples", "By_milliseconds") for tag in OF_ROWS
    }


@pytest.mark.parametrize("split", ["train", "train_epoch", "val", "test"])
@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_scalars_equal_the_metrics_file_on_every_axis(
    run: Run, events: EventAccumulator, split: str, name: str
) -> None:
    rows = run.split(split)
    tag = f"{name.capitalize()}/{split}"
    for prefix, axis, factor in (
        ("", "step", 1),
        ("By_samples/", "samples", 1),
        ("By_milliseconds/", "seconds", 1000),
    ):
        points = [(event.step, event.value) for event in events.Scalars(prefix + tag)]
        assert len(points) == len(rows) > 0
        for (at, value), row in zip(points, rows, strict=True):
            assert at == round(row[axis] * factor) and value == pytest.approx(row[name], rel=1e-6)


def test_the_best_so_far(run: Run, events: EventAccumulator) -> None:
    rows = run.split("val")
    for name, better in (("loss", min), ("accuracy", max)):
        found = [event.value for event in events.Scalars(f"Best/val_{name}")]
        expected = [better(row[name] for row in rows[: number + 1]) for number in range(len(rows))]
        assert found == pytest.approx(expected)


def test_memory_is_that_of_a_process_with_torch(events: EventAccumulator) -> None:
    assert all(100 < event.value < 5000 for event in events.Scalars("Memory/peak_resident"))


def test_weights_are_those_of_the_checkpoints(run: Run, events: EventAccumulator) -> None:
    """An epoch has 9 updates; histograms_every=9, layers_every=3, and each epoch is saved."""
    for step in (9, 18):
        folder = run.folder / "checkpoints" / f"step-{step:06d}"
        for layer in ("fc1", "fc2"):
            weights = load_file(folder / "model.safetensors")[f"{layer}.weight"].double().numpy()
            for kind, expected in (("Weight_mean", weights.mean()), ("Weight_std", weights.std())):
                (value,) = [
                    event.value for event in events.Scalars(f"{kind}/{layer}") if event.step == step
                ]
                assert value == pytest.approx(expected, rel=1e-4, abs=1e-7)
            (histogram,) = [
                event.histogram_value
                for event in events.Histograms(f"Parameters/{layer}.weight")
                if event.step == step
            ]
            counts, _ = np.histogram(weights, bins=len(histogram.bucket))
            assert (histogram.min, histogram.max, histogram.num) == (
                weights.min(),
                weights.max(),
                weights.size,
            )
            assert np.abs(np.cumsum(histogram.bucket) - np.cumsum(counts)).max() <= 1


def test_histograms_of_gradients_and_activations(events: EventAccumulator) -> None:
    shown = set(events.Tags()["histograms"])
    names = [f"{layer}.{part}" for layer in ("fc1", "fc2") for part in ("weight", "bias")]
    assert shown == {
        *(f"Parameters/{name}" for name in names),
        *(f"Gradients/{name}" for name in names),
        *(f"Activations/{layer}" for layer in ("fc1", "relu1", "fc2")),
    }
    for tag in shown:
        assert [event.step for event in events.Histograms(tag)] == [1, 9, 18], tag
    (last,) = [
        event.histogram_value
        for event in events.Histograms("Gradients/fc1.weight")
        if event.step == 18
    ]
    squares = sum(
        event.histogram_value.sum_squares
        for tag in shown
        for event in events.Histograms(tag)
        if tag.startswith("Gradients/fc1") and event.step == 18
    )
    (norm,) = [event.value for event in events.Scalars("Gradient_norm/fc1") if event.step == 18]
    assert last.num == 16 * 10
    assert squares**0.5 == pytest.approx(norm, rel=1e-4)
    assert all(event.histogram_value.min >= 0 for event in events.Histograms("Activations/relu1"))


def predicted(
    run: Run, compose_words: Sequence[str], config: FitConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Targets and probabilities of the validation set, by the best checkpoint, without the code
    under test.
    """
    data = build_data(config, device=torch.device("cpu"), report=QuietReport())
    model = build_model(config, input_shape=data.input_shape, num_outputs=data.num_outputs)
    model.load_state_dict(load_file(run.folder / "checkpoints" / "last" / "model.safetensors"))
    model.eval()
    assert data.val is not None
    with torch.no_grad():
        batches = [(model(inputs).softmax(1), targets) for inputs, targets in data.val.epoch(0)]
    return (
        torch.cat([targets for _, targets in batches]).numpy(),
        torch.cat([probabilities for probabilities, _ in batches]).numpy(),
    )


def test_precision_and_recall_are_those_of_scikit_learn(
    run: Run, events: EventAccumulator, compose: Fit
) -> None:
    targets, probabilities = predicted(run, OFTEN, compose(*OFTEN))  # type: ignore[arg-type]
    tags = sorted(
        tag for tag in events.Tags()["tensors"] if tag.startswith("Precision_recall/val/")
    )
    assert len(tags) == probabilities.shape[1]
    for index, tag in enumerate(tags):
        last = events.Tensors(tag)[-1]
        assert last.step == 18
        curve = tensor_util.make_ndarray(last.tensor_proto)
        assert curve.shape == (6, 127)
        # All thresholds at once, each as a label of its own.
        distances = probabilities[:, index, None] - np.linspace(0, 1, 127)
        positive = np.broadcast_to((targets == index)[:, None], distances.shape)
        wanted = [
            score(positive, distances >= 0, average=None, zero_division=0.0)
            for score in (precision_score, recall_score)
        ]
        # Elsewhere the last bits of a probability decide.
        is_clear = np.abs(distances).min(axis=0) >= 1e-5
        assert is_clear.sum() > 60
        np.testing.assert_allclose(curve[4:, is_clear], np.array(wanted)[:, is_clear], atol=1e-6)


def test_the_accuracy_of_the_confusion_figure_is_that_of_the_row(run: Run, compose: Fit) -> None:
    targets, probabilities = predicted(run, OFTEN, compose(*OFTEN))  # type: ignore[arg-type]
    counts = confusion_matrix(targets, probabilities.argmax(1))
    assert np.trace(counts) / counts.sum() == pytest.approx(run.split("val")[-1]["accuracy"])


def test_figures_of_both_splits_and_no_pictures_of_what_is_none(events: EventAccumulator) -> None:
    kinds = {
        f"{kind}/{split}" for kind in ("Confusion", "Reliability") for split in ("val", "test")
    }
    assert set(events.Tags()["images"]) == kinds
    assert [event.step for event in events.Images("Confusion/val")] == [9, 18]


def test_texts_tell_config_command_environment_and_layers(
    run: Run, events: EventAccumulator
) -> None:
    texts = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in events.Tags()["tensors"]
        if tag.startswith("Run/")
    }
    assert set(texts) == {"Run/config", "Run/command", "Run/environment", "Run/layers"}
    assert (run.folder / "config.yaml").read_text().splitlines()[1] in texts["Run/config"]
    assert (
        "trainer fit data=dirichlet" in texts["Run/command"]
        and importlib.metadata.version("torch") in texts["Run/environment"]
    )
    assert "| `fc1` | Linear | 16 | 176 |" in texts["Run/layers"]


def test_the_graph_has_the_layers_by_their_names(events: EventAccumulator) -> None:
    names = {node.name for node in events.Graph().node}
    assert {"input", "flatten", "fc1", "relu1", "fc2", "output"} <= names


def test_train_and_val_are_in_one_chart(events: EventAccumulator) -> None:
    (config,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(config.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts["Loss"] == ["Loss/(train|train_epoch|val|test)$"] and charts["Accuracy"] == [
        "Accuracy/(train|train_epoch|val|test)$"
    ]


def test_the_projector_has_each_chosen_epoch_and_the_end(run: Run) -> None:
    folders = sorted(path.name for path in (run.folder / "projector").iterdir())
    best = json.loads((run.folder / "run.json").read_text())["checkpoints"]["best"]
    assert folders == sorted({"step-000009", best})
    features = np.loadtxt(run.folder / "projector" / best / "tensors.tsv")
    assert features.shape[1] == 16 and len(features) <= 50
    assert not list((run.folder / "projector").rglob("events.out.tfevents.*")), (
        "it would show as a run of its own"
    )


def statuses(run: Path) -> list[int]:
    tags = read(run).summary_metadata
    content = (
        tags["_hparams_/session_end_info"].plugin_data.content
        if "_hparams_/session_end_info" in tags
        else None
    )
    return [] if content is None else [metadata.parse_session_end_info_plugin_data(content).status]


def test_hparams_say_how_it_ended(run: Run, fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    assert statuses(run.folder) == [STATUS_SUCCESS]
    failed = trainer("fit", *SMALL, "optimizer.lr=1e30", f"run.dir={tmp_path / 'failed'}")
    assert failed.code == 1 and statuses(tmp_path / "failed") == [STATUS_FAILURE]


def signal_after(batches: int) -> None:
    at_call(
        Progress,
        "count_batch",
        call=batches,
        act=functools.partial(os.kill, os.getpid()),
        number=signal.SIGTERM,
    )


def test_an_interrupted_run_is_neither(tmp_path: Path) -> None:
    prepare = functools.partial(signal_after, 12)
    outcome = processes.run("fit", *SMALL, "run.dir=run", cwd=tmp_path, prepare=prepare)
    assert outcome.code == 143 and statuses(tmp_path / "run") == [STATUS_UNKNOWN]
    outcome = processes.run("fit", "resume=run", cwd=tmp_path)
    assert outcome.code == 0 and statuses(tmp_path / "run") == [STATUS_SUCCESS]


def test_a_switch_leaves_its_kind_out(fit: Fit) -> None:
    switches = [
        field.name for field in dataclasses.fields(TensorBoardConfig) if field.type == "bool"
    ]
    assert len(switches) == 10
    nothing = fit(*OFTEN[len(SMALL) :], *(f"logger.{kind}=false" for kind in switches))
    events = [event for path in event_files(nothing.folder) for event in read_events(path)]
    assert not any(event.summary.value or event.graph_def for event in events)
    assert not (nothing.folder / "projector").exists()


def test_a_resume_goes_on_with_every_kind_and_doubles_none(tmp_path: Path) -> None:
    """Killed after 17 of 18 updates, gone on from an earlier one that was saved: as if it had
    never been.
    """
    words = (*OFTEN, "trainer.save_every=3steps")
    assert processes.run("fit", *words, "run.dir=whole", cwd=tmp_path).code == 0
    cut = processes.run(
        "fit", *words, "run.dir=cut", cwd=tmp_path, prepare=functools.partial(at_batch, 17)
    )
    assert cut.code == -9
    assert processes.run("fit", "resume=cut", cwd=tmp_path).code == 0
    whole, gone_on = points(tmp_path / "whole"), points(tmp_path / "cut")
    for tag, steps in whole.items():
        if not tag.startswith("By_milliseconds"):
            assert gone_on[tag] == steps, tag
    assert set(whole) == set(gone_on)
    assert sorted(p.name for p in (tmp_path / "whole/projector").iterdir()) == sorted(
        p.name for p in (tmp_path / "cut/projector").iterdir()
    )


def points(run: Path) -> dict[str, list[int]]:
    """The steps of each tag in the files, also what a reader would drop."""
    found: dict[str, list[int]] = {}
    for path in event_files(run):
        for event in read_events(path):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
            if event.graph_def:
                found.setdefault("graph", []).append(event.step)
    return found
