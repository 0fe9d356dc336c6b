"""launcher=ray: a Ray on this machine, for real."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composing import CONFIGS, read_yaml
from running import Run
from taking import ENDLESS, OWN_MODEL, has_trained, outcomes, task_of
from waiting import wait_until

from trainer.commands.sweep.launchers.ray import RayLauncher
from trainer.config.sweep import RayConfig
from trainer.errors import ConfigError, EnvironmentFault

# A real Ray, or a process of it.
pytestmark = pytest.mark.process


def config(**values: Any) -> RayConfig:
    """The shipped keys of launcher=ray with other values."""
    return RayConfig(**{**read_yaml(CONFIGS / "launcher" / "ray.yaml"), **values})


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayLauncher]:
    """A Ray that was started here, with room for two jobs; the handler of SIGTERM stays ours."""
    before = signal.getsignal(signal.SIGTERM)
    made = RayLauncher(config(cpus_per_job=0.5), folder=tmp_path_factory.mktemp("sweep"), jobs=None)
    assert signal.getsignal(signal.SIGTERM) is before
    yield made
    made.close()
    import ray

    assert not ray.is_initialized()


def process_of(run: Path) -> int:
    return int(json.loads((run / ".lock").read_text())["process"])


def is_out_of_reach(process: int) -> bool:
    """Whether a Ctrl-C in the terminal does not come to it: it is in another group, or does not
    take SIGINT.
    """
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines()
    )
    blocked = int(status["SigBlk"], 16) & 1 << (signal.SIGINT - 1)
    return bool(blocked) or os.getpgid(process) != os.getpgid(0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_where_no_cluster_answers_the_address_is_named(tmp_path: Path, address: str) -> None:
    with pytest.raises(EnvironmentFault) as missing:
        RayLauncher(config(address=address), folder=tmp_path, jobs=None)
    assert missing.value.what.startswith(f"No Ray cluster answers at {address}: ")
    assert missing.value.where == "launcher.address"


def test_jobs_run_with_the_person_s_own_classes_and_one_that_fails_says_why(
    launcher: RayLauncher, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN_MODEL)
    (tmp_path / "random.py").write_text("raise SystemExit('a file of the person's')")
    good = task_of(
        tmp_path, 0, "model=custom", "model.target=own.Own", "data.features=4", "logger=none"
    )
    bad = task_of(tmp_path, 1, "optimizer.lr=1e30", "logger=none")

    done, failed = outcomes(launcher, launcher.start([good, bad]))

    assert done.status == "done" and done.error is None
    assert done.metrics == Run(tmp_path / "sweep" / "000").record["metrics"]
    assert "our own model" in (tmp_path / "output" / "000.txt").read_text()
    assert failed.status == "failed" and (failed.error or "").startswith("Loss became nan at step")


@pytest.mark.slow
def test_a_stopped_job_saves_and_a_killed_one_is_reported(
    launcher: RayLauncher, tmp_path: Path
) -> None:
    runs = [tmp_path / "sweep" / f"{number:03d}" for number in range(2)]
    handles = launcher.start([task_of(tmp_path, number, *ENDLESS) for number in range(2)])
    wait_until(lambda: all(has_trained(run) for run in runs))
    assert process_of(runs[0]) != process_of(runs[1]) != os.getpid()
    # Ctrl-C goes to all of the terminal's foreground group; the sweep alone passes it on.
    assert all(is_out_of_reach(process_of(run)) for run in runs)

    handles[0].stop()
    os.kill(process_of(runs[1]), signal.SIGKILL)
    stopped, killed = outcomes(launcher, handles)

    assert stopped.status == "interrupted" and "Saved." in (stopped.error or "")
    assert Run(runs[0]).record["status"] == "interrupted" and Run(runs[0]).weights("last")
    assert (killed.status, killed.error) == (
        "failed",
        "Its process died: killed by the system, or out of memory, perhaps.",
    )


@pytest.mark.slow
def test_a_job_that_is_stopped_twice_leaves_at_once_and_one_that_waits_never_starts(
    launcher: RayLauncher, tmp_path: Path
) -> None:
    import ray

    launcher = RayLauncher(
        config(cpus_per_job=ray.cluster_resources()["CPU"] / 2), folder=tmp_path, jobs=None
    )
    assert launcher.slots == 2
    num_jobs = launcher.slots + 1  # the last one waits
    handles = launcher.start([task_of(tmp_path, number, *ENDLESS) for number in range(num_jobs)])
    wait_until(
        lambda: sum(has_trained(run) for run in (tmp_path / "sweep").glob("*")) == num_jobs - 1
    )
    waiting = next(
        number
        for number in range(num_jobs)
        if not has_trained(tmp_path / "sweep" / f"{number:03d}")
    )

    handles[waiting].stop()
    for handle in handles[:waiting] + handles[waiting + 1 :]:
        handle.stop()
        handle.stop()
    ended = outcomes(launcher, handles)

    assert {outcome.status for outcome in ended} == {"interrupted"}
    assert not (tmp_path / "sweep" / f"{waiting:03d}").exists()


def test_as_many_jobs_are_submitted_as_fit_or_as_are_wanted(
    launcher: RayLauncher, tmp_path: Path
) -> None:
    import ray

    assert launcher.slots == int(ray.cluster_resources()["CPU"] / 0.5)
    assert (launcher.threads, launcher.uses_terminal) == (1, False)
    second = RayLauncher(
        config(cpus_per_job=3.5), folder=tmp_path, jobs=7
    )  # in the Ray that is there
    assert (second.slots, second.threads) == (7, 3)
    second.close()
    assert ray.is_initialized()


def test_a_job_that_does_not_fit_is_refused(launcher: RayLauncher, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="does not fit here") as refused:
        RayLauncher(config(cpus_per_job=4096.0), folder=tmp_path, jobs=None)
    assert "launcher.cpus_per_job" in (refused.value.hint or "")


def test_where_ray_is_not_installed_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentFault) as missing:
        RayLauncher(config(), folder=tmp_path, jobs=None)
    assert missing.value.what == "launcher=ray needs the package ray, which is not installed."
    assert missing.value.hint == "pip install 'trainer[ray]'"


@pytest.mark.parametrize("values", [{"address": ""}, {"cpus_per_job": 0.0}, {"gpus_per_job": -1.0}])
def test_values_that_no_cluster_takes_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        config(**values)
