"""A data set of our own: two interlocked spirals, which no straight line can separate."""

import math

import torch
from torch.utils.data import Dataset


class TwoSpirals(Dataset[tuple[torch.Tensor, int]]):
    """Points (2,) near one of two spirals, and which one it is; `seed` chooses the points."""

    classes = ("first spiral", "second spiral")

    def __init__(self, *, num_samples: int = 2000, noise: float = 0.02, seed: int = 0) -> None:
        own = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 2, (num_samples,), generator=own)
        radius = torch.rand(num_samples, generator=own)
        angle = 3 * math.pi * radius + math.pi * self.labels
        points = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1)
        self.points = points + noise * torch.randn(points.shape, generator=own)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.points[index], int(self.labels[index])
