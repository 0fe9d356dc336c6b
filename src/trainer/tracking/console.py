"""The terminal: a block of facts, a progress bar, a line an epoch, a closing block.

Off a terminal (a file, a pipe, CI) it is plain lines, without control characters or the bar.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO, cast

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from trainer.errors import printable
from trainer.tracking.records import OF_VALUES, EpochRecord, EvalRecord, Record, TrainRecord
from trainer.tracking.text import fitting, folded, joined, number_text

# About the most epoch lines of a run, besides those of a new best: one of 1,000 short epochs must
# not scroll all else away.
_MAX_EPOCH_LINES = 20
# What a line of an epoch, or the bar, loses first in a narrow terminal.
_LEAVING_OUT = (
    "rate", "lr", "duration", "acc", "loss", "val loss", "val acc", "val mse", "val mae",
)  # fmt: skip
# The columns of the bar's name, its share and both times, and of what is written beside them: loss,
# accuracy and speed, or less.
_BAR_COLUMNS = 32
_BAR_STATES = (42, 24, 12, 0)
_BAR_WIDTHS = (6, 40)
# No line is laid out for less.
_MIN_WIDTH = 20


class _Stream:
    """Standard output or error, looked up at each write, for a console to write to.

    Once `outlives` is set, a stream that fails (its reader has gone, its disk is full) is sent to
    nowhere, and `on_loss` gets the reason, once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.outlives = False
        self.on_loss: Callable[[str], None] = lambda _: None

    @property
    def _stream(self) -> TextIO:
        stream = getattr(sys, self._name)
        # While a bar is drawn, rich puts an object before the stream that prints through a console.
        found: TextIO = getattr(stream, "rich_proxied_file", stream)
        return found

    @property
    def rich_proxied_file(self) -> _Stream:
        """This object: rich asks for what is behind a stream."""
        return self

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        if not self.outlives:
            raise error
        # What waits in its buffer would fail again when the program ends. A stream that is no file
        # fails at each write, which is reported once.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        on_loss, self.on_loss = self.on_loss, lambda _: None
        on_loss(error.strerror or str(error))


class _Lines(RichConsole):
    def on_broken_pipe(self) -> None:
        # Rich would end the program with code 1, which means that training failed.
        raise BrokenPipeError


