"""Tables as CSV that a spreadsheet can open, whatever is in the cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from trainer.tracking.text import as_line

# Text that begins like that is a formula to a spreadsheet, unless it is a number.
_FORMULA = ("=", "+", "-", "@")


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A line of titles and a line a row. A cell has no line break, and none is a formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_cell, titles))
    for row in rows:
        writer.writerow(map(_cell, row))
    return file.getvalue()


def _cell(value: object) -> str:
    """A value as text, with a quote before one that a spreadsheet would run."""
    text = "" if value is None else as_line(value)
    if not text.lstrip().startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
