"""Numbers as text, and lines that fit a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size

from trainer.errors import printable

GAP = "  "
# No text is folded into narrower lines.
_MIN_FOLD = 10


def as_line(value: object) -> str:
    """Text on one line, without control characters, that can be written as UTF-8."""
    # Python has the bytes of an argument that is no UTF-8 as lone surrogates, which no file takes.
    lines = " ".join(str(value).splitlines())
    return printable(lines).encode("utf-8", errors="replace").decode()


def number_text(value: float | None) -> str:
    """A metric in four decimals, or four digits where decimals would show nothing or too much."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


def number_in(text: str) -> float | None:
    """The finite number that a text is; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def clock_text(seconds: float) -> str:
    """`0:12`, `1:02:03`."""
    minutes, rest = divmod(round(min(seconds, 1e9)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shortened(text: str, width: int) -> str:
    """`text` cut to `width` columns of a terminal, with … for what is missing."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, max(0, width - 1))}…"


def joined(parts: Mapping[str, str]) -> str:
    """The parts that are not empty, as a line."""
    return GAP.join(filter(None, parts.values()))


def fitting(parts: Mapping[str, str], room: int, *, leaving_out: Sequence[str]) -> dict[str, str]:
    """The parts of a line that fit `room` columns.

    Those named in `leaving_out` are left out, one after the other, until the line fits.
    """
    kept = dict(parts)
    for name in leaving_out:
        if cell_len(joined(kept)) <= room:
            break
        kept.pop(name, None)
    return kept


def folded(text: str, width: int) -> list[str]:
    """Text in lines of `width` columns, broken between words where they are not too long."""
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, max(width, _MIN_FOLD), break_on_hyphens=False)
