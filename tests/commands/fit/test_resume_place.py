"""A resume that changes how many updates a run has keeps its place on the schedule."""

from __future__ import annotations

import math

import pytest
from running import SMALL, Fit, Trainer

# 550 samples in batches of 64: 9 updates an epoch, 18 in the run that is resumed.
PLAIN_RATE = (*SMALL, "logger=none", "optimizer.lr=0.05")
BASE = (*PLAIN_RATE, "scheduler=cosine")


def rate(share: float) -> float:
    """The cosine's rate where `share` of the run is done."""
    return 0.05 * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("word", "per_epoch"),
    [
        ("data.batch_size=128", 5),
        ("data.batch_size=16", 35),
        ("trainer.accumulate=2", 5),
        ("data.train_limit=128", 2),
        ("data.drop_last=true", 8),
        ("data.val_size=300", 7),
        ("trainer.epochs=4", 9),
    ],
)
def test_the_rate_follows_the_share_of_the_run(
    fit: Fit, trainer: Trainer, word: str, per_epoch: int
) -> None:
    run = fit(base=BASE)
    words = ("trainer.epochs=4", "logger.log_every=1")
    outcome = trainer("fit", f"resume={run.folder}", *words, word)
    assert outcome.code == 0, outcome.err
    total = 18 + 2 * per_epoch
    assert f"Resumed at step 18 of {total} (epoch 2, batch 0)." in outcome.out
    assert run.record["steps"] == total == run.split("train")[-1]["step"]
    found = [row["learning_rate"] for row in run.split("train") if row["step"] > 18]
    expected = [rate((2 + made / per_epoch) / 4) for made in range(2 * per_epoch)]
    assert found == pytest.approx(expected)


@pytest.mark.fault("N")
def test_a_second_resume_keeps_the_place_within_an_epoch(fit: Fit, trainer: Trainer) -> None:
    run = fit(base=BASE)
    words = ("data.batch_size=16", "logger.log_every=1", "trainer.epochs=4")
    # 18 updates, and 10 of the 35 of the third epoch.
    assert trainer("fit", f"resume={run.folder}", *words, "trainer.max_steps=28").code == 0
    outcome = trainer("fit", f"resume={run.folder}", "trainer.max_steps=null")
    assert f"Resumed at step 28 of {18 + 70} (epoch 2, batch 10)." in outcome.out
    rates = {row["step"]: row["learning_rate"] for row in run.split("train")}
    assert rates[29] == pytest.approx(rate((2 + 10 / 35) / 4))
    assert rates[88] == pytest.approx(rate((2 + 69 / 35) / 4))


@pytest.mark.fault("N")
def test_a_run_that_max_steps_ends_is_measured_in_updates(fit: Fit, trainer: Trainer) -> None:
    run = fit("trainer.max_steps=18", "trainer.epochs=50", base=BASE)
    words = ("trainer.max_steps=36", "data.batch_size=128", "logger.log_every=1")
    outcome = trainer("fit", f"resume={run.folder}", *words)
    assert "Resumed at step 18 of 36" in outcome.out
    found = [row["learning_rate"] for row in run.split("train") if row["step"] > 18]
    assert found == pytest.approx([rate(step / 36) for step in range(18, 36)])


@pytest.mark.fault("N")
@pytest.mark.parametrize("word", ["data.batch_size=128", "data.batch_size=16"])
def test_what_is_given_in_updates_counts_those_that_were_made(
    fit: Fit, trainer: Trainer, word: str
) -> None:
    """`t_max` and warm-up: a run past its warm-up does not warm up again."""
    run = fit("scheduler.t_max=100", "scheduler.warmup_steps=15", base=BASE)
    words = ("trainer.epochs=3", "logger.log_every=1", word)
    assert trainer("fit", f"resume={run.folder}", *words).code == 0
    rows = [row for row in run.split("train") if row["step"] > 18]
    found = [row["learning_rate"] for row in rows]
    assert found == pytest.approx([rate((row["step"] - 1) / 100) for row in rows])


@pytest.mark.fault("N")
def test_one_cycle_keeps_its_place(fit: Fit, trainer: Trainer) -> None:
    words = ("scheduler=one_cycle", "scheduler.pct_start=0.1", "scheduler.anneal_strategy=linear")
    run = fit(*words, base=PLAIN_RATE)
    more = ("trainer.epochs=4", "data.batch_size=16", "logger.log_every=1")
    assert trainer("fit", f"resume={run.folder}", *more).code == 0
    found = [row["learning_rate"] for row in run.split("train") if row["step"] > 18]
    # 140 updates: down from 0.05 at the 14th to 0.05 / 25 / 10,000 at the last.
    last = 0.05 / 25 / 1e4
    expected = [0.05 + (last - 0.05) * (place - 13) / (139 - 13) for place in range(70, 140)]
    assert found == pytest.approx(expected)
