"""What all contenders share: the sizes of the job, the clock, the JSON line. No torch here: JAX
runs without it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NUM_TRAIN = 60_000
BATCH_SIZE = 64
EVAL_BATCH_SIZE = 1000
MOMENTUM = 0.9
READ_EVERY = 50  # steps between two looks at the loss
WARM_UP = 50  # steps left out of the time, on all sides
MEAN, STD = 0.2860, 0.3530


def learning_rate(model: str) -> float:
    """Low enough that the losses of two right programs agree; at 0.05 the linear one jumps."""
    return 0.005 if model == "linear" else 0.05


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


def limit_threads(threads: int) -> None:
    """Keep this process on `threads` cores, for libraries whose number of threads has no switch;
    call it first.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


@dataclass
class Clock:
    """Times the steps after the warm-up; losses are read after the time is taken."""

    losses: list[Any] = field(default_factory=list)
    num_samples: int = 0
    start: float = 0.0
    seconds: float = 0.0

    def count(self, loss: Any, num_samples: int) -> None:
        """A step is done; `loss` is a scalar of any library, without its graph."""
        self.losses.append(loss)
        if len(self.losses) > WARM_UP:
            self.num_samples += num_samples
        elif len(self.losses) == WARM_UP:
            self.start = time.perf_counter()

    def stop(self) -> None:
        """The epoch is over."""
        self.seconds = time.perf_counter() - self.start

    def result(self, *, num_parameters: int) -> dict[str, Any]:
        """Samples a second, and the losses that show that it trained."""
        losses = [float(loss) for loss in self.losses]
        return {
            "samples_per_second": self.num_samples / self.seconds,
            "seconds": self.seconds,
            "samples": self.num_samples,
            "initial_loss": losses[0],
            "early_loss": statistics.fmean(losses[:WARM_UP]),
            "late_loss": statistics.fmean(losses[WARM_UP:]),
            "num_parameters": num_parameters,
        }


def print_result(result: dict[str, Any]) -> None:
    """Print the result for the runner."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def result_of(output: str, prefix: str) -> dict[str, Any]:
    """The JSON of the one line of `output` that begins with `prefix`."""
    lines = output.splitlines()
    [line] = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    result: dict[str, Any] = json.loads(line)
    return result
