"""The table of a sweep shows a metric in training beside the monitored one."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import SMALL, Trainer
from sweep_records import ACCURACY, job, shown, sweep, written
from swept import Swept

from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.report import summarize


def with_metrics(folder: Path, monitor: str, *, seeds: int = 1) -> SweepRecord:
    """Two rates whose jobs have all metrics of a run: the later, the better."""
    jobs: list[JobRecord] = []
    for rate in ("0.1", "0.01"):
        for seed in range(seeds):
            one = job(len(jobs), {"optimizer.lr": rate, "seed": str(seed)})
            for at, split in enumerate(("train", "val", "test")):
                one.metrics[f"{split}/loss"] = 1.0 - at / 10 - len(jobs) / 100
                one.metrics[f"{split}/accuracy"] = at / 10 + len(jobs) / 100
            jobs.append(one)
    return sweep(folder, jobs, monitor=monitor, maximize=monitor.endswith("accuracy"))


TRAINING = {
    "val/accuracy": ["val/loss", "train/accuracy", ACCURACY, "test/loss", "test/accuracy"],
    "val/loss": ["train/loss", "val/loss", ACCURACY, "test/loss", "test/accuracy"],
    "train/loss": ["train/loss", "val/loss", ACCURACY, "test/loss", "test/accuracy"],
    "train/accuracy": ["train/accuracy", "val/loss", ACCURACY, "test/loss", "test/accuracy"],
    # A metric of a younger version, which training does not have.
    "val/mse": ["val/loss", ACCURACY, "val/mse", "test/loss", "test/accuracy"],
}


@pytest.mark.fault("N")
@pytest.mark.parametrize("monitor", TRAINING)
def test_the_monitored_metric_has_that_of_training_beside_it(
    monitor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their difference is the overfitting."""
    for seeds, first in ((1, ["job", "optimizer.lr"]), (2, ["optimizer.lr"])):
        record = with_metrics(tmp_path, monitor, seeds=seeds)
        if monitor == "val/mse":
            for one in record.jobs:
                metrics = list(one.metrics.items())
                one.metrics = dict([*metrics[:4], (monitor, 0.5), *metrics[4:]])
        shown(record)
        titles = capsys.readouterr().out.splitlines()[2].split()
        assert titles[len(first) :][:-1] == TRAINING[monitor]
        assert titles[: len(first)] == first
        written(record)
        markdown = (tmp_path / "sweep.md").read_text()
        assert all(f"| {name} |" in markdown for name in TRAINING[monitor])


ROOM = {
    120: ["val/loss", "train/accuracy", ACCURACY, "test/loss", "test/accuracy", "run"],
    100: ["val/loss", "train/accuracy", ACCURACY, "test/loss", "test/accuracy"],
    80: ["val/loss", "train/accuracy", ACCURACY, "test/accuracy"],
    70: ["train/accuracy", ACCURACY, "test/accuracy"],
    50: ["train/accuracy", ACCURACY],
    40: [ACCURACY],
}


@pytest.mark.fault("N")
@pytest.mark.parametrize("columns", ROOM)
def test_training_stays_beside_the_monitored_metric_longer_than_the_others(
    columns: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown(with_metrics(tmp_path, ACCURACY))
    out = capsys.readouterr().out
    assert out.splitlines()[2].split() == ["job", "optimizer.lr", *ROOM[columns]]
    assert all(len(line) <= columns for line in out.splitlines()[1:7])


def test_the_means_of_training_are_those_of_its_runs(tmp_path: Path) -> None:
    record = with_metrics(tmp_path, ACCURACY, seeds=2)
    by_rate = {group["values"]["optimizer.lr"]: group for group in summarize(record)["groups"]}
    for at, rate in enumerate(("0.1", "0.01")):
        jobs = record.jobs[2 * at : 2 * at + 2]
        values = [one.metrics["train/accuracy"] or 0.0 for one in jobs]
        mean = by_rate[rate]["metrics"]["train/accuracy"]["mean"]
        assert mean == pytest.approx((values[0] + values[1]) / 2)


def test_the_number_is_the_mean_of_the_epoch_of_the_best_checkpoint(
    trainer: Trainer, tmp_path: Path
) -> None:
    words = (*SMALL, "logger=none", "seed=0,1", "sweep.jobs=1", "run.dir=sweep")
    assert trainer("fit", "-m", *words).code == 0
    found = Swept(tmp_path / "sweep")
    for one, run in zip(found.jobs, found.runs, strict=True):
        (best,) = [row for row in run.split("val") if row["accuracy"] == one["metrics"][ACCURACY]][
            :1
        ]
        (epoch,) = [row for row in run.split("train_epoch") if row["step"] == best["step"]]
        windows = [row for row in run.split("train") if row["step"] <= best["step"]]
        assert one["metrics"]["train/accuracy"] == epoch["accuracy"] != windows[-1]["accuracy"]
        assert one["metrics"]["train/loss"] == epoch["loss"]
