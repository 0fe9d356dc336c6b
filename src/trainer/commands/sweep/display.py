"""The display of a sweep: what its jobs are doing, read from their metrics.jsonl as anybody could."""

from __future__ import annotations

import contextlib
import math
import os
import stat
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

from trainer.commands.sweep.record import JobRecord, figure
from trainer.errors import printable
from trainer.files import read_json
from trainer.tracking.console import Terminal
from trainer.tracking.metrics_file import FILE_NAME, MAX_LINE_BYTES, is_number, parse_row

# What is read of a job in one look. Of more than that only the end counts: what the job does now.
_MAX_BYTES = 64 * 1024


class Following:
    """A running job: `train` and `val` are its last rows of these splits, `fraction` is how much of
    it is done, 0 to 1.

    `fraction` goes back only when the file is another or shorter: a resumed run begins at its
    checkpoint.
    """

    def __init__(self, run: Path, *, epochs: int, max_steps: int | None) -> None:
        self._run, self._path = run, run / FILE_NAME
        self._epochs, self._max_steps = max(1, epochs), max_steps
        self._identity: tuple[int, int] | None = None
        self._has_begun, self._num_steps = False, 0
        self._start_over()

    def _start_over(self) -> None:
        self.train: dict[str, Any] | None = None
        self.val: dict[str, Any] | None = None
        self.fraction = 0.0
        self._epoch, self._step = 0, 0
        self._offset, self._rest = 0, b""

    @property
    def position(self) -> str:
        """`epoch 2/5`, both complete, or `step 40/100` where the limit of steps is nearer; or
        what it waits for.
        """
        if self.train is None and self.val is None:
            return "starting" if self._has_begun else "waiting"
        if self._max_steps and self._step / self._max_steps >= self._epoch / self._epochs:
            return f"step {self._step}/{self._max_steps}"
        return f"epoch {self._epoch}/{self._epochs}"

    def look(self) -> None:
        """Take in the rows that were appended since the last look."""
        with contextlib.suppress(OSError, ValueError):
            if not self._has_begun and (record := read_json(self._run / "run.json")):
                steps = record.get("steps")
                self._has_begun, self._num_steps = True, steps if type(steps) is int else 0
            self._take(self._appended())

    def _appended(self) -> bytes:
        found = self._path.stat()
        if not stat.S_ISREG(found.st_mode):
            return b""
        # A resume replaces the file; a person may shorten it.
        if (found.st_dev, found.st_ino) != self._identity or found.st_size < self._offset:
            self._start_over()
            self._identity = (found.st_dev, found.st_ino)
        if found.st_size - self._offset > _MAX_BYTES:
            self._offset, self._rest = found.st_size - _MAX_BYTES, b""
        if found.st_size == self._offset:
            return b""
        # Not blocking: it may have become a named pipe, which would wait for its writer.
        handle = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = os.pread(handle, found.st_size - self._offset, self._offset)
        finally:
            os.close(handle)
        self._offset += len(data)
        return data

    def _take(self, data: bytes) -> None:
        """The rows in `data`; a line without its end is kept until the rest of it comes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        # No row is as long, and what follows of such a line is no row either.
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
        for line in lines:
            row = parse_row(line)
            if isinstance(row, str) or row["split"] == "test":
                continue
            if row["split"] == "train":
                self.train = row
            else:
                self.val = row
            self._advance(row)

    def _advance(self, row: dict[str, Any]) -> None:
        """How far the job is, by the counters of a row; each of them but the step may be null."""
        self._step, self._epoch = row["step"], int(min(max(0, row["epoch"] or 0), self._epochs))
        fractions = [
            self._step / steps
            for steps in (self._num_steps, self._max_steps)
            if steps and steps > 0
        ]
        self.fraction = max(self.fraction, min(1.0, max([self._epoch / self._epochs, *fractions])))


# More lines than that are no overview.
_MAX_JOB_LINES = 16
# A line of a job that is too long loses numbers from its end before its values have less room than
# that.
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
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
                self._live = Live(
                    self, console=self._terminal.out, auto_refresh=False, transient=True
                )
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
        if self._best is None or (
            value > self._best[0] if self._maximize else value < self._best[0]
        ):
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
        done = self._num_ended + math.fsum(
            running.following.fraction for running in self._running.values()
        )
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
            parts.append(
                f"best {printable(self._monitor)} {figure(self._best[0])} (job {self._best[1]})"
            )
        elapsed = monotonic() - self._began
        parts.append(_clock(elapsed))
        worked = self._worked + math.fsum(running.worked for running in self._running.values())
        if worked > 0:
            done = self._num_ended + math.fsum(
                running.following.fraction for running in self._running.values()
            )
            parts.append(f"{_clock(elapsed * max(0.0, self._total - done) / worked)} left")
        return "  ".join(parts)


class _Running:
    """A running job; `begun` is how much of it was done before it was started, as of one that is
    gone on with.
    """

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
            _metric(monitor, {f"val/{name}": (following.val or {}).get(name)})
            if split == "val"
            else "",
            f"{rate:,.0f} samples/s" if rate is not None and 0 <= rate < 1e12 else "",
        ]
        return self._label, self._values, following.fraction, said


def _jobs_table(
    rows: list[tuple[str, str, float, list[str]]], *, label: int, bar: int, width: int
) -> Table:
    """The lines of the jobs, under one another; where the width is small, the last of their
    numbers are left out.
    """
    longest = max(cell_len(values) for _, values, _, _ in rows)
    for num_said in (4, 3, 2, 1):
        states = ["  ".join(part for part in said[:num_said] if part) for *_, said in rows]
        room = width - label - bar - max(map(cell_len, states)) - 6
        if room >= min(longest, _MIN_VALUES_WIDTH):
            break
    table = _table(label, max(1, min(longest, room)), bar)
    for (name, values, fraction, _), state in zip(rows, states, strict=True):
        table.add_row(
            _text(name),
            _text(values),
            ProgressBar(total=1, completed=fraction, width=bar),
            _text(state),
        )
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
