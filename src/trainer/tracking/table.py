"""What commands print: tables, JSON, and numbers, times and sizes as text.

On a terminal long cells that may be cut are cut to its width, and states have colours. In a file or
a pipe nothing is cut and nothing is coloured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from trainer.errors import printable
from trainer.tracking.console import Terminal

STYLES = {"running": "bold cyan", "done": "green", "failed": "bold red", "damaged": "bold red"}
_GAP = "  "
_MIN_WIDTH = 8
_MAX_DAYS = 14


def write_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    terminal: Terminal,
    right: Collection[str] = (),
    giving_way: Sequence[str] = (),
    styles: Mapping[str, str] = STYLES,
    is_ruled: bool = False,
) -> None:
    """Print rows under their titles in aligned columns.

    The columns titled `right` are aligned to the right. Where a terminal is too narrow those
    `giving_way` are cut, in this order. `styles` has the rich style of a cell by its text.
    `is_ruled` sets the table off by a line under the titles and empty lines around it.
    """
    cells = [[printable(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    room = terminal.out.width if terminal.out.is_terminal else sys.maxsize
    for title in giving_way:
        place = titles.index(title)
        least = min(widths[place], _MIN_WIDTH)
        widths[place] = max(least, widths[place] - max(0, _total(widths) - room))
    lines = []
    for row in cells:
        # Text, not str: rich would read markup in a name from outside.
        line = Text()
        for title, cell, width in zip(titles, row, widths, strict=True):
            text = _aligned(cell, width, to_right=title in right)
            line.append(text, style=styles.get(cell, "")).append(_GAP)
        line.rstrip()
        lines.append(line)
    lines[0].stylize("bold")
    if is_ruled:
        rule = Text("─" * _total(widths))
        lines = [Text(), lines[0], rule, *lines[1:], Text()]
    for line in lines:
        terminal.out.print(line)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _aligned(cell: str, width: int, *, to_right: bool) -> str:
    missing = width - cell_len(cell)
    if missing < 0:
        return f"{set_cell_size(cell, width - 1)}…"
    return " " * missing + cell if to_right else cell + " " * missing


def write_json(content: object, *, terminal: Terminal) -> None:
    """Print `content` as JSON, for programs; what JSON does not have as its text."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    terminal.out.file.write(f"{text}\n")


def number_text(value: float | None) -> str:
    """A metric in four decimals, or four digits where decimals would show nothing or too much."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


def ago(seconds: float, *, now: float | None = None) -> str:
    """How long ago a time in seconds since the epoch was: `2 hours ago`; `-` for 0.

    The date of a time more than two weeks ago, or ahead.
    """
    if not seconds:
        return "-"
    passed = (time.time() if now is None else now) - seconds
    if not -1 <= passed < (_MAX_DAYS + 1) * 86400:
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d}"
    number = max(0, int(passed))
    unit = "second"
    for name, size in (("minute", 60), ("hour", 3600), ("day", 86400)):
        if passed >= size:
            number = int(passed // size)
            unit = name
    return f"{counted(number, unit)} ago"


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration_text(seconds: float) -> str:
    """`1:02:03`, or `12.3 s` of less than a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def size_text(num_bytes: float) -> str:
    """`12.3 MB`."""
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        num_bytes /= 1000
        if num_bytes < 1000:
            return f"{num_bytes:.1f} {unit}"
    return f"{num_bytes / 1000:.1f} TB"
