"""Going on with runs whose folders were changed by hand, copied or damaged: nothing good in them is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from running import SMALL, Fit, Trainer


def test_auto_takes_nothing_away_that_it_did_not_write(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, text in (("run.json", '{"tool": "mine"}'), ("config.yaml", "precious"), ("metrics.jsonl", "precious")):
        (folder / name).write_text(text)
    run = fit()
    for path in run.folder.glob("checkpoints/step-*/model.safetensors"):
        path.unlink()
    for place in (folder, run.folder):
        before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != ".lock"}
        assert trainer("fit", *SMALL, f"run.dir={place}", "resume=auto").code == 2
        assert {path: path.read_bytes() for path in before} == before


def test_a_step_that_was_renamed_does_not_hide_the_others(fit: Fit, trainer: Trainer) -> None:
    run = fit("trainer.save_every=1epoch", "scheduler=constant")
    steps = run.folder / "checkpoints"
    (steps / "step-000009").rename(steps / "step-000999")
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert outcome.code == 0 and "Resumed at step 18 of" in outcome.out
    assert "step-000999 of" in outcome.err
    named = trainer("fit", f"resume={steps / 'step-000999'}", "trainer.epochs=3")
    assert named.code == 3 and "holds another step than its name says" in named.err


def test_a_link_to_a_step_names_that_step(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    run = fit("scheduler=constant")
    (run.folder / "checkpoints/best").unlink()
    (run.folder / "checkpoints/best").symlink_to("step-000009")
    assert "step-000009 is not the newest" in trainer("fit", f"resume={run.folder}/checkpoints/best").err
    outcome = trainer("fit", f"resume={run.folder}/checkpoints/best", f"run.dir={tmp_path / 'branch'}")
    assert "Resumed at step 9 of" in outcome.out


def test_a_damaged_best_is_told_and_another_found(fit: Fit, trainer: Trainer) -> None:
    run = fit("scheduler=constant")
    record = json.loads((run.folder / "run.json").read_text())
    best = run.folder / "checkpoints" / record["checkpoints"]["best"]
    other = next(name for name in run.steps if name != best.name)
    (best / "model.safetensors").write_bytes(b"")
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert outcome.code == 0, outcome.err
    assert ("is not there or damaged" in outcome.err) == (other > best.name)


def test_a_copy_that_followed_links_goes_on(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    run = fit("scheduler=constant")
    shutil.copytree(run.folder, tmp_path / "copy", symlinks=False)
    outcome = trainer("fit", f"resume={tmp_path / 'copy'}", "trainer.epochs=3")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "copy/checkpoints/last").is_symlink()


@pytest.mark.parametrize("damage", ['"resumed": null', '"resumed": 5', '"checkpoints": []', '"checkpoints": null'])
def test_a_damaged_record_does_not_stop_a_run(fit: Fit, trainer: Trainer, damage: str) -> None:
    run = fit("scheduler=constant")
    (run.folder / "run.json").write_text(f'{{"status": "done", {damage}}}')
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("line", ["garbage", "5", '{"split": "train", "step": "x"}', '{"split": "val", "step": null}'])
def test_a_bad_row_takes_no_good_one_away(fit: Fit, trainer: Trainer, line: str) -> None:
    run = fit("scheduler=constant")
    rows = [row for row in run.rows if row["split"] != "test"]
    path = run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    assert trainer("fit", f"resume={run.folder}", "trainer.epochs=3").code == 0
    # The last one, of half a window, becomes part of a whole one.
    assert run.rows[: len(rows) - 1] == rows[:-1]
