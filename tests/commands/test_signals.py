"""Signals in every phase, with two workers that load samples: what is saved, said and left.

Group G of the plan of faults.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from processes import Prepare, Started
from running import SMALL, Run
from test_exact_resume import OWN_DATA, STREAMED, assert_equal, evidence

from trainer.checkpoint import store
from trainer.commands import parts
from trainer.commands.stopping import Signals
from trainer.commands.sweep import Sweep
from trainer.data import catalog, sources, streamed
from trainer.data.streamed import StreamedBatches
from trainer.engine import evaluate
from trainer.engine.progress import Progress
from trainer.errors import CustomCodeError

# 9 updates an epoch, a save every 2, and 4 batches in each validation.
WORDS = (*STREAMED, "data.num_workers=2", "data.eval_batch_size=5")
NAMED_AGAIN = ("data=custom", "data.target=own_data.Noisy", "data.test_kwargs={size: 40}")
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
SECONDS_TO_STOP = 10.0


def as_from_a_shell() -> None:
    """A process that leads a group, as a job of a shell does, and whose workers are forked from it."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)


def to_all(number: int) -> None:
    """From another process to this one and its workers, as a terminal and some job queues do."""
    group = os.getpid()
    sender = os.fork()
    if not sender:
        os.setsid()
        os.killpg(group, number)
        os._exit(0)
    os.waitpid(sender, 0)


def hang(number: int) -> None:
    time.sleep(60)


def at_call(owner: Any, name: str, *, call: int, act: Callable[[int], None], number: int) -> None:
    """Let `act(number)` happen just before the `call`-th call of `owner.name`; a file says that it has come to it."""
    function, calls = getattr(owner, name), 0

    @functools.wraps(function)
    def watched(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            reached(name).touch()
            act(number)
        return function(*arguments, **options)

    setattr(owner, name, watched)


def reached(name: str) -> Path:
    return Path(f".reached-{name}")


# The moment of each phase.
PHASES = {
    "startup": (parts, "build_model", 1),
    "train": (Progress, "count_batch", 13),
    "validation": (evaluate, "confusion_matrix", 6),
    "saving": (store, "write_file", 4),
}


def hang_in_phase(phase: str) -> None:
    in_phase(phase, 0, hang)
    at_call(Signals, "_note_stop", call=1, act=lambda number: None, number=0)


def in_phase(phase: str, number: int, act: Callable[[int], None] = to_all) -> None:
    as_from_a_shell()
    owner, name, call = PHASES[phase]
    at_call(owner, name, call=call, act=act, number=number)


def wait_until(is_so: Callable[[], Any], *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def start(*words: str, cwd: Path, prepare: Prepare) -> Started:
    """A run that has come to where `prepare` wants it."""
    (cwd / "own_data.py").write_text(OWN_DATA)
    started = Started("fit", *words, cwd=cwd, prepare=prepare)
    wait_until(lambda: any(cwd.glob(".reached-*")) or started.process.exitcode is not None)
    return started


def run(*words: str, cwd: Path) -> None:
    """A whole run, which must work."""
    (cwd / "own_data.py").write_text(OWN_DATA)
    outcome = processes.run("fit", *words, cwd=cwd, prepare=as_from_a_shell)
    assert outcome.code == 0, outcome.err


def processes_of(session: int) -> list[str]:
    """The processes of a session that are not over."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(path.parent.name)
    return found


def stopped(started: Started, number: int) -> str:
    """What a run said that a signal stopped; fails if it was slow, wordy or left a process behind."""
    outcome = started.wait(SECONDS_TO_STOP)
    assert outcome.code == 128 + number, outcome.err
    assert "Traceback" not in outcome.err and len(outcome.err.splitlines()) <= 3
    wait_until(lambda: not processes_of(started.pid), seconds=5)
    return outcome.err


def follow(err: str, *, cwd: Path) -> None:
    """Run the command that a stopped run printed."""
    (printed,) = re.findall("Continue with: trainer fit (.*)", err)
    run(*shlex.split(printed), cwd=cwd)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed."""
    cwd = tmp_path_factory.mktemp("whole")
    run(*WORDS, "run.dir=run", cwd=cwd)
    return cwd / "run"


@pytest.mark.fault("G")
@BOTH
@pytest.mark.parametrize(("phase", "step"), [("train", "13"), ("validation", "18"), ("saving", "[0-9]+")])
def test_stops_saves_and_can_be_gone_on_with(tmp_path: Path, whole: Path, phase: str, step: str, number: int) -> None:
    started = start(*WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(in_phase, phase, number))
    err = stopped(started, number)
    assert re.search(rf"Stopped at step {step}\. Saved\.", err)
    assert Run(tmp_path / "run").record["status"] == "interrupted"
    follow(err, cwd=tmp_path)
    assert_equal(tmp_path / "run", whole)


@pytest.mark.fault("G")
@BOTH
def test_startup_leaves_nothing(tmp_path: Path, whole: Path, number: int) -> None:
    started = start(*WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(in_phase, "startup", number))
    stopped(started, number)
    assert not (tmp_path / "run").exists()
    run(*WORDS, "run.dir=run", cwd=tmp_path)
    assert_equal(tmp_path / "run", whole)


def from_mirror(url: str) -> None:
    as_from_a_shell()
    catalog.IMAGE_SETS["mnist"] = dataclasses.replace(catalog.IMAGE_SETS["mnist"], mirrors=(url,))
    sources.load_images = functools.partial(sources.load_images, allow_loopback_http=True)


@pytest.mark.fault("G")
@BOTH
def test_download_leaves_nothing(tmp_path: Path, number: int) -> None:
    """The mirror sends a part of a file, and then nothing more."""
    part = tmp_path / "data/MNIST/raw/train-labels-idx1-ubyte.gz.part"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        prepare = functools.partial(from_mirror, f"http://127.0.0.1:{server.getsockname()[1]}/")
        started = Started("fit", "data=mnist", "data.root=data", "run.dir=run", cwd=tmp_path, prepare=prepare)
        with server.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + bytes(40_000))
            wait_until(lambda: part.exists() and part.stat().st_size)
            os.killpg(started.pid, number)
            stopped(started, number)
    assert [path for path in tmp_path.glob("[dr]*/**/*") if path.is_file()] == []


@pytest.mark.fault("G")
@pytest.mark.parametrize("phase", ["train", "saving"])
def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path, whole: Path, phase: str) -> None:
    """In an update, or in a save, that takes a minute."""
    started = start(*WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(hang_in_phase, phase))
    os.killpg(started.pid, signal.SIGINT)
    wait_until((tmp_path / reached("_note_stop")).exists)
    os.killpg(started.pid, signal.SIGINT)
    assert stopped(started, signal.SIGINT) == ""
    run("resume=run", *NAMED_AGAIN, cwd=tmp_path)
    assert_equal(tmp_path / "run", whole)


