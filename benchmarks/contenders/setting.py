"""What all contenders share: the sizes of the job, the models as DESIGN.md gives them, the clock, the JSON line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

BATCH_SIZE = 64
EVAL_BATCH_SIZE = 1000
LEARNING_RATE = 0.05
MOMENTUM = 0.9
READ_EVERY = 50  # steps between two looks at the loss
WARM_UP = 50  # steps left out of the time, on all sides
MEAN, STD = 0.2860, 0.3530


def parse_arguments() -> argparse.Namespace:
    """The arguments that `benchmarks.runner` passes to every contender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--variant", default="")
    return parser.parse_args()


def prepare(arguments: argparse.Namespace) -> None:
    """Threads and seed, the same on every side."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)


def make_model(name: str) -> nn.Module:
    """The plain model called `name`, on its own: whatever trainer does to be faster, its peers run this."""
    if name == "mlp":
        return nn.Sequential(
            *(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        )
    if name == "lenet5":
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )
    if name == "cnn":
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10)),
        )
    raise SystemExit(f"There is no benchmark of model {name}.")


def make_optimizer(model: nn.Module, *, fused: bool | None = None) -> torch.optim.Optimizer:
    """SGD as the job says; torch's default implementation unless `fused`."""
    return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=fused)


@dataclass
class Clock:
    """Times the steps after the warm-up; losses are kept as they are and read when the time is taken."""

    losses: list[Tensor] = field(default_factory=list)
    num_samples: int = 0
    start: float = 0.0
    seconds: float = 0.0

    def count(self, loss: Tensor, num_samples: int) -> None:
        """A step is done."""
        self.losses.append(loss.detach())
        if len(self.losses) > WARM_UP:
            self.num_samples += num_samples
        elif len(self.losses) == WARM_UP:
            self.start = time.perf_counter()

    def stop(self) -> None:
        """The epoch is over."""
        self.seconds = time.perf_counter() - self.start

    def result(self, model: nn.Module) -> dict[str, Any]:
        """Samples a second, and the losses that show that it trained."""
        losses = torch.stack(self.losses).double()
        return {
            "samples_per_second": self.num_samples / self.seconds,
            "seconds": self.seconds,
            "samples": self.num_samples,
            "early_loss": losses[:WARM_UP].mean().item(),
            "late_loss": losses[WARM_UP:].mean().item(),
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        }


def tell(result: dict[str, Any]) -> None:
    """Print the result for the runner."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
