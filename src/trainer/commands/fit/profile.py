"""`trainer.profile`: where the time of some updates goes, as a trace and a table of operators."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from trainer.commands.fit.lifecycle import Run
from trainer.files import part_path, remove
from trainer.tracking import describe_error
from trainer.tracking.console import Terminal
from trainer.tracking.table import Narrow, write_table

TRACE_FILE = "trace.json"
_NUM_ROWS = 10
# torch.profiler logs to standard error, such as that a machine has no GPU. This is above all of it.
_SILENT = "6"
_ROOM = 2**14  # bytes: more than a block of a file system
_EVENT = 2**10  # bytes: about twice what an event takes in a trace


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """An operator, its calls, and its time without that of the operators it calls.

    `share` is that of all operators' time, in [0, 1].
    """

    operator: str
    calls: int
    total_ms: float
    share: float
    ms_per_update: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """The profile of the updates `first` to `last`; `trace` is None when it was not written.

    Times of `rows` and `total_ms`, that of all operators, are those on the GPU with `on_gpu`, else
    those on the CPU; `wall_ms` is the time on the clock.
    """

    first: int
    last: int
    on_gpu: bool
    rows: tuple[OperatorTime, ...]
    total_ms: float
    wall_ms: float
    trace: Path | None


class Profile:
    """Profiles `count` updates from `first` on; it only watches, and never stops a run.

    A context around training that starts after `done` updates; `after_update` is called with the
    number of each further one. The trace is written to `path`, `report` gets the result, and `warn`
    a sentence when there is none, or no trace.
    """

    def __init__(
        self,
        first: int,
        count: int,
        *,
        done: int,
        path: Path,
        on_gpu: bool,
        report: Callable[[ProfileResult], None],
        warn: Callable[[str], None],
    ) -> None:
        self._first = first
        self._last = first + count - 1
        self._done = done
        self._path = path
        self._on_gpu = on_gpu
        self._report = report
        self._warn = warn
        self._profiler: Any = None
        self._is_over = False
        self._step = done
        # The update before the first profiled one, and the time after it.
        self._started_after = done
        self._clock = 0.0

    def __enter__(self) -> Profile:
        self.after_update(self._step)
        return self

    def __exit__(self, *_: object) -> None:
        """Report what there is, however the run ends; warn when there is nothing."""
        if self._is_over:
            return
        if self._profiler is not None:
            self._finish()
        elif self._done >= self._last:
            self._warn(
                f"Nothing was profiled: the run continued from step {self._done}, past update "
                f"{self._last}."
            )
        else:
            self._warn_too_short(self._first)

    def after_update(self, step: int) -> None:
        """Start before the first profiled update, and stop after the last."""
        self._step = step
        if self._is_over:
            return
        if self._profiler is not None:
            if step >= self._last:
                self._finish()
        elif self._first - 1 <= step < self._last:
            self._start()

    def _start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
        activities = [ProfilerActivity.CPU]
        if self._on_gpu:
            activities.append(ProfilerActivity.CUDA)
        try:
            if self._on_gpu:  # else work of earlier updates would be in the trace
                torch.cuda.synchronize()
            with _no_warnings():
                self._profiler = profile(activities=activities)
                self._profiler.start()
        except Exception as error:
            self._give_up("torch's profiler does not start", error)
        self._started_after = self._step
        self._clock = time.perf_counter()

    def _finish(self) -> None:
        """Stop, write the trace, report."""
        profiler, self._profiler = self._profiler, None
        self._is_over = True
        num_updates = self._step - self._started_after
        try:
            with _no_warnings():
                if self._on_gpu:
                    torch.cuda.synchronize()
                wall_ms = 1e3 * (time.perf_counter() - self._clock)
                profiler.stop()
                # 40 s and 1.4 GB for 1,000 updates of lenet5, the most that can be set.
                on_gpu, total_ms, rows = top_rows(profiler.key_averages(), num_updates=num_updates)
        except Exception as error:
            self._give_up("torch's profiler failed", error)
            return
        if not num_updates:
            self._warn_too_short(self._step + 1)
            return
        result = ProfileResult(
            first=self._started_after + 1,
            last=self._step,
            on_gpu=on_gpu,
            rows=rows,
            total_ms=total_ms,
            wall_ms=wall_ms,
            trace=self._write(profiler),
        )
        self._report(result)

    def _write(self, profiler: Any) -> Path | None:
        try:
            with _no_warnings():
                write_trace(profiler, self._path)
        except Exception as error:
            self._warn(
                f"The trace of the profile was not written to {self._path} "
                f"({describe_error(error)}). Training continues."
            )
            return None
        return self._path

    def _warn_too_short(self, first: int) -> None:
        self._warn(
            f"Nothing was profiled: the run ended after {self._step} updates, before update "
            f"{first}."
        )

    def _give_up(self, what: str, error: Exception) -> None:
        self._profiler = None
        self._is_over = True
        self._warn(f"Nothing was profiled: {what} ({describe_error(error)}). Training continues.")


def top_rows(
    events: Iterable[Any], *, num_updates: int
) -> tuple[bool, float, tuple[OperatorTime, ...]]:
    """Whether times are those on a GPU, the ms of all operators, and the longest, longest first.

    `events` are torch's key averages, times in microseconds. Operators that ran nothing on a GPU
    are left out there.
    """
    # A GPU's kernels are separate events; their time is in the operator that launched them too.
    operators = [event for event in events if event.device_type == DeviceType.CPU]
    on_gpu = any(event.self_device_time_total > 0 for event in operators)
    time_of = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    operators.sort(key=lambda event: getattr(event, time_of), reverse=True)
    total_us = sum(getattr(event, time_of) for event in operators)
    rows = []
    for event in operators[:_NUM_ROWS]:
        time_us = getattr(event, time_of)
        if time_us > 0:
            row = OperatorTime(
                operator=event.key,
                calls=event.count,
                total_ms=time_us / 1e3,
                share=time_us / total_us,
                ms_per_update=time_us / 1e3 / max(1, num_updates),
            )
            rows.append(row)
    return on_gpu, total_us / 1e3, tuple(rows)


def write_trace(profiler: Any, path: Path) -> None:
    """Write the trace so that a reader sees a whole one or none; raises OSError.

    It does not try where the disk would be full: checkpoints are written at the same time.
    """
    aside = part_path(path)
    try:
        aside.write_bytes(b"")  # torch only prints that it cannot be written
        if shutil.disk_usage(path.parent).free < _EVENT * len(profiler.events()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        profiler.export_chrome_trace(str(aside))
        with aside.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            # torch leaves out what has no room, and does not report it: then this raises.
            file.write(bytes(_ROOM))
            file.truncate(size)
            os.fsync(file.fileno())
            file.seek(max(0, size - 8))
            if not file.read().rstrip().endswith(b"}"):
                raise OSError("it is truncated")
        aside.replace(path)
    except BaseException:
        remove(aside)
        remove(aside.with_name(f"{aside.name}.tmp"))  # torch writes there first
        raise


def _no_warnings() -> warnings.catch_warnings[None]:
    """torch warns in here about how its profiler is used: that is our business, not a person's."""
    return warnings.catch_warnings(action="ignore")


