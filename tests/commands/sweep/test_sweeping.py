"""Jobs side by side: none is lost or doubled, each is the run that it would be alone, and the
parent stays small.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import quiet_environment, run_python
from running import SMALL, Run, Trainer
from swept import TINY, Swept, only_sweep
from waiting import wait_until

MIB = 1024
# The parent holds the records of its jobs and what is on the screen; a leak of a config a job would
# be more.
GROWTH = 6 * MIB

OWN_NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(10, 10))
"""


def resident(pid: int) -> int:
    """KiB of memory that a process has; 0 when it is over."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def start(*words: str, cwd: Path) -> subprocess.Popen[bytes]:
    with (cwd / "out.txt").open("wb") as out, (cwd / "err.txt").open("wb") as err:
        command = [sys.executable, "-m", "trainer", *words]
        return subprocess.Popen(
            command, cwd=cwd, env=quiet_environment(cwd), stdout=out, stderr=err
        )


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_many_jobs(count: int, trainer: Trainer, tmp_path: Path) -> None:
    started = start(
        "fit",
        "-m",
        *TINY,
        f"seed=range(0,{count})",
        "sweep.jobs=2",
        "run.dir=runs/day/sweep",
        cwd=tmp_path,
    )
    sweep = Swept(tmp_path / "runs/day/sweep")
    sizes: list[int] = []

    def is_over() -> bool:
        if len(sweep.folders) > 10:
            sizes.append(resident(started.pid))
            maps = Path(f"/proc/{started.pid}/maps")
            assert started.poll() is not None or "libtorch" not in maps.read_text()
        return started.poll() is not None

    wait_until(is_over, seconds=300)
    assert started.returncode == 0, (tmp_path / "err.txt").read_text()
    taken = [size for size in sizes if size]
    assert len(taken) > 10 and max(taken) - taken[0] < GROWTH, (taken[0], max(taken))
    names = [f"{number:03d}-dirichlet-mlp-seed{number}" for number in range(count)]
    assert [folder.name for folder in sweep.folders] == names
    assert [job["run"] for job in sweep.jobs] == names and sweep.statuses == ["done"] * count
    listed = json.loads(trainer("runs", "ls", "--json").out)
    assert sorted(Path(run["path"]).name for run in listed) == names
    assert [job["values"]["seed"] for job in sweep.jobs] == [str(number) for number in range(count)]
    assert len({run.digest() for run in sweep.runs}) == count


def test_every_combination_has_a_run_of_its_own_and_a_row(trainer: Trainer, tmp_path: Path) -> None:
    tiny = [word for word in TINY if word not in ("model.hidden=[16]", "model=mlp")]
    varied = ("optimizer.lr=0.1,0.01", "model=mlp,linear")
    outcome = trainer("fit", "-m", *tiny, *varied, "model.hidden=[16]")
    assert outcome.code == 2, "a key that only one of the models has"
    outcome = trainer("fit", "-m", *tiny, *varied)
    assert outcome.code == 0, outcome.err
    sweep = only_sweep(tmp_path)
    assert [folder.name for folder in sweep.folders] == [
        "000-dirichlet-mlp-lr0.1",
        "001-dirichlet-linear-lr0.1",
        "002-dirichlet-mlp-lr0.01",
        "003-dirichlet-linear-lr0.01",
    ]
    assert sweep.statuses == ["done"] * 4
    table = [line.split() for line in outcome.out.splitlines() if re.match(r"^ *[0-3] +0\.", line)]
    best = [float(row[5]) for row in table]
    assert len(table) == 4 and best == sorted(best, reverse=True), "best first"


def test_jobs_side_by_side_are_the_runs_that_they_would_be_alone(
    trainer: Trainer, tmp_path: Path
) -> None:
    words = [*SMALL, "model.dropout=0.2", "trainer.threads=1"]
    swept = {}
    for jobs in (1, 2):
        varied = ("optimizer=sgd,adam", f"sweep.jobs={jobs}", f"run.dir=by{jobs}")
        assert trainer("fit", "-m", *words, *varied).code == 0
        swept[jobs] = [run.digest() for run in Swept(tmp_path / f"by{jobs}").runs]
    assert swept[1] == swept[2] and len(set(swept[1])) == 2
    for number, job in enumerate(Swept(tmp_path / "by2").jobs):
        assert job["command"][:2] == ["trainer", "fit"]
        assert trainer(*job["command"][1:], f"run.dir=alone{number}").code == 0
        assert Run(tmp_path / f"alone{number}").digest() == swept[2][number]
        recorded = Run(tmp_path / "by2" / job["run"]).record["command"]
        assert (
            recorded.split()[:2] == ["trainer", "fit"]
            and "sweep" not in recorded
            and "-m" not in recorded.split()
        )


def test_the_command_of_a_job_names_the_threads_that_it_had(
    trainer: Trainer, tmp_path: Path
) -> None:
    """Without them it would be another run, on a machine with more cores."""
    assert trainer("fit", "-m", *TINY, "seed=0,1", "sweep.jobs=2").code == 0
    sweep = only_sweep(tmp_path)
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))) // 2)
    assert [job["command"][-1] for job in sweep.jobs] == [f"trainer.threads={threads}"] * 2
    (tmp_path / "other").mkdir()
    assert trainer(*sweep.jobs[1]["command"][1:], "run.dir=alone").code == 0
    assert Run(tmp_path / "alone").digest() == sweep.runs[1].digest()


def test_a_job_shows_itself_where_there_is_one_at_a_time(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer("fit", "-m", *TINY, "seed=0,1", "sweep.jobs=1")
    assert outcome.code == 0
    assert "Job 1: seed=1" in outcome.out
    assert not (only_sweep(tmp_path).folder / "output").exists()


def test_what_a_job_says_is_kept_where_there_are_several(trainer: Trainer, tmp_path: Path) -> None:
    assert trainer("fit", "-m", *TINY, "seed=0,1", "sweep.jobs=2").code == 0
    logs = [path.read_text() for path in sorted((only_sweep(tmp_path).folder / "output").iterdir())]
    assert [f"seed {number}" in log for number, log in enumerate(logs)] == [True, True]
    assert all("test      accuracy" in log for log in logs)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "words", [("-m", "seed=0,1", "sweep.jobs=2"), pytest.param((), marks=pytest.mark.slow)]
)
def test_a_file_of_ones_own_is_not_run_in_the_place_of_pythons(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("random", "typing", "signal", "tempfile", "yaml", "torch", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise EOFError('a file of my own')\n")
    (tmp_path / "net_here.py").write_text(OWN_NET)
    own = ("model=custom", "model.target=net_here.Net")
    words = ("fit", *words, "data=dirichlet", "data.val_size=0", *own, "trainer.max_steps=2")
    ran = run_python("-m", "trainer", *words, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "EOFError" not in ran.err
