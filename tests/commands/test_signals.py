"""Signals in every phase, with two workers that load samples: what is saved, said and left.

Group G of the plan of faults.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from commandline import run_python
from comparing import OWN_DATA, STREAMED, assert_equal, evidence
from loopback import CERTIFICATE, Loopback, serve
from processes import Prepare, Started
from running import SMALL, Run
from signalling import (
    as_from_a_shell,
    at_call,
    hang,
    hang_in_phase,
    in_phase,
    reached,
    stopped,
    to_all,
)
from waiting import HANG_S, wait_until

from trainer.commands.sweep import plan
from trainer.data.image_sets import catalog
from trainer.run import record as runrecord
from trainer.run.record import RunRecord
from trainer.signals import Signals

# 9 updates an epoch, a save every 2, and 4 batches in each validation.
WORDS = (*STREAMED, "data.num_workers=2", "data.eval_batch_size=5")
NAMED_AGAIN = ("data=custom", "data.target=own_data.Noisy", "data.test_kwargs={size: 40}")
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def start(*words: str, cwd: Path, prepare: Prepare) -> Started:
    """A run that has come to where `prepare` wants it."""
    started = Started("fit", *words, cwd=own(cwd), prepare=prepare)
    wait_until(lambda: any(cwd.glob(".reached-*")) or started.process.exitcode is not None)
    return started


def own(folder: Path) -> Path:
    """The folder, with a data set of a person's own in it."""
    (folder / "own_data.py").write_text(OWN_DATA)
    return folder


def run(*words: str, cwd: Path) -> None:
    """A whole run, which must work."""
    outcome = processes.run("fit", *words, cwd=own(cwd), prepare=as_from_a_shell)
    assert outcome.code == 0, outcome.err


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
@pytest.mark.parametrize(
    ("phase", "step"), [("train", "13"), ("validation", "18"), ("saving", "[0-9]+")]
)
def test_stops_saves_and_can_be_gone_on_with(
    tmp_path: Path, whole: Path, phase: str, step: str, number: int
) -> None:
    started = start(
        *WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(in_phase, phase, number)
    )
    err = stopped(started, number)
    assert re.search(rf"Stopped at step {step}\. Saved\.", err)
    assert Run(tmp_path / "run").record["status"] == "interrupted"
    follow(err, cwd=tmp_path)
    assert_equal(tmp_path / "run", whole)


@pytest.mark.fault("G")
@BOTH
def test_startup_leaves_nothing(tmp_path: Path, whole: Path, number: int) -> None:
    started = start(
        *WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(in_phase, "startup", number)
    )
    stopped(started, number)
    assert not (tmp_path / "run").exists()
    run(*WORDS, "run.dir=run", cwd=tmp_path)
    assert_equal(tmp_path / "run", whole)


def from_mirror(url: str) -> None:
    as_from_a_shell()
    catalog.IMAGE_SETS["mnist"] = dataclasses.replace(catalog.IMAGE_SETS["mnist"], mirrors=(url,))
    os.environ["SSL_CERT_FILE"] = str(CERTIFICATE)


@pytest.mark.fault("G")
@BOTH
def test_download_leaves_nothing(tmp_path: Path, number: int) -> None:
    """The mirror sends a part of a file, and then nothing more."""
    part = tmp_path / "data/MNIST/raw/train-labels-idx1-ubyte.gz.part"
    name = part.name.removesuffix(".part")
    with Loopback() as server:
        server.answers[f"/{name}"] = serve(bytes(40_000), length=50_000, then_hang=True)
        prepare = functools.partial(from_mirror, server.base)
        started = Started(
            "fit", "data=mnist", "data.root=data", "run.dir=run", cwd=tmp_path, prepare=prepare
        )
        wait_until(lambda: part.exists() and part.stat().st_size)
        os.killpg(started.pid, number)
        stopped(started, number)
    assert [path for path in tmp_path.glob("[dr]*/**/*") if path.is_file()] == []


@pytest.mark.fault("G")
@pytest.mark.parametrize("phase", ["train", "saving"])
def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path, whole: Path, phase: str) -> None:
    """In an update, or in a save, that takes a minute."""
    started = start(
        *WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(hang_in_phase, phase)
    )
    os.killpg(started.pid, signal.SIGINT)
    wait_until((tmp_path / reached("_note_stop")).exists)
    os.killpg(started.pid, signal.SIGINT)
    assert stopped(started, signal.SIGINT) == ""
    assert Run(tmp_path / "run").record["status"] == "interrupted"
    run("resume=run", *NAMED_AGAIN, cwd=tmp_path)
    assert_equal(tmp_path / "run", whole)


