"""Charts drawn by matplotlib as arrays (H, W, 3) of bytes. Grids of pictures are in `image_grids`.

They are 600 pixels square, with letters that can still be read in TensorBoard's cards, which are
some 350 wide. Nothing of matplotlib's global state is used or changed, and matplotlib is loaded
only when the first chart is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.tracking.tensorboard.image_grids import Pixels, shorten
from trainer.tracking.tensorboard.predictions import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ft2font import FT2Font

Point = tuple[float, float]

_SIDE = 600
_DPI = 100
# In points: 12.5 are 17 pixels here, and 10 in a card.
_TITLE = 16.0
_TEXT = 12.5
_SMALL = 10.0
# With more classes the cells are too small for counts.
_MAX_COUNTED = 12
# Of more classes not every one is named: the names would overlap.
_MAX_NAMED = 25
_MAX_NAME_WIDTH = 130.0
_BLUE = "#2f79b5"
_RED = "#d6604d"
_INK = "#222222"
_FAINT = "#c8c8c8"
_GREY = "#8c8c8c"


def confusion_figure(confusion: NDArray[np.int64], classes: Sequence[str]) -> Pixels:
    """Draw the confusion matrix (C, C), row = true class, as a heat map of each row's shares.

    The colour is the square root of a share, so that a mistake in one of a hundred is seen. Up to
    12 classes have their counts written into the cells. The title is the accuracy.
    """
    num_classes = len(confusion)
    total = int(confusion.sum())
    chart = _Chart()
    size = _TEXT if num_classes <= _MAX_COUNTED else _SMALL
    named = range(0, num_classes, -(-num_classes // _MAX_NAMED))
    names = {index: chart.fitting(str(classes[index]), size) for index in named}
    room = max(chart.width(name, size) for name in names.values())
    left = 44 + room
    bottom = 44 + 0.71 * (room + size)
    width = _SIDE - 14 - left
    height = _SIDE - 50 - bottom
    # A class without samples is a row of zeros, not of NaN.
    shades = np.sqrt(confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True)))
    axes = chart.axes(left, bottom, width=width, height=height)
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(0, 1, 0, 1))
    cell_width = width / num_classes
    cell_height = height / num_classes
    for index, name in names.items():
        y = bottom + height - (index + 0.5) * cell_height
        chart.write(name, size, at=(left - 6, y), ha="right", va="center_baseline")
        x = left + (index + 0.5) * cell_width + 0.3 * size
        lean: dict[str, Any] = {"rotation": 45, "rotation_mode": "anchor"}
        chart.write(name, size, at=(x, bottom - 6), ha="right", va="top", **lean)
    if num_classes <= _MAX_COUNTED:
        corner = (left, bottom + height)
        cell = (cell_width, cell_height)
        _write_counts(chart, confusion, shades=shades, corner=corner, cell=cell)
    middle_x = left + width / 2
    middle_y = bottom + height / 2
    chart.write("predicted", _TEXT, at=(middle_x, 10), va="bottom", color=_BLUE)
    chart.write("true", _TEXT, at=(10, middle_y), ha="left", rotation=90, color=_BLUE)
    title = f"accuracy {np.trace(confusion) / total:.2%} of {total:,}" if total else "no samples"
    chart.write_title(title)
    return chart.pixels()


def _write_counts(
    chart: _Chart,
    confusion: NDArray[np.int64],
    *,
    shades: NDArray[np.float64],
    corner: Point,
    cell: Point,
) -> None:
    texts = [[_short(int(count)) for count in row] for row in confusion]
    widest = max(chart.width(text, _TEXT) for row in texts for text in row)
    size = min(_TEXT, _TEXT * (cell[0] - 4) / widest)
    for (row, column), shade in np.ndenumerate(shades):
        color = "white" if shade > 0.6 else _INK
        if shade == 0:
            color = _FAINT
        at = (corner[0] + (column + 0.5) * cell[0], corner[1] - (row + 0.5) * cell[1])
        chart.write(texts[row][column], size, at=at, va="center_baseline", color=color)


def reliability_figure(reliability: Reliability) -> Pixels:
    """Draw the accuracy in each bin of confidence, against the mean confidence there.

    The diagonal is a perfect calibration. The lower part is a bar of samples for each bin, with
    their counts up to 12 bins. Bins without samples are empty.
    """
    count = reliability.count
    bins = len(reliability.count)
    total = int(count.sum())
    used = np.flatnonzero(count)
    accuracy = reliability.accuracy[used]
    confidence = reliability.confidence[used]
    chart = _Chart()
    left = 80
    width = 488
    bottom = 242
    height = 300
    starts = used / bins
    axes = chart.axes(left, bottom, width=width, height=height)
    axes.hlines([0.25, 0.5, 0.75, 1], 0, 1, color=_FAINT, linewidth=0.8, zorder=0)
    axes.bar(starts, accuracy, 1 / bins, align="edge", color=_BLUE, edgecolor="white")
    axes.plot([0, 1], [0, 1], color=_INK, linestyle="--", linewidth=1.5)
    axes.hlines(confidence, starts, starts + 1 / bins, color=_RED, linewidth=4)
    for share in (0, 0.25, 0.5, 0.75, 1):
        text = f"{share:.0%}"
        y = bottom + share * height
        chart.write(text, _TEXT, at=(left - 8, y), ha="right", va="center_baseline")
        chart.write(text, _TEXT, at=(left + share * width, 44), va="bottom")
    legend = {"ha": "left", "va": "bottom"}
    chart.write("accuracy", _TEXT, at=(left, bottom - 30), color=_BLUE, **legend)
    chart.write("mean confidence", _TEXT, at=(left + 120, bottom - 30), color=_RED, **legend)
    _draw_samples(chart, count, left=left, width=width)
    chart.write("confidence", _TEXT, at=(left + width / 2, 10), va="bottom")
    title = "no samples"
    if total:
        sums = (float(np.dot(values, count[used])) / total for values in (accuracy, confidence))
        title = "ECE {:.2%}: accuracy {:.1%}, confidence {:.1%}".format(reliability.error, *sums)
    chart.write_title(title)
    return chart.pixels()


def _draw_samples(chart: _Chart, count: NDArray[np.int64], *, left: float, width: float) -> None:
    """Draw the lower part of the reliability diagram."""
    bins = len(count)
    bottom = 74
    height = 108
    shares = count / max(1, count.max())
    axes = chart.axes(left, bottom, width=width, height=height)
    axes.bar(np.arange(bins) / bins, shares, 1 / bins, align="edge", color=_GREY, ec="white")
    axes.hlines(0, 0, 1, color=_FAINT, linewidth=0.8)
    chart.write("samples", _TEXT, at=(20, bottom + height / 2), ha="left", rotation=90)
    if bins <= _MAX_COUNTED:
        for index, number in enumerate(count):
            x = left + (index + 0.5) * width / bins
            y = bottom + 4 + height * number / max(1, count.max())
            chart.write(_short(int(number)), _SMALL, at=(x, y), va="bottom")


def _short(count: int) -> str:
    """At most five signs, whatever the count."""
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.0f}M"


class _Chart:
    """A white square, measured in its pixels from the lower left corner."""

    def __init__(self) -> None:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(_SIDE / _DPI, _SIDE / _DPI), dpi=_DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self._figure)
        # The file that comes with matplotlib: a name would depend on what is installed and set on
        # this machine.
        self._font_file = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")

    def axes(self, left: float, bottom: float, *, width: float, height: float) -> Axes:
        """Axes from 0 to 1 in both directions, without ticks, names or a frame."""
        place = (left / _SIDE, bottom / _SIDE, width / _SIDE, height / _SIDE)
        axes = self._figure.add_axes(place, xlim=(0, 1), ylim=(0, 1), autoscale_on=False)
        axes.set_axis_off()
        return axes

    def write_title(self, text: str) -> None:
        self.write(text, _TITLE, at=(_SIDE / 2, _SIDE - 14), va="top")

    def write(
        self,
        text: str,
        size: float,
        *,
        at: Point,
        color: str = _INK,
        ha: str = "center",
        va: str = "center",
        **places: Any,
    ) -> None:
        """Write text as it is; `ha`, `va` and `places` are matplotlib's options for its place."""
        from matplotlib.font_manager import FontProperties

        # A class may be called `$x_1$`: unless both flags are off, matplotlib reads a formula there
        # and raises for `$\frac$`.
        self._figure.text(
            at[0] / _SIDE,
            at[1] / _SIDE,
            text,
            fontproperties=FontProperties(fname=self._font_file, size=size),
            color=color,
            usetex=False,
            parse_math=False,
            ha=ha,
            va=va,
            **places,
        )

    def width(self, text: str, size: float) -> float:
        """The pixels that a text takes."""
        font = self._font()
        font.set_size(size, _DPI)
        font.set_text(text)
        # FreeType measures in 64ths of a pixel.
        return float(font.get_width_height()[0]) / 64

    def fitting(self, name: str, size: float) -> str:
        """A name as one line, cut if too long, with a box for a sign that the font lacks."""
        font = self._font()
        # matplotlib would warn of a missing sign.
        signs = (sign if font.get_char_index(ord(sign)) else "□" for sign in " ".join(name.split()))
        text = "".join(signs)
        return shorten(text, _MAX_NAME_WIDTH, lambda part: self.width(part, size))

    def _font(self) -> FT2Font:
        from matplotlib.font_manager import get_font

        # From matplotlib's cache, which has one for each thread: a font keeps the text that it
        # measures.
        return get_font(self._font_file)

    def pixels(self) -> Pixels:
        """What was drawn, (600, 600, 3)."""
        self._canvas.draw()  # type: ignore[no-untyped-call]
        pixels = self._canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        # A copy: the buffer is the canvas' memory, with a fourth channel.
        return np.asarray(pixels)[..., :3].copy()
