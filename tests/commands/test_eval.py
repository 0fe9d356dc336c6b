"""`trainer eval`: needs nothing but a checkpoint, and says to the last digit what fit said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from running import PLAIN, Fit, Trainer


def evaluated(trainer: Trainer, *argv: str) -> dict[str, Any]:
    outcome = trainer("eval", *argv, "--json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 1
    content: dict[str, Any] = json.loads(outcome.out)
    return content


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("trainer.ema=0.9",),
        ("trainer.precision=bf16",),
        ("loss=hinge",),
        ("data.eval_limit=50",),
    ],
    ids=lambda value: ",".join(value) or "defaults",
)
def test_it_equals_what_fit_reported_to_the_last_digit(
    fit: Fit, trainer: Trainer, overrides: tuple[str, ...]
) -> None:
    run = fit(*overrides)
    metrics = run.record["metrics"]
    for split in ("test", "val"):
        result = evaluated(trainer, f"ckpt={run.folder}", f"eval.split={split}")
        assert result["loss"] == metrics[f"{split}/loss"]
        assert result["accuracy"] == metrics[f"{split}/accuracy"]


def test_every_form_of_ckpt_finds_the_checkpoint(trainer: Trainer, tmp_path: Path) -> None:
    assert trainer("fit", *PLAIN).code == 0
    found = sorted((tmp_path / "runs").glob("*/*"))[-1]
    last = found / "checkpoints/step-000018"
    forms = [
        (found / "checkpoints/last").relative_to(tmp_path),
        last,
        last / "model.safetensors",
        found / "checkpoints/last/model.safetensors",
    ]
    losses = {evaluated(trainer, f"ckpt={form}")["loss"] for form in forms}
    assert len(losses) == 1
    of_best = (found, found / "checkpoints/best", found / "checkpoints", "last")
    assert len({evaluated(trainer, f"ckpt={form}")["loss"] for form in of_best}) == 1


def test_a_model_file_alone_is_enough_anywhere(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    run = fit()
    expected = evaluated(trainer, f"ckpt={run.folder}/checkpoints/last")["loss"]
    elsewhere = tmp_path / "with spaces and ü"
    elsewhere.mkdir()
    shutil.copy(
        run.folder / "checkpoints/last/model.safetensors", elsewhere / "my model.safetensors"
    )
    shutil.rmtree(run.folder)
    assert evaluated(trainer, f"ckpt='{elsewhere}/my model.safetensors'")["loss"] == expected


def test_a_moved_run_still_evaluates(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    run = fit()
    expected = evaluated(trainer, f"ckpt={run.folder}")["loss"]
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    shutil.move(run.folder, moved)
    assert evaluated(trainer, f"ckpt={moved}")["loss"] == expected


def test_tables_name_every_class(fit: Fit, trainer: Trainer) -> None:
    outcome = trainer("eval", f"ckpt={fit().folder}")
    assert outcome.code == 0, outcome.err
    for index in range(10):
        assert f"largest is x[{index}]" in outcome.out
    assert "accuracy" in outcome.out and "recall" in outcome.out and "\x1b" not in outcome.out


def test_the_train_split_is_what_was_trained_on(fit: Fit, trainer: Trainer) -> None:
    run = fit()
    assert evaluated(trainer, f"ckpt={run.folder}", "eval.split=train")["samples"] == 550
    assert evaluated(trainer, f"ckpt={run.folder}", "eval.split=val")["samples"] == 150


def test_other_data_of_the_same_shape_may_be_named(fit: Fit, trainer: Trainer) -> None:
    run = fit()
    result = evaluated(trainer, f"ckpt={run.folder}", "data.alpha=0.1", "data.test_size=50")
    assert result["samples"] == 50
    assert result["loss"] != run.record["metrics"]["test/loss"]


def test_data_of_another_shape_is_refused(fit: Fit, trainer: Trainer) -> None:
    outcome = trainer("eval", f"ckpt={fit().folder}", "data.features=7")
    assert outcome.code == 3
    assert "(7,)" in outcome.err and "(10,)" in outcome.err


@pytest.mark.parametrize("key", ["model.hidden=[3]", "optimizer.lr=1", "loss=hinge", "seed=3"])
def test_what_belongs_to_the_checkpoint_cannot_be_set(fit: Fit, trainer: Trainer, key: str) -> None:
    outcome = trainer("eval", f"ckpt={fit().folder}", key)
    assert outcome.code == 2
    assert "belongs to the checkpoint" in outcome.err


def test_a_split_that_is_not_there_is_named(fit: Fit, trainer: Trainer) -> None:
    outcome = trainer("eval", f"ckpt={fit('data.val_size=0').folder}", "eval.split=val")
    assert outcome.code == 2 and "eval.split=val" in outcome.err
    assert "Choose eval.split=train." in outcome.err


def test_a_damaged_checkpoint_is_refused_and_the_intact_ones_named(
    fit: Fit, trainer: Trainer
) -> None:
    run = fit("trainer.keep=9")
    path = run.folder / "checkpoints/last/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    outcome = trainer("eval", f"ckpt={run.folder}/checkpoints/last")
    assert outcome.code == 3
    assert "checksum differs" in outcome.err and "step-000009" in outcome.err


def test_values_are_evaluated_too(fit: Fit, trainer: Trainer) -> None:
    run = fit(base=("experiment=line", "trainer.epochs=20"))
    result = evaluated(trainer, f"ckpt={run.folder}")
    assert result["loss"] == run.record["metrics"]["test/loss"]
    assert result["accuracy"] is None and "classes" not in result
