"""A person's own Dataset: trainer's `data=custom` against the DataLoader loop on the same one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.runner import WORKERS, Contender, Job, Outcome, Say, compete

MODEL = "linear"
CACHE = "cache"
CONTENDERS = (
    *(Contender("custom", variant) for variant in (*WORKERS, CACHE)),
    *(Contender("dataloader", workers) for workers in WORKERS),
)


def measure(*, job: Job, say: Say) -> list[Outcome]:
    """An epoch of the linear model, whose step takes less time than to read its samples."""
    return compete(CONTENDERS, [MODEL], job=job, say=say)


def ratio(variant: str, outcomes: Sequence[Outcome]) -> float | None:
    """trainer's median by the loop's with as many workers, or by its better one for `cache`.

    None where a side is absent.
    """
    rates = {
        (outcome.contender.side, outcome.contender.variant): statistics.median(
            outcome.values("samples_per_second")
        )
        for outcome in outcomes
        if outcome.samples
    }
    others = WORKERS if variant == CACHE else (variant,)
    theirs = [rates[key] for key in (("dataloader", other) for other in others) if key in rates]
    ours = rates.get(("custom", variant))
    return None if ours is None or not theirs else ours / max(theirs)


def as_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Samples a second with their spread, and the ratio to the loop."""
    rows = []
    for outcome in outcomes:
        found = outcome.values("samples_per_second")
        if not found:
            rows.append([outcome.contender.label, outcome.problem or "", "", ""])
            continue
        is_ours = outcome.contender.side == "custom"
        by_loop = ratio(outcome.contender.variant, outcomes) if is_ours else None
        spread = f"{min(found):,.0f}–{max(found):,.0f}"
        shown = "" if by_loop is None else f"{by_loop:.2f}"
        rows.append([outcome.contender.label, f"{statistics.median(found):,.0f}", spread, shown])
    return rows
