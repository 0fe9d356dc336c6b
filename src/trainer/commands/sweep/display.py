"""The display of a sweep: the progress of its jobs, read from the metrics.jsonl of their runs."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.commands.sweep.ranking import value_of
from trainer.commands.sweep.record import JobRecord
from trainer.commands.sweep.task import JobStatus
from trainer.errors import printable
from trainer.files import read_json
from trainer.run.folder import METRICS_FILE, RECORD_FILE
from trainer.tracking.console import Terminal
from trainer.tracking.metrics_file import parse_row
from trainer.tracking.records import MetricsRow
from trainer.tracking.text import GAP, clock_text, fitting, joined, number_text, shortened

# Read of a job in one look at most. Only the end of more is read: what the job does now.
_MAX_BYTES = 64 * 1024
# More lines than that are no overview.
_MAX_JOB_LINES = 16
# A line that is too long loses numbers from its end before its values have less room than that.
_MIN_VALUES_WIDTH = 24
# What the line of the sweep loses first.
_LEAVING_OUT = ("elapsed", "left", "interrupted", "pruned", "running", "failed", "best")


class RunFollower:
    """Follows a run: `train` and `val` are its last rows of these splits.

    `fraction` is how much of it is done, 0 to 1. It goes back only when the file is replaced or
    becomes shorter, as by a resumed run, which begins at its checkpoint.
    """

    def __init__(self, run: Path, *, epochs: int, max_steps: int | None) -> None:
        self._run = run
        self._path = run / METRICS_FILE
        self._epochs = max(1, epochs)
        self._max_steps = max_steps
        self._identity: tuple[int, int] | None = None
        self._has_begun = False
        self._num_steps = 0
        self._start_over()

    def _start_over(self) -> None:
        self.train: MetricsRow | None = None
        self.val: MetricsRow | None = None
        self.fraction = 0.0
        self._epoch = 0
        self._step = 0
        self._offset = 0

    @property
    def position(self) -> str:
        """`epoch 2/5`, or `step 40/100` where that limit is nearer; `waiting` and `starting`."""
        if self.train is None and self.val is None:
            return "starting" if self._has_begun else "waiting"
        if self._max_steps and self._step / self._max_steps >= self._epoch / self._epochs:
            return f"step {self._step}/{self._max_steps}"
        return f"epoch {self._epoch}/{self._epochs}"

    def look(self) -> None:
        """Read the rows that were appended since the last look."""
        with contextlib.suppress(OSError, ValueError):
            if not self._has_begun and (record := read_json(self._run / RECORD_FILE)):
                steps = record.get("steps")
                self._has_begun = True
                self._num_steps = steps if type(steps) is int else 0
            for line in self._appended_lines():
                row = parse_row(line)
                if isinstance(row, str) or row["split"] == "test":
                    continue
                if row["split"] == "train":
                    self.train = row
                elif row["split"] == "val":
                    self.val = row
                self._advance(row)

    def _appended_lines(self) -> list[bytes]:
        """The complete lines after the offset; of too many the last."""
        found = self._path.stat()
        if not stat.S_ISREG(found.st_mode):
            return []
        # A resumed run replaces the file; a person may shorten it.
        if (found.st_dev, found.st_ino) != self._identity or found.st_size < self._offset:
            self._start_over()
            self._identity = (found.st_dev, found.st_ino)
        if found.st_size == self._offset:
            return []
        self._offset = max(self._offset, found.st_size - _MAX_BYTES)
        # Not blocking: it may have become a named pipe, which would wait for its writer.
        handle = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = os.pread(handle, found.st_size - self._offset, self._offset)
        finally:
            os.close(handle)
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.split(b"\n")

    def _advance(self, row: MetricsRow) -> None:
        """Set the progress by the counters of a row; each but the step may be null."""
        self._step = row["step"]
        self._epoch = int(min(max(0, row["epoch"] or 0), self._epochs))
        self.fraction = max(self.fraction, self._epoch / self._epochs)
        for steps in (self._num_steps, self._max_steps):
            if steps and steps > 0:
                self.fraction = max(self.fraction, min(1.0, self._step / steps))


class Board:
    """The joint display of a sweep of `total` jobs, compared by the metric `monitor`.

    On a terminal it is live while it is entered, and all other output must go through `say` and
    `warn`. Elsewhere it is a plain line when a job starts and ends. With `is_quiet`, where each job
    writes to the terminal itself, it is only a heading above each.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        total: int,
        monitor: str,
        maximize: bool,
        is_quiet: bool = False,
    ) -> None:
        self._terminal = terminal
        self._total = total
        self._monitor = monitor
        self._maximize = maximize
        self._is_quiet = is_quiet
        self._is_live = (
            terminal.out.is_terminal and not terminal.out.is_dumb_terminal and not is_quiet
        )
        self._live: Live | None = None
        self._running: dict[int, _RunningJob] = {}
        # With its state at the end: a job that is run once more has the same record.
        self._ended: dict[int, JobStatus] = {}
        self._kept: set[int] = set()
        self._best: tuple[float, int] | None = None
        # Work since the start, in jobs: the estimate of the remaining time needs it.
        self._worked = 0.0
        self._began = monotonic()

    def __enter__(self) -> Self:
        self._began = monotonic()
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        self._hide()

    def keep(self, job: JobRecord) -> None:
        """Count a job that ended before this command, for the bar and for the best so far."""
        self._kept.add(job.number)
        self._compare(job)

    def start(self, job: JobRecord, *, run: Path, epochs: int, max_steps: int | None) -> None:
        """A job was started; it may wait in a queue, and `run` need not exist yet."""
        follower = RunFollower(run, epochs=epochs, max_steps=max_steps)
        follower.look()
        self._ended.pop(job.number, None)
        self._running[job.number] = _RunningJob(job, follower, begun=follower.fraction)
        if self._is_quiet:
            self.say(f"Job {job.number}: {job.label}".removesuffix(": "), style="bold")
        elif not self._is_live:
            self.say(f"Job {job.number}: {job.label or 'started'}")

    def end(self, job: JobRecord, *, warnings: Sequence[str] = ()) -> None:
        """A job ended: its record is complete; `warnings` are those of its process."""
        running = self._running.pop(job.number, None)
        self._ended[job.number] = job.status
        if job.status.is_complete:
            self._worked += 1.0 - (running.begun if running else 0.0)
        self._compare(job)
        if self._is_quiet and running is not None:  # the job has written all this itself
            return
        for warning in warnings:
            self.warn(f"Job {job.number}: {warning}")
        if job.status == JobStatus.FAILED:
            self.warn(job.failure)
        else:
            self.say(self._line_of(job))

    @property
    def is_output_lost(self) -> bool:
        """Whether nobody reads what is printed any more."""
        return self._terminal.loss is not None

    def refresh(self) -> None:
        """Read and draw the progress of the running jobs."""
        if self._live is None:
            return
        for running in self._running.values():
            running.follower.look()
        self._live.refresh()

    def say(self, text: str, *, style: str = "") -> None:
        """Print a line above the display."""
        self._terminal.line(_clean(text), style=style)

    def warn(self, text: str) -> None:
        """Print a warning above the display, on standard error."""
        # Standard error may be the same screen, and does not know of the display.
        was_live = self._live is not None
        self._hide()
        self._terminal.warn(_clean(text))
        if was_live:
            self._show()

    def _show(self) -> None:
        if self._is_live:
            # Without rich's thread: it would read followers while `refresh` changes them.
            self._live = Live(self, console=self._terminal.out, auto_refresh=False, transient=True)
            self._live.start(refresh=True)

    def _hide(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _compare(self, job: JobRecord) -> None:
        value = value_of(job.metrics, self._monitor)
        if job.status != JobStatus.DONE or value is None:
            return
        if self._best is None:
            is_better = True
        elif self._maximize:
            is_better = value > self._best[0]
        else:
            is_better = value < self._best[0]
        if is_better:
            self._best = value, job.number

    def _line_of(self, job: JobRecord) -> str:
        """`Job 1 done: optimizer.lr=0.1  val/accuracy 0.9012  12.3 s`."""
        parts = {"values": job.label, "metric": _metric(self._monitor, job.metrics)}
        if job.seconds is not None:
            is_short = job.seconds < 600
            parts["seconds"] = f"{job.seconds:.1f} s" if is_short else clock_text(job.seconds)
        if job.status == JobStatus.INTERRUPTED:
            parts["error"] = job.error or ""
        head = f"Job {job.number} {job.status}: "
        room = self._terminal.room - len(head)  # the values are in the report too
        parts = fitting(parts, room, leaving_out=["seconds"]) | {"values": ""}
        rest = cell_len(joined(parts))
        parts["values"] = shortened(job.label, max(8, room - rest - len(GAP)))
        return f"{head}{joined(parts)}".removesuffix(": ")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # One line for the sweep, one for the jobs that have none, and one below.
        num_shown = min(_MAX_JOB_LINES, max(1, options.size.height - 3))
        jobs = list(self._running.values())[:num_shown]
        label_width = max(map(cell_len, ["sweep", *(job.label for job in jobs)]))
        bar_width = 20 if options.max_width >= 110 else 10
        if jobs:
            room = options.max_width - label_width - bar_width - 3 * len(GAP)
            yield self._jobs_table(jobs, label_width, bar_width, room)
        if len(self._running) > num_shown:
            yield Text(f"… and {len(self._running) - num_shown} more", style="dim")
        table = _table(label_width, bar_width)
        bar = ProgressBar(total=max(1, self._total), completed=self._num_done(), width=bar_width)
        room = options.max_width - label_width - bar_width - 2 * len(GAP)
        parts = fitting(self._sweep_parts(), room, leaving_out=_LEAVING_OUT)
        table.add_row(_text("sweep"), bar, _text(joined(parts)))
        yield table

    def _jobs_table(
        self, jobs: Sequence[_RunningJob], label_width: int, bar_width: int, room: int
    ) -> Table:
        """The lines of the jobs; of too little `room` the values get theirs first."""
        longest = max(cell_len(job.record.label) for job in jobs)
        states: list[str] = []
        values_width = 0
        for num_parts in (4, 3, 2, 1):
            states = [job.state(self._monitor, num_parts) for job in jobs]
            values_width = room - max(map(cell_len, states))
            if values_width >= min(longest, _MIN_VALUES_WIDTH):
                break
        table = _table(label_width, max(1, min(longest, values_width)), bar_width)
        for job, state in zip(jobs, states, strict=True):
            bar = ProgressBar(total=1, completed=job.follower.fraction, width=bar_width)
            table.add_row(_text(job.label), _text(job.record.label), bar, _text(state))
        return table

    def _num_ended(self) -> int:
        """The jobs that need not be run any more; an interrupted one waits for the next command."""
        ended = Counter(self._ended.values())
        return len(self._kept) + ended.total() - ended[JobStatus.INTERRUPTED]

    def _num_done(self) -> float:
        """The jobs' worth of work that is done."""
        fractions = (running.follower.fraction for running in self._running.values())
        return self._num_ended() + math.fsum(fractions)

    def _sweep_parts(self) -> dict[str, str]:
        ended = Counter(self._ended.values())
        counts: dict[str, int] = {"running": len(self._running)}
        for status in (JobStatus.FAILED, JobStatus.PRUNED, JobStatus.INTERRUPTED):
            counts[status] = ended[status]
        parts = {"jobs": f"{self._num_ended()}/{self._total}"}
        parts |= {name: f"{count} {name}" for name, count in counts.items() if count}
        if self._best is not None:
            value, number = self._best
            parts["best"] = f"best {printable(self._monitor)} {number_text(value)} (job {number})"
        elapsed = monotonic() - self._began
        parts["elapsed"] = clock_text(elapsed)
        worked = self._worked + math.fsum(running.worked for running in self._running.values())
        if worked > 0:
            remaining = max(0.0, self._total - self._num_done())
            parts["left"] = f"{clock_text(elapsed * remaining / worked)} left"
        return parts


@dataclass(frozen=True)
class _RunningJob:
    """A running job; `begun` is the fraction of a continued run that was done before its start."""

    record: JobRecord
    follower: RunFollower
    begun: float

    @property
    def label(self) -> str:
        return f"job {self.record.number}"

    @property
    def worked(self) -> float:
        """The share of the job that was done since its start."""
        return max(0.0, self.follower.fraction - self.begun)

    def state(self, monitor: str, num_parts: int) -> str:
        """The first `num_parts` of position, loss, monitored metric and speed."""
        train = self.follower.train or {}
        val = self.follower.val or {}
        loss = train.get("loss")
        rate = train.get("samples_per_second")
        split, _, name = monitor.partition("/")
        parts = [
            self.follower.position,
            "" if loss is None else f"loss {number_text(loss)}",
            _metric(monitor, {monitor: val.get(name)}) if split == "val" else "",
            f"{rate:,.0f} samples/s" if rate is not None and 0 <= rate < 1e12 else "",
        ]
        return GAP.join(filter(None, parts[:num_parts]))


def _table(*widths: int) -> Table:
    """Columns of these widths, and one that has the rest of the line."""
    table = Table.grid(padding=(0, len(GAP), 0, 0))
    for width in widths:
        table.add_column(width=width, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis")
    return table


def _text(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _metric(name: str, metrics: Mapping[str, object]) -> str:
    """`val/accuracy 0.9012`; empty where there is none."""
    value = value_of(metrics, name)
    return "" if value is None else f"{printable(name)} {number_text(value)}"


def _clean(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))
