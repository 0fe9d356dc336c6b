"""What commands print: tables, JSON, and numbers, times and sizes as text.

On a terminal a table fits its width: cells that may be cut are cut, columns that may be left out
are left out, and states have colours. In a file or a pipe all is written, unless COLUMNS is set.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from trainer.errors import counted, printable
from trainer.tracking.console import Terminal
from trainer.tracking.text import GAP, folded, shortened

STYLES = {"running": "bold cyan", "done": "green", "failed": "bold red", "damaged": "bold red"}
# What a column that is cut keeps at least.
_MIN_WIDTH = 16
_MAX_DAYS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrow:
    """What a table does where it is too wide; columns without content are left out in any case.

    Columns of the titles `cut` are cut, in this order, then those of `leave_out` are left out, in
    this order. The text of the last column continues on further lines where its title is `fold`.
    """

    cut: Sequence[str] = ()
    leave_out: Sequence[str] = ()
    fold: str = ""


def write_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    terminal: Terminal,
    right: Collection[str] = (),
    narrow: Narrow = Narrow(),
    styles: Mapping[str, str] = STYLES,
    is_ruled: bool = False,
) -> list[str]:
    """Print rows under their titles in aligned columns; returns the titles left out.

    The columns titled `right` are aligned to the right. `styles` has the rich style of a cell by
    its text. `is_ruled` sets the table off by a line under the titles and empty lines around it.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    columns = [
        _Column(printable(title), [row[place] for row in cells], title in right)
        for place, title in enumerate(titles)
    ]
    columns = _fitting(columns, terminal.room, narrow)
    left_out = _missing(titles, columns)
    if columns[-1].title == narrow.fold:
        columns = _folded(columns, terminal.room)
    lines = [_line([(column, column.title) for column in columns], {})]
    lines[0].stylize("bold")
    lines += [
        _line(list(zip(columns, row, strict=True)), styles)
        for row in zip(*(column.cells for column in columns), strict=True)
    ]
    if is_ruled:
        rule = Text("─" * _total(columns))
        lines = [Text(), lines[0], rule, *lines[1:], Text()]
    for line in lines:
        terminal.out.print(line)
    return left_out


def write_table_in_parts(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, terminal: Terminal
) -> None:
    """Print a table in parts, each with the first column and as many of the others as fit."""
    widths = [
        max(cell_len(printable(cell)) for cell in column)
        for column in zip(titles, *rows, strict=True)
    ]
    parts: list[list[int]] = []
    used = 0
    for place in range(1, len(titles)):
        used += len(GAP) + widths[place]
        if not parts or used > terminal.room:
            parts.append([0])
            used = widths[0] + len(GAP) + widths[place]
        parts[-1].append(place)
    for number, places in enumerate(parts):
        if number:
            terminal.line("")
        part = [titles[place] for place in places]
        cells = [[row[place] for place in places] for row in rows]
        write_table(part, cells, terminal=terminal, narrow=Narrow(cut=part[1:]))


@dataclass(slots=True)
class _Column:
    title: str
    cells: list[str]
    to_right: bool
    width: int = 0  # of its cells as they are printed

    def __post_init__(self) -> None:
        self.width = self.whole

    @property
    def whole(self) -> int:
        """The width at which no cell is cut."""
        return max(map(cell_len, [self.title, *self.cells]))

    @property
    def is_empty(self) -> bool:
        return all(cell in ("", "-") for cell in self.cells)

    def aligned(self, cell: str) -> str:
        """The cell, cut or filled up to the width."""
        text = shortened(cell, self.width)
        missing = " " * (self.width - cell_len(text))
        return missing + text if self.to_right else text + missing


def _fitting(columns: list[_Column], room: int, narrow: Narrow) -> list[_Column]:
    """The columns that fit `room`, with their widths."""
    if _total(columns) > room:
        columns = [column for column in columns if not column.is_empty]
    _cut(columns, room, narrow.cut)
    for title in narrow.leave_out:
        if _total(columns) <= room:
            break
        columns = [column for column in columns if column.title != title]
        _cut(columns, room, narrow.cut)
    return columns


def _missing(titles: Sequence[str], columns: Sequence[_Column]) -> list[str]:
    """The titles that none of the columns has."""
    found = {column.title for column in columns}
    return [title for title in map(printable, titles) if title not in found]


def _cut(columns: Sequence[_Column], room: int, titles: Sequence[str]) -> None:
    """Cut the columns of these titles in this order, as far as needed, but not below a width."""
    for column in columns:
        column.width = column.whole
    for title in titles:
        for column in columns:
            if column.title == title:
                cut = column.width - max(0, _total(columns) - room)
                column.width = max(cut, min(column.whole, _MIN_WIDTH))


def _folded(columns: Sequence[_Column], room: int) -> list[_Column]:
    """The columns with the cells of the last one on as many lines as it needs."""
    others = columns[:-1]
    before = _total(others) + len(GAP)
    rows: list[list[str]] = []
    for *row, cell in zip(*(column.cells for column in columns), strict=True):
        first, *further = folded(cell, room - before)
        rows.append([*row, first])
        rows += [[*("" for _ in others), part] for part in further]
    return [
        _Column(column.title, [row[place] for row in rows], column.to_right)
        for place, column in enumerate(columns)
    ]


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _line(cells: Sequence[tuple[_Column, str]], styles: Mapping[str, str]) -> Text:
    # Text, not str: rich would read markup in a name from outside.
    line = Text()
    for column, cell in cells:
        line.append(column.aligned(cell), style=styles.get(cell, "")).append(GAP)
    line.rstrip()
    return line


def write_json(content: object, *, terminal: Terminal) -> None:
    """Print `content` as JSON, for programs; what JSON does not have as its text."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    terminal.out.file.write(f"{text}\n")


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
