"""The report of a sweep: a summary in sweep.json, sweep.csv, sweep.md, a table on the terminal.

How jobs are compared is in `ranking`, how much a key matters in `importance`.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.commands.sweep.importance import importance
from trainer.commands.sweep.ranking import (
    SEEDS,
    compared_metrics,
    differing_keys,
    groups_of,
    metric_names,
    of_split,
    ranked,
    value_of,
)
from trainer.commands.sweep.record import JobRecord, SweepRecord, short
from trainer.commands.sweep.task import JobStatus
from trainer.config.data import DataConfig
from trainer.errors import as_called, command_line
from trainer.files import JsonObject, as_list, write_text
from trainer.tracking.console import Terminal
from trainer.tracking.csv_text import csv_text
from trainer.tracking.table import Narrow, write_table
from trainer.tracking.text import as_line, number_text

CSV_NAME = "sweep.csv"
MARKDOWN_NAME = "sweep.md"
# More rows are no overview.
_MAX_ROWS = 40
# More failures are in sweep.md only.
_MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A table of text; the columns with the indices `numbers` are numbers."""

    titles: list[str]
    rows: list[list[str]]
    numbers: range = range(0)
    leaving_out: list[str] = field(default_factory=list)  # in a narrow terminal, in this order


def seeds_vary(keys: Sequence[str], data: Sequence[DataConfig]) -> str:
    """What differs from seed to seed, where `keys` are varied on data sets like `data`."""
    varied = []
    if "seed" in keys:
        varied += ["weights", "order"]
    is_following = "seed" in keys and any(each.seed is None for each in data)
    drawn = list(dict.fromkeys(what for each in data for what in each.drawn))
    if "data.seed" in keys or is_following:
        varied += drawn
    hint = "; data.seed=0 keeps the data"
    return ", ".join(varied) + hint * (bool(drawn) and is_following and "data.seed" not in keys)


def summarize(record: SweepRecord, *, seeds: str = "") -> JsonObject:
    """The result in plain values: `counts`, `best`, `groups`, `importance`, `why_no_importance`.

    `seeds` is what `seeds_vary` returned. `comparison` says what is to be known of the metric, in
    sentences; they stay as they are.

    `best` is the job that is done with the best monitored metric, or None. `groups` are those of
    `ranking.groups_of`. `importance` is the share of each key; where it is None,
    `why_no_importance` is the reason.
    """
    jobs = ranked(record)
    found = importance(record)
    counts = Counter(job.status for job in record.jobs)
    best = None
    if jobs and jobs[0].status == JobStatus.DONE:
        value = value_of(jobs[0].metrics, record.monitor)
        if value is not None:
            best = {
                "job": jobs[0].number,
                "run": jobs[0].run,
                "metric": record.monitor,
                "value": value,
                "values": dict(jobs[0].values),
                "command": shlex.join(jobs[0].command),
            }
    return {
        "counts": {status.value: counts[status] for status in JobStatus if counts[status]},
        "best": best,
        "groups": groups_of(record, jobs),
        "seeds": seeds,
        "comparison": list(map(str, as_list(record.summary.get("comparison")))),
        "importance": found.shares,
        "why_no_importance": found.reason,
    }


def write_files(record: SweepRecord) -> None:
    """Write sweep.csv and sweep.md into the folder of the sweep; raises OSError.

    The record must have its summary.
    """
    write_text(record.folder / CSV_NAME, _csv(record))
    write_text(record.folder / MARKDOWN_NAME, _markdown(record))


def show(record: SweepRecord, *, terminal: Terminal) -> None:
    """Print the table and where everything is; nothing when no job has ended.

    The record must have its summary.
    """
    jobs = ranked(record)
    if not jobs:
        return
    groups = record.summary["groups"]
    sheet = _jobs_sheet(record, jobs) if groups is None else _groups_sheet(record, groups)
    terminal.line("")
    _print(sheet, terminal)
    csv_path = as_line(record.folder / CSV_NAME)
    markdown_path = as_line(record.folder / MARKDOWN_NAME)
    num_more = len(sheet.rows) - _MAX_ROWS
    if num_more > 0:
        terminal.line(f"These are the best {_MAX_ROWS}. {num_more} more are in {markdown_path}")
    if groups is not None:
        terminal.line(
            f"Mean ± standard deviation over the seeds. The single jobs are in {csv_path}"
        )
    terminal.facts("", [(name, as_line(value)) for name, value in _facts(record)])
    failed = [job for job in jobs if job.status == JobStatus.FAILED]
    for job in failed[:_MAX_NAMED]:
        terminal.warn(as_line(job.failure))
    if len(failed) > _MAX_NAMED:
        terminal.warn(f"{len(failed) - _MAX_NAMED} more jobs failed: see {markdown_path}")


