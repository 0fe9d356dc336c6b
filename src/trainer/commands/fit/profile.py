"""`trainer.profile`: where the time of some updates goes, as a trace and a table of operators."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich import box
from rich.table import Table
from rich.text import Text
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from trainer.commands.fit.components import Parts
from trainer.errors import printable
from trainer.files import part_path, remove
from trainer.tracking.console import Terminal

_NUM_ROWS = 10
# torch.profiler writes lines of its own to standard error, such as that a machine has no GPU. This
# is above them all.
_SILENT = "6"
_ROOM = 2**14  # bytes: more than a block of a file system
_EVENT = 2**10  # bytes: about twice what an event takes in a trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An operator, its calls, and its own time, without that of the operators it calls; `share`
    is in [0, 1].
    """

    operator: str
    calls: int
    total_ms: float
    share: float
    ms_per_update: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """The updates `first` to `last`, what took longest in them, and where their trace is: None when
    it was not written.

    Times of `rows` and `total_ms`, that of all operators, are those on the GPU with `on_gpu`, else
    those on the CPU; `wall_ms` is what passed on the clock.
    """

    first: int
    last: int
    on_gpu: bool
    rows: tuple[Row, ...]
    total_ms: float
    wall_ms: float
    trace: Path | None


class Profile:
    """Profiles the updates `first`, `first` + 1, … , `count` of them; it only looks, and no fault
    of its stops a run.

    A run that has `done` so many updates already enters it before it trains, and says when one more
    is complete. The trace is written to `path`; `tell` is given what was found, `warn` a sentence
    when there is nothing, or no trace.
    """

    def __init__(
        self,
        first: int,
        count: int,
        *,
        done: int,
        path: Path,
        on_gpu: bool,
        tell: Callable[[Profiled], None],
        warn: Callable[[str], None],
    ) -> None:
        self._first, self._last, self._begun_at, self._step = first, first + count - 1, done, done
        self._path, self._on_gpu, self._tell, self._warn = path, on_gpu, tell, warn
        self._profiler: Any = None
        self._is_over = False
        self._after, self._clock = (
            done,
            0.0,
        )  # the update before the first profiled one, and when that was

    def __enter__(self) -> Profile:
        self.after_update(self._step)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def after_update(self, step: int) -> None:
        """Update `step` is complete: start before the first one that is profiled, stop after the last one."""
        self._step = step
        if self._is_over:
            return
        if self._profiler is not None:
            if step >= self._last:
                self._finish()
        elif self._first - 1 <= step < self._last:
            self._start()

    def close(self) -> None:
        """The run has ended, in whatever way: what there is by now is all, and nothing at all is said."""
        if self._is_over:
            return
        if self._profiler is not None:
            self._finish()
            return
        self._is_over = True
        if self._begun_at >= self._last:
            self._warn(
                f"Nothing was profiled: the run went on from step {self._begun_at}, past update "
                f"{self._last}."
            )
        else:
            self._warn_too_short(self._first)

    def _start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        try:
            if self._on_gpu:  # else work of earlier updates would be in the trace
                torch.cuda.synchronize()
            with _no_warnings():
                self._profiler = profile(activities=activities)
                self._profiler.start()
        except Exception as error:
            self._give_up("torch's profiler does not start", error)
        self._after, self._clock = self._step, time.perf_counter()

    def _finish(self) -> None:
        """Stop, write the trace, tell."""
        profiler, self._profiler, self._is_over = self._profiler, None, True
        try:
            with _no_warnings():
                if self._on_gpu:
                    torch.cuda.synchronize()
                wall_ms = 1e3 * (time.perf_counter() - self._clock)
                profiler.stop()
                num_updates = self._step - self._after
                on_gpu, total_ms, rows = top_rows(profiler.key_averages(), num_updates=num_updates)
        except Exception as error:
            self._give_up("torch's profiler failed", error)
            return
        if not num_updates:
            self._warn_too_short(self._step + 1)
            return
        trace = self._write(profiler)
        first, last = self._after + 1, self._step
        self._tell(
            Profiled(
                first=first,
                last=last,
                on_gpu=on_gpu,
                rows=rows,
                total_ms=total_ms,
                wall_ms=wall_ms,
                trace=trace,
            )
        )

    def _write(self, profiler: Any) -> Path | None:
        try:
            with _no_warnings():
                write_trace(profiler, self._path)
        except Exception as error:
            self._warn(
                f"The trace of the profile was not written to {self._path} ({_reason(error)}). "
                "Training goes on."
            )
            return None
        return self._path

    def _warn_too_short(self, first: int) -> None:
        self._warn(
            f"Nothing was profiled: the run ended after {self._step} updates, before update "
            f"{first}."
        )

    def _give_up(self, what: str, error: Exception) -> None:
        self._profiler, self._is_over = None, True
        self._warn(f"Nothing was profiled: {what} ({_reason(error)}). Training goes on.")


