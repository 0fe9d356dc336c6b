"""What saving costs: epochs of one real run, every second of which begins while the checkpoint before it is written."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders.setting import BATCH_SIZE
from benchmarks.contenders.trainer import wall_times


def measure(data_root: Path, *, num_samples: int, threads: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of epochs of the cnn with Adam, by the clock on the wall, `with` and `without` a save at their beginning.

    Epochs of both kinds take turns within one process, so that neither side has the quieter machine. The first two are
    not counted.
    """
    num_steps = num_samples // BATCH_SIZE
    with tempfile.TemporaryDirectory(prefix="saving-") as folder:
        run = Path(folder) / "run"
        command = [
            *(sys.executable, "-m", "trainer", "fit", "model=cnn", "data=fashion_mnist", "optimizer=adam"),
            *(f"data.root={data_root}", "data.val_size=0", f"data.train_limit={num_steps * BATCH_SIZE}"),
            *(f"data.batch_size={BATCH_SIZE}", "data.eval_limit=1", f"logger.log_every={num_steps}"),
            *("trainer.save_every=2epoch", "trainer.eval_every=1000epoch", f"trainer.epochs={2 + 4 * rounds}"),
            *("trainer.device=cpu", f"trainer.threads={threads}", f"run.dir={run}"),
        ]
        subprocess.run(command, check=True, capture_output=True)
        rows = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(rows[0])["step"] == num_steps, "a record an epoch"
        ends = list(wall_times(run).values())
    seconds = [end - start for start, end in itertools.pairwise(ends)][1:]
    return {"with": seconds[::2], "without": seconds[1::2]}


def as_rows(seconds: dict[str, list[float]]) -> list[list[str]]:
    """Median, least and most of both kinds of epochs, and what a save adds."""
    rows = [
        [f"{kind} a save", f"{statistics.median(values):.3f}", f"{min(values):.3f}–{max(values):.3f}"]
        for kind, values in seconds.items()
    ]
    ratios = [held / free for held, free in zip(seconds["with"], seconds["without"], strict=False)]
    added = statistics.median(seconds["with"]) / statistics.median(seconds["without"]) - 1
    return [*rows, ["added", f"{added:+.1%}", f"{min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%}"]]
