"""Outputs against targets: each shape that a loss would broadcast is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.engine.outputs import OutputCheck
from trainer.errors import ConfigError

CLASSES = torch.zeros(4, dtype=torch.int64)
VALUES = torch.zeros(4, 1)


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        ((VALUES, VALUES), VALUES, "In training the model returns a tuple, not a tensor"),
        ({"logits": VALUES}, CLASSES, "returns a dict"),
        (torch.zeros(4), VALUES, r"shape \(4,\), and the targets have shape \(4, 1\)"),
        (torch.zeros(4, 2), VALUES, r"shape \(4, 2\), and the targets"),
        (torch.zeros(1, 1), VALUES, r"shape \(1, 1\), and the targets"),
        (torch.zeros(4, 5), CLASSES, r"shape \(4, 5\) for 4 samples, not \(4, 3\)"),
        (torch.zeros(3), CLASSES[:1], r"shape \(3,\) for one sample, not \(1, 3\)"),
        (torch.zeros(4, 3, 1), CLASSES, r"shape \(4, 3, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(outputs: Any, targets: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OutputCheck("In training", num_outputs=3)(outputs, targets)


def test_what_fits_passes_and_each_size_of_batch_is_checked_once() -> None:
    check = OutputCheck("In training", num_outputs=3)
    check(torch.zeros(4, 3), CLASSES)
    check(torch.zeros(9), CLASSES)
    with pytest.raises(ConfigError):
        check(torch.zeros(3), CLASSES[:1])
    OutputCheck("In training")(torch.zeros(4, 7), CLASSES)
    OutputCheck("In training", num_outputs=3)(torch.zeros(4, 1), VALUES)


@pytest.mark.fault("N")
def test_outputs_without_a_gradient_are_refused_in_training_only() -> None:
    outputs = torch.zeros(4, 3)
    OutputCheck("In evaluation")(outputs, CLASSES)
    OutputCheck("In training", is_training=True)(outputs.clone().requires_grad_(), CLASSES)
    with pytest.raises(ConfigError, match="In training the model's outputs have no gradient"):
        OutputCheck("In training", is_training=True)(outputs, CLASSES)
