"""How long commands take from start to exit, seen from outside."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS: dict[str, tuple[list[str], int]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], 0),
    "trainer --help": ([sys.executable, "-m", "trainer", "--help"], 0),
    "trainer fit --help": ([sys.executable, "-m", "trainer", "fit", "--help"], 0),
    "trainer fit model=ccn (a config error)": ([sys.executable, "-m", "trainer", "fit", "model=ccn"], 2),
    "python -c 'import torch'": ([sys.executable, "-c", "import torch"], 0),
}


def measure(*, rounds: int) -> dict[str, list[float]]:
    """Seconds of every command, `rounds` times in turn after one unmeasured round; raises on a wrong exit code."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, (command, code) in COMMANDS.items():
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != code:
                raise RuntimeError(f"{name} ended with {done.returncode}, not {code}:\n{done.stderr}")
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def as_rows(seconds: dict[str, list[float]]) -> list[list[str]]:
    """Median, least and most of every command, in seconds."""
    return [[name, f"{statistics.median(v):.2f}", f"{min(v):.2f}–{max(v):.2f}"] for name, v in seconds.items()]
