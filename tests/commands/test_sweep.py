"""`trainer fit -m`: every combination, each on its own, a failing one not stopping the others."""

from __future__ import annotations

import re
from pathlib import Path

from running import PLAIN, Run, Trainer


def sweep_folders(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs").glob("*/*-sweep*"))


def jobs(tmp_path: Path) -> list[Run]:
    (folder,) = sweep_folders(tmp_path)
    return [Run(path) for path in sorted(folder.glob("0*"))]


def test_every_combination_has_a_run_of_its_own_and_a_row(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer(
        "fit", "-m", *PLAIN, "optimizer.lr=0.1,0.01", "model=mlp,linear", "~model.hidden"
    )
    assert outcome.code == 2, "a key that only one of the models has"
    small = [word for word in PLAIN if word != "model.hidden=[16]" and word != "model=mlp"]
    outcome = trainer("fit", "-m", *small, "optimizer.lr=0.1,0.01", "model=mlp,linear")
    assert outcome.code == 0, outcome.err
    runs = jobs(tmp_path)
    assert [run.folder.name for run in runs] == [
        "000-dirichlet-mlp",
        "001-dirichlet-linear",
        "002-dirichlet-mlp",
        "003-dirichlet-linear",
    ]
    assert all(run.record["status"] == "done" for run in runs)
    table = [line.split() for line in outcome.out.splitlines() if re.match(r"^ [0-3] +0\.", line)]
    best = [float(row[4]) for row in table]
    assert len(table) == 4 and best == sorted(best, reverse=True), "best first"


def test_a_failing_job_is_named_and_does_not_stop_the_others(
    trainer: Trainer, tmp_path: Path
) -> None:
    outcome = trainer("fit", "-m", *PLAIN, "optimizer.lr=0.1,-1,1e30,0.01")
    assert outcome.code == 1
    assert [run.record["status"] for run in jobs(tmp_path)] == ["done", "failed", "done"]
    assert re.search(
        r"Job 1 .*optimizer\.lr=-1.* failed: optimizer\.lr=-1\.0 is out of range", outcome.err
    )
    assert re.search(r"Job 2 .*failed: Loss became", outcome.err)
    assert "Traceback" not in outcome.err
    rows = [line.split()[0] for line in outcome.out.splitlines() if re.match(r"^ [0-3] +\S", line)]
    assert len(rows) == 4 and set(rows[2:]) == {"1", "2"}, "failures last"


def test_a_choice_that_does_not_exist_is_told_before_anything_runs(
    trainer: Trainer, tmp_path: Path
) -> None:
    outcome = trainer("fit", "-m", *PLAIN, "optimizer=sgd,adamm")
    assert outcome.code == 2
    assert "Did you mean adam" in outcome.err
    assert not sweep_folders(tmp_path)


def test_two_sweeps_never_share_a_folder(trainer: Trainer, tmp_path: Path) -> None:
    for words in ((), ("sweep.fresh=true",), ("optimizer.lr=0.2",)):
        assert trainer("fit", "-m", *PLAIN, "trainer.max_steps=1", "seed=0,1", *words).code == 0
    assert len(sweep_folders(tmp_path)) == 3


def test_run_dir_is_the_folder_of_the_sweep(trainer: Trainer, tmp_path: Path) -> None:
    assert trainer("fit", "-m", *PLAIN, "trainer.max_steps=1", "seed=0,1", "run.dir=mine").code == 0
    assert sorted(path.name for path in (tmp_path / "mine").glob("0*")) == [
        "000-dirichlet-mlp",
        "001-dirichlet-mlp",
    ]


def test_resume_does_not_sweep(trainer: Trainer) -> None:
    outcome = trainer("fit", "-m", "resume=last", "seed=0,1")
    assert outcome.code == 2 and "do not go together" in outcome.err
