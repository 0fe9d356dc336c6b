"""The results as tables on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.runner import Outcome

LOSS_TOLERANCE = 0.10
"""A side whose losses differ from the DataLoader loop's by more than this share did other work."""
INITIAL_TOLERANCE = 0.3
"""Ten classes guessed blindly lose ln 10; a first batch of 64 samples stays within this of it."""

NOTES = """\
Every contender is a separate process with the same number of threads; rounds are interleaved,
and a round is a seed.

- **samples/s** is the median over the rounds [least–most]: samples trained divided by the time on
  the wall from the end of step 50 (warm-up, on all sides) to the end of the epoch. trainer is the
  real command with its default logging and checkpoints, and the saving at the end of the epoch is
  counted; the others log and save nothing, but look at the loss every 50 steps (Keras, in `fit`,
  as it does by itself). No evaluation is counted.
- **whole command** is the median of the seconds from start to exit, with imports, the epoch and
  the test.
- DataLoader, Lightning and Accelerate run with 0 and with 2 workers, Keras and JAX on arrays in
  memory, the step of the eager limit (one resident batch, nothing fetched) with torch's default
  and with its fused optimizer. **Ratios** are medians by medians, against the better variant,
  with the least and most of the ratios within one round.
- **data=custom** is trainer on torchvision's own Dataset, the one that the DataLoader loop reads,
  with the linear model: reading takes longer than the step. `cache` is data.cache=true from the
  second epoch on.
- **Losses** are that of the first step, and means over the first 50 steps and over the rest.
  `differs` marks a first loss that is more than 0.3 off ln 10, and a mean that is more than 10%
  off the DataLoader loop's. A side whose first loss, mean over the rest or number of parameters
  differs has no ratio. The eager limit sees one batch again and again, so its losses mean
  nothing.
- **Others** is the share of the machine's CPU time that went to other processes meanwhile: above
  a few percent, distrust the figures. A run that others disturbed (over 10%) was repeated, at
  most twice, and the least disturbed attempt counts, whatever its figures; the rest are in
  `results.json` as `disturbed`.
- **Sweeps** train lenet5 for one epoch, validate on 5,000 images and test on 10,000, on all
  sides; each side takes the threads that it takes by itself. trainer has its default logger,
  checkpoints and report unless `logger=none` is named; the loop in Hydra's job logs and saves
  nothing, and Hydra's launcher runs all jobs in one process. The column `by sweep.jobs=2` is how
  many times as long a side took."""


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def throughput_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """One table a model, and the ratios of them all."""
    header = (
        "contender",
        "samples/s",
        "whole command",
        "first loss",
        "first 50",
        "the rest",
        "accuracy",
        "others",
    )
    models = list(dict.fromkeys(outcome.model for outcome in outcomes))
    tables = [
        Table(
            f"Training, {model}",
            header,
            [_training_row(outcome, outcomes) for outcome in _of(model, outcomes)],
        )
        for model in models
    ]
    return [*tables, _ratio_table("Training: trainer against", models, outcomes)]


def evaluation_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """Evaluation of the test set."""
    models = list(dict.fromkeys(outcome.model for outcome in outcomes))
    rows = [
        [outcome.model, outcome.contender.label, _rate(outcome), _others(outcome)]
        for outcome in outcomes
    ]
    header = ("model", "contender", "samples/s", "others")
    table = Table("Evaluation of 10,000 images (best of 3 in a process)", header, rows)
    return [table, _ratio_table("Evaluation: trainer against", models, outcomes)]


def best(model: str, side: str, outcomes: Sequence[Outcome]) -> Outcome | None:
    """The variant of `side` with the highest median on `model`; None when the side is absent or
    failed.
    """
    found = [
        outcome
        for outcome in _of(model, outcomes)
        if outcome.contender.side == side and outcome.samples
    ]
    return max(
        found,
        key=lambda outcome: statistics.median(outcome.values("samples_per_second")),
        default=None,
    )


def is_comparable(outcome: Outcome, outcomes: Sequence[Outcome]) -> bool:
    """Whether it trained the same model as well as the DataLoader loop did; True of what does
    not train.
    """
    reference = best(outcome.model, "dataloader", outcomes)
    if not outcome.values("num_parameters"):
        return True
    # The one trains on one batch; the other, where samples are cached, several epochs.
    has_other_loss = outcome.contender.side in ("eager", "custom")
    keys = () if has_other_loss else ("initial_loss", "late_loss")
    is_same = (
        reference is None
        or outcome.values("num_parameters")[0] == reference.values("num_parameters")[0]
    )
    return is_same and all(_is_right(key, outcome, reference) for key in keys)


