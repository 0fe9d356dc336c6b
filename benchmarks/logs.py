"""What the loggers cost: the same training with each of them and with none, in turn."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders.setting import NUM_TRAIN, result_of
from benchmarks.contenders.trainer import fit_words
from benchmarks.contenders.windows import PREFIX
from benchmarks.machine import wait_for_quiet
from benchmarks.runner import Job
from benchmarks.startup import time_command

# By model and logger, a round each: `windows`, the seconds of every 50 steps of two epochs of all
# data, a record in each, and `logging`, the seconds of them in the logger's calls. Two epochs have
# every kind of record of the default.
Rounds = list[dict[str, Any]]
Found = dict[str, dict[str, Rounds]]
LOGGERS = ("none", "tensorboard", "tensorboard_full")


def measure(models: Sequence[str], *, job: Job) -> Found:
    """Two epochs with each logger in turn."""
    found: Found = {model: {logger: [] for logger in LOGGERS} for model in models}
    for number in range(job.rounds):
        for model, figures in found.items():
            for logger in LOGGERS if number % 2 else LOGGERS[::-1]:
                wait_for_quiet(job.patience)
                figures[logger].append(_windows(model, logger, job=job))
    return found


def cost(figures: dict[str, Rounds], logger: str = "tensorboard") -> float:
    """The share of the training time spent in a logger's calls: the median of the rounds."""
    return statistics.median(float(one["logging"]) / sum(one["windows"]) for one in figures[logger])


def as_rows(found: Found) -> list[list[str]]:
    """By model: the share of each logger, and beside it how much longer the epoch took than
    without one.
    """
    rows = []
    for model, figures in found.items():
        seconds = {logger: _undisturbed(figures[logger]) for logger in LOGGERS}
        shares = [f"{cost(figures, logger):.1%}" for logger in LOGGERS[1:]]
        longer = [f"{seconds[logger] / seconds['none'] - 1:+.1%}" for logger in LOGGERS[1:]]
        rows.append([model, f"{seconds['none']:.2f}", *shares, *longer])
    return rows


def _undisturbed(rounds: Rounds) -> float:
    """The sum over the windows of the least time that each took in any round.

    What is logged falls into the same windows in every round; what disturbs does not.
    """
    windows: list[list[float]] = [one["windows"] for one in rounds]
    return math.fsum(min(times) for times in zip(*windows, strict=True))


def _windows(model: str, logger: str, *, job: Job) -> dict[str, Any]:
    setting = argparse.Namespace(
        model=model, data_root=job.data_root, limit=NUM_TRAIN, threads=job.threads, seed=0
    )
    with tempfile.TemporaryDirectory(prefix="logs-") as folder:
        words = [
            *fit_words(setting, Path(folder) / "run"),
            f"logger={logger}",
            "data.eval_limit=1",
            "trainer.epochs=2",
        ]
        _, done = time_command([sys.executable, "-m", "benchmarks.contenders.windows", *words])
    return result_of(done.stdout, PREFIX)
