"""Machines and wishes that are not as usual: it works, or one message says why not. Group K of
the plan of faults.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import torch
from commandline import quiet_environment, run_python
from disks import Disk, in_turn
from fake_images import write_set
from runfolders import make_run
from running import PLAIN, SMALL, Fit, Outcome, Run, Trainer
from test_file_system import IMAGES, _fake_images, told
from waiting import HANG_S

OWN_DATA = """
import torch
class Wide(torch.utils.data.Dataset):
    def __len__(self):
        return 90
    def __getitem__(self, index):
        return torch.full((20_000,), index / 90), index % 3
"""
STREAMED = (
    "data=custom", "data.target=own_data.Wide", "data.num_classes=3", "model=linear",
    "trainer.epochs=1", "data.batch_size=8", "run.dir=run",
)  # fmt: skip
ONE_EPOCH = (*PLAIN, "trainer.epochs=1")


def without_cuda() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def printed(out: str, name: str) -> list[str]:
    """The command in the last block, as a shell reads it."""
    return shlex.split(re.findall(rf"^  {name} +(\w+ .*)$", out, flags=re.M)[-1])


def assert_can_go_on(out: str, *, cwd: Path) -> None:
    """The commands that were printed work when they are copied into a shell."""
    for name in ("evaluate", "resume"):
        command = printed(out, name)
        words = command[command.index("trainer") + 1 :]  # after `trainer` or `python -m trainer`
        outcome = processes.run(*words, cwd=cwd)
        assert outcome.code == 0, outcome.err


@pytest.mark.fault("K")
def test_cuda_where_there_is_none(tmp_path: Path) -> None:
    words = ("fit", *PLAIN, "trainer.device=cuda", "run.dir=run")
    lines = told(processes.run(*words, cwd=tmp_path, prepare=without_cuda))
    assert lines == [
        f"Error: trainer.device=cuda, but PyTorch sees no CUDA device (torch {torch.__version__}).",
        "Use trainer.device=cpu or trainer.device=auto.",
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("K")
def test_auto_where_there_is_no_cuda(tmp_path: Path) -> None:
    words = ("fit", *PLAIN, "trainer.device=auto", "run.dir=run")
    outcome = processes.run(*words, cwd=tmp_path, prepare=without_cuda)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"^  device +cpu \(1 thread\), fp32$", outcome.out, flags=re.M)


@pytest.mark.fault("K")
def test_a_batch_larger_than_the_data(trainer: Trainer, fit: Fit) -> None:
    """All 550 samples are one batch; only who wants no smaller batch has none."""
    val = fit("data.batch_size=551").split("val")[-1]
    assert (val["step"], val["samples"]) == (2, 1100)
    lines = told(
        trainer("fit", *PLAIN, "data.batch_size=551", "data.drop_last=true", "run.dir=refused"),
        code=2,
    )
    assert lines == [
        "Error: data.drop_last=true leaves no batch: data.batch_size=551, with 550 samples.",
        "Set data.batch_size=550 or less, or data.drop_last=false.",
    ]
    assert not Path("refused").exists()


@pytest.mark.fault("K")
def test_a_batch_of_a_billion(trainer: Trainer, fit: Fit) -> None:
    lines = told(
        trainer("fit", "data=mnist", "data.batch_size=1000000000", "run.dir=refused"), code=2
    )
    assert lines == [
        "Error: data.batch_size=1000000000 is larger than the 60000 training images.",
        "Set data.batch_size=60000 or less, such as 64.",
    ]
    assert not Path("refused").exists()
    last = fit("data.batch_size=1000000000", "data.eval_batch_size=1000000000").split("val")[-1]
    assert (last["step"], last["samples"]) == (2, 1100)


def with_little_cuda_memory() -> None:
    torch.cuda.set_per_process_memory_fraction(
        3e8 / torch.cuda.get_device_properties(0).total_memory
    )


@pytest.mark.gpu
@pytest.mark.fault("K")
def test_cuda_out_of_memory(tmp_path: Path) -> None:
    """The weights fit into 300 MB; the activations of 18,000 samples do not, and those of 64 do."""
    words = (
        "fit",
        "data=dirichlet",
        "model=mlp",
        "model.hidden=[8192]",
        "trainer.device=cuda",
        "trainer.epochs=1",
    )
    run = functools.partial(processes.run, cwd=tmp_path, prepare=with_little_cuda_memory)
    lines = told(run(*words, "data.batch_size=18000", "run.dir=large"))
    assert "CUDA out of memory" in lines[0]
    assert "a smaller data.batch_size" in lines[-1]
    assert run(*words, "run.dir=run").code == 0


def with_forked_workers() -> None:
    """As in a process from a shell."""
    multiprocessing.set_start_method("fork", force=True)


def with_few_files() -> None:
    """So that the machine survives if so many workers are started after all."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@pytest.mark.fault("K")