def top_rows(events: Any, *, num_updates: int) -> tuple[bool, float, tuple[Row, ...]]:
    """Whether times are those on a GPU, the time of all operators in ms, and the rows of the longest.

    `events` are torch's key averages, times in microseconds. Operators that ran nothing on a GPU
    are left out there.
    """
    # A GPU's kernels have events of their own; the same time is in the operator that launched them.
    operators = [event for event in events if event.device_type == DeviceType.CPU]
    on_gpu = any(event.self_device_time_total > 0 for event in operators)
    name = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    times = sorted(
        ((getattr(event, name) / 1e3, event) for event in operators), key=lambda pair: -pair[0]
    )
    total_ms = sum(time_ms for time_ms, _ in times)
    rows = tuple(
        Row(
            operator=event.key,
            calls=event.count,
            total_ms=time_ms,
            share=time_ms / total_ms,
            ms_per_update=time_ms / max(1, num_updates),
        )
        for time_ms, event in times[:_NUM_ROWS]
        if time_ms > 0
    )
    return on_gpu, total_ms, rows


def write_trace(profiler: Any, path: Path) -> None:
    """Write the trace so that a reader sees a whole one or none; raises OSError.

    It does not try where the disk would be full: checkpoints are written at the same time.
    """
    aside = part_path(path)
    try:
        aside.write_bytes(b"")  # torch would only print that it cannot be written
        if shutil.disk_usage(path.parent).free < _EVENT * len(profiler.events()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        profiler.export_chrome_trace(str(aside))
        with aside.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            # Nor does torch say that the disk is full: it leaves out what had no room. Then this
            # has none either.
            file.write(bytes(_ROOM))
            file.truncate(size)
            os.fsync(file.fileno())
            file.seek(max(0, size - 8))
            if not file.read().rstrip().endswith(b"}"):
                raise OSError("it is cut off")
        aside.replace(path)
    except BaseException:
        for left in (aside, aside.with_name(f"{aside.name}.tmp")):  # where torch writes first
            remove(left)
        raise


def _no_warnings() -> warnings.catch_warnings[None]:
    """What torch warns of in here is for those who call its profiler, which people do not."""
    return warnings.catch_warnings(action="ignore")


def _reason(error: Exception) -> str:
    if os.environ.get("TRAINER_DEBUG") == "1":
        traceback.print_exception(error)
    return (
        error.strerror if isinstance(error, OSError) and error.strerror else printable(error)[:200]
    )


TRACE_FILE = "trace.json"


@contextlib.contextmanager
def profiling(
    parts: Parts, folder: Path, terminal: Terminal
) -> Iterator[Callable[[int], None] | None]:
    """What is to be told of every completed update while a run trains; None unless a profile was
    asked for.
    """
    options = parts.config.trainer
    if not options.profile:
        yield None
        return
    with Profile(
        options.profile_from,
        options.profile_steps,
        done=parts.progress.step,
        path=folder / TRACE_FILE,
        on_gpu=parts.device.type == "cuda",
        tell=functools.partial(_show, terminal),
        warn=terminal.warn,
    ) as profile:
        yield profile.after_update


def _show(terminal: Terminal, found: Profiled) -> None:
    """What the time of the updates went to, and where the trace is."""
    where = "GPU" if found.on_gpu else "CPU"
    updates = (
        f"update {found.first}"
        if found.first == found.last
        else f"updates {found.first} to {found.last}"
    )
    terminal.line(
        f"Profile of {updates}: {found.wall_ms:.1f} ms, of them {found.total_ms:.1f} ms in "
        f"operators on the {where}",
        style="bold",
    )
    terminal.table(profile_table(found))
    if found.trace is not None:
        terminal.facts(
            "",
            [
                ("trace", str(found.trace)),
                ("open it", "in https://ui.perfetto.dev or chrome://tracing"),
            ],
        )


def profile_table(found: Profiled) -> Table:
    """The operators that took longest, a row each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("operator", overflow="ellipsis")
    for name in ("calls", "total ms", "share", "ms an update"):
        table.add_column(name, justify="right", no_wrap=True)  # where it is narrow, names give way
    for row in found.rows:
        # As text: rich would take brackets in a name for markup.
        values = (
            f"{row.calls:,}",
            f"{row.total_ms:.2f}",
            f"{100 * row.share:.1f}%",
            f"{row.ms_per_update:.3f}",
        )
        table.add_row(Text(row.operator), *values)
    return table
