"""A job's evaluations reach the study; a hopeless one is pruned; and nothing that fails there
ends a training.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from test_search import no_writing, optuna_config

from trainer.commands.sweep import study as keeping
from trainer.commands.sweep.pruning import pruner_of
from trainer.commands.sweep.search import Search
from trainer.commands.sweep.task import JobStatus, TrialAddress
from trainer.config.sweep import Axis

# Every evaluation is a transaction of SQLite.
pytestmark = pytest.mark.long

SPACE = (Axis(key="optimizer.lr", low=0.0, high=1.0),)
GOOD = [1.0, 0.5, 0.4, 0.3, 0.2, 0.1]
BAD = [9.0, 8.9, 8.8, 8.7, 8.6, 8.5]


def fail(warning: str) -> None:
    raise AssertionError(warning)


class Study:
    """A search in a folder, whose trials have the curves that a test gives them."""

    def __init__(
        self,
        folder: Path,
        *,
        pruner: str = "median",
        warmup: int = 1,
        startup_trials: int = 3,
        maximize: bool = False,
    ) -> None:
        config = optuna_config(trials=1000, pruner=pruner, startup_trials=startup_trials)
        config.warmup = warmup
        self._folder, self._sign = folder, -1 if maximize else 1
        self.search = Search(config, SPACE, folder=folder, name="sweep", maximize=maximize)

    def begin(self) -> TrialAddress:
        """A new trial."""
        asked = self.search.ask()
        assert asked is not None and asked.trial is not None
        return asked.trial

    def run(self, curve: Sequence[float]) -> int:
        """A trial with this curve, where less is better; returns its number of evaluations."""
        trial = self.begin()
        count = evaluations(pruner_of(trial, warn=fail), [self._sign * value for value in curve])
        number = trial.trial_id - 1
        is_whole = count == len(curve)
        self.search.tell(
            number,
            status=JobStatus.DONE if is_whole else JobStatus.PRUNED,
            value=self._sign * curve[-1] if is_whole else None,
        )
        return count

    def reported(self, trial: TrialAddress) -> dict[int, float]:
        study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{self._folder}/study.db")
        return next(
            found for found in study.trials if found._trial_id == trial.trial_id
        ).intermediate_values


def evaluations(should_prune: Callable[[float], bool], curve: Sequence[float]) -> int:
    """How many evaluations of the curve are made until it is pruned."""
    for number, value in enumerate(curve, start=1):
        if should_prune(value):
            return number
    return len(curve)


def test_without_a_trial_nothing_is_pruned_and_no_study_needed() -> None:
    should_prune = pruner_of(None, warn=fail)
    assert not any(map(should_prune, [9.0, math.nan, math.inf]))


@pytest.mark.parametrize("maximize", [False, True])
def test_a_hopeless_trial_is_pruned_and_a_good_one_is_not(tmp_path: Path, maximize: bool) -> None:
    study = Study(tmp_path, maximize=maximize)
    assert [study.run(GOOD) for _ in range(3)] == [6, 6, 6]
    assert study.run(BAD) == 2
    assert study.run([value - 0.05 for value in GOOD]) == 6
    assert study.run([0.1, 9.0, 9.0, 9.0, 9.0, 9.0]) == 6, "its best so far counts"
    trial = study.begin()
    should_prune = pruner_of(trial, warn=fail)
    assert [should_prune(-value if maximize else value) for value in GOOD[:3]] == [False] * 3
    assert (
        study.reported(trial) == {1: -1.0, 2: -0.5, 3: -0.4}
        if maximize
        else {1: 1.0, 2: 0.5, 3: 0.4}
    )


@pytest.mark.parametrize(
    ("pruner", "warmup"),
    [
        ("median", 0),
        ("median", 3),
        ("hyperband", 1),
        pytest.param("median", 1, marks=pytest.mark.slow),
        pytest.param("hyperband", 0, marks=pytest.mark.slow),
        pytest.param("hyperband", 3, marks=pytest.mark.slow),
    ],
)
def test_the_first_evaluation_that_may_prune_is_the_one_after_the_warmup(
    tmp_path: Path, pruner: str, warmup: int
) -> None:
    study = Study(tmp_path, pruner=pruner, warmup=warmup)
    for _ in range(6):
        study.run(GOOD)
    # Hyperband judges by brackets: some may prune from the first evaluation on, others later.
    assert min(study.run(BAD) for _ in range(6)) == warmup + 1


def test_trials_before_the_search_has_enough_to_compare_with_are_not_pruned(tmp_path: Path) -> None:
    study = Study(tmp_path, startup_trials=10)
    ended = [study.run(curve) for curve in (GOOD, GOOD, BAD, BAD, GOOD, BAD, BAD)]
    assert ended == [6, 6, 6, 6, 6, 2, 2], "five, whatever the startup trials are beyond"


def test_hyperband_prunes_what_is_hopeless(tmp_path: Path) -> None:
    study = Study(tmp_path, pruner="hyperband", warmup=0)
    curves = [GOOD, BAD] * 8
    ended = [study.run(curve) for curve in curves]
    assert sum(count < 6 for count, curve in zip(ended, curves, strict=True) if curve is BAD) >= 4
    assert ended[0] == 6


def test_decisions_are_a_function_of_the_history(tmp_path: Path) -> None:
    ended = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        study = Study(tmp_path / name, pruner="hyperband", warmup=0)
        ended.append(
            [study.run([value * (1 + number * 7 % 5) for value in GOOD]) for number in range(12)]
        )
    assert ended[0] == ended[1] and min(ended[0]) < 6


@pytest.mark.parametrize(
    ("value", "maximize"),
    [
        (math.nan, False),
        (math.inf, True),
        pytest.param(math.nan, True, marks=pytest.mark.slow),
        pytest.param(math.inf, False, marks=pytest.mark.slow),
    ],
)
def test_a_value_that_is_none_is_the_worst_there_is(
    tmp_path: Path, value: float, maximize: bool
) -> None:
    study = Study(tmp_path, maximize=maximize)
    lost = [value, value, value]
    # Of so many lost ones the median itself is lost, and numpy must not warn of that.
    assert [study.run(curve) for curve in (lost, lost, lost, lost)] == [3, 3, 3, 3]
    assert study.run([9.0, 9.0, 9.0]) == 3
    assert [study.run(GOOD) for _ in range(6)] == [6] * 6
    assert study.run(lost) == 2
    assert study.run([value, 0.1, 0.1]) == 3, "a bad beginning is no reason when it recovers"


def test_a_resumed_run_continues_the_count(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for _ in range(3):
        study.run(GOOD)
    trial = study.begin()
    should_prune = pruner_of(trial, warn=fail)
    assert not any(map(should_prune, [0.9, 0.45, 0.35, 0.25]))
    # Killed after its fourth evaluation, with a checkpoint from its second: it evaluates again from
    # the third on.
    should_prune = pruner_of(trial, warn=fail, start=2)
    assert not any(map(should_prune, [0.35, 0.25, 0.15]))
    assert study.reported(trial) == {1: 0.9, 2: 0.45, 3: 0.35, 4: 0.25, 5: 0.15}


def test_an_evaluation_made_again_is_not_judged_by_later_ones(tmp_path: Path) -> None:
    study = Study(tmp_path)
    trial = study.begin()
    assert not any(map(pruner_of(trial, warn=fail), GOOD[:4]))
    for _ in range(3):
        study.run([0.01] * 6)
    should_prune = pruner_of(trial, warn=fail, start=1)
    assert [should_prune(value) for value in GOOD[1:4]] == [False, False, True]


def test_a_run_killed_before_it_could_obey_is_pruned_on_its_resume(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for _ in range(3):
        study.run(GOOD)
    trial = study.begin()
    assert evaluations(pruner_of(trial, warn=fail), BAD) == 2
    should_prune = pruner_of(trial, warn=fail, start=0)
    assert [should_prune(value) for value in BAD[:2]] == [False, True]


def test_reports_that_the_study_missed_leave_a_gap(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for _ in range(3):
        study.run(GOOD)
    trial = study.begin()
    should_prune = pruner_of(trial, warn=fail, start=4)
    assert should_prune(8.0)
    assert study.reported(trial) == {5: 8.0}


def delete(study: Path) -> None:
    study.unlink()


def damage(study: Path) -> None:
    study.write_bytes(b"not a database" * 1000)


def finish_the_trial(study: Path) -> None:
    with sqlite3.connect(study) as connection:
        connection.execute("UPDATE trials SET state = 'FAIL'")
    connection.close()


def forget_how(study: Path) -> None:
    with sqlite3.connect(study) as connection:
        connection.execute("DELETE FROM study_user_attributes")
    connection.close()


@pytest.mark.parametrize("happens", [delete, damage, finish_the_trial, forget_how])
@pytest.mark.parametrize("reported", [0, 1])
def test_a_study_that_fails_turns_pruning_off_with_one_warning(
    tmp_path: Path, reported: int, happens: Callable[[Path], None]
) -> None:
    study, warnings = Study(tmp_path), list[str]()
    for _ in range(3):
        study.run(GOOD)
    should_prune = pruner_of(study.begin(), warn=warnings.append)
    for value in BAD[:reported]:
        should_prune(value)
    happens(tmp_path / "study.db")
    if happens is forget_how and reported:
        assert should_prune(BAD[1]) and not warnings, "it was read at the first evaluation"
        return
    assert not any(map(should_prune, BAD))
    assert len(warnings) == 1 and warnings[0].startswith("Pruning is off: ")
    assert "\n" not in warnings[0] and len(warnings[0]) < 200


def test_a_full_disk_turns_pruning_off(tmp_path: Path) -> None:
    study, warnings = Study(tmp_path), list[str]()
    should_prune = pruner_of(study.begin(), warn=warnings.append)
    should_prune(1.0)
    with no_writing():
        assert not should_prune(1.0)
    assert len(warnings) == 1
    assert not should_prune(1.0) and len(warnings) == 1, "off is off"


def test_a_study_that_stays_locked_turns_pruning_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, warnings = Study(tmp_path), list[str]()
    trial = study.begin()
    monkeypatch.setattr(keeping, "_PATIENCE", 0.05)
    should_prune = pruner_of(trial, warn=warnings.append)
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not should_prune(1.0)
        other.execute("ROLLBACK")
    other.close()
    assert warnings == ["Pruning is off: database is locked."]


def test_pruning_draws_no_random_number(tmp_path: Path) -> None:
    # Or a job would differ from the same run alone.
    study = Study(tmp_path)
    for _ in range(3):
        study.run(GOOD)
    should_prune = pruner_of(study.begin(), warn=fail)
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    should_prune(1.0)
    should_prune(1.0)
    assert (random.random(), np.random.random()) == expected


def report_fifty(trial: TrialAddress) -> None:
    should_prune = pruner_of(trial, warn=fail)
    for number in range(50):
        assert not should_prune(float(number))


def test_two_processes_report_at_the_same_time(tmp_path: Path) -> None:
    study = Study(tmp_path)
    trials = [study.begin(), study.begin()]
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=report_fifty, args=(trial,)) for trial in trials]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    everything = {number: float(number - 1) for number in range(1, 51)}
    assert [study.reported(trial) for trial in trials] == [everything, everything]