def _facts(record: SweepRecord) -> list[tuple[str, str]]:
    best = record.summary["best"]
    groups = record.summary["groups"]
    shares = record.summary["importance"]
    facts = []
    if best:
        facts.append(("best", f"{record.monitor} {_figure(best['value'])} (job {best['job']})"))
    if groups and record.monitor in groups[0]["metrics"]:
        values = ", ".join(f"{key}={short(value)}" for key, value in groups[0]["values"].items())
        mean = _spread(groups[0], record.monitor)
        facts.append(("best mean", f"{mean} ({values})" if values else mean))
    if groups and (seeds := record.summary.get("seeds")):
        facts.append(("seeds vary", seeds))
    if best:
        facts.append(("repeat", as_called(best["command"])))
    if shares:
        listed = ", ".join(f"{key} {share:.2f}" for key, share in shares.items())
        facts.append(("importance", listed))
    return [
        *facts,
        ("sweep", str(record.folder)),
        ("tensorboard", _tensorboard(record)),
        ("report", str(record.folder / MARKDOWN_NAME)),
    ]


def _tensorboard(record: SweepRecord) -> str:
    return command_line("tb", str(record.folder))


def _jobs_sheet(record: SweepRecord, jobs: Sequence[JobRecord]) -> _Sheet:
    keys = differing_keys(record)
    metrics = metric_names(jobs)
    metrics = compared_metrics(metrics, record.monitor) or metrics
    rows = [
        [
            str(job.number),
            *(short(job.values.get(key, "")) for key in keys),
            *(_figure(job.metrics.get(name)) for name in metrics),
            (job.run or "done") if job.status == JobStatus.DONE else job.status.value,
        ]
        for job in jobs
    ]
    first = 1 + len(keys)
    return _Sheet(
        ["job", *keys, *metrics, "run"],
        rows,
        range(first, first + len(metrics)),
        leaving_out=["run", *_leaving_out(keys, metrics, monitor=record.monitor)],
    )


def _groups_sheet(record: SweepRecord, groups: Sequence[JsonObject]) -> _Sheet:
    keys = [key for key in differing_keys(record) if key not in SEEDS]
    metrics = list(dict.fromkeys(name for group in groups for name in group["metrics"]))
    rows = []
    for group in groups:
        num_runs = group["runs"]
        num_jobs = len(group["jobs"])
        rows.append(
            [
                *(short(group["values"].get(key, "")) for key in keys),
                *(_spread(group, name) for name in metrics),
                str(num_runs) if num_runs == num_jobs else f"{num_runs} of {num_jobs}",
            ]
        )
    titles = [*keys, *metrics, "runs"]
    leaving_out = _leaving_out(keys, metrics, monitor=record.monitor)
    return _Sheet(titles, rows, range(len(keys), len(titles)), leaving_out=leaving_out)


def _leaving_out(keys: Sequence[str], metrics: Sequence[str], *, monitor: str) -> list[str]:
    """The columns that a narrow terminal has no room for, the least important first.

    Of the metrics, other quantities go before the monitored one on the test set and in training.
    """
    counterparts = [of_split("test", monitor), of_split("train", monitor)]
    others = [name for name in reversed(metrics) if name not in (monitor, *counterparts)]
    kept_longer = [name for name in counterparts if name in metrics and name != monitor]
    return [*others, *kept_longer, *reversed(keys[1:])]


def _print(sheet: _Sheet, terminal: Terminal) -> None:
    titles = [as_line(title) for title in sheet.titles]
    # Half a number would be another one.
    texts = [title for index, title in enumerate(titles) if index not in sheet.numbers]
    write_table(
        titles,
        [[as_line(cell) for cell in row] for row in sheet.rows[:_MAX_ROWS]],
        terminal=terminal,
        right=[titles[index] for index in sheet.numbers],
        narrow=Narrow(cut=texts[::-1], leave_out=[as_line(title) for title in sheet.leaving_out]),
        styles={},
        is_ruled=True,
    )


