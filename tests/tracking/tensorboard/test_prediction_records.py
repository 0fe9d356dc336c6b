"""When figures and curves of predictions are written, and of what."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from composing import config_of

from trainer.tracking.tensorboard.prediction_records import MAX_CURVES, PredictionRecords


class Written:
    """A writer that only remembers tags and steps."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int]] = []

    def image(self, tag: str, pixels: Any, step: int) -> None:
        self.found.append((tag, step))

    def tensor(self, tag: str, values: Any, metadata: Any, step: int) -> None:
        self.found.append((tag, step))

    def of(self, group: str) -> list[tuple[str, int]]:
        return [(tag, step) for tag, step in self.found if tag.startswith(group)]


def records(
    *overrides: str, classes: int = 3, num_evaluations: int = 0
) -> tuple[PredictionRecords, Written]:
    writer, kinds = Written(), config_of(*overrides).logger
    names = [f"class {index}" for index in range(classes)]
    return PredictionRecords(writer, names, kinds, num_evaluations=num_evaluations), writer  # type: ignore[arg-type]


def evaluate(shown: PredictionRecords, split: str, step: int, classes: int = 3) -> None:
    outputs = torch.randn(20, classes, generator=torch.Generator().manual_seed(step))
    shown.watch(split)(torch.zeros(20, 4), outputs, torch.arange(20) % classes)
    shown.evaluation(split, step)


def test_by_default_figures_are_of_the_last_evaluation_and_of_the_test() -> None:
    shown, writer = records()
    for step in (10, 20, 30):
        evaluate(shown, "val", step)
    assert writer.of("Confusion") == []
    evaluate(shown, "test", 20)
    shown.draw()
    assert writer.of("Confusion") == [("Confusion/val", 30), ("Confusion/test", 20)]
    assert writer.of("Reliability") == [("Reliability/val", 30), ("Reliability/test", 20)]


@pytest.mark.parametrize(("before", "drawn"), [(0, [20, 30]), (1, [10, 30])])
def test_a_cadence_counts_on_after_a_resume_and_the_last_is_drawn_once(
    before: int, drawn: list[int]
) -> None:
    shown, writer = records("logger.figures_every=2", num_evaluations=before)
    for step in (10, 20, 30):
        evaluate(shown, "val", step)
    shown.draw()
    assert writer.of("Confusion") == [("Confusion/val", step) for step in drawn]


def test_curves_of_every_class_and_of_no_more_than_one_can_look_at() -> None:
    shown, writer = records("logger.pr_curves_every=2", classes=60)
    for step in (10, 20):
        evaluate(shown, "val", step, classes=60)
    found = writer.of("Precision_recall/val")
    assert found == [(f"Precision_recall/val/class {index}", 20) for index in range(MAX_CURVES)]


@pytest.mark.fault("N")
def test_of_very_many_classes_there_is_no_matrix() -> None:
    """A matrix of 100,000 classes would be 80 GB; the other figures are as ever."""
    shown, writer = records(classes=100_000)
    evaluate(shown, "val", 10, classes=100_000)
    shown.draw()
    assert writer.of("Confusion") == []
    assert writer.of("Reliability") == [("Reliability/val", 10)]


def test_an_evaluation_that_was_not_watched_shows_nothing() -> None:
    shown, writer = records("logger.figures_every=1")
    shown.evaluation("val", 10)
    shown.draw()
    assert writer.found == []
