"""metrics.jsonl: strict JSON, flushed at once, cut back to where a resume goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.tracking.metrics_file import MetricsFile, parse_row, read_rows
from trainer.tracking.records import ROW_FIELDS, EpochRecord, EvalRecord, ResumePoint


def record(step: int, loss: float = 1.0) -> EvalRecord:
    return EvalRecord(
        split="val", epoch=1, step=step, samples=10, seconds=0.5, loss=loss, accuracy=None, count=5
    )


def test_a_row_is_there_at_once(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path, warn=pytest.fail)
    metrics.record(record(3))
    assert read_rows(tmp_path) == [
        {
            "split": "val",
            "epoch": 1,
            "step": 3,
            "samples": 10,
            "seconds": 0.5,
            "loss": 1.0,
            "accuracy": None,
            "count": 5,
        }
    ]
    metrics.close()


def epoch_record(epoch: int, *, step: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=step, samples=10, seconds=0.5, loss=1.5, accuracy=0.25,
        learning_rate=0.1, duration=0.75, samples_per_second=100.0,
    )  # fmt: skip


def test_the_means_of_an_epoch_are_a_row(tmp_path: Path) -> None:
    """Failed before: what the terminal printed of an epoch was in no file."""
    metrics = MetricsFile(tmp_path, warn=pytest.fail)
    metrics.record(epoch_record(1, step=3))
    metrics.close()
    [row] = read_rows(tmp_path)
    assert row == {
        "split": "train_epoch",
        "epoch": 1,
        "step": 3,
        "samples": 10,
        "seconds": 0.5,
        "loss": 1.5,
        "accuracy": 0.25,
        "learning_rate": 0.1,
    }
    assert list(ROW_FIELDS["train_epoch"]) == list(row)


@pytest.mark.parametrize(("splits", "steps"), [({"train_epoch"}, [3, 6]), ({"val"}, [3])])
def test_a_resume_keeps_the_row_of_an_epoch_that_ended_before_it(
    splits: set[str], steps: list[int], tmp_path: Path
) -> None:
    metrics = MetricsFile(tmp_path, warn=pytest.fail)
    for epoch in (1, 2, 3):
        metrics.record(epoch_record(epoch, step=3 * epoch))
    metrics.close()
    point = ResumePoint(step=6, splits=frozenset(splits))
    MetricsFile(tmp_path, warn=pytest.fail, resumed=point).close()
    assert [row["step"] for row in read_rows(tmp_path)] == steps


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path, warn=pytest.fail)
    metrics.record(record(1, math.nan))
    metrics.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda name: 1 / 0)["loss"] is None


def test_a_resume_keeps_the_rows_up_to_its_step(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path, warn=pytest.fail)
    for step in (1, 2, 3):
        metrics.record(record(step))
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"split": "val", "st')  # the write that a kill cut off
    resumed = MetricsFile(
        tmp_path, warn=pytest.fail, resumed=ResumePoint(step=2, splits=frozenset({"val"}))
    )
    resumed.record(record(3, 5.0))
    resumed.close()
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path)] == [
        (1, 1.0),
        (2, 1.0),
        (3, 5.0),
    ]


@pytest.mark.fault("N")
def test_a_row_of_values_has_their_errors_and_one_of_an_older_version_lacks_them(
    tmp_path: Path,
) -> None:
    metrics = MetricsFile(tmp_path, warn=pytest.fail)
    metrics.record(record(3))
    metrics.record(replace(record(4), mse=0.5, mae=math.inf))
    metrics.close()
    older, newer = read_rows(tmp_path)
    assert list(older) == [*ROW_FIELDS["val"]]
    assert list(newer) == [*ROW_FIELDS["val"], "mse", "mae"]
    assert (newer["mse"], newer["mae"]) == (0.5, None)
    for split in ("train", "train_epoch"):
        row = {**dict.fromkeys(ROW_FIELDS[split], 1), "split": split, "mse": 0.5}
        assert parse_row(json.dumps(row).encode()) == "has the unknown field mse"
    row = {**dict.fromkeys(ROW_FIELDS["test"], 1), "split": "test", "mse": "low"}
    assert parse_row(json.dumps(row).encode()) == "has a mse that is invalid"
