"""The jobs of a sweep compared: which is best, which differ in their seed only, what differs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.task import JobStatus
from trainer.files import JsonObject
from trainer.tracking.metrics_file import is_number

# The order of a table: first what can be compared, last what went wrong.
_ENDED = (JobStatus.DONE, JobStatus.PRUNED, JobStatus.INTERRUPTED, JobStatus.FAILED)
_SPLITS = ("val/", "test/")
# Keys that make a run another one of the same kind.
SEEDS = ("seed", "data.seed")


def value_of(metrics: Mapping[str, object], name: str) -> float | None:
    """The metric, where it is there and finite."""
    value = metrics.get(name)
    return value if is_number(value) else None


def ranked(record: SweepRecord) -> list[JobRecord]:
    """The jobs that ended: the best first, those without a value next, the failed last."""
    ended = [job for job in record.jobs if job.status in _ENDED]
    return sorted(
        ended, key=lambda job: (_ENDED.index(job.status), *_rank(record, job.metrics), job.number)
    )


def differing_keys(record: SweepRecord) -> list[str]:
    """The swept keys whose values differ; all of them where none does."""
    keys = [key for key in record.keys if len({job.values.get(key) for job in record.jobs}) > 1]
    return keys or list(record.keys)


def metric_names(jobs: Iterable[JobRecord]) -> list[str]:
    """Every metric that a job has."""
    return list(dict.fromkeys(name for job in jobs for name in job.metrics))


def compared_metrics(names: Sequence[str], monitor: str) -> list[str]:
    """The metrics of validation and test, and the monitored one, which training's comes before.

    Side by side, their difference shows overfitting.
    """
    training = of_split("train", monitor)
    found = [name for name in names if name == monitor or name.startswith(_SPLITS)]
    if monitor in found and training in names and training != monitor:
        found.insert(found.index(monitor), training)
    return found


def of_split(split: str, metric: str) -> str:
    """The counterpart of a metric on another split: `train/loss` of `val/loss`."""
    return f"{split}/{metric.partition('/')[2]}"


def groups_of(record: SweepRecord, jobs: Sequence[JobRecord]) -> list[JsonObject] | None:
    """Group ranked `jobs` that differ in their seed only, the best mean first.

    A group has its `values`, the numbers of its `jobs`, as `runs` how many of them are done, and
    for each metric its `mean`, its `std` (of the sample, with n - 1; None for one run) and the
    number of `runs` that have it. None where no two jobs differ in their seed only.
    """
    seeds = [key for key in SEEDS if key in record.keys]
    if not seeds:
        return None
    members: dict[tuple[str | None, ...], list[JobRecord]] = {}
    others = [key for key in record.keys if key not in SEEDS]
    for job in jobs:
        members.setdefault(_values(job, others), []).append(job)
    if all(len({_values(job, seeds) for job in alike}) < 2 for alike in members.values()):
        return None

    def rank(group: JsonObject) -> tuple[bool, float]:
        means = {name: spread["mean"] for name, spread in group["metrics"].items()}
        return _rank(record, means)

    return sorted((_group(record, alike, others) for alike in members.values()), key=rank)


def _values(job: JobRecord, keys: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(job.values.get(key) for key in keys)


def _group(record: SweepRecord, jobs: Sequence[JobRecord], keys: Sequence[str]) -> JsonObject:
    done = [job for job in jobs if job.status == JobStatus.DONE]
    spreads = {}
    for name in compared_metrics(metric_names(done), record.monitor):
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
    """A sorting key: the best value first, no value last."""
    value = value_of(metrics, record.monitor)
    if value is None:
        return True, 0.0
    return False, -value if record.maximize else value
