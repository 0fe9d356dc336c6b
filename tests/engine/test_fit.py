"""The loop, by counts: when it logs, evaluates, saves and ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_training import Training

from trainer.engine.loop_state import PendingWork
from trainer.engine.progress import StopReason
from trainer.errors import CustomCodeError, TrainingError


@pytest.mark.parametrize(
    ("options", "logs", "evaluations", "saves"),
    [
        ({}, [4, 8, 10], [5, 10], [5, 10]),
        ({"log_every": 1, "epochs": 1}, [1, 2, 3, 4, 5], [5], [5]),
        ({"log_every": 100}, [10], [5, 10], [5, 10]),
        ({"eval_every": "3steps", "save_every": "4steps"}, [4, 8, 10], [3, 6, 9, 10], None),
        ({"eval_every": "2epochs"}, [4, 8, 10], [10], [5, 10]),
        ({"epochs": 3, "eval_every": "2epochs"}, [4, 8, 12, 15], [10, 15], [5, 10, 15, 15]),
        ({"max_steps": 7}, [4, 7], [5, 7], [5, 7]),
        ({"max_steps": 5}, [4, 5], [5], [5]),
        ({"epochs": 0}, [], [0], [0]),
        ({"max_steps": 0}, [], [0], [0]),
        # 5 batches in windows of 2 are 3 updates: a window never reaches into the next epoch.
        ({"accumulate": 2, "log_every": 2}, [2, 4, 6], [3, 6], [3, 6]),
        ({"accumulate": 100}, [2], [1, 2], [1, 2]),
    ],
    ids=str,
)
def test_each_cadence_has_its_steps(
    options: dict[str, Any], logs: list[int], evaluations: list[int], saves: list[int] | None
) -> None:
    training = Training(**options)
    assert training.fit() is StopReason.DONE
    assert training.steps("train") == logs
    assert training.state.loop_state.logged_at == (logs[-1] if logs else -1)
    assert training.steps("eval") == evaluations
    # None: an evaluation that is the best so far is saved too.
    assert training.store.saved == (saves or sorted({4, 8, *evaluations}))


def test_updates_close_their_windows_and_counters_mean_completed_work() -> None:
    training = Training(accumulate=2)
    training.fit()
    assert [is_update for is_update, _, _ in training.step.flags] == [
        False, True, False, True, True,
        False, True, False, True, True,
    ]  # fmt: skip
    assert training.steps("epoch") == [3, 6]
    assert training.state.progress.counters() == {
        "epoch": 2, "batch": 0, "step": 6, "samples": 20,
    }  # fmt: skip


def test_the_norm_is_measured_for_the_updates_that_are_logged() -> None:
    training = Training(log_every=4)
    training.fit()
    assert [number for number, flags in enumerate(training.step.flags, 1) if flags[1]] == [4, 8]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_records_have_the_rate_of_their_update(accumulate: int) -> None:
    training = Training(accumulate=accumulate, log_every=1)
    training.fit()
    assert [record.learning_rate for record in training.tracker.train_records] == [
        float(record.step) for record in training.tracker.train_records
    ]
    assert [record.learning_rate for record in training.tracker.epoch_records] == [
        float(record.step) for record in training.tracker.epoch_records
    ]


def test_records_have_means_over_their_window() -> None:
    training = Training()
    training.fit()
    assert {(row.loss, row.accuracy) for row in training.tracker.train_records} == {(1.0, 0.5)}
    assert [row.samples for row in training.tracker.train_records] == [8, 16, 20]
    assert {(row.loss, row.accuracy) for row in training.tracker.epoch_records} == {(1.0, 0.5)}
    assert training.state.loop_state.epoch.samples == 0


@pytest.mark.parametrize(
    ("accuracies", "patience", "last"),
    [((0.5, 0.4, 0.4), 2, 15), ((0.5, 0.4, 0.6, 0.5, 0.5), 2, 25), ((0.5, 0.5), 1, 10)],
)
def test_patience_ends_a_run_after_so_many_evaluations_without_a_best(
    accuracies: tuple[float, ...], patience: int, last: int
) -> None:
    training = Training(epochs=9, accuracies=accuracies, patience=patience)
    assert training.fit() is StopReason.PATIENCE
    assert training.state.progress.step == last
    assert training.steps("eval")[-1] == training.store.saved[-1] == last
    assert training.state.monitor.best == max(accuracies)


def test_a_run_whose_patience_was_over_trains_no_further() -> None:
    training = Training(patience=1)
    training.state.monitor.num_stale = 1
    assert training.fit() is StopReason.PATIENCE
    assert training.step.flags == []


def test_a_pruned_run_ends_at_its_evaluation_and_is_saved() -> None:
    training = Training(epochs=9, should_prune=lambda value: value >= 0.02, save_every="9epochs")
    assert training.fit() is StopReason.PRUNED
    assert training.steps("eval") == training.store.saved == [5, 10]


def test_a_stop_saves_and_does_nothing_else() -> None:
    training = Training(stop_at=3)
    assert training.fit() is StopReason.STOPPED
    assert training.tracker.calls == ["flush", "save 3"]
    assert training.state.progress.counters()["batch"] == 3


def test_a_stop_at_the_end_of_an_epoch_saves_once() -> None:
    training = Training(stop_at=5)
    assert training.fit() is StopReason.STOPPED
    assert training.store.saved == training.steps("epoch") == [5]


def test_a_stop_with_the_last_update_does_not_undo_that_the_run_is_done() -> None:
    training = Training(stop_at=10)
    assert training.fit() is StopReason.DONE
    assert training.steps("eval")[-1] == 10


def test_a_resumed_run_starts_at_its_batch_and_ends_as_an_unbroken_one() -> None:
    whole, first, second = Training(), Training(stop_at=7), Training()
    whole.fit()
    first.fit()
    second.resume(first.store.table)
    assert second.fit() is StopReason.DONE
    assert second.batches.epochs == [(1, 2)]
    for kind in ("train", "eval", "epoch"):
        assert first.steps(kind) + second.steps(kind) == whole.steps(kind)
    assert second.state.progress.counters() == whole.state.progress.counters()


def test_work_that_a_stop_interrupts_stays_pending_and_is_done_after_a_resume() -> None:
    training = Training(stops_evaluation=1)
    assert training.fit() is StopReason.STOPPED
    assert training.tracker.calls == ["train 4", "flush", "save 5"]
    assert training.store.table["journal"]["owed"] == {
        "evaluates": True, "ends_epoch": True, "saves": True,
    }  # fmt: skip
    assert training.state.loop_state.pending == PendingWork(
        evaluates=True, ends_epoch=True, saves=True
    )
    resumed = Training()
    resumed.resume(training.store.table)
    assert resumed.fit() is StopReason.DONE
    assert resumed.tracker.calls[:4] == ["eval 5", "epoch 5", "flush", "save 5"]
    assert resumed.tracker.epoch_records[0].learning_rate == 5.0
    assert resumed.steps("eval") == [5, 10]
    assert resumed.store.table["journal"]["owed"] is None


def test_a_stop_in_the_last_evaluation_saves_and_is_a_stop() -> None:
    training = Training(max_steps=7, stops_evaluation=2)
    assert training.fit() is StopReason.STOPPED
    assert training.store.saved == [5, 7] and training.steps("eval") == [5]


def test_a_requested_save_is_made_after_the_update() -> None:
    training = Training(save_requests=(2, 7))
    training.fit()
    assert training.store.saved == [2, 5, 7, 10]
    assert training.store.best == [5, 10]


def test_a_loss_that_is_not_finite_fails_with_its_step_and_rate() -> None:
    training = Training()
    training.step.nan_at_call = 7
    with pytest.raises(TrainingError, match=r"Loss became nan at step 7 \(learning rate 7\)"):
        training.fit()
    assert training.store.saved == [5]


@pytest.mark.parametrize(("call", "is_the_rate"), [(1, False), (2, True)])
def test_before_the_first_update_the_rate_is_not_blamed(call: int, is_the_rate: bool) -> None:
    training = Training()
    training.step.nan_at_call = call
    with pytest.raises(TrainingError) as raised:
        training.fit()
    assert raised.value.hint is not None
    assert ("smaller optimizer.lr" in raised.value.hint) == is_the_rate
    assert ("No update was made yet" in raised.value.hint) != is_the_rate


def test_a_flag_of_the_device_is_read_before_a_log_and_a_save() -> None:
    for options in ({"log_every": 3}, {"log_every": 99, "save_every": "3steps"}):
        training = Training(**options)
        training.step.is_finite = False
        with pytest.raises(TrainingError, match=r"Loss became nan at step 3 \(learning rate 3\)"):
            training.fit()
        assert training.tracker.calls == []


@pytest.mark.parametrize("stops_evaluation", [None, 1])
def test_weights_that_are_not_finite_are_never_saved(stops_evaluation: int | None) -> None:
    """Regression: after an evaluation that was stopped it was a traceback."""
    training = Training(stops_evaluation=stops_evaluation)
    training.step.has_weights = False
    with pytest.raises(TrainingError, match="A weight became nan at step 5"):
        training.fit()
    assert training.store.saved == []


@pytest.mark.parametrize(("batch", "saved"), [(2, [1]), (3, [])], ids=["full", "half a window"])
def test_a_worker_that_a_signal_kills_is_a_stop(batch: int, saved: list[int]) -> None:
    training = Training(accumulate=2)
    training.batches.dies_at = batch
    training.batches.before_dying = training.stop
    assert training.fit() is StopReason.STOPPED
    assert training.store.saved == saved


def test_a_worker_that_dies_by_itself_is_an_error() -> None:
    training = Training()
    training.batches.dies_at = 2
    with pytest.raises(CustomCodeError):
        training.fit()
    assert training.store.saved == []


def test_without_a_validation_set_training_is_monitored() -> None:
    training = Training(has_validation=False)
    training.fit()
    assert training.steps("eval") == [] and training.num_evaluations == 0
    assert training.state.monitor.best == 1.0 and training.store.best == [5]
    assert training.store.metrics[5] == {"train/loss": 1.0, "train/accuracy": 0.5}


def test_an_accuracy_that_is_nan_is_never_the_best() -> None:
    training = Training(accuracies=(math.nan, 0.1))
    training.fit()
    assert training.store.best == [10] and training.store.saved == [5, 10]
