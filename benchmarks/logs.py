"""What the default logger costs: the same training with it and with logger=none, in turn."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders.setting import NUM_TRAIN
from benchmarks.contenders.trainer import fit_words
from benchmarks.contenders.windows import SAYS
from benchmarks.machine import wait_for_quiet
from benchmarks.runner import Job
from benchmarks.startup import time_command

Windows = dict[str, dict[str, list[list[float]]]]
LOGGERS = ("tensorboard", "none")


def measure(models: Sequence[str], *, job: Job) -> Windows:
    """Seconds of every 50 steps of an epoch of all data, one record in each, by model and logger, a list a round."""
    found: Windows = {model: {logger: [] for logger in LOGGERS} for model in models}
    for number in range(job.rounds):
        for model, figures in found.items():
            for logger in LOGGERS if number % 2 else LOGGERS[::-1]:
                wait_for_quiet(job.patience)
                figures[logger].append(_windows(model, logger, job=job))
    return found


def cost(figures: dict[str, list[list[float]]]) -> float:
    """The share that logging adds to the time of the median window: whole runs differ by more than it from noise."""
    with_it, without = (statistics.median(_flat(figures[logger])) for logger in LOGGERS)
    return with_it / without - 1


def as_rows(found: Windows) -> list[list[str]]:
    """By model: the median window with and without in milliseconds, what is added, its spread by round, in total."""
    rows = []
    for model, figures in found.items():
        medians = {logger: [1000 * statistics.median(seconds) for seconds in figures[logger]] for logger in LOGGERS}
        added = [ours / none - 1 for ours, none in zip(*medians.values(), strict=True)]
        totals = [sum(map(sum, figures[logger])) for logger in LOGGERS]
        windows = [f"{1000 * statistics.median(_flat(figures[logger])):.1f}" for logger in LOGGERS]
        spread = f"{min(added):+.1%} to {max(added):+.1%}"
        rows.append([model, *windows, f"{cost(figures):+.1%}", spread, f"{totals[0] / totals[1] - 1:+.1%}"])
    return rows


def _flat(rounds: list[list[float]]) -> list[float]:
    return [seconds for one in rounds for seconds in one]


def _windows(model: str, logger: str, *, job: Job) -> list[float]:
    setting = argparse.Namespace(model=model, data_root=job.data_root, limit=NUM_TRAIN, threads=job.threads, seed=0)
    with tempfile.TemporaryDirectory(prefix="logs-") as folder:
        words = [*fit_words(setting, Path(folder) / "run"), f"logger={logger}", "data.eval_limit=1"]
        _, done = time_command([sys.executable, "-m", "benchmarks.contenders.windows", *words])
    [said] = [line.removeprefix(SAYS) for line in done.stdout.splitlines() if line.startswith(SAYS)]
    seconds: list[float] = json.loads(said)
    return seconds
