"""A sweep that is killed, or that fails in part, is continued by the same command, and
nothing is done twice.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from disks import Disk, in_turn
from processes import Started
from running import SMALL, Outcome, Run, Trainer
from signalling import as_from_a_shell, processes_of
from swept import TINY, Swept, only_sweep, sweeps_in
from waiting import wait_until

from trainer.cli.arguments import Arguments
from trainer.cli.compose import sweep_request
from trainer.cli.verbs import VERBS
from trainer.commands.sweep import plan

KILLED = -9
# 540 updates each, so that a kill comes in the middle of one.
SIX = (
    "fit",
    "-m",
    *SMALL,
    "logger=none",
    "trainer.epochs=60",
    "trainer.threads=1",
    "optimizer.lr=0.1,0.05",
    "seed=range(0,3)",
    "sweep.jobs=2",
)
# By its seed, a model that works, or fails in one way or another for as long as there is a file
# `mood`.
MOODY = """
import os
import signal
from pathlib import Path

import torch
from torch import nn


class Moody(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(10, 10))
        mood = torch.initial_seed() if Path("mood").exists() else 0
        if mood == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if mood == 5:
            raise ValueError("not today")
        if mood == 7:
            nn.init.constant_(self[0].weight, float("nan"))
"""
# The first of them waits for as long as there is a file `wait`.
PATIENT = """
import time
from pathlib import Path

from torch import nn


class Patient(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(10, 10))
        is_first = not Path("waits").exists()
        Path("waits").touch()
        while is_first and Path("wait").exists():
            time.sleep(0.05)
