"""Going on with runs whose folders were changed by hand, copied or damaged: nothing good in them
is lost.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import PLAIN, Fit, Trainer


def test_auto_takes_nothing_away_that_it_did_not_write(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, text in (
        ("run.json", '{"tool": "mine"}'),
        ("config.yaml", "precious"),
        ("metrics.jsonl", "precious"),
    ):
        (folder / name).write_text(text)
    run = fit()
    for path in run.folder.glob("checkpoints/step-*/model.safetensors"):
        path.unlink()
    for place in (folder, run.folder):
        before = {
            path: path.read_bytes()
            for path in place.rglob("*")
            if path.is_file() and path.name != ".lock"
        }
        assert trainer("fit", *PLAIN, f"run.dir={place}", "resume=auto").code == 2
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
    assert (
        "step-000009 is not the newest"
        in trainer("fit", f"resume={run.folder}/checkpoints/best").err
    )
    outcome = trainer(
        "fit", f"resume={run.folder}/checkpoints/best", f"run.dir={tmp_path / 'branch'}"
    )
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


@pytest.mark.parametrize(
    "damage", ['"resumed": null', '"resumed": 5', '"checkpoints": []', '"checkpoints": null']
)
def test_a_damaged_record_does_not_stop_a_run(fit: Fit, trainer: Trainer, damage: str) -> None:
    run = fit("scheduler=constant")
    (run.folder / "run.json").write_text(f'{{"status": "done", {damage}}}')
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    "line", ["garbage", "5", '{"split": "train", "step": "x"}', '{"split": "val", "step": null}']
)
def test_a_bad_row_takes_no_good_one_away(fit: Fit, trainer: Trainer, line: str) -> None:
    run = fit("scheduler=constant")
    rows = [row for row in run.rows if row["split"] != "test"]
    path = run.folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n" + lines[0][:9])
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert outcome.code == 0 and f"Dropped 1 line of {path}" in outcome.err
    # The last one, of half a window, becomes part of a whole one.
    assert run.rows[: len(rows) - 1] == rows[:-1]


def test_a_record_that_is_garbage_is_told(fit: Fit, trainer: Trainer) -> None:
    run = fit("scheduler=constant")
    (run.folder / "run.json").write_text("garbage")
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert outcome.code == 0 and "run.json is damaged and is written anew" in outcome.err


def test_last_is_the_newest_run_even_when_its_record_is_garbage(
    trainer: Trainer, tmp_path: Path
) -> None:
    for name in ("b", "a"):
        assert (
            trainer(
                "fit", *PLAIN, "scheduler=constant", f"run.root={tmp_path}", f"run.name={name}"
            ).code
            == 0
        )
        time.sleep(1)  # folders have the second in their names
    (newest,) = tmp_path.glob("*/*-a")
    (newest / "run.json").write_text("garbage")
    outcome = trainer("fit", "resume=last", f"run.root={tmp_path}", "trainer.epochs=3")
    assert outcome.code == 0 and str(newest) in outcome.out


def test_another_monitor_finds_its_own_best(fit: Fit, trainer: Trainer) -> None:
    """The best by the metric of before may be removed as any older step, and no link may be left
    to it.
    """
    run = fit("scheduler=constant", "trainer.monitor=train/loss", "trainer.keep=0")
    words = (f"resume={run.folder}", "trainer.monitor=val/accuracy", "trainer.keep=0")
    outcome = trainer("fit", *words, "trainer.epochs=4", "optimizer.lr=1e-9")
    assert outcome.code == 0, outcome.err
    best = run.folder / "checkpoints/best"
    assert best.is_symlink() and best.exists()
    assert trainer("check-run", str(run.folder)).code == 0


def test_fewer_epochs_than_done_says_so(fit: Fit, trainer: Trainer) -> None:
    run = fit("scheduler=constant")
    record = run.folder / "run.json"
    record.write_text(record.read_text().replace('"done"', '"interrupted"'))
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=1")
    assert outcome.code == 0 and "Nothing is left to train, only to test." in outcome.out


def test_a_pipe_among_the_event_files_is_passed_over(fit: Fit, trainer: Trainer) -> None:
    run = fit("scheduler=constant")
    os.mkfifo(run.folder / "events.out.tfevents.1.pipe")
    assert trainer("fit", f"resume={run.folder}", "trainer.epochs=3").code == 0


def test_a_run_that_has_not_saved_yet_is_in_use(trainer: Trainer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    imports = "from trainer.run.lock import locked; from pathlib import Path"
    holder = f"{imports}\nwith locked(Path({str(run)!r})):\n    "
    command = [sys.executable, "-c", holder + "print(1, flush=True); input()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        outcome = trainer("fit", f"resume={run}")
        process.communicate("\n")
    assert outcome.code == 2 and f"is in use by process {process.pid}" in outcome.err


@pytest.mark.parametrize("word", ["last", "auto", "./last"])
def test_a_run_folder_is_not_called_as_a_word_of_ours(trainer: Trainer, word: str) -> None:
    outcome = trainer("fit", "experiment=line", f"run.dir={word}")
    assert outcome.code == 2 and "is a word of trainer's" in outcome.err


@pytest.mark.parametrize(
    "left", [(".lock",), (".lock", ".run.json.part"), (".lock", "run.json", ".config.yaml.part")]
)
def test_what_a_run_left_that_was_cut_while_it_began_is_cleared(
    fit: Fit, trainer: Trainer, tmp_path: Path, left: tuple[str, ...]
) -> None:
    record = (fit().folder / "run.json").read_text().replace('"done"', '"running"')
    run = tmp_path / "cut"
    run.mkdir()
    for name in left:
        (run / name).write_text(record if name == "run.json" else "")
    outcome = trainer("fit", *PLAIN, f"run.dir={run}", "resume=auto")
    assert outcome.code == 0, outcome.err
    assert not list(run.glob(".*.part"))


def test_rows_that_are_none_of_ours_are_dropped(fit: Fit, trainer: Trainer) -> None:
    """As check-run reports them: text that cannot be encoded, NaN, missing fields, double rows."""
    run = fit("scheduler=constant")
    path = run.folder / "metrics.jsonl"
    first, *others = path.read_text().splitlines()
    odd = [
        '{"split":"train","step":3,"x":"\\ud800"}',
        '{"split":"train","step":3,"x":[NaN]}',
        '{"split":"val","step":3}',
    ]
    path.write_text("\n".join([first, *odd, first, *others]) + "\n")
    assert trainer("check-run", str(run.folder)).code == 3
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert outcome.code == 0 and "Dropped 4 lines" in outcome.err
    assert trainer("check-run", str(run.folder)).code == 0


def test_a_best_that_is_no_longer_one_is_not_in_the_record(fit: Fit, trainer: Trainer) -> None:
    run = fit("scheduler=constant")
    record = run.folder / "run.json"
    record.write_text(record.read_text().replace('"done"', '"interrupted"'))
    other = "train/loss" if run.record["checkpoints"]["best"] == run.steps[-1] else "val/loss"
    outcome = trainer("fit", f"resume={run.folder}", f"trainer.monitor={other}", "trainer.keep=0")
    assert outcome.code == 0, outcome.err
    assert run.record["checkpoints"] == {"last": run.steps[-1]}
