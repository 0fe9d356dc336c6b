"""What a person sees of a sweep while it runs: a line a running job, a bar for the sweep, the best so far.

Off a terminal (a file, a pipe, CI) it is one plain line when a job starts and one when it ends. What jobs write is read
in `following`; the report at the end is not here.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.commands.sweep.following import Following
from trainer.commands.sweep.record import JobRecord, figure
from trainer.errors import printable
from trainer.tracking.console import Terminal
from trainer.tracking.metrics_file import is_number

# More lines than that are no overview.
_MAX_JOB_LINES = 16
# A line of a job that is too long loses numbers from its end before its values have less room than that.
_MIN_VALUES_WIDTH = 24


class Board:
    """The joint display of a sweep of `total` jobs.

    Jobs are compared by `monitor`, where more is better with `maximize`.
    While it is entered, write to the terminal through `say` and `warn` only.
    """

    def __init__(self, terminal: Terminal, *, total: int, monitor: str, maximize: bool) -> None:
        self._terminal, self._total = terminal, total
        self._monitor, self._maximize = monitor, maximize
        self._is_live = terminal.out.is_terminal and not terminal.out.is_dumb_terminal
        self._live: Live | None = None
        self._running: dict[int, _Running] = {}
        # Each with its status at the end: a job that is run once more is the same record.
        self._ended: dict[int, tuple[str, JobRecord]] = {}
        self._counts: Counter[str] = Counter()
        self._num_kept = 0
        self._best: tuple[float, int] | None = None
        # The jobs' worth of work since the start, by which the time left is estimated.
        self._worked, self._began = 0.0, monotonic()

    def __enter__(self) -> Self:
        self._began = monotonic()
        self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hide()

    def start(self, job: JobRecord, *, run: Path, epochs: int, max_steps: int | None) -> None:
        """A job was started; it may wait in a queue, and `run` need not exist yet."""
        following = Following(run, epochs=epochs, max_steps=max_steps)
        following.look()
        self._forget(job.number)
        self._running[job.number] = _Running(job, following)
        if not self._is_live:
            self.say(f"Job {job.number}: {job.label or 'started'}")

    def end(self, job: JobRecord) -> None:
        """A job ended: its status, metrics, error and seconds are set."""
        running = self._running.pop(job.number, None)
        self._forget(job.number)
        self._ended[job.number] = job.status, job
        self._counts[job.status] += 1
        if job.status in ("done", "pruned"):
            self._worked += 1.0 - (running.begun if running else 0.0)
        self._compare(job)
        values = job.label
        if job.status == "failed":
            error = " ".join((job.error or "it gave no reason").split())
            self.warn(f"Job {job.number}{f' ({values})' if values else ''} failed: {error}")
            return
        metric = _metric(self._monitor, job.metrics)
        seconds = "" if job.seconds is None else _duration(job.seconds)
        why = (job.error or "") if job.status == "interrupted" else ""
        said = "  ".join(part for part in (values, metric, seconds, why) if part)
        self.say(f"Job {job.number} {job.status}{f': {said}' if said else ''}")

    def keep(self, job: JobRecord) -> None:
        """A job had ended before this command: it counts for the bar, and for the best so far."""
        self._num_kept += 1
        self._compare(job)

    def refresh(self) -> None:
        """Read what the running jobs have written since, and show it."""
        if self._live is None:
            return
        for running in self._running.values():
            running.following.look()
        with self._while_it_lasts():
            self._live.refresh()

    def say(self, text: str, *, style: str = "") -> None:
        """A line above the display."""
        with self._while_it_lasts():
            self._terminal.line(_clean(text), style=style)

    def warn(self, text: str) -> None:
        """A warning above the display, on standard error."""
        # Standard error may be the same screen, and does not know of the display.
        is_shown = self._live is not None
        self._hide()
        with self._while_it_lasts():
            self._terminal.warn(_clean(text))
        if is_shown:
            self._show()

    @contextlib.contextmanager
    def _while_it_lasts(self) -> Iterator[None]:
        """A terminal that was closed is no reason to leave: the jobs are saving meanwhile."""
        try:
            yield
        except BrokenPipeError:  # of a pipe it is
            raise
        except OSError:
            self._is_live, self._live = False, None

    def _show(self) -> None:
        if self._is_live:
            with self._while_it_lasts():
                self._live = Live(self, console=self._terminal.out, auto_refresh=False, transient=True)
                self._live.start(refresh=True)

    def _hide(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            with self._while_it_lasts():
                live.stop()

    def _forget(self, number: int) -> None:
        if number in self._ended:
            self._counts[self._ended.pop(number)[0]] -= 1

    def _compare(self, job: JobRecord) -> None:
        value = job.metrics.get(self._monitor) if job.status == "done" else None
        if value is None or not is_number(value):
            return
        if self._best is None or (value > self._best[0] if self._maximize else value < self._best[0]):
            self._best = value, job.number

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        jobs = list(self._running.values())
        # One line for the sweep, one for the jobs that are not shown, and one below.
        num_shown = min(_MAX_JOB_LINES, max(1, options.size.height - 3))
        rows = [running.row(self._monitor) for running in jobs[:num_shown]]
        label = max([cell_len("sweep"), *(cell_len(row[0]) for row in rows)])
        bar = 20 if options.max_width >= 110 else 10
        if rows:
            yield _jobs_table(rows, label=label, bar=bar, width=options.max_width)
        if len(jobs) > num_shown:
            yield Text(f"… and {len(jobs) - num_shown} more", style="dim")
        table = _table(label, bar)
        table.add_row(_text("sweep"), self._bar(width=bar), _text(self._sweep_state()))
        yield table

    def _bar(self, *, width: int) -> ProgressBar:
        done = self._num_ended + math.fsum(running.following.fraction for running in self._running.values())
        return ProgressBar(total=max(1, self._total), completed=done, width=width)

    @property
    def _num_ended(self) -> int:
        """How many need not be run any more; an interrupted job waits for the next command."""
        return self._num_kept + len(self._ended) - self._counts["interrupted"]

    def _sweep_state(self) -> str:
        parts = [f"{self._num_ended}/{self._total}"]
        counts = [("running", len(self._running))]
        counts += [(status, self._counts[status]) for status in ("failed", "pruned", "interrupted")]
        parts += [f"{count} {name}" for name, count in counts if count]
        if self._best is not None:
            parts.append(f"best {printable(self._monitor)} {figure(self._best[0])} (job {self._best[1]})")
        elapsed = monotonic() - self._began
        parts.append(_clock(elapsed))
        worked = self._worked + math.fsum(running.worked for running in self._running.values())
        if worked > 0:
            done = self._num_ended + math.fsum(running.following.fraction for running in self._running.values())
            parts.append(f"{_clock(elapsed * max(0.0, self._total - done) / worked)} left")
        return "  ".join(parts)


class _Running:
    """A running job; `begun` is how much of it was done before it was started, as of one that is gone on with."""

    def __init__(self, job: JobRecord, following: Following) -> None:
        self.following, self.begun = following, following.fraction
        self._label, self._values = f"job {job.number}", job.label

    @property
    def worked(self) -> float:
        return max(0.0, self.following.fraction - self.begun)

    def row(self, monitor: str) -> tuple[str, str, float, list[str]]:
        """Label, values, how much is done, and what it says of itself, the most important first."""
        following, train = self.following, self.following.train or {}
        loss, rate = train.get("loss"), train.get("samples_per_second")
        split, _, name = monitor.partition("/")
        said = [
            following.position,
            "" if loss is None else f"loss {figure(loss)}",
            _metric(monitor, {f"val/{name}": (following.val or {}).get(name)}) if split == "val" else "",
            f"{rate:,.0f} samples/s" if rate is not None and 0 <= rate < 1e12 else "",
        ]
        return self._label, self._values, following.fraction, said


def _jobs_table(rows: list[tuple[str, str, float, list[str]]], *, label: int, bar: int, width: int) -> Table:
    """The lines of the jobs, under one another; where the width is small, the last of their numbers are left out."""
    longest = max(cell_len(values) for _, values, _, _ in rows)
    for num_said in (4, 3, 2, 1):
        states = ["  ".join(part for part in said[:num_said] if part) for *_, said in rows]
        room = width - label - bar - max(map(cell_len, states)) - 6
        if room >= min(longest, _MIN_VALUES_WIDTH):
            break
    table = _table(label, max(1, min(longest, room)), bar)
    for (name, values, fraction, _), state in zip(rows, states, strict=True):
        table.add_row(_text(name), _text(values), ProgressBar(total=1, completed=fraction, width=bar), _text(state))
    return table


def _table(*widths: int) -> Table:
    """Columns of these widths, and one that has the rest of the line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in widths:
        table.add_column(width=width, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis")
    return table


def _text(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _metric(name: str, metrics: Mapping[str, Any]) -> str:
    """`val/accuracy 0.9012`; empty where there is none."""
    value = metrics.get(name)
    return "" if value is None or not is_number(value) else f"{printable(name)} {figure(value)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else _clock(seconds)


def _clock(seconds: float) -> str:
    """`0:12`, `1:02:03`."""
    minutes, rest = divmod(round(min(seconds, 1e9)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _clean(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))
