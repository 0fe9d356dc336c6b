"""A sweep of short jobs as one command: trainer's with one and with two jobs at a time, and
Hydra's basic launcher.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.contenders.setting import BATCH_SIZE, MOMENTUM
from benchmarks.machine import QUIET, Watch, adopt_orphans, reap_orphans, wait_for_quiet
from benchmarks.runner import Job, Say
from benchmarks.startup import time_command

# By side, a round each: `seconds` of the whole command, `others_share`, `accuracies` on the test
# set by job.
Found = dict[str, list[dict[str, Any]]]
LRS, SEEDS = "lr=0.01,0.02,0.03,0.05", "seed=0,1,2,3"
NUM_JOBS = 16
VAL_SIZE = 5000
ONE, TWO = "trainer, sweep.jobs=1", "trainer, sweep.jobs=2"
QUIETLY = {"trainer, sweep.jobs=1 logger=none": ONE, "trainer, sweep.jobs=2 logger=none": TWO}
HYDRA = {f"Hydra's basic launcher, DataLoader loop ({workers})": workers for workers in (0, 2)}
ATTEMPTS = 2
SAME_WORK = 0.02
"""Test accuracies, averaged over all jobs, that differ by more are not of the same work."""


def measure(folder: Path, *, job: Job, say: Say) -> Found:
    """Every side in turn; each round begins with another. trainer's sweeps stay in `folder`: see
    `sweep_folder`.

    All take the CPU threads that they take by themselves: trainer as many a job as its share of the
    cores, torch all.
    """
    adopt_orphans()
    sides = [ONE, TWO, *HYDRA, *QUIETLY]
    found: Found = {side: [] for side in sides}
    for number in range(job.rounds):
        shift = number % len(sides)
        for side in (*sides[shift:], *sides[:shift]):
            sample = _run(side, sweep_folder(folder, side, number), job=job)
            found[side].append(sample)
            share = (
                ""
                if sample["others_share"] is None
                else f"  (others used {sample['others_share']:.0%})"
            )
            say(f"round {number + 1}/{job.rounds}  {side:<48} {sample['seconds']:>6.1f} s{share}")
    return found


def sweep_folder(folder: Path, side: str, number: int) -> Path:
    """Where the sweep of trainer's `side` in that round lies."""
    return folder / f"{number}-{[ONE, TWO, *QUIETLY, *HYDRA].index(side)}"


def count_identical(sweep: Path) -> int:
    """How many jobs of `sweep` have, bit for bit, the weights of the same command run alone,
    with the same threads.
    """
    identical = 0
    for job in json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["jobs"]:
        with tempfile.TemporaryDirectory(prefix="alone-") as alone:
            words = [*job["command"][1:], f"run.dir={alone}/run"]
            time_command([sys.executable, "-m", "trainer", *words])
            identical += _have_same_weights(Path(alone) / "run", sweep / job["run"])
    return identical


def ratio(found: Found, ours: str, theirs: Iterable[str]) -> float | None:
    """How many times as long the best of `theirs` took, by medians; None where the work was not
    the same.
    """
    fair = [
        side for side in theirs if abs(accuracy(found[side]) - accuracy(found[ours])) <= SAME_WORK
    ]
    return (
        min((seconds(found[side]) for side in fair), default=0.0) / seconds(found[ours])
        if fair
        else None
    )


def seconds(samples: list[dict[str, Any]]) -> float:
    """The median of the rounds."""
    return float(statistics.median(sample["seconds"] for sample in samples))


def accuracy(samples: list[dict[str, Any]]) -> float:
    """On the test set, the mean over all jobs of all rounds."""
    return float(statistics.mean(value for sample in samples for value in sample["accuracies"]))


def as_rows(found: Found) -> list[list[str]]:
    """Seconds of the whole command and their spread, those of a job, how TWO compares, accuracy,
    others' share.
    """
    rows = []
    for side, samples in found.items():
        took = [sample["seconds"] for sample in samples]
        shares = [
            sample["others_share"] for sample in samples if sample["others_share"] is not None
        ]
        rows.append(
            [
                side,
                f"{seconds(samples):.1f}",
                f"{min(took):.1f}–{max(took):.1f}",
                f"{seconds(samples) / NUM_JOBS:.2f}",
                f"{seconds(samples) / seconds(found[TWO]):.2f}",
                f"{accuracy(samples):.3f}",
                f"{statistics.mean(shares):.0%}" if shares else "",
            ]
        )
    return rows


def _run(side: str, folder: Path, *, job: Job) -> dict[str, Any]:
    """One round of a side, repeated while others disturb it; the least disturbed attempt counts."""
    attempts: list[dict[str, Any]] = []
    while len(attempts) < ATTEMPTS and all(
        (attempt["others_share"] or 0.0) > QUIET for attempt in attempts
    ):
        place = folder.with_name(f"{folder.name}-{len(attempts)}")
        wait_for_quiet(job.patience)
        watch = Watch()
        took, done = time_command(_command(side, place, job=job))
        reap_orphans()
        accuracies = _said(done.stdout) if side in HYDRA else _recorded(place)
        if len(accuracies) != NUM_JOBS:
            raise RuntimeError(
                f"{side}: {len(accuracies)} of {NUM_JOBS} jobs ended:\n{done.stderr}"
            )
        share = watch.others_share()
        attempts.append(
            {"seconds": took, "others_share": share, "accuracies": accuracies, "place": place}
        )
    kept = min(attempts, key=lambda attempt: attempt["others_share"] or 0.0)
    kept.pop("place").rename(folder)
    return kept


def _command(side: str, place: Path, *, job: Job) -> list[str]:
    if side in HYDRA:
        words = [
            LRS,
            SEEDS,
            f"data_root={job.data_root}",
            f"limit={job.limit}",
            f"val_size={VAL_SIZE}",
        ]
        more = [f"workers={HYDRA[side]}", f"hydra.sweep.dir={place}"]
        return [sys.executable, "-m", "benchmarks.contenders.hydra_sweep", "-m", *words, *more]
    words = [
        *("fit", "-m", "model=lenet5", "data=fashion_mnist", "optimizer=sgd", "scheduler=constant"),
        *(
            f"data.root={job.data_root}",
            f"data.val_size={VAL_SIZE}",
            f"data.train_limit={job.limit}",
        ),
        *(
            f"data.batch_size={BATCH_SIZE}",
            f"optimizer.momentum={MOMENTUM}",
            "trainer.epochs=1",
            "trainer.device=cpu",
        ),
        *("trainer.precision=fp32", f"optimizer.{LRS}", SEEDS, f"run.dir={place}"),
        *(
            QUIETLY.get(side, side).removeprefix("trainer, "),
            *(["logger=none"] if side in QUIETLY else []),
        ),
    ]
    return [sys.executable, "-m", "trainer", *words]


def _said(output: str) -> list[float]:
    return [
        json.loads(line)["test_accuracy"] for line in output.splitlines() if line.startswith("{")
    ]


def _recorded(sweep: Path) -> list[float]:
    jobs = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    return [job["metrics"]["test/accuracy"] for job in jobs if job["status"] == "done"]


def _have_same_weights(one: Path, other: Path) -> bool:
    mine, theirs = (
        load_file(run / "checkpoints" / "last" / "model.safetensors") for run in (one, other)
    )
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )
