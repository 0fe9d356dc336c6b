"""trainer on a person's own Dataset, the one that the DataLoader loop reads; `data=custom`.

The variant is the number of workers, or `cache` for data.cache=true: then the epochs after the
first count, in which nothing is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from benchmarks.contenders.images import make_dataset
from benchmarks.contenders.setting import BATCH_SIZE, WARM_UP, parse_arguments, print_result
from benchmarks.contenders.trainer import fit_words, num_parameters, wall_times

CACHED_EPOCHS = 8


def images(root: str, limit: int) -> Dataset[Any]:
    """torchvision's Fashion-MNIST with its transforms, as people write it."""
    dataset: Dataset[Any] = make_dataset(Path(root), limit=limit)
    return dataset


def main() -> None:
    """Train with `python -m trainer fit data=custom`."""
    arguments = parse_arguments()
    is_cached = arguments.variant == "cache"
    num_epochs = 1 + CACHED_EPOCHS * is_cached
    with tempfile.TemporaryDirectory(prefix="trainer-benchmark-") as folder:
        run = Path(folder) / "run"
        left_out = ("data=", "data.root=", "trainer.epochs=")
        words = [word for word in fit_words(arguments, run) if not word.startswith(left_out)]
        own = f"{{root: '{arguments.data_root}', limit: {arguments.limit}}}"
        words += [
            "data=custom",
            f"data.target={__spec__.name}.images",
            f"data.kwargs={own}",
            f"data.num_workers={0 if is_cached else arguments.variant}",
            f"data.cache={str(is_cached).lower()}",
            f"trainer.epochs={num_epochs}",
            f"trainer.save_every={num_epochs}epochs",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "trainer", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        print_result(_read(run, first_step=arguments.limit // BATCH_SIZE if is_cached else 0))


def _read(run: Path, *, first_step: int) -> dict[str, Any]:
    """Samples a second from the warm-up after `first_step` on, by the clock on the wall."""
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    rows = [row for row in map(json.loads, text.splitlines()) if row["split"] == "train"]
    start = next(row for row in rows if row["step"] >= first_step + WARM_UP)
    times = wall_times(run)
    seconds = times[rows[-1]["step"]] - times[start["step"]]
    samples = rows[-1]["samples"] - start["samples"]
    return {
        "samples_per_second": samples / seconds,
        "seconds": seconds,
        "samples": samples,
        "early_loss": rows[0]["loss"],
        "num_parameters": num_parameters(run / "checkpoints" / "last" / "model.safetensors"),
    }


if __name__ == "__main__":
    main()
