"""What saving costs: epochs of one real run, every second of which begins while the checkpoint
before it is written.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders.saving import PREFIX
from benchmarks.contenders.setting import BATCH_SIZE, result_of
from benchmarks.contenders.trainer import wall_times

Seconds = dict[str, list[float]]


def measure(data_root: Path, *, num_samples: int, threads: int, rounds: int) -> Seconds:
    """Seconds of epochs of the cnn with Adam, by the clock on the wall, `with` and `without` a save
    at their beginning.

    Epochs of both kinds take turns within one process, so that neither side has the quieter
    machine. The first two are not counted. Where the machine is not quiet at all, what a save
    itself took is the better measure: the time that the copy of the state stops the training
    (`held`), and the CPU time of the writing `beside` it.
    """
    num_steps = num_samples // BATCH_SIZE
    with tempfile.TemporaryDirectory(prefix="saving-") as folder:
        run = Path(folder) / "run"
        command = [
            *(sys.executable, "-m", "benchmarks.contenders.saving"),
            *("fit", "model=cnn", "data=fashion_mnist", "optimizer=adam"),
            *(
                f"data.root={data_root}",
                "data.val_size=0",
                f"data.train_limit={num_steps * BATCH_SIZE}",
            ),
            *(
                f"data.batch_size={BATCH_SIZE}",
                "data.eval_limit=1",
                f"logger.log_every={num_steps}",
            ),
            *(
                "trainer.save_every=2epoch",
                "trainer.eval_every=1000epoch",
                f"trainer.epochs={2 + 4 * rounds}",
            ),
            *("trainer.device=cpu", f"trainer.threads={threads}", f"run.dir={run}"),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(rows[0])["step"] == num_steps, "a record an epoch"
        ends = list(wall_times(run).values())
    seconds = [end - start for start, end in itertools.pairwise(ends)][1:]
    saves: Seconds = result_of(done.stdout, PREFIX)
    return {"with": seconds[::2], "without": seconds[1::2], **saves}


def as_rows(seconds: Seconds) -> list[list[str]]:
    """Median, least and most of all, and what a save adds to an epoch: measured, and at most."""
    names = {
        "with": "an epoch with a save",
        "without": "an epoch without",
        "held": "the training is stopped for",
        "beside": "CPU time of the writing beside it",
    }
    rows = [
        [
            name,
            f"{statistics.median(seconds[kind]):.4f}",
            f"{min(seconds[kind]):.4f}–{max(seconds[kind]):.4f}",
        ]
        for kind, name in names.items()
    ]
    median = {kind: statistics.median(values) for kind, values in seconds.items()}
    ratios = [
        saved / free - 1 for saved, free in zip(seconds["with"], seconds["without"], strict=False)
    ]
    seen = [
        f"{median['with'] / median['without'] - 1:+.1%}",
        f"{min(ratios):+.1%} to {max(ratios):+.1%}",
    ]
    at_most = (median["held"] + median["beside"]) / median["without"]
    return [*rows, ["added, as seen", *seen], ["added, were all of it lost", f"{at_most:+.2%}", ""]]
