"""The work between updates: what is called when, what is saved with it, and what is remembered."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fake_training import FakeObserver, Training

from trainer.config.checks import Cadence
from trainer.engine.loop_state import LoopState, MetricSums, PendingWork
from trainer.engine.progress import CadenceTimer, Limits, Monitor, Progress, StopReason


def test_the_work_of_an_update_has_an_order() -> None:
    """The log is flushed before a save: after a kill it must reach as far as the checkpoint."""
    training = Training(log_every=5, epochs=1)
    training.fit()
    assert training.tracker.calls == ["train 5", "eval 5", "epoch 5", "flush", "save 5"]


def test_a_failed_save_is_looked_for_at_every_log() -> None:
    training = Training(log_every=2)
    training.fit()
    assert training.store.num_checks == 5


def test_a_profile_gets_every_update_and_an_observer_those_it_wants() -> None:
    observer = FakeObserver(wanted=(2, 9))
    training = Training(observer=observer)
    training.fit()
    assert training.profiled == list(range(1, 11))
    assert observer.updates == [2, 9]
    assert [number for number, flags in enumerate(training.step.flags, 1) if flags[2]] == [2, 9]


def test_the_best_is_marked_and_metrics_are_saved_where_they_were_measured() -> None:
    training = Training(epochs=3, accuracies=(0.3, 0.2, 0.4), save_every="2steps")
    training.fit()
    assert training.store.best == [5, 15]
    assert training.store.saved == [2, 4, 5, 6, 8, 10, 12, 14, 15]
    assert [step for step, metrics in training.store.metrics.items() if metrics] == [5, 10, 15]
    assert training.store.metrics[15] == {
        "train/loss": 1.0, "train/accuracy": 0.5, "val/loss": 0.6, "val/accuracy": 0.4,
    }  # fmt: skip


def test_right_after_an_epoch_its_means_are_those_of_training() -> None:
    training = Training(epochs=1, eval_every="99steps")
    training.fit()
    assert training.steps("eval") == [5]
    assert training.store.metrics[5]["train/loss"] == 1.0


def test_a_state_is_saved_once() -> None:
    training = Training(max_steps=3, save_every="3steps")
    training.fit()
    training.periodic.save_now()
    training.periodic.finish()
    assert training.store.saved == [3, 3], "by the cadence, and after the last evaluation"


def test_a_run_resumed_in_place_does_not_save_its_checkpoint_again() -> None:
    first = Training(stop_at=3)
    first.fit()
    for saved_at, saved in ((3, []), (-1, [3])):
        second = Training(stop_at=3, max_steps=3)
        second.resume(first.store.table)
        second.state.loop_state.evaluated_at = 3
        second.state.loop_state.saved_at = saved_at
        assert second.fit() is StopReason.DONE
        assert second.store.saved == saved


def test_pauses_are_not_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    training = Training(epochs=1, log_every=1)
    validate = training.periodic._validate

    def slow(watch: Any) -> Any:
        nonlocal now
        now += 100.0
        assert validate is not None
        return validate(watch)

    training.periodic._validate = slow
    inner = training.step.read_sums

    def read_sums() -> tuple[float, float, int]:
        nonlocal now
        now += 1.0
        return inner()

    training.step.read_sums = read_sums  # type: ignore[method-assign]
    training.fit()
    assert [record.seconds for record in training.tracker.train_records] == [1, 2, 3, 4, 5]
    assert {record.samples_per_second for record in training.tracker.train_records} == {2.0}
    assert training.state.progress.seconds == 5.0
    [epoch] = training.tracker.epoch_records
    assert epoch.duration == 105.0, "an epoch includes its evaluation"
    assert epoch.seconds == 5.0


@pytest.mark.parametrize(
    ("cadence", "due"),
    [("2epochs", [6, 12]), ("4steps", [4, 8, 12]), ("1epoch", [3, 6, 9, 12]), ("1step", None)],
)
def test_a_cadence_counts_completed_work(cadence: str, due: list[int] | None) -> None:
    timer = CadenceTimer(Cadence.parse("eval_every", cadence))
    progress = Progress()
    found = []
    for number in range(1, 14):
        progress.count_batch(2, is_update=True, is_epoch_end=number % 3 == 0)
        if timer.is_due(progress, is_epoch_end=number % 3 == 0):
            found.append(number)
    assert found == (due or list(range(1, 14)))


def test_a_cadence_in_minutes_counts_from_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    timer = CadenceTimer(Cadence.parse("save_every", "0.5min"))
    due = []
    for second in range(1, 100):
        now = 1000.0 + second
        if timer.is_due(Progress(), is_epoch_end=False):
            due.append(second)
    assert due == [30, 60, 90]


def test_the_loop_state_on_the_disk_has_its_names() -> None:
    state = LoopState(
        window=MetricSums(2.0, 1.0, 2),
        epoch=MetricSums(3.0, 2.0, 4),
        logged_at=4,
        evaluated_at=5,
        learning_rate=0.1,
        last_epoch=(0.5, None),
        pending=PendingWork(evaluates=True, ends_epoch=False, saves=True),
    )
    saved = state.state_dict()
    assert saved == {
        "window": {"loss": 2.0, "correct": 1.0, "samples": 2},
        "epoch": {"loss": 3.0, "correct": 2.0, "samples": 4},
        "logged_at": 4,
        "evaluated_at": 5,
        "learning_rate": 0.1,
        "last_epoch": (0.5, None),
        "owed": {"evaluates": True, "ends_epoch": False, "saves": True},
    }
    restored = LoopState()
    restored.load_state_dict(saved)
    assert restored == state
    assert restored.splits_at(4) == {"train"} and restored.splits_at(5) == {"val"}
    for key, value in (("owed", {"evaluates": 1}), ("window", {}), ("last_epoch", (1.0, "x"))):
        with pytest.raises(ValueError, match=r"expected|wrong type"):
            restored.load_state_dict({**saved, key: value})


def test_another_monitored_metric_starts_afresh() -> None:
    monitor = Monitor("val/accuracy", patience=None)
    assert monitor.update(0.5, 3)
    state = monitor.state_dict()
    same, other = Monitor("val/accuracy", patience=1), Monitor("val/loss", patience=1)
    same.load_state_dict(state)
    other.load_state_dict(state)
    assert (same.best, same.best_step, other.best) == (0.5, 3, None)
    assert not same.update(0.5, 4) and same.stop_reason is StopReason.PATIENCE


def test_a_search_that_was_killed_before_it_ended_a_run_ends_it() -> None:
    pruned = Monitor("val/accuracy", patience=None, should_prune=lambda value: value < 0.5)
    pruned.update(0.7, 3)
    assert "is_pruned" not in pruned.state_dict()
    pruned.update(0.2, 4)
    state = pruned.state_dict()
    in_search = Monitor("val/accuracy", patience=None, should_prune=lambda _: False)
    alone = Monitor("val/accuracy", patience=None)
    for monitor in (in_search, alone):
        monitor.load_state_dict(state)
    reasons = [in_search.stop_reason, alone.stop_reason]
    in_search.update(0.9, 5)
    reasons.append(in_search.stop_reason)
    assert reasons == [StopReason.PRUNED, StopReason.DONE, StopReason.DONE]
    with pytest.raises(ValueError, match="is_pruned"):
        alone.load_state_dict({**state, "is_pruned": 1})


@pytest.mark.parametrize(
    ("max_steps", "updates", "epochs"), [(None, 6, 2), (4, 4, 2), (3, 3, 1), (0, 0, 0)]
)
def test_limits_in_updates_and_epochs(max_steps: int | None, updates: int, epochs: int) -> None:
    limits = Limits(epochs=2, max_steps=max_steps, accumulate=2)
    assert (limits.num_updates(5), limits.num_epochs(5)) == (updates, epochs)


def test_a_short_epoch_is_logged_several_times() -> None:
    """Failed before: with 16 updates an epoch three epochs had one record, which mixed them."""
    found = {
        num_batches: Limits(epochs=3, max_steps=None, accumulate=2).log_every(num_batches)
        for num_batches in (1, 2, 3, 7, 8, 15, 32, 100, 398, 400, 10_000)
    }
    assert found == {
        1: 50, 2: 50, 3: 1, 7: 1, 8: 1, 15: 2, 32: 4, 100: 12, 398: 49, 400: 50, 10_000: 50,
    }  # fmt: skip


def test_an_epoch_has_a_record_of_its_means() -> None:
    training = Training(log_every=4)
    training.fit()
    first, second = training.tracker.epoch_records
    assert (first.epoch, first.step, first.samples, first.loss, first.accuracy) == (
        1,
        5,
        10,
        1,
        0.5,
    )
    assert (second.epoch, second.step, second.samples, second.learning_rate) == (2, 10, 20, 10.0)


def test_after_a_resume_the_speed_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed before: the samples of the whole epoch were counted for the seconds of its end."""
    first = Training(stop_at=3)
    first.fit()
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    second = Training(epochs=1)
    second.resume(first.store.table)
    second.periodic = second.make_periodic()
    now = 2.0
    second.fit()
    [epoch] = second.tracker.epoch_records
    assert (epoch.samples, epoch.duration, epoch.samples_per_second) == (10, 2.0, 2.0)


@pytest.mark.parametrize(
    ("stops_evaluation", "splits"), [(None, {"val", "train_epoch"}), (1, set())]
)
def test_a_checkpoint_says_whether_its_epoch_has_its_record(
    stops_evaluation: int | None, splits: set[str]
) -> None:
    """By it a resume decides whether a row at its step stays or is made again."""
    training = Training(stop_at=5, stops_evaluation=stops_evaluation)
    training.fit()
    assert training.state.loop_state.splits_at(5) == splits
    resumed = Training(epochs=1)
    resumed.resume(training.store.table)
    resumed.fit()
    ended = [*training.steps("epoch"), *resumed.steps("epoch")]
    assert ended == [5]
