"""The training loop. It calls its collaborators by name; there are no callbacks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from trainer.data.batches import Batches, find_not_finite
from trainer.data.workers import WorkerKilled
from trainer.engine.evaluate import EvaluationStopped
from trainer.engine.loop_state import TrainState
from trainer.engine.periodic import Periodic
from trainer.engine.progress import StopReason
from trainer.engine.step import NonFiniteError
from trainer.errors import CustomCodeError, TrainerError, TrainingError


def fit(
    state: TrainState,
    batches: Batches,
    *,
    periodic: Periodic,
    should_stop: Callable[[], bool],
) -> StopReason:
    """Train from where `state` is until a limit, a stop, or the monitor ends it; returns which.

        while epochs and steps are left:
            for inputs, targets in the epoch, from where progress is:
                set the learning rate
                forward, backward, and an update when the accumulation window is full
                after an update: log, evaluate, save, where due
                stopped by a signal, pruned, out of patience, out of steps: end
        log, evaluate and save once more, unless that was just done; after a signal, only save

    A window of accumulation never reaches into the next epoch. Raises TrainingError when the loss
    is not finite.
    """
    with _as_training_error(state, batches):
        try:
            periodic.catch_up()
            reason = _train(state, batches, periodic=periodic, should_stop=should_stop)
            if reason is not StopReason.STOPPED:
                periodic.finish()
        except EvaluationStopped:
            reason = StopReason.STOPPED
        except (CustomCodeError, WorkerKilled):
            # A signal to the whole process group ends the workers of a streamed data set too.
            if not should_stop():
                raise
            reason = StopReason.STOPPED
            # Half a window of gradients cannot be saved.
            if state.progress.batch % state.limits.accumulate:
                return reason
        if reason is StopReason.STOPPED:
            periodic.save_now()
    return reason


def _train(
    state: TrainState,
    batches: Batches,
    *,
    periodic: Periodic,
    should_stop: Callable[[], bool],
) -> StopReason:
    progress = state.progress
    limits = state.limits
    # Not DONE where a run is resumed whose patience was over: it trains no further.
    reason = state.monitor.stop_reason
    while reason is StopReason.DONE and not limits.are_reached(progress):
        for inputs, targets in batches.epoch(progress.epoch, start=progress.batch):
            is_epoch_end = progress.batch + 1 == batches.num_batches
            is_update = is_epoch_end or (progress.batch + 1) % limits.accumulate == 0
            # Here, so that the schedule has the rate of an update while that update is logged.
            state.schedule.apply(step=progress.step, epoch=progress.epoch)
            state.step(
                inputs,
                targets,
                is_update=is_update,
                measure_norm=periodic.should_log(progress.step + 1),
                keep_update=periodic.should_keep(progress.step + 1),
            )
            progress.count_batch(len(targets), is_update=is_update, is_epoch_end=is_epoch_end)
            # No stop inside a window either: its gradients are in no checkpoint.
            if not is_update:
                continue
            periodic.after_update(is_epoch_end=is_epoch_end)
            # Before the signal is read: a stop with the last update does not make a run incomplete.
            if limits.are_reached(progress):
                break
            reason = StopReason.STOPPED if should_stop() else state.monitor.stop_reason
            if reason is not StopReason.DONE:
                break
    return reason


@contextlib.contextmanager
def _as_training_error(state: TrainState, batches: Batches) -> Iterator[None]:
    """Report a value that is not finite as a failed training, with the step and the rate.

    The batches are looked at first: a sample that is not finite is no matter of the rate.
    """
    try:
        yield
    except NonFiniteError as error:
        # Found before its update, which is not counted yet.
        step = state.progress.step + 1 if error.step is None else error.step
        rate = state.schedule.learning_rate
        hint = "Try a smaller optimizer.lr, trainer.clip_norm=1 or scheduler.warmup_steps=100."
        if step == 1 and error.step is None:
            hint = (
                "No update was made yet, so it is not the learning rate: look at what the model "
                "computes, and at the size of its inputs."
            )
        found = _sample_not_finite(state, batches, is_this_batch=error.step is None)
        if found is not None:
            hint = (
                f"In the training set {found} has a value that is not finite: correct it or leave "
                "the sample out."
            )
        raise TrainingError(
            f"{error.what} became {error.value} at step {step} (learning rate {rate:g}).",
            hint=hint,
        ) from error


def _sample_not_finite(state: TrainState, batches: Batches, *, is_this_batch: bool) -> str | None:
    """The first sample that is not finite in the batch being trained on, or in its epoch so far."""
    epoch = state.progress.epoch
    batch = state.progress.batch
    start = batch if is_this_batch else 0
    stop: int | None = batch + 1 if is_this_batch else batch
    if not is_this_batch and batch == 0 and epoch > 0:  # found after the last batch of an epoch
        epoch -= 1
        stop = None
    try:
        return find_not_finite(batches, epoch, start=start, stop=stop)
    except TrainerError:
        return None