def _figure(value: float | None) -> str:
    return "" if value is None else number_text(value)


def _spread(group: JsonObject, name: str) -> str:
    """`0.9770 ± 0.0025`; of one run the value alone."""
    spread = group["metrics"].get(name)
    if not spread:
        return ""
    mean = _figure(spread["mean"])
    std = spread["std"]
    return mean if std is None else f"{mean} ± {_figure(std)}"


def _csv(record: SweepRecord) -> str:
    """A row a job, in the order of their numbers, with all metrics."""
    keys = differing_keys(record)
    metrics = metric_names(record.jobs)
    rows: list[list[object]] = []
    for job in record.jobs:
        values: list[object] = [job.number, job.status, *(job.values.get(key) for key in keys)]
        values += [job.metrics.get(name) for name in metrics]
        rows.append([*values, job.seconds, job.run, job.error])
    return csv_text(["job", "status", *keys, *metrics, "seconds", "run", "error"], rows)


def _markdown(record: SweepRecord) -> str:
    summary = record.summary
    jobs = ranked(record)
    counts = ", ".join(f"{count} {status}" for status, count in summary["counts"].items())
    better = "higher" if record.maximize else "lower"
    parts = [
        f"# Sweep {_markup(record.folder.name)}",
        _block(shlex.join(record.command)),
        _markup(
            f"Started {record.started}, ended {record.ended or 'not yet'}. "
            f"Jobs: {counts or 'none'}."
        ),
        _markup(f"Compared by {record.monitor}, {better} is better."),
        *map(_markup, summary["comparison"]),
    ]
    if jobs:
        parts += ["## Jobs", _grid(_jobs_sheet(record, jobs))]
    if summary["groups"] is not None:
        parts += ["## Seeds", *_seeds(record)]
    unfinished = (JobStatus.FAILED, JobStatus.INTERRUPTED)
    failed = [[str(job.number), job.error or ""] for job in jobs if job.status in unfinished]
    if failed:
        parts += ["## Failures", _grid(_Sheet(["job", "reason"], failed))]
    parts += _left_out(record)
    if best := summary["best"]:
        line = f"Job {best['job']}: {best['metric']} {_figure(best['value'])}. This repeats it:"
        parts += ["## Best", _markup(line), _block(best["command"])]
    parts += ["## Importance", *_importance(summary)]
    parts += ["## Look at it", _block(_tensorboard(record)), f"All numbers are in {CSV_NAME}."]
    return "\n\n".join(parts) + "\n"


def _left_out(record: SweepRecord) -> list[str]:
    """The runs that are no results of the sweep, and why."""
    rows = [[job.run or "", job.error or ""] for job in record.left_out]
    return ["## Left out", _grid(_Sheet(["run", "reason"], rows))] if rows else []


def _seeds(record: SweepRecord) -> list[str]:
    about = "Mean ± standard deviation over the seeds."
    if varied := record.summary.get("seeds"):
        about += _markup(f" They vary {varied}.")
    return [about, _grid(_groups_sheet(record, record.summary["groups"]))]


def _importance(summary: JsonObject) -> list[str]:
    shares = summary["importance"]
    if shares is None:
        return [_markup(f"Not known: {summary['why_no_importance']}.")]
    rows = [[key, f"{share:.2f}", "█" * round(20 * share)] for key, share in shares.items()]
    return [
        "How much of the order of the runs each key explains by itself (omega squared on ranks).",
        _grid(_Sheet(["key", "share", ""], rows, range(1, 2))),
    ]


def _grid(sheet: _Sheet) -> str:
    """A table of Markdown."""
    rules = ["---:" if index in sheet.numbers else "---" for index, _ in enumerate(sheet.titles)]
    titles, *rows = ([_markup(cell) for cell in row] for row in (sheet.titles, *sheet.rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rules, *rows))


def _markup(text: str) -> str:
    """Text for Markdown, in which no cell ends and no tag, emphasis or link begins."""
    return re.sub(r"[\\|`*<>&]|\](?=\()", lambda found: f"\\{found[0]}", as_line(text))


def _block(command: str) -> str:
    """A command to be copied, in a fence that it cannot close."""
    longest = max((len(run) for run in re.findall("`+", command)), default=0)
    fence = "`" * max(3, 1 + longest)
    return f"{fence}sh\n{as_line(command)}\n{fence}"
