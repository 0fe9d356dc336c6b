"""trainer itself: the real command, its default logging and checkpoints, timed by what it left
in its run folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors import safe_open

from benchmarks.contenders.setting import (
    BATCH_SIZE,
    MOMENTUM,
    WARM_UP,
    learning_rate,
    parse_arguments,
    print_result,
)


def main() -> None:
    """Train one epoch with `python -m trainer fit`; its first loss is that of a run of one step,
    out of the timing.
    """
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="trainer-benchmark-") as folder:
        run, first = Path(folder) / "run", Path(folder) / "first"
        start = time.perf_counter()
        _fit(fit_words(arguments, run))
        seconds = time.perf_counter() - start
        _fit([*fit_words(arguments, first), "trainer.max_steps=1", "data.eval_limit=1"])
        print_result(
            {**_read(run), "initial_loss": _rows(first)[0]["loss"], "command_seconds": seconds}
        )


def fit_words(arguments: argparse.Namespace, run: Path) -> list[str]:
    """The words after `trainer` of the job that all contenders do."""
    return [
        *(
            "fit",
            f"model={arguments.model}",
            "data=fashion_mnist",
            "optimizer=sgd",
            "scheduler=constant",
        ),
        *(
            f"data.root={arguments.data_root}",
            "data.val_size=0",
            f"data.train_limit={arguments.limit}",
        ),
        *(f"data.batch_size={BATCH_SIZE}", f"optimizer.lr={learning_rate(arguments.model)}"),
        *(
            f"optimizer.momentum={MOMENTUM}",
            "trainer.epochs=1",
            "trainer.device=cpu",
            "trainer.precision=fp32",
        ),
        *(f"trainer.threads={arguments.threads}", f"seed={arguments.seed}", f"run.dir={run}"),
    ]


def _fit(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def _rows(run: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def _read(run: Path) -> dict[str, Any]:
    """Its epoch by the clock on the wall: from the record of the last warm-up step to the last
    record or checkpoint.

    metrics.jsonl has trainer's own account of the time, which leaves out the saving of checkpoints;
    it is reported beside ours.
    """
    rows = _rows(run)
    train = [row for row in rows if row["split"] == "train"]
    first, late = train[0], train[1:]
    assert first["step"] == WARM_UP, "trainer's default is a record every 50 steps"
    samples = train[-1]["samples"] - first["samples"]
    times = wall_times(run)
    saved = (run / "checkpoints" / "last").lstat().st_mtime
    seconds = max(times[train[-1]["step"]], saved) - times[WARM_UP]
    ends = [row["samples"] for row in train]
    late_sum = sum(
        row["loss"] * (end - start) for row, start, end in zip(late, ends, ends[1:], strict=False)
    )
    return {
        "samples_per_second": samples / seconds,
        "seconds": seconds,
        "samples": samples,
        "early_loss": first["loss"],
        "late_loss": late_sum / samples,
        "num_parameters": num_parameters(run / "checkpoints" / "last" / "model.safetensors"),
        "test_accuracy": next(row["accuracy"] for row in rows if row["split"] == "test"),
        "own_samples_per_second": samples / (train[-1]["seconds"] - first["seconds"]),
    }


def wall_times(run: Path) -> dict[int, float]:
    """When each training record was written, in seconds, by step: TensorBoard's events carry the
    time of day.
    """
    # Imported when the training is over: it takes a second of CPU.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {event.step: event.wall_time for event in events.Scalars("Loss/train")}


def num_parameters(path: Path) -> int:
    """Numbers in a model file."""
    with safe_open(str(path), framework="pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - not a dict


if __name__ == "__main__":
    main()
