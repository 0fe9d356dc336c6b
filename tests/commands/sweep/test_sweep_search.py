"""A search from end to end: a seed fixes it, hopeless trials end early, and a cut one comes to
the same end.
"""

from __future__ import annotations

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
from commandline import trainer_main
from processes import Started
from running import SMALL, Outcome, Trainer
from signalling import as_from_a_shell, processes_of
from swept import Swept, only_sweep, sweeps_in
from waiting import wait_until

# The jobs of a sweep are processes.
pytestmark = pytest.mark.process

WORDS = (
    "fit",
    "-m",
    *SMALL,
    "logger=none",
    "trainer.epochs=4",
    "trainer.threads=1",
    "sweep=optuna",
    "sweep.startup_trials=5",
    "optimizer=sgd,adam",
    "optimizer.lr=tag(log,interval(1e-4,1))",
    "data.batch_size=int(interval(16,64))",
)


def ended(outcome: Outcome, code: int) -> Outcome:
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    return outcome


def found(sweep: Swept) -> list[tuple[Any, ...]]:
    """Of each trial what it tried, how it ended and what it gave."""
    return [(job["number"], job["values"], job["status"], job["metrics"]) for job in sweep.jobs]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Twelve trials that nothing disturbed."""
    cwd = tmp_path_factory.mktemp("searched")
    ran = trainer_main(*WORDS, "sweep.trials=12", "run.dir=sweep", cwd=cwd)
    assert ran.code == 0, ran.err
    return Swept(cwd / "sweep")


def test_hopeless_trials_end_early_and_have_their_own_status(searched: Swept) -> None:
    assert len(searched.folders) == 12 and set(searched.statuses) == {"done", "pruned"}
    assert [run.record["status"] for run in searched.runs] == searched.statuses
    with (searched.folder / "sweep.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == searched.statuses
    pruned = [
        run
        for run, status in zip(searched.runs, searched.statuses, strict=True)
        if status == "pruned"
    ]
    assert all(2 <= len(run.split("val")) < 4 for run in pruned), (
        "after the warmup, and before the end"
    )
    summary = searched.record["summary"]
    assert summary["counts"] == {"done": 12 - len(pruned), "pruned": len(pruned)}
    assert summary["best"]["value"] == max(
        job["metrics"]["val/accuracy"] for job in searched.jobs if job["status"] == "done"
    )
    assert f"{len(pruned)} pruned" in (searched.folder / "sweep.md").read_text()


@pytest.mark.slow
def test_a_seed_fixes_a_search_and_more_trials_continue_it(
    searched: Swept, trainer: Trainer, tmp_path: Path
) -> None:
    """A search knows what was before, and not how many trials are to come."""
    sweep = Swept(tmp_path / "sweep")
    for trials, said in ((9, ""), (11, "9 of 11 jobs are done")):
        outcome = ended(trainer(*WORDS, f"sweep.trials={trials}", "run.dir=sweep"), 0)
        assert said in outcome.err
        assert found(sweep) == found(searched)[:trials]
        assert len(sweep.folders) == trials


@pytest.mark.slow
def test_a_killed_search_comes_to_the_same_end(
    searched: Swept, trainer: Trainer, tmp_path: Path
) -> None:
    started = Started(*WORDS, "sweep.trials=9", cwd=tmp_path, prepare=as_from_a_shell)
    wait_until(lambda: _is_under_way(tmp_path) or started.process.exitcode is not None)
    started.signal(signal.SIGKILL)
    ended(started.wait(), -9)
    wait_until(lambda: not processes_of(started.pid))
    cut = only_sweep(tmp_path)
    before = cut.contents()
    over = [
        name for name, content in before.items() if b'"done"' in content or b'"pruned"' in content
    ]
    ended(trainer(*WORDS, "sweep.trials=9"), 0)
    assert found(cut) == found(searched)[:9]
    assert len(over) >= 6 and {name: cut.contents()[name] for name in over} == {
        name: before[name] for name in over
    }
    assert len(cut.folders) == 9


def _is_under_way(folder: Path) -> bool:
    """Whether there are more trials than the first, which are random, and one of them trains."""
    for sweep in sweeps_in(folder):
        states = sweep.states()
        return (
            len(states) > 6
            and states[-1] == "running"
            and bool(list(sweep.folders[-1].glob("checkpoints/step-*")))
        )
    return False
