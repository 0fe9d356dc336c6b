"""Jobs on this machine: how many at a time and where, what each gets of it, and what is done
once for all of them.
"""

from __future__ import annotations

import os
from multiprocessing import connection
from pathlib import Path

import pytest
from commandline import Ran, run_trainer
from fake_images import contents, write_set
from swept import Swept
from taking import ENDLESS, has_trained, outcomes, task_of
from waiting import HANG_S, wait_until

from trainer.commands.sweep.launchers.local import Capacity, LocalLauncher, _places
from trainer.commands.sweep.task import Task
from trainer.config.sweep import GridConfig
from trainer.errors import EnvironmentFault, UsageError

GIB = 2**30
# Loaded by every Python that starts with it on its path: mnist is a few images, and each file
# unpacked is noted.
SITECUSTOMIZE = """
import dataclasses
import os
import time

from fake_images import fake_set

from trainer.data.image_sets import cache
from trainer.data.image_sets.catalog import IMAGE_SETS

IMAGE_SETS["mnist"] = dataclasses.replace(fake_set(), name="mnist", folder="MNIST")
read = cache.read_idx_bytes


def noted(path, **options):
    with open(os.environ["UNPACKED"], "a") as file:
        file.write(f"{path.name}\\n")
    time.sleep(0.2 if path.suffix == ".gz" else 0)  # so long that two jobs would do it at once
    return read(path, **options)


cache.read_idx_bytes = noted
"""
IMAGES = (
    "fit",
    "-m",
    "data.val_size=2",
    "data.batch_size=2",
    "model=linear",
    "trainer.epochs=1",
    "logger=none",
)


def grid_config(
    *, jobs: str = "auto", devices: list[int] | None = None, jobs_per_device: int = 1
) -> GridConfig:
    return GridConfig(
        name="grid",
        jobs=jobs,
        devices=devices,
        jobs_per_device=jobs_per_device,
        retry_failed=True,
        fresh=False,
        params={},
    )


def launcher(*, jobs: int) -> LocalLauncher:
    return LocalLauncher(grid_config(jobs=str(jobs)), num_jobs=jobs, configs=[])