"""
CUSTOM = ("fit", "-m", *(word for word in TINY if not word.startswith("model")), "model=custom")
MOODY_WORDS = (
    *CUSTOM,
    "model.target=moody.Moody",
    "seed=0,3,5,7,1,-1",
    "sweep.jobs=2",
    "run.dir=sweep",
)


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    """Starts `trainer …` as a shell does; what still runs when the test ends is killed."""
    started: list[Started] = []

    def run(*argv: str, cwd: Path) -> Started:
        started.append(Started(*argv, cwd=cwd, prepare=as_from_a_shell))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.join()


def ended(outcome: Outcome, code: int) -> Outcome:
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    return outcome


def is_under_way(folder: Path, *, done: int) -> bool:
    """Whether so many jobs are done, and another has saved something and has still far to go."""
    for sweep in sweeps_in(folder):
        runs = [
            path for path in sweep.folder.glob("[0-9]*/run.json") if '"running"' in path.read_text()
        ]
        is_saved = any(
            step < "step-000200" for path in runs for step in Run(path.parent).steps[-1:]
        )
        return sweep.states().count("done") >= done and is_saved
    return False


@pytest.mark.fault("I")
def test_a_killed_sweep_continues_as_if_it_had_not_been_killed(
    tmp_path: Path, trainer: Trainer, start: Callable[..., Started]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    started = start(*SIX, cwd=cut)
    wait_until(lambda: is_under_way(cut, done=2) or started.process.exitcode is not None)
    started.signal(signal.SIGKILL)
    ended(started.wait(), KILLED)
    wait_until(lambda: not processes_of(started.pid))  # the jobs have saved and left
    assert "Traceback" not in started.err
    sweep = only_sweep(cut)
    before = sweep.contents()
    done = [name for name, content in before.items() if b'"done"' in content]
    assert 2 <= len(done) < 6
    assert '"interrupted"' in "".join(content.decode() for content in before.values())

    again = ended(trainer(*SIX, f"run.root={cut / 'runs'}"), 0)
    assert f"{len(done)} of 6 jobs are done" in again.err
    assert only_sweep(cut).statuses == ["done"] * 6
    assert len(sweep.folders) == 6
    assert {name: sweep.contents()[name] for name in done} == {name: before[name] for name in done}
    continued = [name for name, content in before.items() if b'"interrupted"' in content]
    assert all(b'"resumed"' in sweep.contents()[name] for name in continued)
    with (sweep.folder / "sweep.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    assert sweep.record["summary"]["counts"] == {"done": 6}

    ended(trainer(*SIX, f"run.root={whole / 'runs'}"), 0)
    assert [run.digest() for run in sweep.runs] == [run.digest() for run in only_sweep(whole).runs]
    metrics = [[job["metrics"] for job in each.jobs] for each in (sweep, only_sweep(whole))]
    assert metrics[0] == metrics[1]


def test_jobs_that_fail_are_named_and_they_alone_are_run_again(
    trainer: Trainer, tmp_path: Path
) -> None:
    (tmp_path / "moody.py").write_text(MOODY)
    (tmp_path / "mood").touch()
    sweep = Swept(tmp_path / "sweep")
    outcome = ended(trainer(*MOODY_WORDS), 1)
    expected = {1: "killed by SIGKILL", 2: "not today", 3: "Loss became nan", 5: "seed=-1"}
    assert {job["number"] for job in sweep.jobs if job["status"] == "failed"} == set(expected)
    assert sweep.statuses.count("done") == 2
    report = (sweep.folder / "sweep.md").read_text()
    for number, reason in expected.items():
        assert reason in sweep.jobs[number]["error"]
        assert reason in report
        assert re.search(rf"Job {number} \(seed=.* failed: .*{reason}", outcome.err), outcome.err
    assert sweep.record["summary"]["counts"] == {"done": 2, "failed": 4}

    before = sweep.contents()
    ended(trainer(*MOODY_WORDS, "sweep.retry_failed=false"), 1)
    assert sweep.contents() == before
    assert sweep.record["summary"]["counts"] == {"done": 2, "failed": 4}

    (tmp_path / "mood").unlink()
    ended(trainer(*MOODY_WORDS), 1)
    assert sweep.statuses == ["done"] * 5 + ["failed"]
    after = sweep.contents()
    done = [name for name, content in before.items() if b'"done"' in content]
    assert len(done) == 2
    assert {name: after[name] for name in done} == {name: before[name] for name in done}
    assert len(after) - len(before) == 3


@pytest.mark.slow
def test_the_same_command_while_the_first_runs_is_a_sweep_of_its_own(
    tmp_path: Path, trainer: Trainer, start: Callable[..., Started]
) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    (tmp_path / "wait").touch()
    words = (*CUSTOM, "model.target=patient.Patient", "seed=0,1", "sweep.jobs=1")
    started = start(*words, cwd=tmp_path)
    wait_until(lambda: (tmp_path / "waits").exists() or started.process.exitcode is not None)
    first = only_sweep(tmp_path)
    outcome = ended(trainer(*words, f"run.dir={first.folder.relative_to(tmp_path)}"), 2)
    assert (
        re.search(r"-sweep is in use by process [0-9]+ on host", outcome.err)
        and "run.dir=" in outcome.err
    )
    assert len(outcome.err.splitlines()) <= 3
    ended(trainer(*words), 0)
    second = next(sweep for sweep in sweeps_in(tmp_path) if sweep != first)
    assert second.statuses == ["done", "done"]
    assert first.statuses == ["running", "waiting"]
    (tmp_path / "wait").unlink()
    ended(started.wait(), 0)
    assert first.statuses == ["done", "done"]
    assert len(sweeps_in(tmp_path)) == 2


def test_another_order_of_the_same_words_is_the_same_sweep(
    trainer: Trainer, tmp_path: Path
) -> None:
    ended(trainer("fit", "-m", *TINY, "seed=0,1", "optimizer.lr=0.1,0.2"), 0)
    before = only_sweep(tmp_path).contents()
    words = [*reversed(TINY)]
    outcome = ended(
        trainer("fit", *words, "optimizer.lr=0.2,0.1", "seed=1,0", "sweep.jobs=1", "-m"), 0
    )
    assert "4 of 4 jobs are done" in outcome.err
    assert only_sweep(tmp_path).contents() == before


def test_what_changes_the_jobs_is_a_sweep_of_its_own(trainer: Trainer, tmp_path: Path) -> None:
    for words in (
        ("seed=0",),
        ("seed=0", "run.name=other"),
        ("seed=1",),
        ("sweep.fresh=true", "seed=0"),
    ):
        ended(trainer("fit", "-m", *TINY, "optimizer.lr=0.1,0.2", *words), 0)
    assert len(list(tmp_path.glob("runs/*/*/sweep.json"))) == 4


def test_a_named_folder_takes_over_what_two_commands_have_in_common(
    trainer: Trainer, tmp_path: Path
) -> None:
    sweep = Swept(tmp_path / "mine")
    ended(trainer("fit", "-m", *TINY, "seed=0,1", "run.dir=mine"), 0)
    before = sweep.contents()
    ended(trainer("fit", "-m", *TINY, "seed=range(0,3)", "run.dir=mine"), 0)
    assert sweep.statuses == ["done"] * 3
    assert {name: sweep.contents()[name] for name in before} == before


def test_a_sweep_that_was_moved_is_continued(trainer: Trainer, tmp_path: Path) -> None:
    words = ("fit", "-m", *TINY, "seed=0,1,2")
    ended(trainer(*words, "run.dir=mine"), 0)
    (tmp_path / "mine").rename(tmp_path / "yours")
    before = Swept(tmp_path / "yours").contents()
    shutil.rmtree(next((tmp_path / "yours").glob("001-*")))
    ended(trainer(*words, "run.dir=yours"), 0)
    sweep = Swept(tmp_path / "yours")
    assert sweep.statuses == ["done"] * 3
    kept = [name for name in before if not name.startswith("001")]
    assert {name: sweep.contents()[name] for name in kept} == {name: before[name] for name in kept}


@pytest.mark.slow
@pytest.mark.parametrize("room", [8_000, 16_000, 100_000])
def test_a_full_disk_is_reported_and_the_sweep_continues_when_there_is_room(
    tmp_path: Path, disk: Disk, room: int
) -> None:
    """It is full before the first job, while it begins, or when some jobs are done."""
    words = ("fit", "-m", *TINY, "seed=range(0,6)", "sweep.jobs=2", "run.dir=disk/sweep")
    disk.fill(but=room)
    prepare = in_turn(as_from_a_shell, disk.enter)
    outcome = ended(Started(*words, cwd=tmp_path, prepare=prepare).wait(), 4)
    assert "No space left on device" in outcome.err and "same command" in outcome.err
    disk.free()
    ended(Started(*words, cwd=tmp_path, prepare=prepare).wait(), 0)
    sweep = Swept(disk.inside / "sweep")
    assert sweep.statuses == ["done"] * 6
    # A job that could not save failed: it ran again in another folder.
    done = [run for run in sweep.folders if Run(run).record["status"] == "done"]
    assert len(done) == 6 and not list(sweep.folder.rglob("*.part"))


def test_a_job_without_a_run_is_run_in_its_old_folder(trainer: Trainer, tmp_path: Path) -> None:
    """As a sweep leaves it that was killed between making the folder of a job and starting it."""
    words = ("fit", "-m", *TINY, "seed=0,1", "run.dir=mine")
    ended(trainer(*words), 0)
    (job,) = (tmp_path / "mine").glob("001-*")
    shutil.rmtree(job)
    job.mkdir()
    ended(trainer(*words), 0)
    assert [path.name for path in Swept(tmp_path / "mine").folders] == [
        "000-dirichlet-mlp-seed0",
        "001-dirichlet-mlp-seed1",
    ]


@pytest.mark.fault("N")
@pytest.mark.parametrize("name", ["null", "lr${optimizer.lr}"])
def test_a_sweep_that_was_named_by_an_earlier_version_is_continued(
    name: str, trainer: Trainer, tmp_path: Path
) -> None:
    """It named its folder after the first job, and its jobs by the name of the run alone."""
    words = ("fit", "-m", *TINY, "optimizer.lr=0.1,0.01", f"run.name={name}", "sweep.jobs=1")
    ended(trainer(*words), 0)
    sweep = only_sweep(tmp_path)
    record = sweep.record
    alone = ["dirichlet-mlp"] * 2 if name == "null" else ["lr0.1", "lr0.01"]
    for job, former in zip(record["jobs"], alone, strict=True):
        run = sweep.folder / job["run"]
        job["run"] = f"{job['number']:03d}-{former}"
        run.rename(sweep.folder / job["run"])
    record["jobs"][1] |= {"status": "interrupted", "metrics": {}}
    ended_early = Run(sweep.folder / record["jobs"][1]["run"])
    content = ended_early.record | {"status": "interrupted", "metrics": {}}
    (ended_early.folder / "run.json").write_text(json.dumps(content))
    record["identity"] = former_identity(words)
    (sweep.folder / "sweep.json").write_text(json.dumps(record))

    outcome = ended(trainer(*words), 0)
    assert "1 of 2 jobs are done" in outcome.err
    assert sweep.statuses == ["done", "done"]
    assert [job["run"] for job in sweep.jobs] == [job["run"] for job in record["jobs"]]
    assert [path.name for path in sweep.folders] == [job["run"] for job in record["jobs"]]
    assert "2 of 2 jobs are done" in ended(trainer(*words), 0).err, "its identity is the new one"


def former_identity(words: Sequence[str]) -> str:
    """The identity of a sweep that has the name of its first job, as typed."""
    named = [word.replace("${optimizer.lr}", "0.1") for word in words[1:]]
    with sweep_request(Arguments.parse(VERBS["fit"], named)) as request:
        return plan.identity(request, plan.check(request, []))


@pytest.mark.slow
def test_complete_jobs_stay_so_when_a_continued_sweep_is_killed_at_its_first_job(
    tmp_path: Path, trainer: Trainer, start: Callable[..., Started]
) -> None:
    """Jobs 1 and 2 are done, and job 0 is run again, which takes long."""
    (tmp_path / "moody.py").write_text(MOODY)
    (tmp_path / "mood").touch()
    words = (*CUSTOM, "model.target=moody.Moody", "seed=5,1,2", "sweep.jobs=1", "run.dir=sweep")
    ended(trainer(*words), 1)
    sweep = Swept(tmp_path / "sweep")
    assert sweep.statuses == ["failed", "done", "done"]
    before = sweep.contents()
    (tmp_path / "moody.py").write_text(PATIENT.replace("Patient", "Moody"))
    (tmp_path / "wait").touch()

    def cut_by(stop: int, code: int) -> Outcome:
        (tmp_path / "waits").unlink(missing_ok=True)
        started = start(*words, cwd=tmp_path)
        wait_until(lambda: (tmp_path / "waits").exists() or started.process.exitcode is not None)
        started.signal(stop)
        outcome = ended(started.wait(), code)
        wait_until(lambda: not processes_of(started.pid))
        assert sweep.statuses[1:] == ["done", "done"]
        return outcome

    cut_by(signal.SIGKILL, KILLED)
    outcome = cut_by(signal.SIGTERM, 143)
    assert "2 done, 1 stopped" in outcome.err
    (tmp_path / "wait").unlink()
    ended(trainer(*words), 0)
    assert {name: sweep.contents()[name] for name in before} == before
    assert sweep.statuses == ["done"] * 3
