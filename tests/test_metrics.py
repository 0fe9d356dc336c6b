"""Confusion matrix and per-class numbers against plain counting."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.metrics import class_reports, confusion_matrix

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)


@settings(deadline=None, max_examples=100)
@given(PAIRS)
def test_they_equal_plain_counting(pairs: list[tuple[int, int]]) -> None:
    targets = torch.tensor([true for true, _ in pairs], dtype=torch.int64)
    predictions = torch.tensor([predicted for _, predicted in pairs], dtype=torch.int64)
    matrix = confusion_matrix(predictions, targets, num_classes=4)
    for true in range(4):
        for predicted in range(4):
            assert matrix[true, predicted] == pairs.count((true, predicted))
    for index, row in enumerate(class_reports(matrix)):
        right = pairs.count((index, index))
        support = sum(true == index for true, _ in pairs)
        found = sum(predicted == index for _, predicted in pairs)
        assert row.support == support
        assert row.precision == (right / found if found else 0.0)
        assert row.recall == (right / support if support else 0.0)
        assert row.f1 == (
            2 * row.precision * row.recall / (row.precision + row.recall) if right else 0.0
        )
