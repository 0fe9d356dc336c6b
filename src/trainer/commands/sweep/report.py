"""What a sweep found: the summary in sweep.json, the files sweep.csv and sweep.md, and the tables
on the terminal.

How jobs are compared is in `results`, how much a key matters in `importance`.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from trainer.commands.sweep.importance import importance
from trainer.commands.sweep.ranking import (
    best_of,
    differing_keys,
    groups_of,
    metric_names,
    ranked,
    telling,
)
from trainer.commands.sweep.record import STATUSES, JobRecord, SweepRecord, figure, short
from trainer.errors import printable
from trainer.files import write_text
from trainer.tracking.console import Terminal

CSV_NAME, MARKDOWN_NAME = "sweep.csv", "sweep.md"
# More rows than that are no overview; more failures than that are read in sweep.md.
_MAX_ROWS, _MAX_NAMED = 40, 8
# What begins like that is a formula to a spreadsheet, unless it is a number.
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """A table of text; the columns from `first_number` up to `last_number` are numbers."""

    titles: list[str]
    rows: list[list[str]]
    first_number: int
    last_number: int


def summarize(record: SweepRecord) -> dict[str, Any]:
    """The result in plain values: `counts`, `best`, `groups`, `importance`, `why_no_importance`.

    `best` is the job that is done with the best monitored metric, or None. `groups` are as in
    `results.groups_of`. `importance` is the share of each key, or None, and then
    `why_no_importance` says why.
    """
    jobs = ranked(record)
    best, found = best_of(record, jobs), importance(record)
    counts = Counter(job.status for job in record.jobs)
    return {
        "counts": {status: counts[status] for status in STATUSES if counts[status]},
        "best": best
        and {
            "job": best.number,
            "run": best.run,
            "metric": record.monitor,
            "value": best.metrics[record.monitor],
            "values": dict(best.values),
            "command": shlex.join(best.command),
        },
        "groups": groups_of(record, jobs),
        "importance": found.shares,
        "why_no_importance": found.reason,
    }


def write_files(record: SweepRecord) -> None:
    """Write sweep.csv, a row a job in their order, and sweep.md into the folder of the sweep;
    raises OSError.

    The record must have its summary.
    """
    write_text(record.folder / CSV_NAME, _csv(record))
    write_text(record.folder / MARKDOWN_NAME, _markdown(record))


def show(record: SweepRecord, *, terminal: Terminal) -> None:
    """Print the table, the best first and the failures last, and where everything is; nothing when
    no job has ended.

    The record must have its summary.
    """
    jobs = ranked(record)
    if not jobs:
        return
    groups = record.summary["groups"]
    sheet = _jobs_sheet(record, jobs) if groups is None else _groups_sheet(record, groups)
    terminal.line("")
    terminal.table(_table(sheet))
    path, left = record.folder / CSV_NAME, len(sheet.rows) - _MAX_ROWS
    if left > 0:
        terminal.line(
            f"These are the best {_MAX_ROWS}. {left} more are in "
            f"{_text(record.folder / MARKDOWN_NAME)}"
        )
    if groups is not None:
        terminal.line(
            f"Mean ± standard deviation over the seeds. The single jobs are in {_text(path)}"
        )
    terminal.facts("", [(name, _text(value)) for name, value in _facts(record)])
    failed = [job for job in jobs if job.status == "failed"]
    for job in failed[:_MAX_NAMED]:
        words = job.label
        terminal.warn(
            _text(f"Job {job.number}{f' ({words})' if words else ''} failed: {job.error}")
        )
    if failed[_MAX_NAMED:]:
        terminal.warn(
            f"{len(failed) - _MAX_NAMED} more jobs failed: see "
            f"{_text(record.folder / MARKDOWN_NAME)}"
        )


def _facts(record: SweepRecord) -> list[tuple[str, str]]:
    summary = record.summary
    rows, best, groups = [], summary["best"], summary["groups"]
    if best:
        rows.append(("best", f"{record.monitor} {_figure(best['value'])} (job {best['job']})"))
    if groups and record.monitor in groups[0]["metrics"]:
        told = ", ".join(f"{key}={short(value)}" for key, value in groups[0]["values"].items())
        rows.append(
            ("best mean", f"{_spread(groups[0], record.monitor)}{f' ({told})' if told else ''}")
        )
    if best:
        rows.append(("repeat", best["command"]))
    if shares := summary["importance"]:
        rows.append(
            ("importance", ", ".join(f"{key} {share:.2f}" for key, share in shares.items()))
        )
    rows += [("sweep", str(record.folder)), ("tensorboard", _look(record))]
    return [*rows, ("report", str(record.folder / MARKDOWN_NAME))]


def _look(record: SweepRecord) -> str:
    return f"trainer tb {shlex.quote(str(record.folder))}"


def _jobs_sheet(record: SweepRecord, jobs: Sequence[JobRecord]) -> _Sheet:
    keys, metrics = differing_keys(record), metric_names(jobs)
    shown = telling(metrics, record.monitor) or metrics
    rows = [
        [
            str(job.number),
            *(short(job.values.get(key, "")) for key in keys),
            *(_figure(job.metrics.get(name)) for name in shown),
            (job.run or "done") if job.status == "done" else job.status,
        ]
        for job in jobs
    ]
    first = 1 + len(keys)
    return _sheet(
        ["job", *keys, *shown, "run"], rows, first_number=first, last_number=first + len(shown)
    )


def _groups_sheet(record: SweepRecord, groups: Sequence[Mapping[str, Any]]) -> _Sheet:
    others = [key for key in differing_keys(record) if key != "seed"]
    metrics = list(dict.fromkeys(name for group in groups for name in group["metrics"]))
    rows = []
    for group in groups:
        num_runs, num_jobs = group["runs"], len(group["jobs"])
        runs = str(num_runs) if num_runs == num_jobs else f"{num_runs} of {num_jobs}"
        rows.append(
            [
                *(short(group["values"].get(key, "")) for key in others),
                *(_spread(group, name) for name in metrics),
                runs,
            ]
        )
    return _sheet(
        [*others, *metrics, "runs"],
        rows,
        first_number=len(others),
        last_number=len(others) + len(metrics) + 1,
    )


def _sheet(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, first_number: int, last_number: int
) -> _Sheet:
    return _Sheet(
        titles=[_text(title) for title in titles],
        rows=[[_text(cell) for cell in row] for row in rows],
        first_number=first_number,
        last_number=last_number,
    )


def _table(sheet: _Sheet) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(sheet.titles):
        is_number = sheet.first_number <= place < sheet.last_number
        # Text, not str: rich would read markup in a name from outside.
        table.add_column(Text(title), justify="right" if is_number else "left", overflow="fold")
    for row in sheet.rows[:_MAX_ROWS]:
        table.add_row(*map(Text, row))
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else figure(value)


def _spread(group: Mapping[str, Any], name: str) -> str:
    spread = group["metrics"].get(name)
    if not spread:
        return ""
    return _figure(spread["mean"]) + (
        "" if spread["std"] is None else f" ± {_figure(spread['std'])}"
    )


def _text(value: object) -> str:
    """On one line, without what a terminal obeys, and such that it can be written as UTF-8."""
    lines = " ".join(str(value).splitlines())
    return printable(lines).encode("utf-8", errors="replace").decode()


def _csv(record: SweepRecord) -> str:
    keys, metrics = differing_keys(record), metric_names(record.jobs)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_cell, ["job", "status", *keys, *metrics, "seconds", "run", "error"]))
    for job in record.jobs:
        values: list[object] = [job.number, job.status, *(job.values.get(key) for key in keys)]
        values += [job.metrics.get(name) for name in metrics]
        writer.writerow(map(_cell, [*values, job.seconds, job.run, job.error]))
    return file.getvalue()


def _cell(value: object) -> str:
    """A value as text, with a quote before what a spreadsheet would run."""
    text = "" if value is None else _text(value)
    if not text.lstrip().startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _markdown(record: SweepRecord) -> str:
    summary = record.summary
    jobs, groups, best = ranked(record), summary["groups"], summary["best"]
    counts = ", ".join(f"{count} {status}" for status, count in summary["counts"].items())
    when = f"Started {record.started}, ended {record.ended or 'not yet'}. Jobs: {counts or 'none'}."
    parts = [
        f"# Sweep {_markup(record.folder.name)}",
        _block(shlex.join(record.command)),
        _markup(when),
    ]
    parts.append(
        _markup(
            f"Compared by {record.monitor}, {'higher' if record.maximize else 'lower'} is better."
        )
    )
    if jobs:
        parts += ["## Jobs", _grid(_jobs_sheet(record, jobs))]
    if groups is not None:
        parts += [
            "## Seeds",
            "Mean ± standard deviation over the seeds.",
            _grid(_groups_sheet(record, groups)),
        ]
    failed = [
        [str(job.number), job.error or ""]
        for job in jobs
        if job.status in ("failed", "interrupted")
    ]
    if failed:
        sheet = _sheet(["job", "reason"], failed, first_number=0, last_number=0)
        parts += ["## Failures", _grid(sheet)]
    if best:
        told = f"Job {best['job']}: {best['metric']} {_figure(best['value'])}. This repeats it:"
        parts += ["## Best", _markup(told), _block(best["command"])]
    parts += ["## Importance", _importance(summary)]
    parts += ["## Look at it", _block(_look(record)), f"All numbers are in {CSV_NAME}."]
    return "\n\n".join(parts) + "\n"


def _importance(summary: Mapping[str, Any]) -> str:
    shares = summary["importance"]
    if shares is None:
        return _markup(f"Not known: {summary['why_no_importance']}.")
    rows = [[key, f"{share:.2f}", "█" * round(20 * share)] for key, share in shares.items()]
    said = "How much of the order of the runs each key explains by itself (omega squared on ranks)."
    return f"{said}\n\n{_grid(_sheet(['key', 'share', ''], rows, first_number=1, last_number=2))}"


def _grid(sheet: _Sheet) -> str:
    rules = [
        "---:" if sheet.first_number <= place < sheet.last_number else "---"
        for place in range(len(sheet.titles))
    ]
    lines = [
        list(map(_markup, sheet.titles)),
        rules,
        *(list(map(_markup, row)) for row in sheet.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markup(text: str) -> str:
    """Text in which Markdown finds nothing to obey: no cell ends in it, no tag, emphasis or link
    begins in it.
    """
    return re.sub(r"[\\|`*<>&]|\](?=\()", lambda found: f"\\{found[0]}", _text(text))


def _block(command: str) -> str:
    """A command to be copied, in a fence that it cannot close."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    return f"{fence}sh\n{_text(command)}\n{fence}"
