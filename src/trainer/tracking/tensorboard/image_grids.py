"""Grids of small pictures as arrays (H, W, 3) of bytes: inputs, filters, feature maps."""

from __future__ import annotations

import bisect
import math
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

_GAP = 4
# Between pictures with captions.
_PAPER = 255
# Between other pictures: not black, as a feature map may be, nor for filters mid-grey, as 0 is.
_GREY = 110
_DARK = 48
# A value that is not finite must be seen: no picture has this colour.
_NOT_FINITE = (255, 0, 255)
# A picture is enlarged to at least the first side, in pixels, and shrunk to at most the second.
_INPUT_SIDES = (96, 192)
_PART_SIDES = (48, 96)
_FONT_SIZE = 13
_LINE_HEIGHT = 16
_MAX_LINES = 2
# The ends of the scale of filters; 0, between them, is white.
_NEGATIVE, _POSITIVE = np.array([[33, 102, 172], [178, 24, 43]])
# The scale of feature maps from 0 to the largest value: dark to bright, for eyes that see no hues.
_HEAT = np.array(
    [(0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)]
)


def is_image(shape: Sequence[int]) -> bool:
    """Whether a sample of this shape is a picture: (C, H, W), not empty."""
    return len(shape) == 3 and min(shape) > 0


def grid(
    images: Tensor,
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    scale: int | None = None,
) -> Pixels:
    """Arrange images (N, C, H, W), in any normalisation, row by row, each above its label.

    Black is the smallest value of all images and white the largest; what is not finite is magenta.
    Three channels are red, green and blue; of any other number the first is shown, in grey. Without
    `columns` the grid is about square. `scale` makes a value a square of so many pixels; without
    it, small images are enlarged by a whole number and large ones made smaller. A label is broken
    into two lines where it says so (\\n) or where it is too long, then cut to fit.
    """
    values = _on_host(images, max_side=_INPUT_SIDES[1] if scale is None else None)
    finite = np.isfinite(values)
    known = values[finite] if finite.any() else np.zeros(1, np.float32)
    low = known.min()
    high = known.max()
    # In 64 bits: the difference of two large numbers may be infinite in 32.
    shares = (np.where(finite, values, low) - low.astype(float)) / (float(high) - float(low) or 1)
    cells = _cells(255 * shares, finite, scale=scale, min_side=_INPUT_SIDES[0])
    columns = columns or _square(len(cells))
    if labels is None:
        return _arranged(cells, columns=columns, background=_GREY)
    return _captioned(cells, labels, columns=columns)


def filters(weight: Tensor) -> Pixels:
    """Arrange the filters (O, I, kH, kW) of a convolution: white is 0, blue < 0, red > 0.

    Over three channels a filter is shown in their colours, 0 as grey. Of any other number the first
    channel is shown. All filters share one scale, up to the largest absolute value; what is not
    finite is magenta.
    """
    values = _on_host(weight, max_side=_PART_SIDES[1])
    finite = np.isfinite(values)
    values = np.where(finite, values, 0)
    shares = values / (np.abs(values).max() or 1)
    if shares.shape[-1] == 3:
        colours = 127.5 * (1 + shares)
    else:
        colours = 255 - np.abs(shares) * (255 - np.where(shares < 0, _NEGATIVE, _POSITIVE))
    cells = _cells(colours, finite, min_side=_PART_SIDES[0])
    return _arranged(cells, columns=_square(len(cells)), background=_DARK)


def feature_maps(maps: Tensor, max_channels: int = 16) -> Pixels:
    """Arrange maps (S, C, H, W): a row for each sample, a column for each of the first channels.

    Each map has its own scale from 0, which is black like all below it, to its largest value, which
    is bright; what is not finite is magenta.
    """
    maps = maps[:, :max_channels]
    values = _on_host(maps.flatten(0, 1).unsqueeze(1), max_side=_PART_SIDES[1])
    finite = np.isfinite(values)
    values = np.where(finite, values, 0).clip(min=0)
    largest = values.max(axis=(1, 2, 3), keepdims=True)
    shades = _bytes(255 * values / np.where(largest > 0, largest, 1))[..., 0]
    places = np.linspace(0, 255, len(_HEAT))
    heat = [np.interp(np.arange(256), places, part) for part in _HEAT.T]
    cells = _cells(np.stack(heat, axis=-1)[shades], finite, min_side=_PART_SIDES[0])
    return _arranged(cells, columns=maps.shape[1], background=_GREY)


