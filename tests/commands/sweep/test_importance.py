"""The key that matters is found, in grids and in random searches, and none where there is none."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from trainer.commands.sweep.importance import LEAST_RUNS, Importance, importance
from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.task import JobStatus

Values = dict[str, str]
RATES, MODELS, BATCHES = ("0.001", "0.01", "0.1"), ("cnn", "mlp", "linear"), ("32", "64", "128")
GAIN = {"cnn": 0.1, "mlp": 0.05, "linear": 0.0}
PENALTY = {"cnn": 0.01, "mlp": 0.005, "linear": 0.0}


def by_rate(values: Values) -> float:
    """Best in the middle: no line through it finds it."""
    return -0.3 * (math.log10(float(values["optimizer.lr"])) + 2) ** 2 + PENALTY[values["model"]]


def by_model(values: Values) -> float:
    return GAIN[values["model"]] + 0.001 * math.log10(float(values["optimizer.lr"]))


def by_batch(values: Values) -> float:
    return 0.05 * math.log2(float(values["data.batch_size"])) + PENALTY[values["model"]]


CASES = [(by_rate, "optimizer.lr"), (by_model, "model"), (by_batch, "data.batch_size")]


def judged(
    jobs: Sequence[Values], score: Callable[[Values], float], *, noise: random.Random | None = None
) -> Importance:
    return importance(
        record_of(
            jobs, [score(values) + (noise.gauss(0, 0.005) if noise else 0) for values in jobs]
        )
    )


def record_of(jobs: Sequence[Values], scores: Sequence[float | None]) -> SweepRecord:
    keys = list(dict.fromkeys(key for values in jobs for key in values))
    return SweepRecord(
        folder=Path("sweep"), kind="grid", identity="x", command=[], keys=keys, started="",
        monitor="val/x", maximize=True,
        jobs=[
            JobRecord(
                number=at,
                values=values,
                command=[],
                status=JobStatus.DONE,
                metrics={"val/x": score},
            )
            for at, (values, score) in enumerate(zip(jobs, scores, strict=True))
        ],
    )  # fmt: skip


def grid(**choices: Sequence[str]) -> list[Values]:
    names = [name.replace("__", ".") for name in choices]
    return [
        dict(zip(names, values, strict=True)) for values in itertools.product(*choices.values())
    ]


def drawn(seed: int, number: int) -> list[Values]:
    rng = random.Random(seed)
    return [
        {
            "optimizer.lr": str(10 ** rng.uniform(-4, 0)),
            "model": rng.choice(MODELS),
            "data.batch_size": rng.choice(BATCHES),
        }
        for _ in range(number)
    ]


def shares_of(found: Importance) -> dict[str, float]:
    assert found.shares is not None, found.reason
    assert all(0 <= share <= 1 for share in found.shares.values())
    assert list(found.shares.values()) == sorted(found.shares.values(), reverse=True)
    return found.shares


@pytest.mark.parametrize(("score", "key"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_key_that_matters_is_first_in_a_grid(
    score: Callable[[Values], float], key: str, seed: int
) -> None:
    small = grid(optimizer__lr=RATES, model=MODELS[:2], data__batch_size=("32", "128"))
    large = grid(optimizer__lr=(*RATES, "1"), model=MODELS, data__batch_size=BATCHES)
    for jobs in (small, large):
        shares = shares_of(judged(jobs, score, noise=random.Random(seed)))
        assert next(iter(shares)) == key and shares[key] > 0.4


@pytest.mark.parametrize(("score", "key"), CASES)
@pytest.mark.parametrize("seed", range(5))
def test_the_key_that_matters_is_first_in_a_random_search(
    score: Callable[[Values], float], key: str, seed: int
) -> None:
    for number in (24, 60):
        assert (
            next(iter(shares_of(judged(drawn(seed, number), score, noise=random.Random(seed)))))
            == key
        )


@pytest.mark.parametrize("seed", range(5))
def test_where_no_key_matters_none_has_much(seed: int) -> None:
    noise = random.Random(seed)
    shares = shares_of(judged(drawn(seed, 60), lambda values: noise.random()))
    assert max(shares.values()) < 0.25


def test_a_run_that_diverged_does_not_hide_the_rest() -> None:
    jobs = grid(optimizer__lr=(*RATES, "1"), model=MODELS[:2], data__batch_size=("32", "128"))
    rng = random.Random(0)
    scores = [
        -(10 ** rng.uniform(1, 300)) if values["optimizer.lr"] == "1" else by_rate(values)
        for values in jobs
    ]
    shares = shares_of(importance(record_of(jobs, scores)))
    assert next(iter(shares)) == "optimizer.lr" and shares["optimizer.lr"] > 0.5


def test_the_share_of_a_balanced_design_is_the_textbook_one() -> None:
    # Two keys, all combinations twice, ranks 1 to 12: sums of squares and degrees of freedom by
    # hand, below.
    jobs = grid(a=("p", "q"), b=("x", "y", "z"), seed=("0", "1"))
    ranks = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]
    shares = shares_of(importance(record_of(jobs, ranks)))
    total, of_a, of_b = 143.0, 6 * 2 * 3.0**2, 4 * (2.0**2 + 0 + 2.0**2)
    chance = (total - of_a - of_b) / (12 - 4)
    assert shares["a"] == pytest.approx((of_a - chance) / (total + chance))
    assert shares["b"] == pytest.approx((of_b - 2 * chance) / (total + chance))
    assert "seed" not in shares, "a seed is chance, and no choice"


def test_a_monotone_change_of_the_metric_changes_nothing() -> None:
    jobs = drawn(1, 30)
    once, again = (
        judged(jobs, by_model),
        judged(jobs, lambda values: -math.exp(-9 * by_model(values))),
    )
    assert shares_of(once) == pytest.approx(shares_of(again))


def test_equal_numbers_are_one_value_however_written() -> None:
    jobs = grid(a=("0.1", "1e-1", "0.2"), b=("x", "y", "z"), seed=("0", "1"))
    plain = [{**values, "a": "0.2" if values["a"] == "0.2" else "0.1"} for values in jobs]
    scores = [float(at * at % 11) for at in range(18)]
    assert importance(record_of(jobs, scores)) == importance(record_of(plain, scores))


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [
        (grid(a=("1", "2", "3"), b=("x", "y", "z")), f"too few runs: 9, and at least {LEAST_RUNS}"),
        (grid(a=tuple("stuvwxyz"), b=("x", "y")), "too few runs: 16, and at least 18 for so many "
                                                  "values"),
        (grid(a=tuple("stuvwxyz"), seed=("0", "1")), "fewer than two keys differ"),
        ([{"a": text, "b": text * 2} for text in "xyxyxyxyxyxyxy"], "differs only where other keys "
                                                                    "do"),
    ],
)  # fmt: skip
def test_why_there_is_none(jobs: list[Values], reason: str) -> None:
    found = importance(record_of(jobs, [float(at) for at in range(len(jobs))]))
    assert found.shares is None and found.reason is not None and reason in found.reason


def test_only_runs_that_are_done_and_have_the_metric_count() -> None:
    jobs = grid(a=("1", "2", "3"), b=("x", "y"), seed=("0", "1", "2"))
    scores: list[float | None] = [float(at) for at in range(18)]
    full = record_of(jobs, scores)
    assert importance(full).shares is not None
    scores[0], scores[1] = float("nan"), None
    cut = record_of(jobs, scores)
    for at, status in (
        (2, JobStatus.PRUNED),
        (3, JobStatus.FAILED),
        (4, JobStatus.RUNNING),
        (5, JobStatus.INTERRUPTED),
        (6, JobStatus.WAITING),
    ):
        cut.jobs[at].status = status
    assert importance(cut) == Importance(
        reason=f"too few runs: 11, and at least {LEAST_RUNS} are needed"
    )


def test_the_same_metric_everywhere_tells_nothing() -> None:
    assert importance(record_of(drawn(0, 30), [0.1] * 30)).reason == "val/x is the same in all runs"


def test_a_key_that_some_jobs_lack_is_a_choice_as_well() -> None:
    jobs = [
        values if values["model"] == "linear" else {**values, "model.width": "3"}
        for values in drawn(3, 30)
    ]
    jobs = [
        {**values, "model.width": "5"} if "model.width" in values and at % 2 else values
        for at, values in enumerate(jobs)
    ]
    shares = shares_of(judged(jobs, lambda values: float(values.get("model.width", "1"))))
    assert next(iter(shares)) == "model.width"
