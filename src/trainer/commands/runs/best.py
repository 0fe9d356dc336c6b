"""The best run by a metric: `trainer runs best`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.commands.runs.comparable import mixture
from trainer.commands.runs.filters import chosen, root_words
from trainer.commands.runs.order import ordered
from trainer.commands.runs.read import is_finite
from trainer.commands.runs.row import RunRow
from trainer.config.overrides import eval_words, override
from trainer.errors import UsageError, as_called, command_line, counted, suggestion
from trainer.files import JsonObject
from trainer.run.index import METRICS
from trainer.tracking.console import Terminal
from trainer.tracking.table import write_json
from trainer.tracking.text import number_text


def best(
    words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal
) -> None:
    """Show the run with the best value of a metric: the first of `words`, or the newest run's own.

    The other words are filters. Raises UsageError when no run has a value.
    """
    metric, filters = _split_metric(words)
    rows = chosen(filters, root)
    if metric is None:  # the rows are still in the order of their start, the newest first
        metric = next((row.monitored for row in rows if row.monitored), METRICS[0])
    rows = [row for row in ordered(rows, metric) if is_finite(row.metrics.get(metric))]
    if not rows:
        raise _no_best(metric, filters, root)
    row = rows[0]
    entry = row.entry
    mixed = mixture(metric, rows)
    if "json" in options:
        incomparable = None if mixed is None else mixed.plain()
        write_json({**row.plain(), "incomparable": incomparable}, terminal=terminal)
        return
    if "quiet" in options:
        terminal.line(entry.id)
    else:
        facts = [
            ("id", entry.id),
            (metric, number_text(row.metrics[metric])),
            ("run", str(entry.path)),
            ("evaluate", _evaluate(row)),
            # run.json has the command as `trainer …`, however it was called then.
            ("repeat", as_called(str(entry.record.get("command") or "-"))),
        ]
        terminal.facts(f"Best of {counted(len(rows), 'run')} by {metric}", facts)
    if mixed is not None:
        narrowed = ["best", metric, *filters, *mixed.filters, *root_words(root)]
        terminal.warn(mixed.sentence(command_line("runs", *narrowed)))


def _evaluate(row: RunRow) -> str:
    """The command that evaluates the best checkpoint of a run."""
    config: dict[str, JsonObject] = {}
    for dotted, value in row.config.items():
        group, _, name = dotted.partition(".")
        config.setdefault(group, {})[name] = value
    return command_line("eval", override("ckpt", str(row.entry.path)), *eval_words(config))


def _no_best(metric: str, filters: Sequence[str], root: Path) -> UsageError:
    """The error where no run is the best: none passes the filters, or none has the metric."""
    if filters and not chosen(filters, root):
        return UsageError(
            f"No run in {root} passes {' '.join(filters)}.",
            hint=f"A word without a = is a part of a name. Metrics: {', '.join(METRICS)}.",
        )
    passing = " that passes" if filters else ""
    return UsageError(
        f"No run in {root}{passing} has {metric}.", hint=f"See: {command_line('runs', 'ls')}"
    )


def _split_metric(words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The metric that the first word names, if any, and the filters."""
    if not words:
        return None, words
    first = words[0]
    if first in METRICS:
        return first, words[1:]
    # No folder has a slash in its name, so this is no filter either: it is a metric misspelt.
    if ("/" in first or _is_half_a_metric(first)) and "=" not in first:
        raise UsageError(
            f"There is no metric {first}.", hint=suggestion(_whole(first), METRICS, label="Metrics")
        )
    return None, words


def _is_half_a_metric(word: str) -> bool:
    """Whether a word is `accuracy`, `loss`, a short form, or a metric without its slash."""
    return _whole(word) in METRICS


def _whole(word: str) -> str:
    """The metric that `acc`, `loss` or `val_loss` may stand for; else the word."""
    name = word.lower().replace("-", "_")
    split, _, rest = name.rpartition("_")
    metric = f"{split or 'val'}/{'accuracy' if rest == 'acc' else rest}"
    return metric if metric in METRICS else word