def shorten(text: str, width: float, length_of: Callable[[str], float]) -> str:
    """Cut a text with `…` at its end until `length_of` it is at most `width`."""
    if length_of(text) <= width:
        return text
    fitting = bisect.bisect(range(len(text)), width, key=lambda end: length_of(text[:end] + "…"))
    return text[: fitting - 1].rstrip() + "…" if fitting else ""


def _on_host(images: Tensor, *, max_side: int | None) -> Floats:
    """Images (N, C, H, W) as (N, H, W, 3 or 1), shrunk until no side is longer than `max_side`."""
    images = images.detach().float().cpu()
    if images.shape[1] != 3:
        images = images[:, :1]
    longest = max(images.shape[2:])
    if max_side is not None and longest > max_side:
        sides = [max(1, side * max_side // longest) for side in images.shape[2:]]
        # The mean of the pixels under each: the nearest alone would drop thin lines.
        images = functional.interpolate(images, size=sides, mode="area")
    return images.permute(0, 2, 3, 1).numpy()


def _bytes(colours: NDArray[np.floating]) -> Pixels:
    return (colours + 0.5).astype(np.uint8)


def _cells(
    colours: NDArray[np.floating], finite: Flags, *, min_side: int, scale: int | None = None
) -> Pixels:
    """Pictures (N, h, w, 3) of colours (N, H, W, 1 or 3) from 0 to 255.

    A value whose `finite` (N, H, W, …) is false is magenta. Pictures are enlarged by a whole
    number, so that every value stays a sharp square.
    """
    cells = np.broadcast_to(_bytes(colours), (*colours.shape[:3], 3))
    if not finite.all():
        mark = np.array(_NOT_FINITE, np.uint8)
        cells = np.where(finite.all(axis=-1, keepdims=True), cells, mark)
    times = scale or math.ceil(min_side / max(cells.shape[1:3]))
    return cells.repeat(times, axis=1).repeat(times, axis=2) if times > 1 else cells


def _square(num_cells: int) -> int:
    return math.ceil(math.sqrt(num_cells))


def _arranged(cells: Pixels, *, columns: int, background: int) -> Pixels:
    """Cells (N, h, w, 3) row by row, with a gap between them and around all."""
    num_cells, height, width, _ = cells.shape
    columns = min(columns, num_cells)
    rows = math.ceil(num_cells / columns)
    height = height + _GAP
    width = width + _GAP
    framed = np.full((rows * columns, height, width, 3), background, np.uint8)
    framed[:num_cells, _GAP:, _GAP:] = cells
    table = framed.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    whole = table.reshape(rows * height, columns * width, 3)
    return np.pad(whole, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=background)


def _captioned(cells: Pixels, labels: Sequence[str], *, columns: int) -> Pixels:
    """As `_arranged`, with room for the longest label below each cell."""
    num_cells, height, width, _ = cells.shape
    # Made each time, in 50 us: threads cannot share a font.
    font = ImageFont.load_default(size=_FONT_SIZE)
    lines = [_broken(label, width, font.getlength) for label in labels]
    room = np.full((num_cells, _LINE_HEIGHT * max(map(len, lines)), width, 3), _PAPER, np.uint8)
    cells = np.concatenate([cells, room], axis=1)
    picture = Image.fromarray(_arranged(cells, columns=columns, background=_PAPER))
    draw = ImageDraw.Draw(picture)
    for index, texts in enumerate(lines):
        row, column = divmod(index, min(columns, num_cells))
        left = column * (width + _GAP) + _GAP
        top = row * (cells.shape[1] + _GAP) + _GAP + height
        for number, text in enumerate(texts):
            draw.text((left, top + number * _LINE_HEIGHT), text, font=font, fill=(0, 0, 0))
    return np.asarray(picture)


def _broken(label: str, width: int, length_of: Callable[[str], float]) -> list[str]:
    """A label as at most two lines, each shortened to `width` pixels."""
    # The font has English letters only: é becomes e.
    signs = unicodedata.normalize("NFKD", label)
    plain = "".join(sign for sign in signs if not unicodedata.combining(sign))
    if "\n" in plain:
        lines = [" ".join(line.split()) for line in plain.split("\n")[:_MAX_LINES]]
    else:
        lines = [""]
        for word in plain.split():
            longer = f"{lines[-1]} {word}".lstrip()
            if not lines[-1] or len(lines) == _MAX_LINES or length_of(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
    return [shorten(line, width, length_of) for line in lines]
