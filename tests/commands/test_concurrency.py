"""Many commands at once, and commands that die beside others. Group I of the plan of faults."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import processes
import pytest
from fake_images import contents, fake_set, write_set
from loopback import CERTIFICATE, Handler, Loopback, serve
from processes import Started
from running import PLAIN, SMALL, Outcome, Run, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from waiting import wait_until

import trainer.run.folder

KILLED = -9
ENDLESS = (*SMALL, "trainer.epochs=1000000", "trainer.save_every=1steps")
SWEEP = ("fit", "-m", *SMALL, "logger=none")


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    """Starts `trainer …`; what still runs when the test ends is killed."""
    started: list[Started] = []

    def run(*argv: str, cwd: Path, **options: Any) -> Started:
        started.append(Started(*argv, cwd=cwd, **options))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.join()


Start = Callable[..., Started]


def wait_for_checkpoint(folder: Path) -> None:
    """Until a step is saved and `last`, which is written after it, names it."""
    wait_until((folder / "checkpoints/last").exists)


def ended(outcome: Outcome, code: int) -> Outcome:
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    return outcome


class _OneSecond(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _OneSecond:
        return cls(2026, 11, 21, 10, 15, 0, 0, tz)


def _in_one_second() -> None:
    """Twenty processes take longer than a second to start, so the clock that names the folders
    stands still.
    """

    setattr(trainer.run.folder, "datetime", _OneSecond)  # noqa: B010 (not exported, says mypy)


@pytest.mark.slow
@pytest.mark.fault("I")
def test_twenty_starts_in_one_second(tmp_path: Path, start: Start) -> None:
    words = ("fit", *SMALL, "trainer.max_steps=1", "logger=none")
    for started in [start(*words, cwd=tmp_path, prepare=_in_one_second) for _ in range(20)]:
        ended(started.wait(), 0)
    runs = [Run(folder) for folder in (tmp_path / "runs/2026-11-21").iterdir()]
    suffixes = {run.folder.name.removeprefix("10-15-00-dirichlet-mlp") for run in runs}
    assert suffixes == {"", *(f"-{number}" for number in range(2, 21))}
    assert {run.record["status"] for run in runs} == {"done"}
    assert len({run.record["process"] for run in runs}) == 20
    assert len({run.digest() for run in runs}) == 1


@pytest.mark.fault("I")
def test_two_sweeps_in_one_second(tmp_path: Path, start: Start) -> None:
    words = (*SWEEP, "trainer.max_steps=1", "seed=0,1")
    for started in [start(*words, cwd=tmp_path, prepare=_in_one_second) for _ in range(2)]:
        ended(started.wait(), 0)
    day = tmp_path / "runs/2026-11-21"
    assert {folder.name for folder in day.iterdir()} == {"10-15-00-sweep", "10-15-00-sweep-2"}
    for sweep in day.iterdir():
        jobs = [Run(folder) for folder in sorted(sweep.glob("0*"))]
        names = ["000-dirichlet-mlp-seed0", "001-dirichlet-mlp-seed1"]
        assert [job.folder.name for job in jobs] == names
        assert all(f"/{sweep.name}/" in (job.folder / "config.yaml").read_text() for job in jobs)


def _fake_images(mirror: str, cache: Path) -> None:
    """`data=mnist` means six images of a server on this machine."""
    from trainer.data.image_sets.catalog import IMAGE_SETS

    os.environ["XDG_CACHE_HOME"] = str(cache)
    IMAGE_SETS["mnist"] = dataclasses.replace(
        fake_set(mirrors=(mirror,)), name="mnist", folder="MNIST"
    )
    os.environ["SSL_CERT_FILE"] = str(CERTIFICATE)


@pytest.mark.fault("I")
def test_eight_jobs_with_an_empty_cache(tmp_path: Path, start: Start) -> None:
    """The first file is not sent before the seven others wait for it."""
    words = (
        "fit",
        "data=mnist",
        "data.val_size=2",
        "data.batch_size=2",
        "model=linear",
        "trainer.epochs=1",
    )
    packed = write_set(tmp_path / "packed")
    jobs: list[Started] = []  # the server looks at those that are started so far

    def late(handler: Handler) -> None:
        wait_until(lambda: sum("Waiting for another process" in job.err for job in jobs) == 7)
        serve((packed / handler.path[1:]).read_bytes())(handler)

    with Loopback() as server:
        server.answers = {f"/{name}.gz": late for name in contents()}
        prepare = functools.partial(_fake_images, server.base, tmp_path / "cache")
        for number in range(8):
            where = f"run.dir=run{number}"
            job = start(*words, where, "logger=none", cwd=tmp_path, prepare=prepare)
            jobs.append(job)
        for job in jobs:
            ended(job.wait(), 0)
    assert sorted(server.requests) == sorted(server.answers), "each file is fetched once"
    assert len({Run(tmp_path / f"run{number}").digest() for number in range(8)}) == 1
    assert len(list((tmp_path / "cache/trainer").glob("*.idx"))) == 4
    left = [
        path.name
        for path in (*tmp_path.glob("data/MNIST/raw/*"), *tmp_path.glob("cache/trainer/*"))
    ]
    assert [name for name in left if not name.endswith(("ubyte.gz", ".idx", ".json"))] == []


@pytest.mark.fault("I")
def test_two_resumes_of_one_run(tmp_path: Path, start: Start) -> None:
    """Both at the same moment: whichever comes first goes on, and the other names it."""
    ended(processes.run("fit", *PLAIN, "run.dir=run", cwd=tmp_path), 0)
    both = [start("fit", "resume=run", "trainer.epochs=1000000", cwd=tmp_path) for _ in range(2)]
    wait_until(lambda: sum(one.process.is_alive() for one in both) == 1)
    winner, loser = sorted(both, key=lambda one: one.process.is_alive(), reverse=True)
    err = ended(loser.wait(), 2).err
    assert err.startswith("Error: ") and len(err.splitlines()) <= 3
    assert f"run is in use by process {winner.pid} on host {socket.gethostname()}." in err
    wait_until(lambda: len(Run(tmp_path / "run").record.get("resumed", [])) == 1)
    step = Run(tmp_path / "run").rows[-1]["step"]
    wait_until(lambda: Run(tmp_path / "run").rows[-1]["step"] > step)
    winner.signal(signal.SIGTERM)
    assert "Saved." in ended(winner.wait(), 143).err
    steps = [row["step"] for row in Run(tmp_path / "run").split("train")]
    assert steps == sorted(set(steps)), "one of them wrote"


def is_stopped(pid: int) -> bool:
    """Whether the kernel has stopped a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.fault("I")