def ratio(model: str, side: str, outcomes: Sequence[Outcome]) -> tuple[float, float, float] | None:
    """trainer's median by that of `side`, and the least and most of the ratios within one round.

    None where a side is absent, or did not do the same work.
    """
    fair = [outcome for outcome in outcomes if is_comparable(outcome, outcomes)]
    ours, theirs = best(model, "trainer", fair), best(model, side, fair)
    if ours is None or theirs is None:
        return None
    key = "samples_per_second"
    rounds = {sample["round"]: sample[key] for sample in theirs.samples}
    paired = [
        sample[key] / rounds[sample["round"]]
        for sample in ours.samples
        if sample["round"] in rounds
    ]
    return (
        statistics.median(ours.values(key)) / statistics.median(theirs.values(key)),
        min(paired),
        max(paired),
    )


def write_json(
    path: Path,
    *,
    facts: dict[str, Any],
    outcomes: dict[str, list[Outcome]],
    figures: dict[str, Any],
) -> None:
    """Every figure of every round."""
    content = {
        "machine": facts,
        **{
            part: [dataclasses.asdict(outcome) for outcome in found]
            for part, found in outcomes.items()
        },
        **figures,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_markdown(path: Path, *, facts: dict[str, Any], tables: Sequence[Table], how: str) -> None:
    """The tables, the machine and what the figures mean."""
    machine = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    body = "\n".join(line for table in tables for line in _markdown(table))
    written = f"Written by `{how}`; all figures of all rounds are in `results.json`."
    head = f"# Benchmark results\n\n{written}"
    path.write_text(f"{head}\n\n{machine}\n\n{NOTES}\n{body}", encoding="utf-8")


def show(console: Console, tables: Sequence[Table]) -> None:
    """Print the tables."""
    for table in tables:
        rich = RichTable(title=table.title, title_justify="left")
        for number, name in enumerate(table.header):
            rich.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in table.rows:
            rich.add_row(*row)
        console.print(rich)


def _of(model: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.model == model]


def _training_row(outcome: Outcome, outcomes: Sequence[Outcome]) -> list[str]:
    if not outcome.samples:
        return [outcome.contender.label, outcome.problem or "", *[""] * 6]
    reference, accuracy = (
        best(outcome.model, "dataloader", outcomes),
        outcome.values("test_accuracy"),
    )
    if outcome.contender.side == "eager":
        return [
            outcome.contender.label,
            _rate(outcome),
            "",
            "",
            *["one batch"] * 2,
            "",
            _others(outcome),
        ]
    return [
        outcome.contender.label,
        _rate(outcome),
        f"{statistics.median(outcome.values('command_seconds')):.1f} s",
        *(_loss(key, outcome, reference) for key in ("initial_loss", "early_loss", "late_loss")),
        f"{statistics.mean(accuracy):.3f}" if accuracy else "",
        _others(outcome),
    ]


def _loss(key: str, outcome: Outcome, reference: Outcome | None) -> str:
    return f"{statistics.mean(outcome.values(key)):.3f}" + (
        "" if _is_right(key, outcome, reference) else "  differs"
    )


def _is_right(key: str, outcome: Outcome, reference: Outcome | None) -> bool:
    loss = statistics.mean(outcome.values(key))
    if key == "initial_loss":
        return abs(loss - math.log(10)) <= INITIAL_TOLERANCE
    wanted = loss if reference is None else statistics.mean(reference.values(key))
    return abs(loss - wanted) <= LOSS_TOLERANCE * wanted


def _rate(outcome: Outcome) -> str:
    values = outcome.values("samples_per_second")
    if not values:
        return outcome.problem or ""
    return f"{statistics.median(values):,.0f} [{min(values):,.0f}–{max(values):,.0f}]"


def _others(outcome: Outcome) -> str:
    shares = outcome.values("others_share")
    return f"{statistics.mean(shares):.0%}" if shares else ""


def _ratio_table(title: str, models: Sequence[str], outcomes: Sequence[Outcome]) -> Table:
    sides = list(
        dict.fromkeys(
            outcome.contender.side for outcome in outcomes if outcome.contender.side != "trainer"
        )
    )
    rows = [
        [model, *(_ratio_text(ratio(model, side, outcomes)) for side in sides)] for model in models
    ]
    return Table(title, ("model", *sides), rows)


def _ratio_text(found: tuple[float, float, float] | None) -> str:
    return "none" if found is None else f"{found[0]:.2f} [{found[1]:.2f}–{found[2]:.2f}]"


def _markdown(table: Table) -> Iterator[str]:
    yield f"\n## {table.title}\n"
    yield "| " + " | ".join(table.header) + " |"
    yield "|---" + "|---:" * (len(table.header) - 1) + "|"
    for row in table.rows:
        yield "| " + " | ".join(row) + " |"