@pytest.mark.fault("G")
def test_sigusr1_saves_and_goes_on(tmp_path: Path, whole: Path) -> None:
    prepare = functools.partial(in_phase, "train", signal.SIGUSR1)
    outcome = start(*WORDS, "trainer.keep=99", "run.dir=run", cwd=tmp_path, prepare=prepare).wait()
    assert outcome.code == 0 and outcome.err == ""
    assert "step-000013" in Run(tmp_path / "run").steps, "no save was due at an odd step"
    got, wanted = evidence(tmp_path / "run"), evidence(whole)
    assert [key for key in wanted if key != "steps" and got.get(key) != wanted[key]] == []


@pytest.mark.fault("G")
def test_a_closed_terminal_stops_and_saves(tmp_path: Path, whole: Path) -> None:
    prepare = functools.partial(in_phase, "train", signal.SIGHUP)
    err = stopped(start(*WORDS, "run.dir=run", cwd=tmp_path, prepare=prepare), signal.SIGHUP)
    assert "Stopped at step 13. Saved." in err
    follow(err, cwd=tmp_path)
    assert_equal(tmp_path / "run", whole)


LEARNING_RATES = ("0.1", "0.03", "0.01", "0.003")


def in_second_job(number: int) -> None:
    as_from_a_shell()
    at_call(Progress, "count_batch", call=27 + 13, act=to_all, number=number)


@pytest.mark.fault("G")
@BOTH
def test_a_sweep_stops_with_its_job(tmp_path: Path, number: int) -> None:
    words = ("-m", *WORDS, f"optimizer.lr={','.join(LEARNING_RATES)}", "run.dir=swept")
    started = start(*words, cwd=tmp_path, prepare=functools.partial(in_second_job, number))
    err = stopped(started, number)
    assert "Stopped at step 13. Saved." in err
    not_started = "optimizer.lr=0.01; optimizer.lr=0.003"
    assert err.endswith(f"Stopped in job 1 of 4: 1 done, 1 stopped, 2 not started ({not_started}).\n")
    assert re.search(r"^ 0 +0\.1 ", started.wait().out, re.M), "the table of what is done"
    runs = [Run(path) for path in sorted((tmp_path / "swept").glob("0*"))]
    assert [run.record["status"] for run in runs] == ["done", "interrupted"]
    follow(err, cwd=tmp_path)
    run(*WORDS, "optimizer.lr=0.03", "run.dir=alone", cwd=tmp_path)
    assert_equal(runs[1].folder, tmp_path / "alone")