def test_a_lock_whose_owner_was_killed(tmp_path: Path, start: Start) -> None:
    """The run goes on at once; and a copy of a run that is in use is not in use."""
    run = tmp_path / "run"
    first = start("fit", *ENDLESS, "run.dir=run", cwd=tmp_path)
    wait_for_checkpoint(run)
    ended(processes.run("fit", "resume=run", cwd=tmp_path), 2)
    first.signal(signal.SIGSTOP)
    # It stops a moment later, and may remove an older step until then.
    wait_until(lambda: is_stopped(first.pid))
    shutil.copytree(run, tmp_path / "copy", symlinks=True)
    first.signal(signal.SIGCONT)
    assert (tmp_path / "copy/.lock").exists()
    assert (
        "Resumed at step"
        in ended(processes.run("fit", "resume=copy", "trainer.epochs=1", cwd=tmp_path), 0).out
    )
    first.signal(signal.SIGKILL)
    ended(first.wait(), KILLED)
    assert Run(run).record["status"] == "running"
    end = f"trainer.max_steps={int(Run(run).steps[-1][-6:]) + 5}"
    assert "Resumed at step" in ended(processes.run("fit", "resume=run", end, cwd=tmp_path), 0).out
    assert Run(run).record["status"] == "done"


@pytest.mark.fault("I")
def test_one_of_five_jobs_of_a_sweep_fails(trainer: Trainer, tmp_path: Path) -> None:
    words = (*SWEEP, "run.dir=sweep", "optimizer.lr=0.1,0.05,1e30,0.02,0.01")
    outcome = ended(trainer(*words), 1)
    jobs = [Run(folder) for folder in sorted((tmp_path / "sweep").glob("0*"))]
    assert [job.record["status"] for job in jobs] == ["done", "done", "failed", "done", "done"]
    assert re.search(
        r"^Warning: Job 2 \(.*optimizer\.lr=1e\+30\) failed: Loss became ",
        outcome.err,
        re.MULTILINE,
    )
    rows = [line.split() for line in outcome.out.splitlines() if re.match(r" *[0-4]  ", line)]
    assert [row[-1] for row in rows][-1] == "failed" and rows[-1][0] == "2"
    assert {row[-1] for row in rows[:-1]} == {
        job.folder.name for job in jobs if job.record["status"] == "done"
    }


