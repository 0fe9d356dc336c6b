"""Runs contenders as processes, in turn, and keeps the result of each."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import QUIET, Watch, wait_for_quiet

Say = Callable[[str], None]
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Contender:
    """A module of benchmarks.contenders and the variant it is started as; `side` is what a
    report compares.
    """

    side: str
    variant: str = ""
    module: str = ""

    @property
    def label(self) -> str:
        """The name of this variant."""
        return self.side if self.side.endswith(self.variant) else f"{self.side} ({self.variant})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every contender gets."""

    data_root: Path
    limit: int
    threads: int
    rounds: int
    patience: float


@dataclass(slots=True)
class Outcome:
    """All results of one contender on one model; `problem` when it is absent or failed."""

    model: str
    contender: Contender
    samples: list[dict[str, Any]] = field(default_factory=list)
    disturbed: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    def values(self, key: str) -> list[float]:
        """One figure over the rounds."""
        return [sample[key] for sample in self.samples if sample.get(key) is not None]


WORKERS = ("0", "2")
THROUGHPUT = (
    Contender("trainer"),
    *(Contender("dataloader", workers) for workers in WORKERS),
    *(Contender("lightning", workers) for workers in WORKERS),
    *(Contender("accelerate", workers) for workers in WORKERS),
    Contender("keras-torch", "torch", "keras"),
    Contender("keras-jax", "jax", "keras"),
    Contender("jax"),
    Contender("eager", "plain"),
    Contender("eager", "fused"),
)
EVALUATION = (
    Contender("trainer", "trainer", "evaluation"),
    *(Contender("dataloader", workers, "evaluation") for workers in WORKERS),
)


def compete(
    contenders: Sequence[Contender], models: Sequence[str], *, job: Job, say: Say
) -> list[Outcome]:
    """Every contender on every model, `job.rounds` times; each round begins with another contender.

    A contender that is absent or fails is not tried again on that model.
    """
    outcomes = [Outcome(model, contender) for model in models for contender in contenders]
    for number in range(job.rounds):
        for model in models:
            ours = [outcome for outcome in outcomes if outcome.model == model]
            shift = number % len(ours)
            for outcome in (*ours[shift:], *ours[:shift]):
                if outcome.problem is None:
                    _run(outcome, job=job, seed=number)
                    say(
                        f"round {number + 1}/{job.rounds}  {model:<7} "
                        f"{outcome.contender.label:<16} {_last(outcome)}"
                    )
    return outcomes


def _run(outcome: Outcome, *, job: Job, seed: int) -> None:
    """One round of one contender, repeated while others disturb it; the least disturbed attempt
    counts.

    The choice looks only at what others used, never at the figures; the other attempts are kept as
    `disturbed`.
    """
    attempts: list[dict[str, Any]] = []
    while len(attempts) < ATTEMPTS and (not attempts or _share(attempts[-1]) > QUIET):
        wait_for_quiet(job.patience)
        watch = Watch()
        start = time.perf_counter()
        result = _start(outcome, job=job, seed=seed)
        if result is None:
            return
        # trainer's contender measures the command itself: around it there is more than that.
        result.setdefault("command_seconds", time.perf_counter() - start)
        attempts.append({"round": seed, **result, "others_share": watch.others_share()})
    kept = min(attempts, key=_share)
    outcome.samples.append(kept)
    outcome.disturbed += [attempt for attempt in attempts if attempt is not kept]


def _start(outcome: Outcome, *, job: Job, seed: int) -> dict[str, Any] | None:
    """The result that the contender's process prints.

    None, with the outcome's `problem` set, when it is absent or failed.
    """
    contender = outcome.contender
    command = [
        *(sys.executable, "-m", f"benchmarks.contenders.{contender.module or contender.side}"),
        *(
            "--model",
            outcome.model,
            "--variant",
            contender.variant,
            "--data-root",
            str(job.data_root),
        ),
        *("--limit", str(job.limit), "--threads", str(job.threads), "--seed", str(seed)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        outcome.problem = f"failed: {(done.stderr.strip() or 'no result').splitlines()[-1]}"
        return None
    result: dict[str, Any] = json.loads(lines[-1])
    if "absent" in result:
        outcome.problem = f"absent: {result['absent']}"
        return None
    return result


def _share(sample: dict[str, Any]) -> float:
    return sample["others_share"] or 0.0


def _last(outcome: Outcome) -> str:
    if outcome.problem is not None:
        return outcome.problem
    sample = outcome.samples[-1]
    share = (
        ""
        if sample["others_share"] is None
        else f"  (others used {sample['others_share']:.0%} of the machine)"
    )
    return f"{sample['samples_per_second']:>8,.0f} samples/s{share}"
