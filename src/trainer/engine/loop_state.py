"""What the journal remembers from step to step: sums that are not logged yet, where it stands,
what it still owes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import NoneType
from typing import Any

from trainer.state_checks import NUMBER, NUMBER_OR_NONE, Count, check


class MetricSums:
    """Loss and right predictions added up on the host, over a logging window or an epoch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.loss, self.correct, self.samples = 0.0, 0.0, 0

    def add(self, loss: float, correct: float, samples: int) -> None:
        """Take in more sums."""
        self.loss, self.correct, self.samples = (
            self.loss + loss,
            self.correct + correct,
            self.samples + samples,
        )

    def means(self, *, counts_correct: bool) -> tuple[float, float | None]:
        """Mean loss and accuracy; accuracy is None where predictions are values."""
        samples = max(1, self.samples)
        return self.loss / samples, self.correct / samples if counts_correct else None

    def state_dict(self) -> dict[str, Any]:
        """The sums by name."""
        return {"loss": self.loss, "correct": self.correct, "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; raises ValueError for any other."""
        check(state, loss=NUMBER, correct=NUMBER, samples=Count)
        self.loss, self.correct, self.samples = state["loss"], state["correct"], state["samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingWork:
    """What is to be done at a step after its row was logged."""

    evaluates: bool
    ends_epoch: bool
    saves: bool


class Standing:
    """What the journal remembers from step to step, and a checkpoint keeps: sums, where it
    stands, what it owes.
    """

    def __init__(self) -> None:
        self.window, self.epoch = MetricSums(), MetricSums()
        self.logged_at = self.evaluated_at = -1
        self.learning_rate = 0.0  # of the last update
        self.last_epoch: tuple[float | None, float | None] = (None, None)
        self.owed: PendingWork | None = None

    def splits_at(self, step: int) -> frozenset[str]:
        """The splits that have a record at `step`."""
        return frozenset(
            split
            for split, at in (("train", self.logged_at), ("val", self.evaluated_at))
            if at == step
        )

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "window": self.window.state_dict(),
            "epoch": self.epoch.state_dict(),
            "logged_at": self.logged_at,
            "evaluated_at": self.evaluated_at,
            "learning_rate": self.learning_rate,
            "last_epoch": self.last_epoch,
            "owed": None if self.owed is None else dataclasses.asdict(self.owed),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; raises ValueError for any other."""
        check(
            state,
            window=dict,
            epoch=dict,
            logged_at=int,
            evaluated_at=int,
            learning_rate=NUMBER,
            last_epoch=tuple,
            owed=(dict, NoneType),
        )
        self.window.load_state_dict(state["window"])
        self.epoch.load_state_dict(state["epoch"])
        self.logged_at, self.evaluated_at = state["logged_at"], state["evaluated_at"]
        self.learning_rate = state["learning_rate"]
        loss, accuracy = state["last_epoch"]
        check({"loss": loss, "accuracy": accuracy}, loss=NUMBER_OR_NONE, accuracy=NUMBER_OR_NONE)
        self.last_epoch = (loss, accuracy)
        self.owed = None
        if state["owed"] is not None:
            check(state["owed"], evaluates=bool, ends_epoch=bool, saves=bool)
            self.owed = PendingWork(**state["owed"])
