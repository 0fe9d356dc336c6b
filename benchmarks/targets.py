"""What trainer is to reach, and whether what was measured reaches it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import custom, line, logs, manyruns, memory, startup, sweeps
from benchmarks.parts import Findings
from benchmarks.report import Table, ratio

TRAINING = {
    "mlp": {"eager": 0.95, "dataloader": 6.0, "lightning": 7.0},
    "lenet5": {"eager": 1.2, "dataloader": 3.5, "lightning": 4.5},
    "cnn": {"eager": 1.7, "dataloader": 2.5, "lightning": 2.5},
}
EVALUATION = 3.0
CUSTOM = {"0": 1.0, "2": 1.0, custom.CACHE: 10.0}
LOGGING = {"cnn": 0.03, "mlp": 0.08}
HELP_S, CONFIG_ERROR_S, LINE_S = 0.4, 1.0, 1.5
FIRST_STEP_IMPORTS, FIRST_STEP_S = 1.5, 1.0
SWEEP_BY_ONE_JOB, SWEEP_BY_HYDRA = 1.6, 4.0
PARENT_GROWTH_MB = 2.0
LISTING_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One figure and its bound; `measured` is None where it was not, or where the sides cannot
    be compared.
    """

    what: str
    bound: float
    measured: float | None
    is_least: bool = False
    pattern: str = "{:.2f}"

    def as_row(self) -> list[str]:
        """What, the bound, the figure and the verdict."""
        bound = ("at least " if self.is_least else "under ") + self.pattern.format(self.bound)
        if self.measured is None:
            return [self.what, bound, "", "not measured"]
        is_met = self.measured >= self.bound if self.is_least else self.measured < self.bound
        return [self.what, bound, self.pattern.format(self.measured), "met" if is_met else "missed"]


def table(findings: Findings) -> Table:
    """All targets, those of parts that did not run too."""
    targets = [
        *_ratios(findings),
        *_logging(findings),
        *_memory(findings),
        *_seconds(findings),
        *_sweeps(findings),
    ]
    return Table(
        "Targets", ("what", "target", "measured", ""), [target.as_row() for target in targets]
    )


def _ratios(findings: Findings) -> Iterator[Target]:
    trained = findings.outcomes.get("throughput", [])
    for model, sides in TRAINING.items():
        for side, bound in sides.items():
            found = ratio(model, side, trained)
            what = f"training {model}, by {side}"
            yield Target(what=what, bound=bound, measured=found and found[0], is_least=True)
    found = ratio("cnn", "dataloader", findings.outcomes.get("evaluation", []))
    yield Target(
        what="evaluation cnn, by dataloader",
        bound=EVALUATION,
        measured=found and found[0],
        is_least=True,
    )
    outcomes = findings.outcomes.get("custom", [])
    for variant, bound in CUSTOM.items():
        yield Target(
            what=f"data=custom ({variant}), by dataloader",
            bound=bound,
            measured=custom.ratio(variant, outcomes),
            is_least=True,
        )


def _logging(findings: Findings) -> Iterator[Target]:
    found = findings.figures.get("logging_seconds", {})
    for model, bound in LOGGING.items():
        measured = logs.cost(found[model]) if model in found else None
        yield Target(
            what=f"the default logger's share, {model}",
            bound=bound,
            measured=measured,
            pattern="{:.1%}",
        )


def _memory(findings: Findings) -> Iterator[Target]:
    for model, figures in findings.figures.get("memory_bytes", {}).items():
        measured = statistics.median(figures["trainer"]) / 1e6
        bound = memory.allowed(figures) / 1e6
        yield Target(
            what=f"peak memory, {model}", bound=bound, measured=measured, pattern="{:.0f} MB"
        )


def _seconds(findings: Findings) -> Iterator[Target]:
    def target(what: str, bound: float, measured: float | None) -> Target:
        return Target(what=what, bound=bound, measured=measured, pattern="{:.2f} s")

    lines, starts = findings.figures.get("line_seconds"), findings.figures.get("startup_seconds")
    yield target("line, beyond import torch", LINE_S, line.beyond_import(lines) if lines else None)
    if starts is None:
        return
    median = {name: statistics.median(values) for name, values in starts.items()}
    yield target(startup.HELP, HELP_S, median[startup.HELP])
    yield target("a config error", CONFIG_ERROR_S, median[startup.CONFIG_ERROR])
    bound = FIRST_STEP_IMPORTS * median[startup.IMPORT_TORCH] + FIRST_STEP_S
    yield target("first training step", bound, median[startup.FIRST_STEP])


def _sweeps(findings: Findings) -> Iterator[Target]:
    found, many = findings.figures.get("sweep_seconds"), findings.figures.get("many_runs")
    listings = findings.figures.get("listing_seconds")

    def least(what: str, bound: float, measured: float | None, pattern: str = "{:.0f}") -> Target:
        return Target(what=what, bound=bound, measured=measured, is_least=True, pattern=pattern)

    by_one = sweeps.ratio(found, sweeps.TWO, [sweeps.ONE]) if found else None
    by_hydra = sweeps.ratio(found, sweeps.TWO, sweeps.HYDRA) if found else None
    identical = findings.figures.get("sweep_identical")
    yield least("sweep.jobs=2, by sweep.jobs=1", SWEEP_BY_ONE_JOB, by_one, "{:.2f}")
    yield least("sweep.jobs=2, by Hydra's launcher and loop", SWEEP_BY_HYDRA, by_hydra, "{:.2f}")
    yield least("jobs of it with the weights of the run alone", sweeps.NUM_JOBS, identical)
    right = manyruns.num_right(many) if many else None
    yield least("small jobs of one sweep that are done and listed once", manyruns.NUM_JOBS, right)
    memory_used = manyruns.parent_bytes(many) if many else None
    growth = memory_used and (memory_used[1] - memory_used[0]) / 1e6
    yield Target(
        what="growth of its parent", bound=PARENT_GROWTH_MB, measured=growth, pattern="{:.1f} MB"
    )
    slowest = max(map(statistics.median, listings.values())) if listings else None
    yield Target(what="listing 500 runs", bound=LISTING_S, measured=slowest, pattern="{:.2f} s")