@pytest.mark.parametrize(
    ("machine", "options", "expected"),
    [
        # As many as there are cores, or fit into memory, and one at least.
        ((8, 0, None), {}, [None] * 8),
        ((8, 0, 16 * GIB), {}, [None] * 8),
        ((8, 0, 4 * GIB), {}, [None] * 2),
        ((8, 0, GIB // 2), {}, [None]),
        # As many as a person wants.
        ((8, 0, GIB // 2), {"jobs": "3"}, [None] * 3),
        ((1, 0, None), {"jobs": "3"}, [None] * 3),
        # One a GPU, however many cores there are.
        ((8, 2, None), {}, ["cuda:0", "cuda:1"]),
        ((1, 2, GIB), {}, ["cuda:0", "cuda:1"]),
        ((8, 4, None), {"devices": [3, 1]}, ["cuda:3", "cuda:1"]),
        # More on each: spread before they are doubled up.
        ((8, 2, None), {"jobs_per_device": 2}, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        ((8, 2, None), {"jobs": "1"}, ["cuda:0"]),
        ((8, 2, None), {"jobs": "3"}, ["cuda:0", "cuda:1", "cuda:0"]),
        ((8, 2, None), {"jobs": "3", "devices": [1]}, ["cuda:1"] * 3),
    ],
)
def test_places(
    machine: tuple[int, int, int | None], options: dict[str, object], expected: list[str | None]
) -> None:
    there = Capacity(threads=machine[0], gpus=machine[1], memory=machine[2])
    assert _places(grid_config(**options), there, wants_gpu=True) == expected  # type: ignore[arg-type]


def test_jobs_that_want_the_cpu_leave_the_gpus_alone() -> None:
    there = Capacity(threads=4, gpus=2, memory=None)
    assert _places(grid_config(), there, wants_gpu=False) == [None] * 4
    with pytest.raises(UsageError, match="names GPUs"):
        _places(grid_config(devices=[1]), there, wants_gpu=False)


@pytest.mark.parametrize(
    ("gpus", "said"), [(0, "no GPU 7; there is none"), (2, "no GPU 7; there are 2")]
)
def test_a_gpu_that_is_not_there(gpus: int, said: str) -> None:
    with pytest.raises(EnvironmentFault, match=said):
        _places(
            grid_config(devices=[0, 7] if gpus else [7]),
            Capacity(threads=4, gpus=gpus, memory=None),
            wants_gpu=True,
        )


def statuses_without_wait(local: LocalLauncher, tasks: list[Task]) -> list[str | None]:
    """Start some jobs and return how they ended, without a wait of the launcher."""
    handles = local.start(tasks)
    for handle in handles:
        connection.wait([handle.process.sentinel], timeout=HANG_S)
    ended = [handle.outcome() for handle in handles]
    return [None if outcome is None else outcome.status for outcome in ended]


@pytest.mark.slow
def test_the_place_of_a_job_that_has_just_ended_is_free(tmp_path: Path) -> None:
    """Two may end at once, when the launcher has seen one of them end and the sweep both."""
    local = launcher(jobs=2)
    for first in (0, 2):
        tasks = [
            task_of(tmp_path, number, "trainer.max_steps=1", "logger=none")
            for number in (first, first + 1)
        ]
        assert statuses_without_wait(local, tasks) == ["done", "done"]
    local.close()


@pytest.mark.process
def test_a_job_is_stopped_and_saved_and_another_is_not(tmp_path: Path) -> None:
    local = launcher(jobs=2)
    tasks = [task_of(tmp_path, number, *ENDLESS) for number in range(2)]
    first, second = local.start(tasks)
    wait_until(
        lambda: all(has_trained(tmp_path / "sweep" / f"{number:03d}") for number in range(2))
    )
    first.stop()
    assert [outcome.status for outcome in outcomes(local, [first])] == ["interrupted"]
    assert second.outcome() is None
    assert list((tmp_path / "sweep/000/checkpoints").glob("step-*"))
    second.process.kill()
    (killed,) = outcomes(local, [second])
    assert killed.status == "failed" and "killed by SIGKILL" in (killed.error or "")
    local.close()


@pytest.mark.process
def test_closing_ends_what_still_runs(tmp_path: Path) -> None:
    local = launcher(jobs=1)
    (handle,) = local.start([task_of(tmp_path, 0, *ENDLESS)])
    wait_until(lambda: has_trained(tmp_path / "sweep/000"))
    local.close()
    assert handle.process.exitcode is not None


def run_with_images(*words: str, cwd: Path) -> Ran:
    """A sweep with a cache of its own that is empty, and four threads to share."""
    (cwd / "sitecustomize.py").write_text(SITECUSTOMIZE)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(
        [str(cwd), str(Path(__file__).parents[2] / "support"), *filter(None, given)]
    )
    env = {"PYTHONPATH": path, "UNPACKED": str(cwd / "unpacked.txt"), "OMP_NUM_THREADS": "4"}
    return run_trainer(*IMAGES, *words, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four jobs, two at a time; of one half of them it is said how many threads they use."""
    cwd = tmp_path_factory.mktemp("swept")
    write_set(cwd / "data/MNIST/raw")
    words = ("data=mnist", "trainer.threads=null,3", "seed=0,1", "sweep.jobs=2", "run.dir=sweep")
    ran = run_with_images(*words, cwd=cwd)
    assert ran.code == 0, ran.err
    return cwd


def test_data_is_unpacked_once_for_all_jobs(swept: Path) -> None:
    unpacked = (swept / "unpacked.txt").read_text().split()
    packed = [
        name for name in unpacked if name.endswith(".gz")
    ]  # the others are what it was unpacked to
    assert len(unpacked) > len(packed), "the jobs have read those"
    assert sorted(packed) == sorted(f"{name}.gz" for name in contents())
    checksums = [run.record["data_sha256"] for run in Swept(swept / "sweep").runs]
    assert checksums == [checksums[0]] * 4 and checksums[0]


def test_each_job_has_its_share_of_the_threads(swept: Path) -> None:
    sweep = Swept(swept / "sweep")
    share = max(1, min(4, len(os.sched_getaffinity(0))) // 2)
    lines = [(run.folder / "config.yaml").read_text().splitlines() for run in sweep.runs]
    assert [f"  threads: {share}" in those for those in lines] == [True, True, False, False]
    assert ["  threads: 3" in those for those in lines] == [False, False, True, True]
    # As it is needed to repeat the job alone.
    assert [job["command"][-1] for job in sweep.jobs[:2]] == [f"trainer.threads={share}"] * 2
    assert all(job["command"].count("trainer.threads=3") == 1 for job in sweep.jobs[2:])


def test_missing_data_is_reported_once_and_leaves_no_folder(tmp_path: Path) -> None:
    ran = run_with_images("data=mnist", "seed=0,1,2,3", "data.root=nowhere", cwd=tmp_path)
    assert ran.code == 4, ran.err
    assert ran.err.count("Error: ") == 1 and "Traceback" not in ran.err
    assert "Fake-MNIST" in ran.err and len(ran.err.splitlines()) <= 3
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.slow
def test_jobs_with_other_data_are_not_held_up_by_data_that_is_missing(tmp_path: Path) -> None:
    ran = run_with_images(
        "data=dirichlet,mnist", "trainer.max_steps=1", "run.dir=sweep", cwd=tmp_path
    )
    assert ran.code == 1, ran.err
    sweep = Swept(tmp_path / "sweep")
    assert sweep.statuses == ["done", "failed"]
    assert "Fake-MNIST" in sweep.jobs[1]["error"]
