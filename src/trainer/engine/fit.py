"""The training loop. What it calls is given to it, by name; there are no callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainer.data.batches import Batches
from trainer.engine.evaluate import EvaluationStopped
from trainer.engine.periodic import Periodic
from trainer.engine.progress import Monitor, Progress
from trainer.engine.step import NonFiniteError, Step
from trainer.errors import CustomCodeError, TrainingError
from trainer.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run is over, and how many batches make an update."""

    epochs: int
    max_steps: int | None
    accumulate: int

    def are_reached(self, progress: Progress) -> bool:
        """Whether nothing is left to do."""
        return progress.epoch >= self.epochs or (
            self.max_steps is not None and progress.step >= self.max_steps
        )

    def num_updates(self, num_batches: int) -> int:
        """How many updates the whole run makes, for `num_batches` an epoch."""
        updates = self.epochs * -(-num_batches // self.accumulate)
        return updates if self.max_steps is None else min(updates, self.max_steps)

    def num_epochs(self, num_batches: int) -> int:
        """How many epochs the whole run reaches into."""
        return min(
            self.epochs,
            -(-self.num_updates(num_batches) // max(1, -(-num_batches // self.accumulate))),
        )

    def num_samples(self, batches: Batches) -> int:
        """About how many samples the whole run trains on (exact when it ends with an epoch)."""
        return round(
            self.num_updates(batches.num_batches)
            / -(-batches.num_batches // self.accumulate)
            * batches.num_samples
        )


def fit(
    *,
    step: Step,
    batches: Batches,
    schedule: Schedule,
    journal: Periodic,
    monitor: Monitor,
    progress: Progress,
    limits: Limits,
    should_stop: Callable[[], bool],
) -> str:
    """Train from where `progress` stands; returns why it ended: `done`, `patience`, `pruned` or
    `stopped`.

        while epochs and steps are left:
            for inputs, targets in the epoch, from where progress stands:
                forward, backward, and an update when the accumulation window is full
                after an update: log, evaluate, save, where due
                asked to stop, pruned, out of patience, out of steps: end
        log, evaluate and save once more, unless that was just done; asked to stop, only save

    A window of accumulation never reaches into the next epoch. Raises TrainingError when the loss
    is not finite.
    """
    schedule.apply(step=progress.step, epoch=progress.epoch)
    reason, learning_rate = "done", schedule.learning_rate
    try:
        journal.catch_up()
        reason = monitor.verdict
        while reason == "done" and not limits.are_reached(progress):
            for inputs, targets in batches.epoch(progress.epoch, start=progress.batch):
                ends_epoch = progress.batch + 1 == batches.num_batches
                updates = ends_epoch or (progress.batch + 1) % limits.accumulate == 0
                learning_rate = schedule.learning_rate
                number = progress.step + 1
                measures, keeps = journal.should_log(number), journal.should_keep(number)
                step(inputs, targets, updates=updates, measures=measures, keeps=keeps)
                progress.count_batch(len(targets), updates=updates, ends_epoch=ends_epoch)
                if not updates:
                    continue
                schedule.apply(step=progress.step, epoch=progress.epoch)
                journal.after_update(learning_rate=learning_rate, ends_epoch=ends_epoch)
                if limits.are_reached(progress):
                    break
                reason = "stopped" if should_stop() else monitor.verdict
                if reason != "done":
                    break
        if reason == "stopped":
            journal.save_now()
        else:
            journal.finish()
    except EvaluationStopped:
        reason = "stopped"
        journal.save_now()
    except CustomCodeError:
        # A signal to the whole process group ends the workers of a streamed data set too.
        if not should_stop():
            raise
        reason = "stopped"
        if progress.batch % limits.accumulate == 0:  # half a window of gradients cannot be saved
            journal.save_now()
    except NonFiniteError as error:
        at = progress.step + 1 if error.step is None else error.step
        raise TrainingError(
            f"{error.what} became {error.value} at step {at} (learning rate {learning_rate:g}).",
            hint="Try a smaller optimizer.lr, trainer.clip_norm=1 or scheduler.warmup_steps=100.",
        ) from error
    return reason
