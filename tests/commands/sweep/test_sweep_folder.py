"""The folder of a sweep: a new one, an earlier one that is continued, and refused ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.cli.arguments import Arguments
from trainer.cli.compose import sweep_request
from trainer.cli.verbs import VERBS
from trainer.commands.sweep import plan
from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.resume import sweep_folder
from trainer.commands.sweep.task import JobStatus
from trainer.errors import InputError, UsageError

# Each test composes configs with Hydra, 60 ms a time.
pytestmark = pytest.mark.long

BASE = ("data=dirichlet", "model=mlp", "run.dir=mine")
GRID = (*BASE, "seed=0,1")
SEARCH = (*BASE, "sweep=random", "optimizer.lr=interval(0.01,0.1)")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sweep, which is not made yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine"


@contextlib.contextmanager
def opened(*words: str) -> Iterator[tuple[Path, SweepRecord | None]]:
    with sweep_request(Arguments.parse(VERBS["fit"], ["-m", *words])) as request:
        identities = plan.identities(request, plan.check(request, []))
        with sweep_folder(request, identities) as found:
            yield found


def leave_sweep(*words: str, jobs: list[JobRecord] | None = None) -> None:
    """The folder as a sweep of this command leaves it."""
    with sweep_request(Arguments.parse(VERBS["fit"], ["-m", *words])) as request:
        identities = plan.identities(request, plan.check(request, []))
        with sweep_folder(request, identities) as (folder, _):
            SweepRecord(
                folder=folder,
                kind=request.sweep.name,
                identity=identities[0],
                command=request.command,
                keys=["seed"],
                monitor="val/loss",
                maximize=False,
                started="2026-11-21T10:15:00.000+00:00",
                jobs=jobs or [],
            ).write()


def job(number: int, **values: Any) -> JobRecord:
    return JobRecord(
        number=number, values={"seed": str(number)}, command=["trainer", "fit"], **values
    )


def test_a_folder_in_which_no_job_began_is_removed_again(folder: Path) -> None:
    with opened(*GRID) as (made, earlier):
        assert made == Path("mine") and earlier is None
        (made / "000-dirichlet-mlp").mkdir()
        (made / "study.db").touch()
    assert not folder.exists()
    folder.mkdir()
    (folder / "notes.json").write_text("{}")
    with opened(*GRID):
        pass
    assert [path.name for path in folder.iterdir()] == ["notes.json"]


def test_a_folder_that_holds_something_else_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "work.txt").write_text("of a week")
    with pytest.raises(UsageError, match="mine exists and is not empty"), opened(*GRID):
        pass
    assert [path.name for path in folder.iterdir()] == ["work.txt"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"jobs": [{"number": "x"}]}'])
def test_a_damaged_record_is_refused_and_stays(folder: Path, content: str) -> None:
    leave_sweep(*GRID)
    (folder / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=r"mine/sweep\.json is damaged"), opened(*GRID):
        pass
    assert (folder / "sweep.json").read_text() == content


@pytest.mark.parametrize("name", ["output", "study.db", "slurm", ".sweep.json.part"])
def test_a_link_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    leave_sweep(*GRID)
    (tmp_path / "target").write_text("mine")
    (folder / name).symlink_to(tmp_path / "target")
    with pytest.raises(InputError, match=f"mine/{name} is a link"), opened(*GRID):
        pass
    assert (tmp_path / "target").read_text() == "mine"


@pytest.mark.parametrize(
    ("left", "words", "message"),
    [
        (SEARCH, (*SEARCH, "seed=5"), "holds another sweep, of random"),
        (SEARCH, GRID, "holds another sweep, of random"),
        (GRID, SEARCH, "holds another sweep, of grid"),
        (GRID, (*GRID, "sweep.fresh=true"), r"sweep\.fresh=true asks for a new one"),
    ],
)
def test_a_folder_of_another_sweep_is_refused(
    left: tuple[str, ...], words: tuple[str, ...], message: str
) -> None:
    leave_sweep(*left)
    with pytest.raises(UsageError, match=message), opened(*words):
        pass


def test_a_search_is_continued_with_more_trials_and_a_grid_with_more_values() -> None:
    leave_sweep(*SEARCH)
    with opened(*SEARCH, "sweep.trials=50") as (_, earlier):
        assert earlier is not None and earlier.kind == "random"


def test_a_grid_is_continued_with_other_values_and_its_jobs_are_as_their_runs_say(
    folder: Path,
) -> None:
    jobs = [
        job(0, run="000-done", status=JobStatus.RUNNING),
        job(1, run="001-killed", status=JobStatus.RUNNING),
        job(2, run="002-died", status=JobStatus.FAILED, error="Its process was killed."),
        job(3, run="003-never-began", status=JobStatus.RUNNING),
        job(4),
    ]
    leave_sweep(*GRID, jobs=jobs)
    for name, record in {
        "000-done": {"status": "done", "metrics": {"val/loss": 0.5}, "git_commit": "abc"},
        "001-killed": {"status": "running"},
        "002-died": {"status": "running"},
    }.items():
        (folder / name).mkdir()
        (folder / name / "run.json").write_text(json.dumps(record))
    with opened(*BASE, "seed=7,8,9") as (_, earlier):
        assert earlier is not None
        assert [job.status for job in earlier.jobs] == [
            JobStatus.DONE,
            JobStatus.INTERRUPTED,
            JobStatus.FAILED,
            JobStatus.WAITING,
            JobStatus.WAITING,
        ]
        assert earlier.jobs[0].metrics == {"val/loss": 0.5}
        assert earlier.jobs[0].code == {"commit": "abc"}
        assert earlier.jobs[2].error == "Its process was killed."
