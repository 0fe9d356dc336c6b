"""Every random choice about data, each a pure function of the seed and its place."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, *place: str | int) -> int:
    """One seed for each `place` (a purpose, an epoch, a batch …), the same on every machine."""
    # Not hash(), which Python salts for each process. Shifted, so that it is positive in 64 bits.
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *place: str | int) -> torch.Generator:
    """A CPU generator seeded for `place`."""
    return torch.Generator().manual_seed(derive_seed(seed, *place))


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> Tensor:
    """The order of the samples in an epoch: a permutation (num_samples,)."""
    # Drawn on the CPU, whatever the device: each kind of device has another generator.
    return torch.randperm(num_samples, generator=generator(seed, "order", epoch))


def split_indices(num_samples: int, val_size: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the training and of the held-out part, each in ascending order."""
    order = torch.randperm(num_samples, generator=generator(seed, "split"))
    return order[val_size:].sort().values, order[:val_size].sort().values
