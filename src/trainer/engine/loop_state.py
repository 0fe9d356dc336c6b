"""What training advances: the objects as one, and what the loop remembers between updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType

from trainer.engine.progress import Limits, Monitor, Progress
from trainer.engine.step import Step
from trainer.schedule import Schedule
from trainer.state_checks import NUMBER, NUMBER_OR_NONE, Count, StateDict, check


@dataclass(slots=True)
class MetricSums:
    """Loss and correct predictions summed on the host, over a logging window or an epoch."""

    loss: float = 0.0
    correct: float = 0.0
    samples: int = 0

    def add(self, loss: float, correct: float, samples: int) -> None:
        """Add the sums of more samples."""
        self.loss += loss
        self.correct += correct
        self.samples += samples

    def means(self, *, counts_correct: bool) -> tuple[float, float | None]:
        """Mean loss and accuracy; accuracy is None where predictions are values."""
        samples = max(1, self.samples)
        return self.loss / samples, self.correct / samples if counts_correct else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingWork:
    """The work of an update that follows its log row; checkpoints use these names."""

    evaluates: bool
    ends_epoch: bool
    saves: bool


@dataclass(slots=True)
class LoopState:
    """What the loop remembers between updates, besides the counters.

    A checkpoint saves it all but `saved_at` and `metrics`, those of the last evaluation: its
    folder's name and its header have them.
    """

    window: MetricSums = field(default_factory=MetricSums)
    epoch: MetricSums = field(default_factory=MetricSums)
    logged_at: int = -1
    evaluated_at: int = -1
    saved_at: int = -1
    learning_rate: float = 0.0  # of the last update
    last_epoch: tuple[float | None, float | None] = (None, None)  # mean loss and accuracy
    pending: PendingWork | None = None  # work that a stop interrupted
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    def splits_at(self, step: int) -> frozenset[str]:
        """The splits whose record at `step`, if there is one, was made already."""
        steps = {"train": self.logged_at, "val": self.evaluated_at}
        splits = {split for split, at in steps.items() if at == step}
        # Where an epoch has just ended its sums are empty; before its record was made they are not.
        if not self.epoch.samples:
            splits.add("train_epoch")
        return frozenset(splits)

    def state_dict(self) -> StateDict:
        """The saved fields as plain values."""
        return {
            "window": dataclasses.asdict(self.window),
            "epoch": dataclasses.asdict(self.epoch),
            "logged_at": self.logged_at,
            "evaluated_at": self.evaluated_at,
            "learning_rate": self.learning_rate,
            "last_epoch": self.last_epoch,
            # The name on the disk, which checkpoints keep.
            "owed": None if self.pending is None else dataclasses.asdict(self.pending),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore what `state_dict` returned; raises ValueError for anything else."""
        check(
            state,
            window=dict,
            epoch=dict,
            logged_at=int,  # -1 before the first
            evaluated_at=int,
            learning_rate=NUMBER,
            last_epoch=tuple,
            owed=(dict, NoneType),
        )
        for sums in (state["window"], state["epoch"]):
            check(sums, loss=NUMBER, correct=NUMBER, samples=Count)
        loss, accuracy = state["last_epoch"]  # another length raises ValueError too
        check({"loss": loss, "accuracy": accuracy}, loss=NUMBER_OR_NONE, accuracy=NUMBER_OR_NONE)
        owed = state["owed"]
        if owed is not None:
            check(owed, evaluates=bool, ends_epoch=bool, saves=bool)
        self.window = MetricSums(**state["window"])
        self.epoch = MetricSums(**state["epoch"])
        self.logged_at = state["logged_at"]
        self.evaluated_at = state["evaluated_at"]
        self.learning_rate = state["learning_rate"]
        self.last_epoch = (loss, accuracy)
        self.pending = None if owed is None else PendingWork(**owed)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """All that training advances, and the limits that end it."""

    step: Step
    schedule: Schedule
    progress: Progress
    monitor: Monitor
    limits: Limits
    loop_state: LoopState
