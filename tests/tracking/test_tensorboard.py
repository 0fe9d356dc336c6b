"""Event files read back with TensorBoard's own reader, against metrics.jsonl."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from trainer.tracking.metrics_file import read_rows
from trainer.tracking.records import EvalRecord, ResumePoint, TrainRecord
from trainer.tracking.tensorboard import TensorBoard, flat_hparams

SMALL = (
    "data=dirichlet",
    "model=mlp",
    "model.hidden=[16]",
    "data.train_size=700",
    "data.val_size=150",
    "trainer.epochs=2",
    "logger.log_every=4",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorboard") / "run"
    command = [sys.executable, "-m", "trainer", "fit", *SMALL, f"run.dir={folder}"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder.parent)
    return folder


@pytest.fixture(scope="module")
def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run)).Reload()


def test_the_tags_are_those_of_the_contract(events: EventAccumulator) -> None:
    assert set(events.Tags()["scalars"]) == {
        "Loss/train",
        "Loss/val",
        "Loss/test",
        "Accuracy/train",
        "Accuracy/val",
        "Accuracy/test",
        "Learning/learning_rate",
        "Gradients/norm",
        "Throughput/samples_per_second",
    }


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_scalars_equal_the_metrics_file(run: Path, events: EventAccumulator, split: str, name: str) -> None:
    points = [(event.step, event.value) for event in events.Scalars(f"{name.capitalize()}/{split}")]
    rows = [(row["step"], row[name]) for row in read_rows(run) if row["split"] == split]
    assert len(points) == len(rows) > 0
    for (step, value), (expected_step, expected) in zip(points, rows, strict=True):
        assert step == expected_step and value == pytest.approx(expected, rel=1e-6)


def test_one_hparams_entry_names_every_value_and_the_metrics(events: EventAccumulator) -> None:
    content = {
        tag: metadata.parse_session_start_info_plugin_data
        for tag in events.summary_metadata
        if tag.startswith("_hparams_/")
    }
    assert set(content) == {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    raw = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(raw).hparams
    assert hparams["optimizer.lr"].number_value == 0.05
    assert hparams["model.name"].string_value == "mlp"
    assert hparams["model.hidden"].string_value == "[16]"
    experiment = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    metrics = {info.name.tag for info in metadata.parse_experiment_plugin_data(experiment).metric_infos}
    assert metrics == {"Loss/val", "Accuracy/val", "Loss/test", "Accuracy/test", "Loss/train", "Accuracy/train"}


def test_a_resume_drops_what_lies_past_it(tmp_path: Path) -> None:
    def record(step: int) -> EvalRecord:
        return EvalRecord(
            split="val", epoch=0, step=step, samples=0, seconds=0.0, loss=float(step), accuracy=None, count=1
        )

    first = TensorBoard(tmp_path, scalars=True, hparams=False, config={}, warn=pytest.fail)
    for step in (1, 2, 3, 4):
        first.evaluation(record(step))
    first.close()
    point = ResumePoint(step=2, splits=frozenset({"val"}))
    second = TensorBoard(tmp_path, scalars=True, hparams=False, config={}, warn=pytest.fail, resumed=point)
    for step in (3, 4, 5):
        second.evaluation(record(step))
    second.close()
    points = [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("Loss/val")]
    assert points == [1, 2, 3, 4, 5]


def test_switches_leave_records_out(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path, scalars=False, hparams=False, config={}, warn=pytest.fail)
    tracker.train(
        TrainRecord(
            epoch=0, step=1, samples=1, seconds=1.0, loss=1.0, accuracy=0.5, learning_rate=0.1, grad_norm=1.0,
            samples_per_second=1.0,
        )
    )  # fmt: skip
    tracker.finish({"val/loss": 1.0})
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == [] and not events.summary_metadata


def test_flat_hparams_keep_numbers_as_numbers() -> None:
    flat = flat_hparams({"a": {"b": 1, "c": None, "d": [1, 2]}, "e": True, "f": 0.5, "g": "x"})
    assert flat == {"a.b": 1, "a.c": "null", "a.d": "[1, 2]", "e": True, "f": 0.5, "g": "x"}
