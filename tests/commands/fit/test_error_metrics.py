"""Where targets are values, runs have metrics that do not depend on the loss, in every place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from own_sets import Listed, own_sets
from running import Fit, Run, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.checkpoint.header import read_description
from trainer.commands import build
from trainer.engine.evaluate import Evaluation, evaluate
from trainer.tracking.event_files import event_files

pytestmark = pytest.mark.fault("N")

ERRORS = ("mse", "mae")
# Uneven last batches, in training and in evaluation.
HUBER = (
    "data.task=regression", "data.val_size=13", "data.batch_size=9", "data.eval_batch_size=8",
    "model=linear", "loss=huber", "loss.delta=0.5", "trainer.epochs=3", "optimizer.lr=0.3",
)  # fmt: skip


def values(num: int, *, seed: int) -> Listed:
    """Samples with two targets each: linear in the inputs, with outliers."""
    made = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num, 3, generator=made)
    targets = inputs[:, :2] * 3 + torch.randn(num, 2, generator=made) ** 3
    return Listed(list(zip(inputs, targets, strict=True)), classes=None)


OWN = ("data=custom", "data.target=own_sets_of_the_test.make")
TEST = values(37, seed=1)


@pytest.fixture
def regress(fit: Fit) -> Iterator[Callable[..., Run]]:
    """A run of a person's own values, with these overrides."""
    with own_sets(values(60, seed=0), test=TEST) as words:
        yield lambda *more: fit(*more, base=(*words, *HUBER))


def errors_of(run: Run) -> dict[str, float]:
    """The errors of the best weights on the test set, by NumPy alone."""
    weights = {name: tensor.double().numpy() for name, tensor in run.weights("best").items()}
    inputs, targets = (
        np.stack([part.double().numpy() for part in parts])
        for parts in zip(*TEST.samples, strict=True)
    )
    differences: npt.NDArray[np.float64] = (
        inputs @ weights["fc.weight"].T + weights["fc.bias"] - targets
    )
    return {"mse": float(np.mean(differences**2)), "mae": float(np.mean(np.abs(differences)))}


def test_they_are_the_errors_of_the_best_weights_and_everywhere_the_same(
    regress: Callable[..., Run], trainer: Trainer
) -> None:
    """Failed before: of values there was the loss alone."""
    run = regress("trainer.monitor=val/mse")
    [row] = run.split("test")
    assert {name: row[name] for name in ERRORS} == pytest.approx(errors_of(run), rel=1e-5)
    metrics = run.record["metrics"]
    assert {name: metrics[f"test/{name}"] for name in ERRORS} == {
        name: row[name] for name in ERRORS
    }
    best = min(run.split("val"), key=lambda each: float(each["mse"]))
    for name in ("loss", *ERRORS):
        assert metrics[f"val/{name}"] == best[name]
    saved = read_description(run.folder / "checkpoints/best/model.safetensors")
    assert saved.metrics["val/mse"] == best["mse"] and saved.progress["step"] == best["step"]
    for split in ("val", "test"):
        outcome = trainer("eval", f"ckpt={run.folder}", f"eval.split={split}", *OWN, "--json")
        found = json.loads(outcome.out)
        for name in ("loss", *ERRORS):
            assert found[name] == metrics[f"{split}/{name}"]
    assert trainer("check-run", str(run.folder)).code == 0


def test_tensorboard_has_them(regress: Callable[..., Run]) -> None:
    run = regress("logger.hparams=true")
    events = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    for name in ERRORS:
        expected = [(row["step"], np.float32(row[name])) for row in run.split("val")]
        points = [(e.step, np.float32(e.value)) for e in events.Scalars(f"{name.upper()}/val")]
        assert points == expected
        [test] = events.Scalars(f"{name.upper()}/test")
        assert np.float32(test.value) == np.float32(run.split("test")[0][name])
        lowest = min(row[name] for row in run.split("val"))
        assert events.Scalars(f"Best/val_{name}")[-1].value == pytest.approx(lowest, rel=1e-6)


