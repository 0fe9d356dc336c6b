"""The command of the suite: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import files, machine, report, targets
from benchmarks.contenders.setting import BATCH_SIZE, NUM_TRAIN
from benchmarks.parts import PARTS, Findings
from benchmarks.runner import Job, Outcome

MODELS = ("mlp", "lenet5", "cnn", "linear")
LEAST = 6400  # samples: half of them are warm-up
OUT = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite, print the tables and write the results; 1 when a contender failed or
    trained otherwise.
    """
    arguments = _parse(argv)
    console, findings = _console(), Findings()
    facts = machine.facts(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        job = _prepare(arguments, Path(folder))
        console.print(
            f"{facts['cpu']}, {facts['cores']} cores, torch {facts['torch']}; {job.limit:,} "
            "samples an epoch"
        )
        for name, measure in PARTS.items():
            if name in arguments.parts:
                console.print(f"part {name}")
                measure(findings, job, arguments.models, arguments.data_root, console.print)
    tables = [targets.table(findings), *findings.tables]
    report.show(console, tables)
    arguments.out.mkdir(parents=True, exist_ok=True)
    outcomes = findings.outcomes
    report.write_json(
        arguments.out / "results.json", facts=facts, outcomes=outcomes, figures=findings.figures
    )
    report.write_markdown(arguments.out / "results.md", facts=facts, tables=tables, how=_how(argv))
    console.print(f"Written: {arguments.out / 'results.md'} and results.json")
    return int(
        any(not _is_good(outcome, found) for found in outcomes.values() for outcome in found)
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    shared = Path("../shared/datasets")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="trainer against the loops people write."
    )
    parser.add_argument(
        "--data-root", type=Path, default=shared if shared.is_dir() else Path("data")
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--limit", type=int, default=20_000, help="samples an epoch, the same on every side"
    )
    parser.add_argument(
        "--full", action="store_true", help="all training samples that fill a batch"
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="CPU threads of every contender"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60,
        help="seconds to wait at most, before each contender, for a quiet machine",
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--out", type=Path, default=OUT, help="folder of results.md and results.json"
    )
    arguments = parser.parse_args(argv)
    if arguments.full:
        arguments.limit = NUM_TRAIN
    # Whole batches only: JAX compiles anew for a batch of another size, others do not.
    arguments.limit -= arguments.limit % BATCH_SIZE
    if not LEAST <= arguments.limit <= NUM_TRAIN:
        parser.error(f"--limit must be from {LEAST} to {NUM_TRAIN}.")
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be at least 1.")
    return arguments


def _prepare(arguments: argparse.Namespace, folder: Path) -> Job:
    """Unpacked files for all contenders, trainer included: unpacking is not measured."""
    files.unpack(arguments.data_root, folder)
    return Job(
        data_root=folder,
        limit=arguments.limit,
        threads=arguments.threads,
        rounds=arguments.rounds,
        patience=arguments.patience,
    )


def _console() -> Console:
    """Wide enough for the tables where output goes to a file."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=160)


def _how(argv: Sequence[str] | None) -> str:
    """The command, without the folders, which are of one machine only."""
    words = list(sys.argv[1:] if argv is None else argv)
    for name in ("--data-root", "--out"):
        if name in words:
            place = words.index(name)
            del words[place : place + 2]
    return shlex.join(["python", "-m", "benchmarks", *words])


def _is_good(outcome: Outcome, outcomes: Sequence[Outcome]) -> bool:
    if outcome.problem is not None:
        return outcome.problem.startswith("absent")
    return report.is_comparable(outcome, outcomes)


if __name__ == "__main__":
    sys.exit(main())
