"""The terminal: a block of facts, a progress bar, a line an epoch, a closing block.

Off a terminal (a file, a pipe, CI) it is plain lines, without control characters or the bar.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from trainer.tracking.records import EpochRecord, EvalRecord, Record, TrainRecord

# About the most epoch lines of a run: one of 1,000 short epochs must not scroll all else away.
_MAX_EPOCH_LINES = 20


class _Lines(RichConsole):
    def on_broken_pipe(self) -> None:
        # Rich would end the program with code 1, which means that training failed.
        raise BrokenPipeError


class Terminal:
    """Lines, tables and bars on standard output; notes and warnings on standard error."""

    def __init__(self) -> None:
        # Off a terminal rich would cut tables to 80 columns; a closed stdout is None.
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        width = None if is_terminal or "COLUMNS" in os.environ else 200
        # With soft_wrap a long path or command stays one line, to be copied; with highlight rich
        # would colour every number.
        self.out = _Lines(highlight=False, soft_wrap=True, width=width)
        self.err = _Lines(stderr=True, highlight=False, soft_wrap=True)
        self.warnings: list[str] = []

    def facts(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Print a block of `name  value` lines under a title."""
        width = max(len(name) for name, _ in rows)
        if title:
            self.out.print(Text(title, style="bold"))
        for name, value in rows:
            self.out.print(Text.assemble(("  " + name.ljust(width), "cyan"), "  ", value))

    def line(self, text: str, *, style: str = "") -> None:
        """Print a line."""
        self.out.print(Text(text, style=style))

    def table(self, table: Table) -> None:
        """Print a rich table."""
        self.out.print(table)

    def note(self, text: str) -> None:
        """Print a note on standard error."""
        self.err.print(Text(text, style="dim"))

    def warn(self, text: str) -> None:
        """Print a warning on standard error, and keep it in `warnings`."""
        self.warnings.append(text)
        self.err.print(Text(f"Warning: {text}", style="yellow"))

    @contextlib.contextmanager
    def progress(self, description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar over bytes; off a terminal print the description as a line."""
        if not self.err.is_terminal:
            self.note(description)
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.err, transient=True) as bar:
            task = bar.add_task(description, total=total)
            yield lambda amount: bar.advance(task, amount)


class ConsoleTracker:
    """Shows a bar with loss, accuracy, samples a second and the time left, and a line an epoch."""

    def __init__(
        self, terminal: Terminal, *, num_epochs: int, num_samples: int, num_samples_done: int
    ) -> None:
        self._terminal = terminal
        self._num_epochs = num_epochs
        self._every = max(1, math.ceil(num_epochs / _MAX_EPOCH_LINES))
        self._val: EvalRecord | None = None
        self._has_warned = False
        self._bar: Progress | None = None
        if terminal.out.is_terminal:
            columns = ("{task.description}", BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
            text = TextColumn("{task.fields[state]}")
            self._bar = Progress(
                *columns, text, TimeElapsedColumn(), TimeRemainingColumn(),
                console=terminal.out, transient=True, refresh_per_second=4,
            )  # fmt: skip
            self._task = self._bar.add_task(
                "training", total=num_samples, completed=num_samples_done, state=""
            )
            self._bar.start()

    def record(self, record: Record) -> None:
        if isinstance(record, TrainRecord):
            self._update_bar(record)
        elif isinstance(record, EvalRecord):
            self._keep(record)
        else:
            self._print_epoch(record)

    def flush(self) -> None:
        """Do nothing: the terminal has every line already."""

    def close(self, *_: object) -> None:
        """Take the bar off the screen; the lines stay."""
        if self._bar is not None:
            self._bar.stop()

    def _update_bar(self, record: TrainRecord) -> None:
        if self._bar is not None:
            state = "  ".join([*_scores(record), _rate(record.samples_per_second)])
            self._bar.update(self._task, completed=record.samples, state=state)

    def _keep(self, record: EvalRecord) -> None:
        # The evaluation of an epoch comes before its EpochRecord, whose line shows both.
        self._val = record
        if record.split == "val" and not math.isfinite(record.loss) and not self._has_warned:
            self._has_warned = True
            self._terminal.warn(
                f"val/loss is {record.loss} at step {record.step}: look for values that are not "
                "finite in the validation data, or try a smaller optimizer.lr. Training continues."
            )

    def _print_epoch(self, record: EpochRecord) -> None:
        val = self._val
        # An epoch without an evaluation must not show the values of the one before.
        self._val = None
        if record.epoch % self._every and record.epoch not in (1, self._num_epochs):
            return
        # Padded, so that the columns of epochs 9 and 10 are in line.
        number = f"{record.epoch:>{len(str(self._num_epochs))}}"
        parts = [f"epoch {number}/{self._num_epochs}", *_scores(record)]
        if val is not None:
            parts += _scores(val, "val ")
        parts += [f"lr {record.learning_rate:.3g}", _rate(record.samples_per_second)]
        self._terminal.line("  ".join([*parts, f"{record.duration:.1f} s"]))


def _scores(record: Record, prefix: str = "") -> list[str]:
    """`loss 0.1234`, or `1.234e-05` where decimals show nothing, and `acc 98.76%` if known."""
    loss = f"{record.loss:.4f}" if record.loss >= 0.001 else f"{record.loss:.3e}"
    scores = [f"{prefix}loss {loss}"]
    if record.accuracy is not None:
        scores.append(f"{prefix}acc {100 * record.accuracy:.2f}%")
    return scores


def _rate(samples_per_second: float) -> str:
    return f"{samples_per_second:,.0f} samples/s"
