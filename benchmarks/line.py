"""Five points, 1,000 updates: the whole command, seen from outside, with nothing but fixed costs
in it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.startup import IMPORT_TORCH, Seconds, time_command

TRAINER, LOOP = "trainer fit experiment=line", "the same with a DataLoader loop"
LEARNED = 1e-3
"""A loss above this did not find the line: it starts at tens."""


def measure(*, threads: int, rounds: int) -> Seconds:
    """Seconds of `import torch`, of the command and of the loop, in turn; raises where the line
    was not found.
    """
    seconds: Seconds = {IMPORT_TORCH: [], TRAINER: [], LOOP: []}
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory(prefix="line-") as folder:
            run = Path(folder) / "run"
            words = [
                "fit",
                "experiment=line",
                f"trainer.threads={threads}",
                "trainer.device=cpu",
                f"run.dir={run}",
            ]
            took = {
                IMPORT_TORCH: time_command([sys.executable, "-c", "import torch"])[0],
                TRAINER: time_command([sys.executable, "-m", "trainer", *words])[0],
            }
            rows = [
                json.loads(line)
                for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            ]
        loop = [sys.executable, "-m", "benchmarks.contenders.line", "--threads", str(threads)]
        took[LOOP], done = time_command(loop)
        _check(done, ours=[row["loss"] for row in rows if row["split"] == "train"][-1])
        if number:
            for name, value in took.items():
                seconds[name].append(value)
    return seconds


def beyond_import(seconds: Seconds) -> float:
    """Median seconds of the command that are not `import torch`, which ran just before it."""
    return statistics.median(
        ours - torch for ours, torch in zip(seconds[TRAINER], seconds[IMPORT_TORCH], strict=True)
    )


def _check(done: subprocess.CompletedProcess[str], *, ours: float) -> None:
    theirs = json.loads(done.stdout.splitlines()[-1])["loss"]
    if max(ours, theirs) > LEARNED:
        raise RuntimeError(
            f"The line was not found: the last loss is {ours:g} with trainer, {theirs:g} with the "
            "loop."
        )
