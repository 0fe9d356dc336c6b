"""`trainer.profile`: the profile of a run, its table of operators, and how its trace is opened."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from trainer.commands.parts import Parts
from trainer.engine.profile import Profile, Profiled
from trainer.tracking.console import Terminal

TRACE_FILE = "trace.json"


@contextlib.contextmanager
def profiling(parts: Parts, folder: Path, terminal: Terminal) -> Iterator[Callable[[int], None] | None]:
    """What is to be told of every completed update while a run trains; None unless a profile was asked for."""
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
    updates = f"update {found.first}" if found.first == found.last else f"updates {found.first} to {found.last}"
    terminal.line(
        f"Profile of {updates}: {found.wall_ms:.1f} ms, of them {found.total_ms:.1f} ms in operators on the {where}",
        style="bold",
    )
    terminal.table(profile_table(found))
    if found.trace is not None:
        terminal.facts("", [("trace", str(found.trace)), ("open it", "in https://ui.perfetto.dev or chrome://tracing")])


def profile_table(found: Profiled) -> Table:
    """The operators that took longest, a row each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("operator", overflow="ellipsis")
    for name in ("calls", "total ms", "share", "ms an update"):
        table.add_column(name, justify="right", no_wrap=True)  # where it is narrow, names give way
    for row in found.rows:
        # As text: rich would take brackets in a name for markup.
        values = (f"{row.calls:,}", f"{row.total_ms:.2f}", f"{100 * row.share:.1f}%", f"{row.ms_per_update:.3f}")
        table.add_row(Text(row.operator), *values)
    return table
