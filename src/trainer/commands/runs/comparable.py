"""Whether runs can be ranked by a metric; where they cannot, why, and the filter that narrows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.commands.runs.read import as_text, is_finite
from trainer.commands.runs.row import RunRow
from trainer.config import SCHEMAS
from trainer.config.comparison import what_differs


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Why a metric does not rank runs, and the filters that keep those that are as the first one.

    `reason` is a clause, such as `the data sets differ`; `keys` are as they are typed.
    """

    metric: str
    num_runs: int
    reason: str
    keys: Sequence[str]
    filters: Sequence[str]

    def sentence(self, command: str) -> str:
        """That they cannot be ranked, with the `command` that narrows."""
        text = f"{self.metric} does not rank these {self.num_runs} runs: {self.reason}."
        return f"{text} Narrow: {command}" if self.filters else text

    def plain(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "reason": self.reason,
            "keys": list(self.keys),
            "filters": list(self.filters),
        }


def mixture(metric: str, rows: Sequence[RunRow]) -> Mixture | None:
    """What makes `metric` incomparable among the runs that have a value, the best first, if any."""
    ranked = [row for row in rows if is_finite(row.metrics.get(metric))]
    found = what_differs(metric, (row.config for row in ranked))
    if found is None:
        return None
    return Mixture(
        metric=metric,
        num_runs=len(ranked),
        reason=found.reason,
        keys=found.keys,
        filters=[word for key in found.keys for word in _filters(key, ranked[0])],
    )


def _filters(key: str, row: RunRow) -> list[str]:
    """The filter that keeps runs with the value of `row`; none where it has no such key."""
    dotted = f"{key}.name" if key in SCHEMAS else key
    return [f"{key}={as_text(row.config[dotted])}"] if dotted in row.config else []