def fail(number: int) -> None:
    raise ZeroDivisionError


def leave_with_difficulty(act: Callable[[int], None]) -> None:
    hang_in_phase("train")
    at_call(RunRecord, "end", call=1, act=act, number=0)


@pytest.mark.parametrize("act", [fail, hang])
def test_leaving_at_once_waits_for_no_record(tmp_path: Path, act: Callable[[int], None]) -> None:
    """What cannot be written is left; what takes long, a third Ctrl-C ends."""
    started = start(
        *WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(leave_with_difficulty, act)
    )
    for name in ("_note_stop", "end"):
        os.killpg(started.pid, signal.SIGINT)
        wait_until((tmp_path / reached(name)).exists)
    if act is hang:
        os.killpg(started.pid, signal.SIGINT)
    assert stopped(started, signal.SIGINT) == ""
    assert Run(tmp_path / "run").record["status"] == "running"


INTERRUPTED_IN_IMPORT = """
import importlib.abc, os, sys

class Swallowing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            try:
                os.kill(os.getpid(), int(sys.argv[1]))
            except BaseException:
                pass

sys.meta_path.insert(0, Swallowing())
from trainer.cli.main import main
main(["fit", "experiment=line", "trainer.epochs=1"])
"""


@BOTH
def test_a_signal_while_torch_is_imported_is_not_lost(tmp_path: Path, number: int) -> None:
    """Modules take an exception in their import for one of their own, and may go on without."""
    ran = run_python("-c", INTERRUPTED_IN_IMPORT, str(number), cwd=tmp_path)
    assert (ran.code, ran.err) == (128 + number, "Stopped.\n" * (number == signal.SIGINT))
    assert not (tmp_path / "runs").exists()


def at_the_first_record(number: int) -> None:
    as_from_a_shell()
    at_call(runrecord, "write_json", call=1, act=to_all, number=number)


def at_the_last_record(number: int) -> None:
    as_from_a_shell()
    at_call(RunRecord, "end", call=1, act=to_all, number=number)


@BOTH
def test_a_stop_while_the_first_record_is_written_leaves_nothing(
    tmp_path: Path, number: int
) -> None:
    started = start(
        *WORDS, "run.dir=run", cwd=tmp_path, prepare=functools.partial(at_the_first_record, number)
    )
    stopped(started, number)
    assert not (tmp_path / "run").exists()


@BOTH
def test_a_stop_while_the_last_record_is_written_comes_too_late(
    tmp_path: Path, number: int
) -> None:
    outcome = processes.run(
        "fit",
        *WORDS,
        "run.dir=run",
        cwd=own(tmp_path),
        prepare=functools.partial(at_the_last_record, number),
    )
    assert outcome.code == 0, outcome.err
    assert Run(tmp_path / "run").record["status"] == "done"


INTERRUPTED_WHILE_TELLING = """
import os, signal, sys
from trainer.cli import main as cli

def tell(error):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)

cli._report = tell
cli.main(["fit", "model=nonesuch"])
"""


def test_a_signal_while_an_error_is_told_prints_no_traceback(tmp_path: Path) -> None:
    ran = run_python("-c", INTERRUPTED_WHILE_TELLING, cwd=tmp_path)
    assert (ran.code, ran.err) == (130, "Stopped.\n")


INTERRUPTED_AT_EXIT = """
import atexit, os, signal, sys
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
atexit.register(lambda: [os.kill(os.getpid(), number) for number in numbers])
from trainer.__main__ import main
sys.argv = ["trainer", "--version"]
main()
"""


