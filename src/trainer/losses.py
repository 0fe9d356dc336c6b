"""The losses, each a function of the model's outputs and the targets, averaged over the batch.

Which loss fits which data and model: `trainer.config.compatibility`, before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.registry import look_up

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Cross-entropy of logits (N, C) and classes (N,)."""
    return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


def nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of log-probabilities (N, C) and classes (N,)."""
    return F.nll_loss(outputs, targets)


def bce_with_logits(outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Binary cross-entropy of logits (N, C) and classes (N,), one-hot and smoothed."""
    # One-hot here, so that the data has one kind of target for all losses over classes.
    one_hot = F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    smooth = one_hot * (1 - label_smoothing) + label_smoothing / outputs.shape[1]
    return F.binary_cross_entropy_with_logits(outputs, smooth)


def hinge(outputs: Tensor, targets: Tensor, *, margin: float, p: int) -> Tensor:
    """Multi-class margin loss of scores (N, C) and classes (N,) (Crammer and Singer, 2001)."""
    return F.multi_margin_loss(outputs, targets, margin=margin, p=p)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of values (N, K)."""
    return F.mse_loss(outputs, targets)


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of values (N, K)."""
    return F.l1_loss(outputs, targets)


def huber(outputs: Tensor, targets: Tensor, *, delta: float) -> Tensor:
    """Huber loss of values (N, K) (Huber, 1964)."""
    return F.huber_loss(outputs, targets, delta=delta)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "nll": nll,
    "bce_with_logits": bce_with_logits,
    "hinge": hinge,
    "mse": mse,
    "l1": l1,
    "huber": huber,
}


def make_loss(name: str, **options: object) -> Loss:
    """The loss called `name` with its options bound; raises ConfigError for an unknown name."""
    return partial(look_up(LOSSES, name, kind="loss"), **options)


def l1_norm(parameters: list[torch.nn.Parameter]) -> Tensor:
    """Sum of the absolute values of all parameters, a scalar."""
    # Sums of each, then of those: one sum of all values would copy the weights into a row.
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()