def test_the_terminal_shows_the_monitored_one_in_its_lines_and_all_at_the_end(
    trainer: Trainer,
) -> None:
    with own_sets(values(60, seed=0), test=TEST) as words:
        usual = trainer("fit", *words, *HUBER, "logger=none", "run.dir=usual")
        monitored = trainer(
            "fit", *words, *HUBER, "logger=none", "run.dir=other", "trainer.monitor=val/mae"
        )
    lines = [line for line in usual.out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3 and not any(name in line for line in lines for name in ERRORS)
    lines = [line for line in monitored.out.splitlines() if line.startswith("epoch")]
    assert all("val mae " in line and "mse" not in line for line in lines)
    [test] = [line for line in monitored.out.splitlines() if line.strip().startswith("test ")]
    assert "loss " in test and "mse " in test and "mae " in test and len(test) <= 80


def test_patience_and_best_follow_it_down(regress: Callable[..., Run]) -> None:
    run = regress(
        "trainer.monitor=val/mae", "trainer.epochs=40", "trainer.patience=2", "logger=none"
    )
    found = [row["mae"] for row in run.split("val")]
    best = int(np.argmin(found))
    assert len(found) == best + 3, "two evaluations in a row without a new best"
    assert run.record["checkpoints"]["best"] == f"step-{run.split('val')[best]['step']:06d}"


def test_a_run_of_an_older_version_is_read_and_resumed(
    regress: Callable[..., Run], trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(build, "evaluate", evaluate_as_before)
        run = regress()
    assert not any(name in row for row in run.rows for name in ERRORS)
    assert trainer("check-run", str(run.folder)).code == 0
    listed = trainer("runs", "ls", f"run.root={run.folder.parent}", "--json")
    assert json.loads(listed.out)[0]["monitor"] == "val/loss"
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=5", *OWN)
    assert (outcome.code, outcome.err) == (0, "")
    assert [name in row for row in run.split("val") for name in ERRORS] == [False] * 6 + [True] * 4
    assert trainer("check-run", str(run.folder)).code == 0


def test_a_run_of_an_older_version_is_reproduced(
    regress: Callable[..., Run], trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(build, "evaluate", evaluate_as_before)
        run = regress("logger=none")
    outcome = trainer("reproduce", str(run.folder), *OWN)
    assert outcome.code == 0 and "Bit-identical" in outcome.out and "all 3 metrics" in outcome.out


def test_damaged_events_are_rebuilt_with_them(
    regress: Callable[..., Run], trainer: Trainer
) -> None:
    run = regress()
    [events] = event_files(run.folder)
    content = bytearray(events.read_bytes())
    content[len(content) // 2] ^= 1
    events.write_bytes(content)
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=4", *OWN)
    assert outcome.code == 0 and "rebuilt" in outcome.err
    points = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    assert [point.step for point in points.Scalars("MSE/val")] == [
        row["step"] for row in run.split("val")
    ]
    assert trainer("check-run", str(run.folder)).code == 0


def evaluate_as_before(*args: Any, **options: Any) -> Evaluation:
    """An evaluation of an older version, which had no errors of values."""
    return replace(evaluate(*args, **options), mse=None, mae=None)


def test_rows_of_classes_are_as_before(fit: Fit) -> None:
    run = fit("logger=none")
    names = ["split", "epoch", "step", "samples", "seconds", "loss", "accuracy", "count"]
    assert [list(row) for row in (*run.split("val"), *run.split("test"))] == [names] * 3
    metrics = [f"{split}/{name}" for split in ("train", "val", "test") for name in names[5:7]]
    assert list(run.record["metrics"]) == metrics


def test_best_is_the_lowest_of_all_runs(
    regress: Callable[..., Run], trainer: Trainer, tmp_path: Path
) -> None:
    runs = [regress("logger=none", f"optimizer.lr={lr}") for lr in (0.3, 0.01)]
    found = json.loads(trainer("runs", "best", "val/mse", f"run.root={tmp_path}", "--json").out)
    lowest = min(run.record["metrics"]["val/mse"] for run in runs)
    assert found["metrics"]["val/mse"] == lowest