@pytest.mark.fault("I")
def test_tensorboard_reads_while_training_writes(tmp_path: Path, start: Start) -> None:
    """With TensorBoard's own reader, which follows the files as the server does."""
    run = tmp_path / "run"
    training = start(
        "fit", *PLAIN, "trainer.epochs=1000000", "trainer.keep=0", "run.dir=run", cwd=tmp_path
    )
    wait_for_checkpoint(run)
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
    lengths: set[int] = set()

    def read() -> list[tuple[int, float]]:
        points = [(event.step, event.value) for event in reader.Reload().Scalars("Loss/train")]
        assert [step for step, _ in points] == sorted({step for step, _ in points})
        return points

    def has_grown_ten_times() -> bool:
        lengths.add(len(read()))
        return len(lengths) > 10

    wait_until(has_grown_ten_times)
    training.signal(signal.SIGTERM)
    ended(training.wait(), 143)
    rows = Run(run).split("train")
    assert [step for step, _ in read()] == [row["step"] for row in rows]
    assert [loss for _, loss in read()] == pytest.approx([row["loss"] for row in rows], rel=1e-6)


@pytest.mark.slow
@pytest.mark.fault("I")
def test_evaluations_while_every_step_is_saved(tmp_path: Path, start: Start) -> None:
    """`last` moves many times a second; what was pruned before it could be read is told as that.
    `best` stays here.
    """
    words = (*ENDLESS, "optimizer.lr=1e-30", "trainer.keep=0", "logger=none", "run.dir=run")
    training = start("fit", *words, cwd=tmp_path)
    wait_until((tmp_path / "run/checkpoints/best").exists)
    for _ in range(8):
        ended(processes.run("eval", "ckpt=run", cwd=tmp_path), 0)
        outcome = processes.run("eval", "ckpt=run/checkpoints/last", cwd=tmp_path)
        if outcome.code != 0:
            assert_is_told_as_replaced(outcome)
    assert training.process.is_alive()
    training.signal(signal.SIGTERM)
    ended(training.wait(), 143)
    ended(processes.run("eval", "ckpt=run/checkpoints/last", cwd=tmp_path), 0)


def assert_is_told_as_replaced(outcome: Outcome) -> None:
    assert len(ended(outcome, 3).err.splitlines()) <= 3
    assert re.search(r"step-[0-9]{6,}", outcome.err) and "was removed" in outcome.err, outcome.err


def _load_when_pruned(reached: Path) -> None:
    """Once a checkpoint is found, touch a file; read its weights when it has been pruned."""
    from trainer.commands.fit import saved_step

    read = saved_step.read_file  # type: ignore[attr-defined]

    def read_late(path: Path) -> Any:
        reached.touch()
        wait_until(lambda: not path.exists())
        return read(path)

    setattr(saved_step, "read_file", read_late)  # noqa: B010 (not exported, says mypy)


@pytest.mark.fault("I")
def test_a_checkpoint_is_pruned_while_it_is_evaluated(tmp_path: Path, start: Start) -> None:
    # The weights stay as they are, so that the first step that is evaluated is the best, and kept.
    words = (*ENDLESS, "optimizer.lr=1e-30", "trainer.keep=0", "run.dir=run")
    training = start("fit", *words, cwd=tmp_path)
    checkpoints = tmp_path / "run/checkpoints"
    wait_until((checkpoints / "best").exists)
    best = (checkpoints / "best").readlink()
    wait_until(lambda: (checkpoints / "last").readlink() != best)
    training.signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(training.pid))
    reached = tmp_path / "reached"
    prepare = functools.partial(_load_when_pruned, reached)
    evaluating = start("eval", "ckpt=run/checkpoints/last", cwd=tmp_path, prepare=prepare)
    wait_until(lambda: reached.exists() or evaluating.process.exitcode is not None)
    assert reached.exists(), evaluating.err
    training.signal(signal.SIGCONT)
    assert_is_told_as_replaced(evaluating.wait())