def test_ten_thousand_workers(tmp_path: Path) -> None:
    (tmp_path / "own_data.py").write_text(OWN_DATA)
    words = ("fit", *STREAMED, "data.num_workers=10000")
    outcome = processes.run(
        *words, cwd=tmp_path, prepare=in_turn(with_forked_workers, with_few_files)
    )
    assert outcome.code in (2, 4), outcome.err
    lines = told(outcome, code=outcome.code)
    assert "data.num_workers=10000" in lines[0]
    assert outcome.err.splitlines() == lines, "nothing before it"


@pytest.mark.fault("K")
def test_64_kb_of_shared_memory(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "own_data.py").write_text(OWN_DATA)
    assert disk.do("mount -t tmpfs -o size=64k none /dev/shm")
    words = ("fit", *STREAMED, "data.num_workers=2")
    prepare = in_turn(disk.enter, with_forked_workers)
    outcome = processes.run(*words, cwd=tmp_path, prepare=prepare)
    lines = told(outcome)
    assert "shared memory" in lines[0] and "/dev/shm" in lines[0]
    assert "data.num_workers=0" in lines[-1]
    assert outcome.err.splitlines() == lines, "nothing before it, and nothing after it"
    again = processes.run(
        *words, "data.num_workers=0", "run.dir=again", cwd=tmp_path, prepare=prepare
    )
    assert (again.code, again.err) == (0, "")


def run_detached(*words: str, cwd: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A command as a service has it: without a terminal, and `script` decides about its standard
    streams.
    """
    environment = {
        name: value
        for name, value in quiet_environment(cwd).items()
        if name not in ("TERM", "COLUMNS")
    }
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "trainer", *words]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        start_new_session=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.mark.fault("K")
def test_no_terminal(tmp_path: Path) -> None:
    """Plain lines to a file or a pipe; a run, and no lines, where the streams are closed."""
    piped = run_detached("fit", *PLAIN, "run.dir=piped", cwd=tmp_path, script='exec "$@"')
    assert (piped.returncode, piped.stderr) == (0, "")
    assert re.findall(r"^epoch \d/2 ", piped.stdout, flags=re.M) == ["epoch 1/2 ", "epoch 2/2 "]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", piped.stdout)
    closed = run_detached(
        "fit", *PLAIN, "run.dir=closed", cwd=tmp_path, script='exec "$@" <&- >&- 2>&-'
    )
    assert closed.returncode == 0
    assert Run(tmp_path / "closed").digest() == Run(tmp_path / "piped").digest()


@pytest.mark.fault("K")
def test_the_locale_c(tmp_path: Path) -> None:
    locale = {"LANG": "C", "LC_ALL": "C"}
    ran = run_python(
        "-m", "trainer", "fit", *ONE_EPOCH, "run.name='größe 流'", cwd=tmp_path, env=locale
    )
    assert (ran.code, ran.err) == (0, "")
    (folder,) = tmp_path.glob("runs/*/*")
    assert folder.name.endswith("-größe 流")
    assert f"  run          {folder.relative_to(tmp_path)}\n" in ran.out
    assert_can_go_on(ran.out, cwd=tmp_path)


@pytest.mark.fault("K")
def test_a_path_with_spaces_and_unicode(tmp_path: Path) -> None:
    """The printed commands are quoted for the shell and for Hydra, whatever the folder's name."""
    cwd = tmp_path / "größe 流 (2)"
    cwd.mkdir()
    for folder in ("größe/流", "my 'runs' {1}, $x"):
        escaped = folder.replace("'", r"\'")
        outcome = processes.run("fit", *ONE_EPOCH, f"run.dir='{escaped}'", cwd=cwd)
        assert (outcome.code, outcome.err) == (0, "")
        assert (cwd / folder / "checkpoints/last/model.safetensors").is_file()
        assert printed(outcome.out, "tensorboard") == ["trainer", "tb", folder]
        assert_can_go_on(outcome.out, cwd=cwd)
    sweep = processes.run("fit", "-m", *ONE_EPOCH, "seed=0,1", "run.dir='both seeds'", cwd=cwd)
    assert sweep.code == 0, sweep.err
    assert printed(sweep.out, "tensorboard") == ["trainer", "tb", "both seeds"]


def without_home() -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)


