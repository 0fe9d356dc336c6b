"""Jobs of a sweep that are resumed alone: the report follows, and believes no changed job."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from commandline import trainer_main
from running import Outcome, Trainer
from swept import TINY, Swept

GRID = ("fit", "-m", *TINY, "scheduler=constant", "seed=0,1,2", "sweep.jobs=1", "run.dir=sweep")


def ended(outcome: Outcome, code: int = 0) -> Outcome:
    assert outcome.code == code, outcome.err
    return outcome


def rows(sweep: Swept) -> dict[str, dict[str, str]]:
    """The rows of sweep.csv by their run."""
    with (sweep.folder / "sweep.csv").open(newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sweep, which each test copies."""
    cwd = tmp_path_factory.mktemp("finished")
    ran = trainer_main(*GRID, cwd=cwd)
    assert ran.code == 0, ran.err
    return cwd / "sweep"


@pytest.fixture
def sweep(finished: Path, tmp_path: Path) -> Swept:
    return Swept(Path(shutil.copytree(finished, tmp_path / "sweep", symlinks=True)))


def first(sweep: Swept) -> Path:
    """The run of job 0, also when the job was run again."""
    return min(sweep.folder.glob("000-*"))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("trainer.max_steps=4",), "trainer.max_steps 1 -> 4"),
        (("trainer.max_steps=null", "optimizer.lr=0.1"), "optimizer.lr 0.05 -> 0.1"),
        (("trainer.max_steps=20", "trainer.epochs=3"), "trainer.epochs 2 -> 3"),
    ],
)
def test_a_changed_job_is_named_left_out_and_run_again(
    sweep: Swept, trainer: Trainer, words: tuple[str, ...], named: str
) -> None:
    before = sweep.jobs[0]["metrics"]
    mean_before = sweep.record["summary"]
    outcome = ended(trainer("fit", f"resume={first(sweep)}", *words))
    assert "is job 0 of the sweep" in outcome.err and named in outcome.err
    assert "run.dir=" in outcome.err and "sweep.csv leaves it out" in outcome.err
    assert sorted(rows(sweep)) == ["001-dirichlet-mlp-seed1", "002-dirichlet-mlp-seed2"]
    assert sweep.record["summary"]["counts"] == {"done": 2}
    assert named in (sweep.folder / "sweep.md").read_text().replace("\\>", ">")

    again = ended(trainer(*GRID))
    assert "2 of 3 jobs are done" in again.err
    assert "000-dirichlet-mlp-seed0 is left out" in again.err and named in again.err
    assert sweep.statuses == ["done"] * 3
    assert (
        sweep.jobs[0]["metrics"] == before and sweep.jobs[0]["run"] == "000-dirichlet-mlp-seed0-2"
    )
    assert sweep.record["summary"]["groups"] == mean_before["groups"]
    assert "3 of 3 jobs are done" in ended(trainer(*GRID)).err


@pytest.mark.fault("N")
def test_a_change_that_was_taken_back_is_a_change(sweep: Swept, trainer: Trainer) -> None:
    for word in ("trainer.max_steps=4", "trainer.max_steps=6", "trainer.max_steps=1"):
        trainer("fit", f"resume={first(sweep)}", word)
    ended(trainer(*GRID))
    assert sweep.jobs[0]["run"] == "000-dirichlet-mlp-seed0-2"


@pytest.mark.fault("N")
def test_a_refused_resume_of_a_job_leaves_the_report(sweep: Swept, trainer: Trainer) -> None:
    before = (sweep.folder / "sweep.json").read_bytes()
    outcome = trainer("fit", f"resume={first(sweep)}")
    assert outcome.code == 2 and "is complete" in outcome.err
    assert "sweep.csv" not in outcome.err
    assert (sweep.folder / "sweep.json").read_bytes() == before


@pytest.mark.fault("N")
def test_the_report_follows_a_job_that_is_resumed_alone(sweep: Swept, trainer: Trainer) -> None:
    """As after a kill: the printed command finishes the job, and another device is no other job."""
    record = json.loads((first(sweep) / "run.json").read_text())
    metrics = sweep.jobs[0]["metrics"]
    summary = sweep.record["summary"]
    assert summary["seeds"].startswith("weights, order")
    record |= {"status": "running", "metrics": {}}
    (first(sweep) / "run.json").write_text(json.dumps(record))
    content = sweep.record
    content["jobs"][0] |= {"status": "interrupted", "metrics": {}}
    (sweep.folder / "sweep.json").write_text(json.dumps(content))
    words = ("trainer.device=cpu", "trainer.threads=2", "trainer.keep=3")
    outcome = ended(trainer("fit", f"resume={first(sweep)}", *words))
    assert "sweep.csv has the new result" in outcome.err
    assert rows(sweep)["000-dirichlet-mlp-seed0"]["status"] == "done"
    assert sweep.jobs[0]["metrics"] == metrics
    assert sweep.record["summary"] == summary
    assert "They vary weights, order" in (sweep.folder / "sweep.md").read_text()
    assert "3 of 3 jobs are done" in ended(trainer(*GRID)).err


@pytest.mark.fault("N")
def test_a_branch_leaves_the_sweep_alone(sweep: Swept, trainer: Trainer, tmp_path: Path) -> None:
    before = (sweep.folder / "sweep.json").read_bytes()
    words = ("trainer.max_steps=4", f"run.dir={tmp_path / 'branch'}")
    outcome = ended(trainer("fit", f"resume={first(sweep)}", *words))
    assert "sweep" not in outcome.err
    assert (sweep.folder / "sweep.json").read_bytes() == before
    assert "3 of 3 jobs are done" in ended(trainer(*GRID)).err


@pytest.mark.fault("N")
def test_a_changed_trial_of_a_search_is_searched_again(trainer: Trainer, tmp_path: Path) -> None:
    search = ("sweep=random", "sweep.trials=3", "optimizer.lr=interval(0.01,0.1)")
    words = (*GRID[:-3], *search, "sweep.jobs=1", "run.dir=sweep")
    ended(trainer(*words))
    sweep = Swept(tmp_path / "sweep")
    before = {job["number"]: (job["values"], job["metrics"]) for job in sweep.jobs}
    ended(trainer("fit", f"resume={first(sweep)}", "trainer.max_steps=4"))
    for _ in range(2):
        outcome = ended(trainer(*words))
        assert f"{first(sweep).name} is left out" in outcome.err
        now = {job["number"]: (job["values"], job["metrics"]) for job in sweep.jobs}
        assert now == {1: before[1], 2: before[2], 3: before[0]}
