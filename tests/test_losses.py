"""Losses against formulas written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.config import SCHEMAS
from trainer.errors import ConfigError
from trainer.losses import LOSSES, l1_norm, make_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, 0.1]])
CLASSES = torch.tensor([0, 2])


def test_every_loss_of_the_config_exists_and_knows_what_it_fits() -> None:
    assert set(LOSSES) == set(SCHEMAS["loss"])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(smoothing: float) -> None:
    log_probs = LOGITS - LOGITS.exp().sum(1, keepdim=True).log()
    targets = nn.functional.one_hot(CLASSES, 3) * (1 - smoothing) + smoothing / 3
    expected = -(targets * log_probs).sum(1).mean()
    loss = make_loss("cross_entropy", label_smoothing=smoothing)(LOGITS, CLASSES)
    torch.testing.assert_close(loss, expected)


def test_nll_of_log_probabilities_is_the_cross_entropy_of_logits() -> None:
    expected = make_loss("cross_entropy", label_smoothing=0.0)(LOGITS, CLASSES)
    torch.testing.assert_close(make_loss("nll")(LOGITS.log_softmax(1), CLASSES), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_bce_with_logits(smoothing: float) -> None:
    targets = nn.functional.one_hot(CLASSES, 3) * (1 - smoothing) + smoothing / 3
    probability = 1 / (1 + (-LOGITS).exp())
    expected = -(targets * probability.log() + (1 - targets) * (1 - probability).log()).mean()
    torch.testing.assert_close(
        make_loss("bce_with_logits", label_smoothing=smoothing)(LOGITS, CLASSES), expected
    )


@pytest.mark.parametrize(("margin", "p"), [(1.0, 1), (0.5, 2)])
def test_hinge_and_its_indifference_to_log_softmax(margin: float, p: int) -> None:
    expected = torch.zeros(())
    for row, right in zip(LOGITS, CLASSES, strict=True):
        for index, value in enumerate(row):
            if index != right:
                expected = expected + torch.clamp(margin - row[right] + value, min=0) ** p / 3
    loss = make_loss("hinge", margin=margin, p=p)
    torch.testing.assert_close(loss(LOGITS, CLASSES), expected / 2)
    torch.testing.assert_close(loss(LOGITS.log_softmax(1), CLASSES), expected / 2)


def test_losses_of_values() -> None:
    outputs, targets = torch.tensor([[1.0], [5.0]]), torch.tensor([[1.5], [2.0]])
    assert make_loss("mse")(outputs, targets).item() == pytest.approx((0.25 + 9) / 2)
    assert make_loss("l1")(outputs, targets).item() == pytest.approx((0.5 + 3) / 2)
    assert make_loss("huber", delta=1.0)(outputs, targets).item() == pytest.approx(
        (0.125 + 2.5) / 2
    )


def test_l1_norm() -> None:
    parameters = [nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([[-0.5]]))]
    assert l1_norm(parameters).item() == 3.5


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean cross_entropy"):
        make_loss("crossentropy")
