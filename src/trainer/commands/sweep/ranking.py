"""The jobs of a sweep set against each other: which is best, which differ in their seed only, what
differs at all.

Plain values only; how they are shown is in `report`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from trainer.commands.sweep.record import JobRecord, SweepRecord

# The order of a table: what can be compared, then what was cut, then what went wrong.
_ENDED = ("done", "pruned", "interrupted", "failed")
_SPLITS = ("val/", "test/")


def value_of(metrics: dict[str, float | None], name: str) -> float | None:
    """A metric that is there and finite."""
    value = metrics.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def ranked(record: SweepRecord) -> list[JobRecord]:
    """The jobs that ended, the best first, then those without a value, the pruned, the
    interrupted, the failed.
    """
    ended = [job for job in record.jobs if job.status in _ENDED]
    return sorted(
        ended, key=lambda job: (_ENDED.index(job.status), *_rank(record, job.metrics), job.number)
    )


def best_of(record: SweepRecord, jobs: Sequence[JobRecord]) -> JobRecord | None:
    """The first of ranked `jobs`, if it is done and has the monitored metric."""
    first = jobs[0] if jobs else None
    is_best = (
        first and first.status == "done" and value_of(first.metrics, record.monitor) is not None
    )
    return first if is_best else None


def differing_keys(record: SweepRecord) -> list[str]:
    """The swept keys whose values differ; all of them where none does."""
    keys = [key for key in record.keys if len({job.values.get(key) for job in record.jobs}) > 1]
    return keys or list(record.keys)


def metric_names(jobs: Iterable[JobRecord]) -> list[str]:
    """Every metric that a job has."""
    return list(dict.fromkeys(name for job in jobs for name in job.metrics))


def telling(names: Sequence[str], monitor: str) -> list[str]:
    """The metrics that jobs are judged by: of validation and test, and the monitored one."""
    return [name for name in names if name == monitor or name.startswith(_SPLITS)]


def groups_of(record: SweepRecord, jobs: Sequence[JobRecord]) -> list[dict[str, Any]] | None:
    """Ranked `jobs` by what they have in common but the seed, the best mean first; None without two
    seeds of a kind.

    A group has its `values`, the numbers of its `jobs`, how many of them are done as `runs`, and
    for each metric its `mean`, its `std` (the sample's, with n - 1; None for one run) and the
    number of `runs` that have it.
    """
    if "seed" not in record.keys:
        return None
    members: dict[tuple[str | None, ...], list[JobRecord]] = {}
    others = [key for key in record.keys if key != "seed"]
    for job in jobs:
        members.setdefault(tuple(job.values.get(key) for key in others), []).append(job)
    if all(len({job.values.get("seed") for job in alike}) < 2 for alike in members.values()):
        return None
    groups = [_group(record, alike, others) for alike in members.values()]
    return sorted(
        groups,
        key=lambda group: _rank(
            record, {name: at["mean"] for name, at in group["metrics"].items()}
        ),
    )


def _group(record: SweepRecord, jobs: Sequence[JobRecord], keys: Sequence[str]) -> dict[str, Any]:
    done = [job for job in jobs if job.status == "done"]
    spreads = {}
    for name in telling(metric_names(done), record.monitor):
        found = [value for job in done if (value := value_of(job.metrics, name)) is not None]
        if found:
            std = statistics.stdev(found) if len(found) > 1 else None
            spreads[name] = {"mean": statistics.mean(found), "std": std, "runs": len(found)}
    return {
        "values": {key: jobs[0].values[key] for key in keys if key in jobs[0].values},
        "jobs": sorted(job.number for job in jobs),
        "runs": len(done),
        "metrics": spreads,
    }


def _rank(record: SweepRecord, metrics: dict[str, float | None]) -> tuple[bool, float]:
    value = value_of(metrics, record.monitor)
    return (value is None, 0.0 if value is None else -value if record.maximize else value)
