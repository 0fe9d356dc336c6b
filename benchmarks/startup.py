"""How long commands take from start to exit, and to the first step of a training, seen from
outside.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.contenders.trainer import wall_times

Seconds = dict[str, list[float]]
HELP, CONFIG_ERROR = "trainer --help", "trainer fit model=ccn (a config error)"
IMPORT_TORCH, FIRST_STEP = (
    "python -c 'import torch'",
    "trainer fit model=cnn, until its first step is recorded",
)
COMMANDS: dict[str, tuple[list[str], int]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], 0),
    HELP: ([sys.executable, "-m", "trainer", "--help"], 0),
    "trainer fit --help": ([sys.executable, "-m", "trainer", "fit", "--help"], 0),
    CONFIG_ERROR: ([sys.executable, "-m", "trainer", "fit", "model=ccn"], 2),
    IMPORT_TORCH: ([sys.executable, "-c", "import torch"], 0),
}


def measure(data_root: Path, *, rounds: int) -> Seconds:
    """Seconds of everything, `rounds` times in turn after one unmeasured round, which also fills
    trainer's cache.
    """
    seconds: Seconds = {name: [] for name in (*COMMANDS, FIRST_STEP)}
    for number in range(rounds + 1):
        took = {
            name: time_command(command, code=code)[0] for name, (command, code) in COMMANDS.items()
        }
        took[FIRST_STEP] = _first_step(data_root)
        if number:
            for name, value in took.items():
                seconds[name].append(value)
    return seconds


def time_command(
    command: list[str], *, code: int = 0
) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Seconds from start to exit, and its output; raises when it ended with another exit code."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != code:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}, not {code}:\n{done.stderr}"
        )
    return seconds, done


def as_rows(seconds: Seconds) -> list[list[str]]:
    """Median, least and most of every command, in seconds."""
    return [
        [name, f"{statistics.median(v):.2f}", f"{min(v):.2f}–{max(v):.2f}"]
        for name, v in seconds.items()
    ]


def _first_step(data_root: Path) -> float:
    """Seconds from the start of the process to the time in the record of its first step."""
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        run = Path(folder) / "run"
        words = [
            "fit",
            "model=cnn",
            f"data.root={data_root}",
            "trainer.max_steps=1",
            "data.eval_limit=1",
        ]
        start = time.time()
        time_command(
            [sys.executable, "-m", "trainer", *words, "logger.log_every=1", f"run.dir={run}"]
        )
        return wall_times(run)[1] - start
