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
        """The sentence that says so, with the `command` that narrows."""
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
        filters=_filters(metric, ranked),
    )


def _filters(metric: str, rows: Sequence[RunRow]) -> list[str]:
    """The filters that keep the runs that `metric` ranks together with the first one."""
    filters: list[str] = []
    # Again for those that pass: of the runs with one choice of a group, other keys may differ.
    while (found := what_differs(metric, (row.config for row in rows))) is not None:
        first = rows[0].config
        dotted = {key: f"{key}.name" if key in SCHEMAS else key for key in found.keys}
        values = {name: first[name] for name in dotted.values() if name in first}
        kept = [row for row in rows if values.items() <= row.config.items()]
        if len(kept) == len(rows):
            break
        filters += [
            f"{key}={as_text(values[name])}" for key, name in dotted.items() if name in values
        ]
        rows = kept
    return filters