@contextlib.contextmanager
def profiling(run: Run) -> Iterator[Callable[[int], None] | None]:
    """The function to call after every update while a run trains; None without a profile."""
    components = run.components
    options = components.config.trainer
    if not options.profile:
        yield None
        return
    with Profile(
        options.profile_from,
        options.profile_steps,
        done=components.state.progress.step,
        path=run.folder / TRACE_FILE,
        on_gpu=components.device.type == "cuda",
        report=functools.partial(_print, run.terminal),
        warn=run.terminal.warn,
    ) as profile:
        yield profile.after_update


def _print(terminal: Terminal, found: ProfileResult) -> None:
    where = "GPU" if found.on_gpu else "CPU"
    updates = f"updates {found.first} to {found.last}"
    if found.first == found.last:
        updates = f"update {found.first}"
    terminal.line(
        f"Profile of {updates}: {found.wall_ms:.1f} ms, of them {found.total_ms:.1f} ms in "
        f"operators on the {where}",
        style="bold",
    )
    print_operators(found, terminal)
    if found.trace is not None:
        viewer = ("open it", "in https://ui.perfetto.dev or chrome://tracing")
        terminal.facts("", [("trace", str(found.trace)), viewer])


def print_operators(found: ProfileResult, terminal: Terminal) -> None:
    """Print the operators that took longest, a row each."""
    titles = ("operator", "calls", "total ms", "share", "ms an update")
    rows = [
        [
            row.operator,
            f"{row.calls:,}",
            f"{row.total_ms:.2f}",
            f"{100 * row.share:.1f}%",
            f"{row.ms_per_update:.3f}",
        ]
        for row in found.rows
    ]
    write_table(
        titles,
        rows,
        terminal=terminal,
        right=titles[1:],
        narrow=Narrow(cut=("operator",)),
        is_ruled=True,
    )
