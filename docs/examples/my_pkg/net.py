"""A model of our own: made as SpiralNet(**model.kwargs), called with a batch of inputs."""

import torch
from torch import nn


class SpiralNet(nn.Module):
    """Two hidden layers: points (N, 2) -> logits (N, 2)."""

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2),
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(points)
        return logits