class Terminal:
    """Lines, tables and bars on standard output; notes and warnings on standard error."""

    def __init__(self) -> None:
        # Off a terminal rich would cut tables to 80 columns; a closed stdout is None.
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        environment = _environment()
        self._has_columns = "COLUMNS" in environment
        width = None if is_terminal or self._has_columns else 200
        out, err = _Stream("stdout"), _Stream("stderr")
        self._streams = (out, err)
        # With soft_wrap a long path or command stays one line, to be copied; with highlight rich
        # would colour every number. Without markup: a name from outside may have some in it.
        console = partial(
            _Lines,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
            _environ=environment,
        )
        self.out = console(file=None if sys.stdout is None else cast(TextIO, out), width=width)
        self.err = console(file=None if sys.stderr is None else cast(TextIO, err), stderr=True)
        self.warnings: list[str] = []
        self.loss: str | None = None
        self._report_loss: Callable[[str], None] = lambda _: None

    def outlive_output(self, comfort: str) -> None:
        """From now on, drop what cannot be printed: with a warning that ends in `comfort`.

        Training must not end because nobody reads its lines any more (`trainer fit … | head`).
        """
        out, err = self._streams
        out.on_loss = partial(self._lose_output, comfort)
        err.on_loss = lambda why: self._lose(f"Standard error failed ({why}).")
        out.outlives = err.outlives = True

    def report_loss(self, report: Callable[[str], None]) -> None:
        """Call `report` with a sentence when output is lost; at once where it is already."""
        self._report_loss = report
        if self.loss is not None:
            report(self.loss)

    def _lose_output(self, comfort: str, why: str) -> None:
        sentence = f"Standard output failed ({why}): no more lines are printed."
        self._lose(sentence)
        self.warn(f"{sentence} {comfort}")

    def _lose(self, sentence: str) -> None:
        self.loss = sentence if self.loss is None else f"{self.loss} {sentence}"
        self._report_loss(self.loss)

    @property
    def room(self) -> int:
        """The columns of a line; off a terminal any number, unless COLUMNS says how many."""
        is_bounded = self.out.is_terminal or self._has_columns
        return max(_MIN_WIDTH, self.out.width) if is_bounded else sys.maxsize

    def facts(
        self, title: str, rows: Sequence[tuple[str, str]], *, prose: Collection[str] = ()
    ) -> None:
        """Print a block of `name  value` lines under a title.

        Values of the names in `prose` continue on further lines where they are too long. The others
        stay one line: a path or a command is copied.
        """
        width = max(len(name) for name, _ in rows)
        if title:
            self.out.print(Text(title, style="bold"))
        for name, value in rows:
            lines = [value]
            if name in prose:
                lines = folded(value, self.room - width - 4)
            shown_name = name
            for line in lines:
                self.out.print(_row(shown_name.ljust(width), line))
                shown_name = ""

    def line(self, text: str, *, style: str = "") -> None:
        """Print a line."""
        self.out.print(_text(text, style=style))

    def note(self, text: str) -> None:
        """Print a note on standard error."""
        self.err.print(_text(text, style="dim"))

    def warn(self, text: str) -> None:
        """Print a warning on standard error, once, and keep it in `warnings`."""
        if text in self.warnings:
            return
        self.warnings.append(text)
        self.err.print(_text(f"Warning: {text}", style="yellow"))

    @contextlib.contextmanager
    def progress(self, description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar over bytes; off a terminal print the description as a line."""
        if not self.err.is_terminal:
            self.note(description)
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.err, transient=True) as bar:
            task = bar.add_task(description, total=total)
            yield lambda amount: bar.advance(task, amount)


def _text(text: str, *, style: str = "") -> Text:
    """Lines without control characters, which could drive the terminal."""
    return Text("\n".join(map(printable, text.split("\n"))), style=style)


def _row(name: str, value: str) -> Text:
    return Text.assemble((f"  {name}", "cyan"), "  ", _text(value))


def _environment() -> dict[str, str]:
    """The environment for rich, without a size that is none: with COLUMNS=0 it prints nothing."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES") or _is_size(value)
    }


def _is_size(text: str) -> bool:
    # isdecimal accepts the digits of every script; rich would fill a line up to any width.
    return text.isascii() and text.isdecimal() and len(text) <= 4 and int(text) > 0


@dataclass(frozen=True, slots=True)
class _EpochLine:
    epoch: int
    parts: Mapping[str, str]