def at_sweep(name: str, call: int, number: int) -> None:
    as_from_a_shell()
    at_call(parts if name == "build_model" else Sweep, name, call=call, act=to_all, number=number)


@BOTH
@pytest.mark.parametrize(
    ("name", "call", "said"),
    [
        ("run_job", 2, "Stopped before job 1 of 3: 1 done, 2 not started (seed=1; seed=2)."),
        ("build_model", 2, "Stopped in job 1 of 3: 1 done, 1 stopped, 1 not started (seed=2)."),
        ("report", 1, ""),
    ],
)
def test_a_sweep_stops_between_jobs_and_in_startup(
    tmp_path: Path, name: str, call: int, said: str, number: int
) -> None:
    prepare = functools.partial(at_sweep, name, call, number)
    started = start("-m", *SMALL, "trainer.epochs=1", "seed=0,1,2", "run.dir=swept", cwd=tmp_path, prepare=prepare)
    assert stopped(started, number).rstrip() == said
    assert re.search(r"^ 0 +0 ", started.wait().out, re.M), "the table of what is done"


class Slow(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.02)
        return torch.zeros(1), 0


def batches_of_two_workers() -> Iterator[Any]:
    batches = StreamedBatches(
        Slow(), batch_size=1, num_workers=2, device=torch.device("cpu"), num_classes=1, seed=0
    ).epoch(0)
    yield next(batches)
    yield from batches


def to_workers(number: int) -> None:
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid or 0, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_to_workers_do_not_end_what_they_load(number: int) -> None:
    batches = batches_of_two_workers()
    next(batches)
    to_workers(number)
    assert len(list(batches)) == 19


def test_workers_that_end_after_a_stop_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DataLoader would raise in the middle of whatever is done just then: of a save, say."""
    monkeypatch.setattr(streamed, "_SECONDS_TO_END", 1)
    batches, before = batches_of_two_workers(), signal.getsignal(signal.SIGCHLD)
    next(batches)
    workers = multiprocessing.active_children()
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            to_workers(signal.SIGTERM)
            wait_until(lambda: not any(worker.is_alive() for worker in workers))
            assert signals.should_stop()
        with pytest.raises(CustomCodeError, match="DataLoader worker"):
            list(batches)
    finally:
        signal.signal(signal.SIGCHLD, before)


def child_of_rank(rank: int, root: Path) -> Run | None:
    """The run of a rank that torchrun started, once it has a checkpoint."""
    for run in map(Run, root.glob("*/*")):
        if run.steps and f"RANK={rank}" in Path(f"/proc/{run.record['process']}/environ").read_text().split("\0"):
            return run
    return None


@pytest.mark.slow
@pytest.mark.fault("G")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_of_torchrun_is_a_run_of_its_own(tmp_path: Path, rank: int) -> None:
    """Each of them trains alone, in a folder of its own; torchrun ends the others when one of them stops."""
    words = (*WORDS, "scheduler=constant", "trainer.epochs=100000")
    (tmp_path / "own_data.py").write_text(OWN_DATA)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer"]
    with (tmp_path / "said").open("w") as said:
        torchrun = subprocess.Popen([*command, "fit", *words], cwd=tmp_path, stdout=said, stderr=said)
        wait_until(lambda: torchrun.poll() is not None or child_of_rank(rank, tmp_path / "runs"))
        if torchrun.poll() is not None:
            pytest.skip(f"torchrun does not work here: {(tmp_path / 'said').read_text()[-500:]}")
        stopped = child_of_rank(rank, tmp_path / "runs")
        assert stopped is not None
        os.kill(stopped.record["process"], signal.SIGTERM)
        assert torchrun.wait(60) == 1, "torchrun's own code for a process that failed"
    assert len(list((tmp_path / "runs").glob("*/*"))) == 2
    assert stopped.record["status"] == "interrupted"
    said_text = (tmp_path / "said").read_text()
    (at,) = re.findall(rf"Stopped at step ([0-9]+)\. Saved\.\nContinue .*{stopped.folder.name}\s", said_text)
    limit = f"trainer.max_steps={int(at) + 20}"
    run(f"resume={stopped.folder}", *NAMED_AGAIN, limit, cwd=tmp_path)
    run(*words, limit, "run.dir=whole", cwd=tmp_path)
    assert_equal(stopped.folder, tmp_path / "whole")
