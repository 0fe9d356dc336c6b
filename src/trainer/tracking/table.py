"""Words on the terminal: aligned columns, times as a person says them, sizes.

On a terminal long names and notes are cut to its width, and states have colours. In a file or a
pipe nothing is cut and nothing is coloured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from trainer.errors import printable
from trainer.tracking.console import Terminal

STYLES = {"running": "bold cyan", "done": "green", "failed": "bold red", "damaged": "bold red"}
_GAP, _LEAST_WIDTH = "  ", 8
# Units of "… ago", each with its seconds. Beyond the last the date says more.
_UNITS = (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400))
_MOST_DAYS = 14


def write_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    terminal: Terminal,
    giving_way: Sequence[str] = (),
) -> None:
    """Rows under their titles in aligned columns; where a terminal is too narrow, those
    `giving_way` are cut, in order.

    The state of a run has its colour on a terminal.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    if terminal.out.is_terminal:
        for title in giving_way:
            excess = sum(widths) + len(_GAP) * (len(widths) - 1) - terminal.out.width
            place = titles.index(title)
            widths[place] = min(widths[place], max(_LEAST_WIDTH, widths[place] - max(0, excess)))
    for number, row in enumerate([titles, *rows]):
        line = Text(style="bold" if number == 0 else "")
        for cell, width in zip(row, widths, strict=True):
            # Text, not str: rich would read markup in a name from outside.
            line.append(_fitted(cell, width), style=STYLES.get(cell, "")).append(_GAP)
        line.rstrip()
        terminal.out.print(line)


def _fitted(cell: str, width: int) -> str:
    return (
        set_cell_size(cell, width)
        if cell_len(cell) <= width
        else f"{set_cell_size(cell, width - 1)}…"
    )


def ago(seconds: float, *, now: float | None = None) -> str:
    """`2 hours ago`, or the date where that is longer ago than two weeks, or lies ahead; `-` for
    no time.
    """
    if not seconds:
        return "-"
    passed = (time.time() if now is None else now) - seconds
    if passed < -1 or passed >= (_MOST_DAYS + 1) * 86400:
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d}"
    name, size = [unit for unit in _UNITS if passed >= unit[1] or unit[1] == 1][-1]
    number = max(0, int(passed // size))
    return f"{number} {name}{'' if number == 1 else 's'} ago"


def lasted(seconds: float) -> str:
    """`1:02:03`, or `12.3 s` of less than a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def size_text(num_bytes: float) -> str:
    """`12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
