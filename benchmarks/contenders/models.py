"""The models as DESIGN.md gives them, in plain torch, and their optimizer: what every torch
contender trains.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from benchmarks.contenders.setting import MOMENTUM


def prepare(arguments: argparse.Namespace) -> None:
    """Threads and seed, the same on every side."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)


def make_model(name: str) -> nn.Module:
    """The plain model called `name`, on its own: whatever trainer does to be faster, its peers
    run this.
    """
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    if name == "mlp":
        return nn.Sequential(
            *(
                nn.Flatten(),
                nn.Linear(784, 512),
                nn.ReLU(),
                nn.Linear(512, 512),
                nn.ReLU(),
                nn.Linear(512, 10),
            )
        )
    if name == "lenet5":
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2)),
            *(
                nn.Flatten(),
                nn.Linear(400, 120),
                nn.ReLU(),
                nn.Linear(120, 84),
                nn.ReLU(),
                nn.Linear(84, 10),
            ),
        )
    if name == "cnn":
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)),
        )
    raise SystemExit(f"There is no benchmark of model {name}.")


def make_optimizer(
    model: nn.Module, *, lr: float, fused: bool | None = None
) -> torch.optim.Optimizer:
    """SGD with the settings of the job; torch's default implementation unless `fused`."""
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=MOMENTUM, fused=fused)


def count_parameters(model: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(parameter.numel() for parameter in model.parameters())
