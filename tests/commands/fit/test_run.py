"""`trainer fit` as a whole: what it learns, what it counts, what it leaves in the run folder."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import SMALL, Fit, Run, Trainer
from safetensors import safe_open


def test_a_run_folder_holds_what_the_contract_says(fit: Fit) -> None:
    run = fit()
    names = {path.name for path in run.folder.iterdir()}
    assert {"config.yaml", "run.json", "metrics.jsonl", "checkpoints"} <= names
    assert len([name for name in names if name.startswith("events.out.tfevents.")]) == 1
    assert len(names - {".lock", "projector", "projector_config.pbtxt"}) == 5
    assert len(list(run.folder.rglob("events.out.tfevents.*"))) == 1, (
        "TensorBoard would show a second run"
    )
    for link in ("last", "best"):
        step = run.folder / "checkpoints" / link
        assert {path.name for path in step.iterdir()} == {"model.safetensors", "state.safetensors"}
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["model"] == {
        "name": "mlp",
        "hidden": [16],
        "dropout": 0.0,
    }


def test_run_json_says_what_ran_and_how_it_ended(fit: Fit) -> None:
    record = fit("seed=5").record
    assert record["status"] == "done"
    assert record["command"].startswith("trainer fit data=dirichlet model=mlp")
    assert record["seed"] == 5
    assert record["started"] <= record["ended"]
    assert {"python", "torch", "trainer"} <= set(record["versions"])
    assert set(record["metrics"]) >= {"val/loss", "val/accuracy", "test/loss", "test/accuracy"}
    assert record["checkpoints"]["last"] == "step-000018"


def test_counters_mean_completed_work(fit: Fit) -> None:
    # 550 samples in batches of 64 are 9 batches an epoch, the last of 38 samples.
    run = fit()
    assert [(row["epoch"], row["step"], row["samples"]) for row in run.split("val")] == [
        (1, 9, 550),
        (2, 18, 1100),
    ]
    assert [row["step"] for row in run.split("train")] == [4, 8, 12, 16, 18]
    assert run.steps == ["step-000009", "step-000018"]


@pytest.mark.parametrize(
    ("overrides", "steps", "samples"),
    [
        (("trainer.accumulate=4",), 6, 1100),
        (("trainer.accumulate=100",), 2, 1100),
        (("data.drop_last=true",), 16, 1024),
        (("trainer.max_steps=7",), 7, 448),
        (("trainer.max_steps=4", "trainer.accumulate=2"), 4, 512),
        (("data.train_limit=100",), 4, 200),
        (("data.batch_size=1000",), 2, 1100),
        (("trainer.epochs=0",), 0, 0),
        (("trainer.max_steps=0",), 0, 0),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else str(value),
)
def test_limits_and_accumulation_count_updates(
    fit: Fit, overrides: tuple[str, ...], steps: int, samples: int
) -> None:
    last = fit(*overrides).split("val")[-1]
    assert (last["step"], last["samples"]) == (steps, samples)


def test_the_same_command_gives_the_same_weights_and_metrics(fit: Fit) -> None:
    first, second = fit("model.dropout=0.2"), fit("model.dropout=0.2")
    assert first.digest() == second.digest()
    timeless = [
        [{key: row[key] for key in row if "second" not in key} for row in run.rows]
        for run in (first, second)
    ]
    assert timeless[0] == timeless[1]
    assert fit("model.dropout=0.2", "seed=1").digest() != first.digest()


def test_train_records_are_means_over_samples(fit: Fit) -> None:
    # With a learning rate of nearly nothing the windows of an epoch average to the loss of the
    # whole training set.
    run = fit("optimizer.lr=1e-12", "trainer.epochs=1", "logger.log_every=1")
    windows, sizes = run.split("train"), [64] * 8 + [38]
    mean = sum(row["loss"] * size for row, size in zip(windows, sizes, strict=True)) / 550
    outcome_rows = fit("optimizer.lr=1e-12", "trainer.epochs=1", "logger.log_every=1000").split(
        "train"
    )
    assert outcome_rows[-1]["loss"] == pytest.approx(mean, rel=1e-6)


def test_the_best_checkpoint_is_the_one_tested(fit: Fit) -> None:
    # A rate that grows until it does harm: the best epoch is not the last.
    run = fit(
        "scheduler=exponential",
        "scheduler.gamma=6",
        "optimizer.lr=0.2",
        "trainer.epochs=5",
        "trainer.keep=9",
    )
    val = run.split("val")
    best = max(val, key=lambda row: row["accuracy"])
    assert best["step"] != val[-1]["step"], "the case this test is about"
    assert (run.folder / "checkpoints/best").resolve().name == f"step-{best['step']:06d}"
    assert run.split("test")[0]["step"] == best["step"]
    assert run.record["metrics"]["val/accuracy"] == best["accuracy"]


def test_early_stopping_waits_as_many_evaluations_as_it_says(fit: Fit) -> None:
    run = fit("trainer.patience=3", "trainer.epochs=50", "optimizer.lr=1e-12")
    accuracies = [row["accuracy"] for row in run.split("val")]
    assert len(accuracies) == 4 and max(accuracies) == accuracies[0]


@pytest.mark.parametrize(
    ("monitor", "better"),
    [("val/loss", min), ("train/loss", min), ("val/accuracy", max)],
    ids=lambda v: str(v),
)
def test_any_metric_can_be_monitored(fit: Fit, monitor: str, better: Callable[..., Any]) -> None:
    run = fit(f"trainer.monitor={monitor}", "trainer.epochs=3", "trainer.keep=9")
    split, _, name = monitor.partition("/")
    if split == "val":
        best = better(run.split("val"), key=lambda row: row[name])
        assert (run.folder / "checkpoints/best").resolve().name == f"step-{best['step']:06d}"
    assert (run.folder / "checkpoints/best/model.safetensors").exists()


@pytest.mark.parametrize("cadence", ["3steps", "2epochs", "1epoch"])
def test_saving_and_evaluating_have_cadences_of_their_own(fit: Fit, cadence: str) -> None:
    run = fit(
        f"trainer.eval_every={cadence}",
        "trainer.save_every=5steps",
        "trainer.epochs=4",
        "trainer.keep=99",
    )
    expected = {"3steps": list(range(3, 37, 3)), "2epochs": [18, 36], "1epoch": [9, 18, 27, 36]}[
        cadence
    ]
    assert [row["step"] for row in run.split("val")] == expected
    saved = {int(name.removeprefix("step-")) for name in run.steps}
    assert set(range(5, 36, 5)) | {36} <= saved


def test_a_run_without_validation_monitors_the_training_loss(fit: Fit) -> None:
    run = fit("data.val_size=0")
    assert run.split("val") == []
    assert set(run.record["metrics"]) == {
        "train/loss",
        "train/accuracy",
        "test/loss",
        "test/accuracy",
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.precision=bf16",),
        ("trainer.ema=0.9",),
        ("trainer.clip_norm=0.1",),
        ("trainer.l1=0.001",),
        ("optimizer=adamw", "optimizer.weight_decay=0.1", "optimizer.decay_all=false"),
        ("loss.label_smoothing=0.1",),
        ("scheduler.warmup_steps=5",),
        ("optimizer=lbfgs", "data.batch_size=550"),
        ("logger=none",),
        ("trainer.deterministic=true",),
        ("trainer=debug",),
    ],
    ids=lambda value: ",".join(value),
)
def test_options_train(fit: Fit, overrides: tuple[str, ...]) -> None:
    run = fit(*overrides)
    assert all(math.isfinite(row["loss"]) for row in run.rows)
    assert bool(list(run.folder.glob("events.*"))) is ("logger=none" not in overrides)


def test_ema_weights_are_the_ones_saved_and_evaluated(fit: Fit) -> None:
    plain, averaged = fit(), fit("trainer.ema=0.9")
    assert plain.digest() != averaged.digest()
    with safe_open(averaged.folder / "checkpoints/last/state.safetensors", framework="pt") as state:
        raw = state.get_tensor("model.fc1.weight")
    assert torch.equal(raw, plain.weights()["fc1.weight"]), (
        "averaging watches; it does not change the training"
    )


def test_the_line_is_learned(trainer: Trainer) -> None:
    outcome = trainer("fit", "experiment=line")
    assert outcome.code == 0, outcome.err
    match = re.search(r"y = ([-\d.]+) x \+ ([-\d.]+)", outcome.out)
    assert match is not None
    assert float(match[1]) == pytest.approx(2, abs=0.01)
    assert float(match[2]) == pytest.approx(1, abs=0.01)


def test_the_line_diverges_beyond_the_bound_of_its_curvature(
    trainer: Trainer, tmp_path: Path
) -> None:
    x = torch.tensor([1.0, 2, 3, 4, 5])
    design = torch.stack([x, torch.ones(5)], 1)
    bound = 2 / torch.linalg.eigvalsh(2 * design.T @ design / 5).max().item()
    assert bound == pytest.approx(0.0845, abs=1e-4)
    outcome = trainer("fit", "experiment=line", "optimizer.lr=0.1", f"run.dir={tmp_path / 'r'}")
    assert outcome.code == 1
    assert re.search(r"Loss became (inf|nan) at step \d+ \(learning rate 0\.1\)", outcome.err)
    assert len(outcome.err.strip().splitlines()) <= 3
    assert Run(tmp_path / "r").record["status"] == "failed"
    assert trainer("fit", "experiment=line", f"optimizer.lr={0.98 * bound}").code == 0


def test_divergence_keeps_the_last_good_checkpoint(trainer: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    outcome = trainer(
        "fit",
        "experiment=line",
        "optimizer.lr=0.1",
        "trainer.save_every=50steps",
        f"run.dir={folder}",
    )
    assert outcome.code == 1
    assert "Last good checkpoint" in outcome.err and "step-000100" in outcome.err
    assert all(tensor.isfinite().all() for tensor in Run(folder).weights().values())


def test_dirichlet_defaults_reach_their_accuracy(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer("fit", "model=mlp", "data=dirichlet", f"run.dir={tmp_path / 'r'}")
    assert outcome.code == 0, outcome.err
    assert Run(tmp_path / "r").record["metrics"]["test/accuracy"] >= 0.96


def test_off_a_terminal_the_output_is_plain_lines(trainer: Trainer) -> None:
    outcome = trainer("fit", *SMALL)
    assert outcome.err == ""
    assert "\x1b" not in outcome.out and "\r" not in outcome.out
    assert len(re.findall(r"^epoch \d/2", outcome.out, flags=re.M)) == 2
    for word in ("data", "model", "device", "run", "test", "evaluate", "tensorboard"):
        assert re.search(rf"^  {word} ", outcome.out, flags=re.M)
    assert re.search(r"trainer eval ckpt=runs/", outcome.out)


def test_a_run_dir_in_use_is_refused(trainer: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    outcome = trainer("fit", *SMALL, f"run.dir={folder}")
    assert outcome.code == 2 and "not empty" in outcome.err
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_an_evaluation_right_after_an_epoch_knows_that_epoch(fit: Fit) -> None:
    run = fit(
        "data.val_size=0",
        "trainer.epochs=3",
        "trainer.eval_every=2epochs",
        "trainer.monitor=train/loss",
    )
    assert 0.5 < run.record["metrics"]["train/loss"] < 5


def test_weights_that_overflow_are_not_saved(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer(
        "fit", *SMALL, "trainer.max_steps=1", "optimizer.lr=1e38", f"run.dir={tmp_path / 'r'}"
    )
    assert outcome.code == 1 and "A weight became" in outcome.err
    assert Run(tmp_path / "r").steps == []


def test_a_config_that_no_checkpoint_could_hold_is_refused_first(trainer: Trainer) -> None:
    words = [
        "model=custom",
        "model.target=torch.nn.Flatten",
        "model.kwargs={_hidden: 3}",
        "data=dirichlet",
    ]
    outcome = trainer("fit", *words)
    assert outcome.code == 2 and "could not hold this config" in outcome.err
