"""Counts and numbers by class against plain counting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.metrics import ClassCounts, class_reports

CPU = torch.device("cpu")
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)


@settings(deadline=None, max_examples=100)
@given(PAIRS)
def test_they_equal_plain_counting(pairs: list[tuple[int, int]]) -> None:
    targets = torch.tensor([true for true, _ in pairs], dtype=torch.int64)
    predictions = torch.tensor([predicted for _, predicted in pairs], dtype=torch.int64)
    counts = ClassCounts(4, device=CPU)
    for some, theirs in zip(torch.split(predictions, 7), torch.split(targets, 7), strict=True):
        counts.add(some, theirs)
    for index, row in enumerate(class_reports(counts)):
        right = pairs.count((index, index))
        support = sum(true == index for true, _ in pairs)
        found = sum(predicted == index for _, predicted in pairs)
        assert row.support == support
        assert row.precision == (right / found if found else 0.0)
        assert row.recall == (right / support if support else 0.0)
        assert row.f1 == (
            2 * row.precision * row.recall / (row.precision + row.recall) if right else 0.0
        )


@pytest.mark.fault("N")
@pytest.mark.parametrize("num_classes", [40_000, 200_000])
def test_many_classes_take_memory_for_each_once(num_classes: int) -> None:
    """A matrix of 40,000 classes would be 12.8 GB, and of 200,000 320 GB."""
    counts = ClassCounts(num_classes, device=CPU)
    targets = torch.arange(num_classes)
    counts.add(targets.flip(0), targets)
    counts.add(targets, targets)
    assert int(counts.right.sum()) == num_classes
    reports = class_reports(counts)
    assert (reports[7].precision, reports[7].recall, reports[7].support) == (0.5, 0.5, 2)
