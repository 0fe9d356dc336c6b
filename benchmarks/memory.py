"""How much memory trainer is resident in at most, against what it cannot do without."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open

from benchmarks.contenders.setting import BATCH_SIZE, NUM_TRAIN
from benchmarks.contenders.trainer import fit_words
from benchmarks.runner import Job
from benchmarks.startup import time_command

Bytes = dict[str, dict[str, list[float]]]
DATA_BYTES = 70_000 * (28 * 28 + 1)
DATA_SHARE, MODEL_SHARE = 3, 10


def measure(models: Sequence[str], *, job: Job) -> Bytes:
    """Peak bytes of `import torch` and, by model, of one run with all of the data in memory, and
    the model's own.
    """
    found: Bytes = {model: {"import": [], "trainer": [], "model": []} for model in models}
    for _ in range(job.rounds):
        for model, figures in found.items():
            figures["import"].append(_peak([sys.executable, "-c", "import torch"]))
            with tempfile.TemporaryDirectory(prefix="memory-") as folder:
                run = Path(folder) / "run"
                setting = argparse.Namespace(
                    model=model,
                    data_root=job.data_root,
                    limit=NUM_TRAIN,
                    threads=job.threads,
                    seed=0,
                )
                stop = f"trainer.max_steps={job.limit // BATCH_SIZE}"
                figures["trainer"].append(
                    _peak([sys.executable, "-m", "trainer", *fit_words(setting, run), stop])
                )
                figures["model"].append(
                    _model_bytes(run / "checkpoints" / "last" / "model.safetensors")
                )
    return found


def allowed(figures: dict[str, list[float]]) -> float:
    """`import torch`, the data set's own bytes three times, the model's ten times."""
    return (
        statistics.median(figures["import"])
        + DATA_SHARE * DATA_BYTES
        + MODEL_SHARE * figures["model"][0]
    )


def as_rows(found: Bytes) -> list[list[str]]:
    """Megabytes by model: the peak, its spread, `import torch`, and what is allowed."""
    return [
        [
            model,
            _megabytes(statistics.median(figures["trainer"])),
            f"{_megabytes(min(figures['trainer']))}–{_megabytes(max(figures['trainer']))}",
            _megabytes(statistics.median(figures["import"])),
            _megabytes(allowed(figures)),
        ]
        for model, figures in found.items()
    ]


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f}"


def _peak(command: list[str]) -> float:
    _, done = time_command([sys.executable, "-m", "benchmarks.contenders.peak", *command])
    return float(json.loads(done.stdout.splitlines()[-1])["bytes"])


def _model_bytes(path: Path) -> float:
    with safe_open(str(path), framework="pt") as file:
        return float(sum(file.get_tensor(name).nbytes for name in file.keys()))  # noqa: SIM118 - not a dict