def test_a_late_signal_prints_nothing(tmp_path: Path) -> None:
    """When all is done and Python is tidying up."""
    ran = run_python("-c", INTERRUPTED_AT_EXIT, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")


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


@pytest.mark.fault("G")
@BOTH
def test_a_sweep_stops_with_its_job(tmp_path: Path, number: int) -> None:
    """One job is done, one trains without end, two are not started."""
    small = [word for word in SMALL if not word.startswith("trainer.epochs")]
    words = (
        "-m",
        *small,
        "trainer.epochs=2,1000000,1,3",
        "trainer.save_every=2epochs",
        "run.dir=swept",
    )
    started = Started("fit", *words, cwd=tmp_path, prepare=as_from_a_shell)
    names = ("000-dirichlet-mlp-epochs2", "001-dirichlet-mlp-epochs1000000")
    runs = [Run(tmp_path / "swept" / name) for name in names]
    wait_until(lambda: runs[1].steps)
    os.killpg(started.pid, number)
    err = stopped(started, number)
    assert re.search(r"^Stopped at step \d+\. Saved\.$", err, re.M)
    not_started = "trainer.epochs=1; trainer.epochs=3"
    assert f"\nStopped: 1 done, 1 stopped, 2 not started ({not_started}).\n" in err
    assert err.endswith("Continue with the same command.\n")
    assert re.search(r"^ *0 +2 ", started.wait().out, re.M), "the table of what is done"
    assert [run.record["status"] for run in runs] == ["done", "interrupted"]
    run(f"resume={runs[1].folder}", "trainer.epochs=1", cwd=tmp_path)


DOZING = """
import pathlib, time, torch
class Dozing(torch.utils.data.Dataset):
    def __len__(self):
        return 90
    def __getitem__(self, index):
        if any(pathlib.Path("swept").glob("*/config.yaml")):
            pathlib.Path("dozes").touch()
            time.sleep(60)
        return torch.eye(3)[index % 3], index % 3
"""


def telling_of_a_stop() -> None:
    as_from_a_shell()
    at_call(Signals, "_note_stop", call=1, act=lambda number: None, number=0)


@pytest.mark.fault("G")
def test_a_second_ctrl_c_ends_a_sweep_at_once(tmp_path: Path) -> None:
    """Its job waits for its data, and would for an hour."""
    (tmp_path / "own_data.py").write_text(DOZING)
    others = (word for word in STREAMED if "Noisy" not in word and "kwargs" not in word)
    words = (*others, "data.target=own_data.Dozing")
    started = Started(
        "fit", "-m", *words, "seed=0,1", "run.dir=swept", cwd=tmp_path, prepare=telling_of_a_stop
    )
    wait_until((tmp_path / "dozes").exists)
    os.killpg(started.pid, signal.SIGINT)
    wait_until((tmp_path / reached("_note_stop")).exists)
    os.killpg(started.pid, signal.SIGINT)
    assert stopped(started, signal.SIGINT) == ""


@pytest.mark.parametrize(
    ("where", "number"), [("run.dir=swept", signal.SIGINT), ("run.root=swept", signal.SIGTERM)]
)
def test_a_sweep_that_is_stopped_before_its_first_job_leaves_nothing(
    tmp_path: Path, where: str, number: int
) -> None:
    prepare = functools.partial(before_a_sweep, number)
    started = start("-m", *SMALL, "seed=0,1,2", where, cwd=tmp_path, prepare=prepare)
    assert stopped(started, number) in ("Stopped.\n", "")
    assert list(tmp_path.glob("swept/*")) == []


def before_a_sweep(number: int) -> None:
    as_from_a_shell()
    at_call(plan, "identity", call=1, act=to_all, number=number)


def child_of_rank(rank: int, root: Path) -> Run | None:
    """The run of a rank that torchrun started, once it has a checkpoint."""
    for run in map(Run, root.glob("*/*")):
        if run.steps and f"RANK={rank}" in Path(
            f"/proc/{run.record['process']}/environ"
        ).read_text().split("\0"):
            return run
    return None


@pytest.mark.slow
@pytest.mark.fault("G")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_of_torchrun_is_a_run_of_its_own(tmp_path: Path, rank: int) -> None:
    """Each of them trains alone, in a folder of its own; torchrun ends the others when one of
    them stops.
    """
    words = (*WORDS, "scheduler=constant", "trainer.epochs=100000")
    (tmp_path / "own_data.py").write_text(OWN_DATA)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "trainer",
    ]
    with (tmp_path / "said").open("w") as said:
        torchrun = subprocess.Popen(
            [*command, "fit", *words], cwd=tmp_path, stdout=said, stderr=said
        )
        wait_until(lambda: torchrun.poll() is not None or child_of_rank(rank, tmp_path / "runs"))
        if torchrun.poll() is not None:
            pytest.skip(f"torchrun does not work here: {(tmp_path / 'said').read_text()[-500:]}")
        stopped = child_of_rank(rank, tmp_path / "runs")
        assert stopped is not None
        os.kill(stopped.record["process"], signal.SIGTERM)
        assert torchrun.wait(HANG_S) == 1, "torchrun's own code for a process that failed"
    assert len(list((tmp_path / "runs").glob("*/*"))) == 2
    assert stopped.record["status"] == "interrupted"
    said_text = (tmp_path / "said").read_text()
    (at,) = re.findall(
        rf"Stopped at step ([0-9]+)\. Saved\.\nContinue .*{stopped.folder.name}\s", said_text
    )
    limit = f"trainer.max_steps={int(at) + 20}"
    run(f"resume={stopped.folder}", *NAMED_AGAIN, limit, cwd=tmp_path)
    run(*words, limit, "run.dir=whole", cwd=tmp_path)
    assert_equal(stopped.folder, tmp_path / "whole")