class ConsoleTracker:
    """Shows a bar with loss, accuracy, samples a second and the time left, and a line an epoch.

    Of many epochs it prints about twenty, the last one, and each that is the best so far when the
    next one is printed. `best_step` returns the step with the best value of `monitor` so far.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        num_epochs: int,
        num_samples: int,
        num_samples_done: int,
        monitor: str,
        best_step: Callable[[], int],
        find_cause: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`find_cause` looks for a validation sample that is not finite, when val/loss is not."""
        self._terminal = terminal
        self._num_epochs = num_epochs
        self._monitor = monitor
        self._every = max(1, math.ceil(num_epochs / _MAX_EPOCH_LINES))
        self._best_step = best_step
        # A later best is one of the epoch that ends next.
        self._known_step = best_step()
        self._best: _EpochLine | None = None
        self._last: _EpochLine | None = None
        self._printed_epoch = 0
        self._room = terminal.room
        self._left_out: set[str] = set()
        self._val: EvalRecord | None = None
        self._has_warned = False
        self._find_cause = find_cause
        self._bar: Progress | None = None
        self._bar_room = 0
        if terminal.out.is_terminal:
            narrowest, widest = _BAR_WIDTHS
            room = terminal.room - _BAR_COLUMNS - narrowest
            self._bar_room = next((width for width in _BAR_STATES if width <= room), 0)
            self._bar = Progress(
                "{task.description}",
                BarColumn(min(widest, max(1, room - self._bar_room + narrowest))),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[state]}", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=terminal.out,
                transient=True,
                refresh_per_second=4,
            )
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
        """Take the bar off the screen, and print the last epoch; the lines stay."""
        if self._bar is not None:
            self._bar.stop()
        # A run ends by this too when its output is closed.
        with contextlib.suppress(OSError):
            self._print_waiting()

    def _update_bar(self, record: TrainRecord) -> None:
        if self._bar is not None:
            parts = {**_scores(record), "rate": _rate(record.samples_per_second)}
            state = joined(fitting(parts, self._bar_room, leaving_out=_LEAVING_OUT))
            self._bar.update(self._task, completed=record.samples, state=state)

    def _keep(self, record: EvalRecord) -> None:
        # The evaluation of an epoch comes before its EpochRecord, whose line shows both.
        self._val = record
        if record.split == "val" and not math.isfinite(record.loss) and not self._has_warned:
            self._has_warned = True
            found = self._find_cause()
            cause = (
                "look for values that are not finite in the validation data, or try a smaller "
                "optimizer.lr"
            )
            if found is not None:
                cause = f"{found} has a value that is not finite, correct it or leave it out"
            self._terminal.warn(
                f"val/loss is {record.loss} at step {record.step}: {cause}. Training continues."
            )

    def _print_epoch(self, record: EpochRecord) -> None:
        val = self._val
        # An epoch without an evaluation must not show the values of the one before.
        self._val = None
        # Padded, so that the columns of epochs 9 and 10 are in line.
        number = f"{record.epoch:>{len(str(self._num_epochs))}}"
        parts = {"epoch": f"epoch {number}/{self._num_epochs}", **_scores(record)}
        if val is not None:
            parts |= _scores(val, "val ") | self._error_of(val)
        parts |= {
            "lr": f"lr {record.learning_rate:.3g}",
            "rate": _rate(record.samples_per_second),
            "duration": f"{record.duration:.1f} s",
        }
        self._last = _EpochLine(record.epoch, parts)
        if self._best_step() > self._known_step:
            self._best = self._last
        self._known_step = record.step
        if record.epoch % self._every == 0 or record.epoch in (1, self._num_epochs):
            self._print_waiting()

    def _error_of(self, val: EvalRecord) -> dict[str, str]:
        """`val mse 0.1234` where it is monitored: a line has no room for every error of values."""
        split, _, name = self._monitor.partition("/")
        if split != "val" or name not in OF_VALUES:
            return {}
        return {f"val {name}": f"val {name} {number_text(getattr(val, name))}"}

    def _print_waiting(self) -> None:
        """Print the best epoch since the last line, where it is the best of all, and the last."""
        for line in (self._best, self._last):
            if line is not None and line.epoch > self._printed_epoch:
                self._printed_epoch = line.epoch
                self._terminal.line(self._fitted(line.parts))

    def _fitted(self, parts: Mapping[str, str]) -> str:
        # What one line leaves out the next ones do too, so that they are alike.
        if self._room != self._terminal.room:
            self._room = self._terminal.room
            self._left_out.clear()
        shown = {name: text for name, text in parts.items() if name not in self._left_out}
        kept = fitting(shown, self._room, leaving_out=_LEAVING_OUT)
        self._left_out.update(shown.keys() - kept.keys())
        return joined(kept)


def _scores(record: Record, prefix: str = "") -> dict[str, str]:
    """`loss 0.1234`, and `acc 98.76%` if known, by name."""
    scores = {f"{prefix}loss": f"{prefix}loss {number_text(record.loss)}"}
    if record.accuracy is not None:
        scores[f"{prefix}acc"] = f"{prefix}acc {100 * record.accuracy:.2f}%"
    return scores


def _rate(samples_per_second: float) -> str:
    return f"{samples_per_second:,.0f} samples/s"