@pytest.mark.fault("K")
def test_no_home(tmp_path: Path) -> None:
    """The cache has no place; the data is read anew each time."""
    write_set(tmp_path / "data/MNIST/raw")
    outcome = processes.run(
        "fit", *IMAGES, "run.dir=run", cwd=tmp_path, prepare=in_turn(without_home, _fake_images)
    )
    assert outcome.code == 0, outcome.err
    (line,) = outcome.err.splitlines()
    assert line.startswith("Working without a cache (neither XDG_CACHE_HOME nor HOME is set)")


@pytest.mark.fault("K")
def test_tensorboard_is_missing(tmp_path: Path) -> None:
    """It is told before anything is made, and a run does without it when asked."""
    main = (
        "import sys; sys.modules['tensorboard'] = None; from trainer.cli.main import main; main()"
    )
    words = ("-c", main, "fit", *SMALL, "run.dir=run")
    ran = run_python(*words, cwd=tmp_path)
    lines = told(Outcome(ran.code, ran.out, ran.err))
    assert "tensorboard" in lines[0]
    assert "logger=none" in lines[-1]
    assert not (tmp_path / "run").exists()
    again = run_python(*words, "logger=none", cwd=tmp_path)
    assert (again.code, again.err) == (0, "")


@pytest.mark.fault("K")
def test_one_sample(fit: Fit, trainer: Trainer) -> None:
    run = fit("data.train_size=1", "data.val_size=0", "data.test_size=1", "trainer.epochs=3")
    last = run.split("train")[-1]
    assert (last["step"], last["samples"]) == (3, 3)
    assert run.record["metrics"]["test/accuracy"] in (0, 1)
    for split in ("test", "train"):
        outcome = trainer("eval", f"ckpt={run.folder}", f"eval.split={split}")
        assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.fault("K")
def test_no_epochs(fit: Fit, trainer: Trainer) -> None:
    """The first weights are saved and tested, and a run goes on from there as if it had begun
    with more epochs.
    """
    run, whole = fit("trainer.epochs=0"), fit("trainer.epochs=1")
    assert run.steps == ["step-000000"]
    assert run.record["status"] == "done" and 0 <= run.record["metrics"]["test/accuracy"] <= 1
    assert trainer("eval", f"ckpt={run.folder}").code == 0
    assert trainer("fit", f"resume={run.folder}", "trainer.epochs=1").code == 0
    assert run.digest() == whole.digest()


@pytest.mark.fault("K")
@pytest.mark.parametrize(
    "words", [("fit", "data=dirichlet"), ("runs", "ls"), ("eval", "ckpt=last")]
)
def test_a_working_folder_that_was_removed(tmp_path: Path, words: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = (
        "import os, sys\n"
        f"os.chdir({str(gone)!r})\n"
        f"os.rmdir({str(gone)!r})\n"
        "from trainer.cli.main import main\n"
        f"main({list(words)!r})\n"
    )
    ran = run_python("-c", script, cwd=tmp_path)
    assert ran.code == 4
    assert ran.err.startswith("Error: The working folder no longer exists.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("is_buffered", [True, False])
@pytest.mark.parametrize("words", ["--help", "fit --cfg job", "runs du --json"])
def test_a_full_disk_under_the_output_is_named(
    words: str, is_buffered: bool, tmp_path: Path
) -> None:
    make_run(tmp_path / "runs/day/run")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trainer", *words.split()],
            cwd=tmp_path,
            env=quiet_environment(tmp_path, {"PYTHONUNBUFFERED": "" if is_buffered else "1"}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr == (
        "Error: Standard output (/dev/full) cannot be written: No space left on device.\n"
    )
