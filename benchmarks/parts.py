"""The parts of the suite, by name: each measures, and adds what it found and its tables to the
findings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import custom, line, logs, manyruns, memory, report, saving, startup, sweeps
from benchmarks.contenders.setting import NUM_TRAIN
from benchmarks.runner import EVALUATION, THROUGHPUT, Job, Outcome, Say, compete


@dataclass(slots=True)
class Findings:
    """What was measured: `outcomes` of contenders by part, all other `figures` by their name in
    results.json.
    """

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    tables: list[report.Table] = field(default_factory=list)


def throughput(
    findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say
) -> None:
    """One epoch of every contender on every model."""
    found = findings.outcomes["throughput"] = compete(THROUGHPUT, models, job=job, say=say)
    findings.tables += report.throughput_tables(found)


def evaluation(
    findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say
) -> None:
    """The test set, with the cnn."""
    found = findings.outcomes["evaluation"] = compete(EVALUATION, ["cnn"], job=job, say=say)
    findings.tables += report.evaluation_tables(found)


def own_data(
    findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say
) -> None:
    """A person's own Dataset, with and without workers, and kept in memory."""
    found = findings.outcomes["custom"] = custom.measure(job=job, say=say)
    header = ("contender", "samples/s", "spread", "by the loop")
    title = f"data=custom against a DataLoader loop on the same Dataset, {custom.MODEL}"
    findings.tables.append(report.Table(title, header, custom.as_rows(found)))


def save(findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say) -> None:
    """Checkpoints of the cnn with Adam, on all of the data."""
    found = saving.measure(
        job.data_root, num_samples=NUM_TRAIN, threads=job.threads, rounds=job.rounds
    )
    findings.figures["saving_seconds"] = found
    header = (f"epoch of {NUM_TRAIN:,}", "seconds", "spread")
    findings.tables.append(
        report.Table("Saving, cnn with Adam every epoch", header, saving.as_rows(found))
    )


def log(findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say) -> None:
    """The loggers, where records are rare (cnn) and where they are frequent (mlp)."""
    found = findings.figures["logging_seconds"] = logs.measure(["cnn", "mlp"], job=job)
    header = (
        "2 epochs",
        "none, s",
        *(f"{name}, share" for name in logs.LOGGERS[1:]),
        *(f"{name}, A/B" for name in logs.LOGGERS[1:]),
    )
    findings.tables.append(report.Table("Loggers against logger=none", header, logs.as_rows(found)))


def remember(
    findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say
) -> None:
    """The peak of every model."""
    found = findings.figures["memory_bytes"] = memory.measure(models, job=job)
    header = ("model", "trainer, MB", "spread", "import torch, MB", "allowed, MB")
    title = "Peak resident memory (allowed: import torch + 3 x the data + 10 x the model)"
    findings.tables.append(report.Table(title, header, memory.as_rows(found)))


def fit_line(
    findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say
) -> None:
    """Five points, 1,000 epochs."""
    found = findings.figures["line_seconds"] = line.measure(
        threads=job.threads, rounds=max(3, job.rounds)
    )
    header = ("command", "seconds", "spread")
    findings.tables.append(
        report.Table("Five points, 1,000 updates, whole command", header, startup.as_rows(found))
    )


def start(findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say) -> None:
    """From start to exit, or to the first step; the data as the person has them, packed."""
    found = findings.figures["startup_seconds"] = startup.measure(
        data_root, rounds=max(3, job.rounds)
    )
    findings.tables.append(
        report.Table("Start to exit", ("command", "seconds", "spread"), startup.as_rows(found))
    )


def sweep(findings: Findings, job: Job, models: Sequence[str], data_root: Path, say: Say) -> None:
    """Sixteen short jobs of lenet5 as one command, two hundred small ones, and listing five
    hundred runs.
    """
    with tempfile.TemporaryDirectory(prefix="sweeps-") as folder:
        found = findings.figures["sweep_seconds"] = sweeps.measure(Path(folder), job=job, say=say)
        identical = sweeps.count_identical(
            sweeps.sweep_folder(Path(folder), sweeps.TWO, job.rounds - 1)
        )
        findings.figures["sweep_identical"] = identical
    with tempfile.TemporaryDirectory(prefix="many-") as folder:
        many = findings.figures["many_runs"] = manyruns.sweep(Path(folder))
        listings = findings.figures["listing_seconds"] = manyruns.listing(
            Path(folder), rounds=max(3, job.rounds)
        )
    title = f"A sweep of {sweeps.NUM_JOBS} jobs, lenet5, {job.limit:,} samples each: whole command"
    header = ("command", "seconds", "spread", "a job", "by sweep.jobs=2", "accuracy", "others")
    findings.tables.append(report.Table(title, header, sweeps.as_rows(found)))
    columns = ("sweep of small jobs", "seconds", "done", "listed", "parent early, MB", "late, MB")
    findings.tables.append(report.Table("Many runs", columns, manyruns.as_rows(many)))
    title = f"Listing {manyruns.NUM_LISTED} runs, start to exit"
    findings.tables.append(
        report.Table(title, ("command", "seconds", "spread"), startup.as_rows(listings))
    )


Measure = Callable[[Findings, Job, Sequence[str], Path, Say], None]
PARTS: dict[str, Measure] = {
    "throughput": throughput,
    "evaluation": evaluation,
    "custom": own_data,
    "saving": save,
    "logging": log,
    "memory": remember,
    "line": fit_line,
    "startup": start,
    "sweeps": sweep,
}
