"""Data sets made from a formula: a Dirichlet classification task and points on a line."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.data.seeding import generator


def dirichlet(
    num_samples: int, *, features: int, alpha: float, seed: int, part: str
) -> tuple[Tensor, Tensor]:
    """x (N, features) ~ Dirichlet(alpha, …, alpha) in float32, and the place of each maximum, (N,).

    A Dirichlet sample is a normalised vector of Gamma(alpha, 1) samples (Devroye, 1986, XI.4).
    `part` (train, test) is a part of the seed: the two have different samples.
    """
    gammas = torch._standard_gamma(
        torch.full((num_samples, features), alpha, dtype=torch.float64),
        generator=generator(seed, "dirichlet", part),
    )
    # With a small alpha, every gamma of a row may underflow to zero, and the row sum with them.
    gammas = gammas.clamp_min(torch.finfo(torch.float64).tiny)
    inputs = (gammas / gammas.sum(1, keepdim=True)).to(torch.float32)
    return inputs, inputs.argmax(1)


def line(
    x: Sequence[float], *, a: float, b: float, noise: float, seed: int
) -> tuple[Tensor, Tensor]:
    """The points x (N, 1) and y = a x + b + noise (N, 1) in float32; `noise` is its deviation."""
    inputs = torch.tensor(x, dtype=torch.float32).unsqueeze(1)
    targets = a * inputs + b
    if noise:
        targets = targets + noise * torch.randn(targets.shape, generator=generator(seed, "line"))
    return inputs, targets
