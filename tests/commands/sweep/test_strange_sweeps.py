"""Sweep folders from elsewhere or held by others, terminals that go away: nothing is lost, and
nothing is believed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import quiet_environment, trainer_main
from running import SMALL, Run, Trainer
from signalling import processes_of
from swept import TINY, Swept
from waiting import HANG_S, wait_until

from trainer.commands.sweep.record import read_record

# Sweeps whose jobs are processes.
pytestmark = pytest.mark.process

Damage = Callable[[dict[str, Any]], object]


def changed(folder: Path, damage: Damage) -> None:
    """Write the folder's sweep.json with the record of its second job damaged."""
    content = json.loads((folder / "sweep.json").read_text())
    damage(content["jobs"][1])
    (folder / "sweep.json").write_text(json.dumps(content))


DAMAGES: dict[str, Damage] = {
    "a run above": lambda job: job.update(run="../victim"),
    "a run elsewhere": lambda job: job.update(run="/tmp/victim"),
    "a run that is the sweep": lambda job: job.update(run="."),
    "values that are a list": lambda job: job.update(values=[]),
    "a value that is a number": lambda job: job.update(values={"seed": 1}),
    "a text for seconds": lambda job: job.update(seconds="long"),
    "a text for a metric": lambda job: job.update(metrics={"val/loss": "low"}),
    "a huge metric": lambda job: job.update(metrics={"val/loss": 10**400}),
    "another program": lambda job: job.update(command=["rm", "-rf", "here"]),
    "no such status": lambda job: job.update(status="fine"),
    "a field too many": lambda job: job.update(more=1),
    "a field too few": lambda job: job.pop("code"),
    "a change that is no switch": lambda job: job.update(is_changed="yes"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of two jobs."""
    folder = tmp_path_factory.mktemp("original")
    assert trainer_main("fit", "-m", *TINY, "seed=0,1", "run.dir=swept", cwd=folder).code == 0
    return folder


@pytest.fixture
def swept(original: Path, tmp_path: Path) -> Swept:
    """That sweep, to be changed."""
    shutil.copytree(original / "swept", tmp_path / "swept", symlinks=True)
    return Swept(tmp_path / "swept")


def test_a_record_of_trainers_is_read(swept: Swept) -> None:
    assert read_record(swept.folder) is not None


@pytest.mark.parametrize(
    ("error", "is_changed"),
    [(None, False), ("Loss became NaN.", False), ("It was changed when it was resumed: x.", True)],
)
def test_a_record_of_before_says_by_its_error_that_a_job_was_changed(
    swept: Swept, error: str | None, is_changed: bool
) -> None:
    def damage(job: dict[str, Any]) -> None:
        del job["is_changed"]
        job["error"] = error

    changed(swept.folder, damage)
    record = read_record(swept.folder)
    assert record is not None
    assert [job.is_changed for job in record.jobs] == [False, is_changed]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_record_that_trainer_did_not_write_is_none(swept: Swept, damage: Damage) -> None:
    changed(swept.folder, damage)
    assert read_record(swept.folder) is None


def test_a_record_cannot_lead_out_of_its_folder(
    swept: Swept, trainer: Trainer, tmp_path: Path
) -> None:
    """The run beside it looks like one that was cut: going on would prune its checkpoints."""
    victim = tmp_path / "victim"
    (swept.folder / swept.jobs[1]["run"]).rename(victim)
    record = json.loads((victim / "run.json").read_text()) | {"status": "interrupted"}
    (victim / "run.json").write_text(json.dumps(record))
    changed(swept.folder, DAMAGES["a run above"])
    before = {path: path.stat().st_mtime_ns for path in victim.rglob("*")}
    outcome = trainer("fit", "-m", *TINY, "seed=0,1", "run.dir=swept")
    assert outcome.code == 3 and "sweep.json is damaged" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in victim.rglob("*")} == before


def test_a_folder_that_another_command_has_just_made_is_left_to_it(
    trainer: Trainer, tmp_path: Path
) -> None:
    """The other one is still looking at its data, and has written no record yet."""
    folder = tmp_path / "swept"
    (folder / "000-first").mkdir(parents=True)
    command = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        outcome = trainer("fit", "-m", *TINY, "seed=0,1", "run.dir=swept")
        assert outcome.code == 2 and "in use by process" in outcome.err
        assert (folder / "000-first").is_dir() and (folder / ".lock").exists()
        other.communicate("")


HOLDING = """
import sys
from pathlib import Path
from trainer.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_sweep_that_is_narrowed_forgets_nothing(swept: Swept, trainer: Trainer) -> None:
    before = swept.contents()
    assert trainer("fit", "-m", *TINY, "seed=0", "run.dir=swept").code == 0
    assert [job["run"] for job in swept.record["former"]] == [sorted(before)[1]]
    outcome = trainer("fit", "-m", *TINY, "seed=0,1", "run.dir=swept")
    assert "2 of 2 jobs are done" in outcome.err
    assert swept.contents() == before and len(swept.folders) == 2


def sweeping(folder: Path, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    """A sweep, two jobs at a time."""
    base = [word for word in SMALL if not word.startswith("trainer.epochs")]
    command = [
        sys.executable,
        "-m",
        "trainer",
        "fit",
        "-m",
        *base,
        "logger=none",
        "run.dir=swept",
        "sweep.jobs=2",
        *words,
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=quiet_environment(folder, {"TERM": "xterm"}),
        start_new_session=True,
        **options,
    )


def trained(folder: Path) -> list[Run]:
    """The two runs, once both have saved."""
    runs = [Run(folder / f"swept/00{number}-dirichlet-mlp-seed{number}") for number in range(2)]
    wait_until(lambda: all(run.steps for run in runs))
    return runs


def test_a_job_that_somebody_stops_leaves_the_sweep_unfinished(tmp_path: Path) -> None:
    with sweeping(tmp_path, "trainer.epochs=1000000,2", stderr=subprocess.PIPE) as sweep:
        run = Run(tmp_path / "swept/000-dirichlet-mlp-epochs1000000")
        wait_until(lambda: run.steps)
        os.kill(run.record["process"], signal.SIGTERM)
        assert sweep.stderr is not None
        errors = sweep.stderr.read().decode()
        assert sweep.wait(HANG_S) == 1
    assert "Interrupted jobs: 1. Continue with the same command." in errors
    assert Swept(tmp_path / "swept").statuses == ["interrupted", "done"]


def test_jobs_save_when_the_terminal_is_closed(tmp_path: Path) -> None:
    """What is drawn then raises an error, and still the jobs have the time to save."""
    master, slave = os.openpty()
    with sweeping(
        tmp_path, "trainer.epochs=1000000", "seed=0,1", stdin=slave, stdout=slave, stderr=slave
    ) as sweep:
        os.close(slave)
        runs = trained(tmp_path)
        os.close(master)
        os.kill(sweep.pid, signal.SIGHUP)
        assert sweep.wait(HANG_S) == 128 + signal.SIGHUP
        assert [run.record["status"] for run in runs] == ["interrupted", "interrupted"]
        assert Swept(tmp_path / "swept").statuses == ["interrupted", "interrupted"]
        wait_until(lambda: not processes_of(sweep.pid))


@pytest.mark.fault("N")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_that_nobody_reads_goes_to_its_end(tmp_path: Path, jobs: int) -> None:
    """As with `trainer fit -m … | head -1`."""
    words = ("trainer.epochs=2,3,4", f"sweep.jobs={jobs}")
    with sweeping(tmp_path, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sweep:
        assert sweep.stdout is not None and sweep.stderr is not None
        sweep.stdout.readline()
        sweep.stdout.close()
        errors = sweep.stderr.read().decode()
        assert sweep.wait(HANG_S) == 0, errors
    assert "Standard output failed (Broken pipe)" in errors
    assert Swept(tmp_path / "swept").statuses == ["done", "done", "done"]
    assert "epochs" in (tmp_path / "swept/sweep.md").read_text()
