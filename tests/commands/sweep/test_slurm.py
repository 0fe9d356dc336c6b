"""launcher=slurm: submitit's own processes for real, and all of the way to Slurm with commands
that stand in for it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composing import CONFIGS, read_yaml
from running import Run
from slurm_commands import SlurmCommands
from taking import ENDLESS, OWN_MODEL, has_trained, outcomes, task_of
from waiting import wait_until

from trainer.commands.sweep.launchers import slurm
from trainer.commands.sweep.launchers.slurm import SlurmHandle, SlurmLauncher
from trainer.config.sweep import SlurmConfig
from trainer.errors import ConfigError, EnvironmentFault

# Real jobs, of submitit or of commands that stand in for Slurm.
pytestmark = pytest.mark.process


def config(**values: Any) -> SlurmConfig:
    """The shipped keys of launcher=slurm with other values."""
    return SlurmConfig(**{**read_yaml(CONFIGS / "launcher" / "slurm.yaml"), **values})


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCommands]:
    """Slurm's commands on the PATH, and an eager look at what comes of it."""
    made = SlurmCommands(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_ASK_EVERY", 0.1)
    monkeypatch.setattr(slurm, "_SETTLE_TIME", 0.0)
    monkeypatch.setattr(slurm, "_LOOK_EVERY", {"slurm": 0.1, "local": 0.1})
    yield made
    made.end()


# What a test that failed left running here is ended; of Slurm, the commands do it.
_LOCAL: list[SlurmLauncher] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while _LOCAL:
        _LOCAL.pop().close()


def launch(tmp_path: Path, *, jobs: int | None = None, **values: Any) -> SlurmLauncher:
    (tmp_path / "sweep").mkdir(exist_ok=True)
    launcher = SlurmLauncher(config(**values), folder=tmp_path / "sweep", jobs=jobs)
    if values.get("cluster") == "local":
        _LOCAL.append(launcher)
    return launcher


def kill(run: Path) -> None:
    os.kill(json.loads((run / ".lock").read_text())["process"], signal.SIGKILL)


@pytest.mark.slow
def test_processes_of_submitit_give_what_became_of_each_job(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_MODEL)
    launcher = launch(tmp_path, cluster="local", jobs=2, setup=["export GREETING=hello"])
    good = task_of(
        tmp_path, 0, "model=custom", "model.target=own.Own", "data.features=4", "logger=none"
    )
    bad = task_of(tmp_path, 1, "optimizer.lr=1e30", "logger=none")

    done, failed = outcomes(launcher, launcher.start([good, bad]))

    assert done.status == "done" and done.error is None
    assert done.metrics == Run(tmp_path / "sweep" / "000").record["metrics"]
    assert "our own model" in (tmp_path / "output" / "000.txt").read_text()
    assert failed.status == "failed" and (failed.error or "").startswith("Loss became nan at step")
    assert (launcher.slots, launcher.threads, launcher.uses_terminal) == (
        2,
        max(1, len(os.sched_getaffinity(0)) // 2),
        False,
    )
    launcher.close()


def test_a_stopped_job_of_submitit_saves_and_a_killed_one_is_reported(
    tmp_path: Path,
) -> None:
    launcher = launch(tmp_path, cluster="local", jobs=2)
    stopped, killed = handles = launcher.start(
        [task_of(tmp_path, number, *ENDLESS) for number in (0, 1)]
    )
    wait_until(lambda: all(has_trained(tmp_path / "sweep" / name) for name in ("000", "001")))

    stopped.stop()
    kill(tmp_path / "sweep" / "001")
    first, second = outcomes(launcher, handles)

    assert first.status == "interrupted" and "Saved." in (first.error or "")
    assert Run(tmp_path / "sweep" / "000").record["status"] == "interrupted"
    assert Run(tmp_path / "sweep" / "000").weights("last")
    assert second.status == "failed"
    assert second.error == f"Job {killed.job.job_id} died. Its log: {killed.job.paths.stderr}"
    launcher.close()


@pytest.mark.slow
def test_closing_ends_what_runs_and_does_not_reach_the_terminal_s_signals(tmp_path: Path) -> None:
    launcher = launch(tmp_path, cluster="local", jobs=1)
    (handle,) = launcher.start([task_of(tmp_path, 0, *ENDLESS)])
    wait_until(lambda: has_trained(tmp_path / "sweep" / "000"))
    watcher, job = (
        int(handle.job.job_id),
        json.loads((tmp_path / "sweep" / "000" / ".lock").read_text())["process"],
    )

    # Ctrl-C goes to all of the terminal's foreground group; the sweep alone passes it on.
    assert os.getpgid(job) != os.getpgid(0)
    os.kill(watcher, signal.SIGINT)
    os.kill(watcher, signal.SIGHUP)
    assert not handle.job.done()

    launcher.close()

    assert handle.job.done()
    assert not Path(f"/proc/{job}").exists()


def test_jobs_of_slurm_are_one_array_and_are_read_back(
    tmp_path: Path, commands: SlurmCommands
) -> None:
    launcher = launch(tmp_path)
    tasks = [task_of(tmp_path, number, "logger=none") for number in range(2)]

    done, also = outcomes(launcher, launcher.start(tasks))

    assert [call[0] for call in commands.calls].count("sbatch") == 1
    assert "#SBATCH --array=0-1%2" in commands.scripts[0]
    assert (
        done.status == "done" and done.metrics == Run(tmp_path / "sweep" / "000").record["metrics"]
    )
    assert also.status == "done" and also.metrics == done.metrics
    launcher.close()
    assert all(call[1].startswith("--name=") for call in commands.calls if call[0] == "scancel")


def test_a_stopped_job_of_slurm_saves_and_a_killed_one_is_reported(
    tmp_path: Path, commands: SlurmCommands
) -> None:
    launcher = launch(tmp_path)
    handles = launcher.start([task_of(tmp_path, number, *ENDLESS) for number in range(3)])
    wait_until(
        lambda: all(has_trained(tmp_path / "sweep" / f"{number:03d}") for number in range(3))
    )

    handles[0].stop()
    os.kill(
        json.loads((tmp_path / "sweep" / "001" / ".lock").read_text())["process"], signal.SIGTERM
    )
    kill(tmp_path / "sweep" / "002")
    ours, theirs, killed = outcomes(launcher, handles)

    assert ["scancel", "--signal=TERM", "--full", handles[0].job.job_id] in commands.calls
    assert ours.status == "interrupted" and (ours.error or "").startswith("Stopped at step")
    assert theirs.status == "interrupted"
    assert f"Job {handles[1].job.job_id} was stopped by the cluster" in (theirs.error or "")
    for name in ("000", "001"):
        assert Run(tmp_path / "sweep" / name).weights("last")
    assert killed.status == "failed" and f"Job {handles[2].job.job_id} died." in (
        killed.error or ""
    )
    launcher.close()


def test_a_job_that_is_cancelled_is_interrupted_and_closing_cancels_what_is_left(
    tmp_path: Path, commands: SlurmCommands
) -> None:
    launcher = launch(tmp_path)
    handles = launcher.start([task_of(tmp_path, number, *ENDLESS) for number in range(2)])
    handles[0].stop()
    handles[0].stop()
    (cancelled,) = outcomes(launcher, handles[:1])
    launcher.close()

    assert cancelled.status == "interrupted"
    assert ["scancel", handles[0].job.job_id] in commands.calls
    assert ["scancel", handles[1].job.job_id] in commands.calls
    outcomes(launcher, handles[1:])


def test_what_a_killed_command_left_in_the_queue_is_cancelled_and_nothing_else(
    tmp_path: Path, commands: SlurmCommands
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    left = launch(tmp_path / "a").start([task_of(tmp_path, 0, *ENDLESS)])
    other = launch(tmp_path / "b").start([task_of(tmp_path, 1, *ENDLESS)])
    wait_until(lambda: all(has_trained(tmp_path / "sweep" / name) for name in ("000", "001")))

    again = launch(tmp_path / "a")

    (outcome,) = outcomes(again, left)
    assert outcome.status == "interrupted" and Run(tmp_path / "sweep" / "000").weights("last")
    assert other[0].outcome() is None
    for handle in other:
        handle.stop()
    outcomes(again, other)


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("TIMEOUT", "interrupted", "ran into its time limit (launcher.timeout_min)"),
        ("CANCELLED", "interrupted", "was cancelled"),
        ("NODE_FAIL", "interrupted", "lost its machine"),
        ("OUT_OF_MEMORY", "failed", "needed more memory than it had (launcher.mem_gb)"),
        ("COMPLETED", "failed", "ended without a result"),
        (None, "interrupted", "is no longer known to Slurm: cancelled while it waited, perhaps"),
    ],
)
def test_how_slurm_says_that_a_job_ended(
    tmp_path: Path, commands: SlurmCommands, state: str | None, status: str, words: str
) -> None:
    handle = _quiet_job(tmp_path, commands, squeue=f"echo {{}} {state}" if state else "true")

    (outcome,) = outcomes(launch(tmp_path), [handle])

    assert (outcome.status, outcome.error) == (status, f"Job {handle.job.job_id} {words}.")


@pytest.mark.parametrize("squeue", ["echo {} PENDING", "echo {} RUNNING", "exit 1"])
def test_a_job_that_waits_or_that_slurm_says_nothing_of_has_not_ended(
    tmp_path: Path, commands: SlurmCommands, squeue: str
) -> None:
    handle = _quiet_job(tmp_path, commands, squeue=squeue)
    for _ in range(3):
        assert handle.outcome() is None
        time.sleep(0.15)


def test_the_result_of_an_earlier_job_with_the_same_number_is_not_taken(
    tmp_path: Path, commands: SlurmCommands
) -> None:
    (tmp_path / "sweep" / "slurm").mkdir(parents=True)
    (tmp_path / "sweep" / "slurm" / "7_0_result.pkl").write_bytes(b"of another job")
    assert _quiet_job(tmp_path, commands, squeue="echo {} RUNNING").outcome() is None


def _quiet_job(tmp_path: Path, commands: SlurmCommands, *, squeue: str) -> SlurmHandle:
    """A job that sbatch took and that never runs; squeue says of it what `squeue`, a line of
    shell, says.
    """
    (commands.bin / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 7\n")
    (handle,) = launch(tmp_path).start([task_of(tmp_path, 0)])
    (commands.bin / "squeue").write_text(f"#!/bin/sh\n{squeue.format(handle.job.job_id)}\n")
    return handle


def test_sbatch_gets_the_options_of_the_config(tmp_path: Path, commands: SlurmCommands) -> None:
    launcher = launch(
        tmp_path,
        partition="gpu",
        account="lab",
        qos="long",
        timeout_min=30,
        cpus_per_task=4,
        mem_gb=8.0,
        gpus_per_node=1,
        array_parallelism=2,
        setup=["module load cuda"],
        extra={"constraint": "a100", "exclusive": True, "comment": None, "requeue": False},
    )
    (commands.bin / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/given\necho Submitted batch job 7\n'
    )
    launcher.start([task_of(tmp_path, number) for number in range(3)])
    given = (tmp_path / "given").read_text()

    options = {
        line.removeprefix("#SBATCH --") for line in given.splitlines() if line.startswith("#SBATCH")
    }
    assert options >= {
        "partition=gpu",
        "account=lab",
        "qos=long",
        "time=30",
        "cpus-per-task=4",
        "mem=8GB",
        "gpus-per-node=1",
        "array=0-2%2",
        "constraint=a100",
        "exclusive",
        "no-requeue",
        "signal=B:TERM@90",
    }
    assert not any(option.startswith(("comment", "requeue")) for option in options)
    assert any(option.startswith("job-name=trainer-sweep-") for option in options)
    lines = [line for line in given.splitlines() if line and not line.startswith("#")]
    assert lines[:3] == [
        "export OMP_NUM_THREADS=$SLURM_CPUS_ON_NODE",
        "module load cuda",
        "export SUBMITIT_EXECUTOR=slurm",
    ]
    assert lines[3].startswith(f"exec {sys.executable} ") and len(lines) == 4
    assert (launcher.slots, launcher.threads) == (1000, 4)


def test_an_option_without_a_value_is_up_to_the_cluster(
    tmp_path: Path, commands: SlurmCommands
) -> None:
    launcher = launch(tmp_path, jobs=3)
    (commands.bin / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/given\necho Submitted batch job 7\n'
    )
    launcher.start([task_of(tmp_path, 0)])
    given = (tmp_path / "given").read_text()

    for option in ("partition", "account", "qos", "cpus-per-task", "mem", "gpus-per-node", "array"):
        assert f"--{option}=" not in given
    assert "export OMP_NUM_THREADS=$SLURM_CPUS_ON_NODE" in given
    assert (launcher.slots, launcher.threads) == (3, None)


def test_a_refusal_of_sbatch_is_reported(
    tmp_path: Path, commands: SlurmCommands, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EnvironmentFault) as refused:
        launch(tmp_path, partition="full").start([task_of(tmp_path, 0), task_of(tmp_path, 1)])

    assert (
        refused.value.what
        == "The cluster refused the jobs: sbatch: error: invalid partition specified: full"
    )
    assert "launcher.partition" in (refused.value.hint or "")
    assert capfd.readouterr().err == ""


def test_where_there_is_no_slurm_the_local_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault) as missing:
        launch(tmp_path)
    assert missing.value.what == "launcher=slurm needs Slurm, but there is no command sbatch here."
    assert "launcher.cluster=local" in (missing.value.hint or "")


def test_where_submitit_is_not_installed_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(EnvironmentFault) as missing:
        launch(tmp_path)
    assert (
        missing.value.what == "launcher=slurm needs the package submitit, which is not installed."
    )
    assert missing.value.hint == "pip install 'trainer[slurm]'"


@pytest.mark.parametrize(
    "values", [{"cluster": "pbs"}, {"timeout_min": 0}, {"mem_gb": 0.0}, {"array_parallelism": 0}]
)
def test_values_that_no_cluster_takes_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        config(**values)
