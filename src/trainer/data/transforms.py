"""Seeded augmentation of batches of images on their own device; options and checks are in
trainer.config.transforms.

Images are bytes (N, C, H, W) from end to end, as torchvision has them: a batch keeps one type
whatever the list holds, moves a quarter of the memory of floats, and normalisation comes after.
Rotation and jitter compute in float32 and go back to bytes. Each transform is a pair: `draw_*`
takes one small tensor of parameters from a CPU generator, and a plain function of the images and
those parameters applies it. No step asks the device anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from trainer.config.transforms import (
    ColorJitter,
    Crop,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomInvert,
    RandomRotation,
    Transform,
)

# As many tries as torchvision makes to find a rectangle that fits, before it leaves an image alone.
_ERASING_TRIES = 10


class Augmentation:
    """The transforms of training, in the order of the list."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._transforms = tuple(transforms)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Bytes (N, C, H, W) to bytes (N, C, h, w), `output_shape` says which; `images` itself is
        not changed.

        All randomness comes from `generator`, on the CPU: one state gives one result, whatever
        happened elsewhere.
        """
        for transform in self._transforms:
            images = _augment(transform, images, generator)
        return images


def make_eval_transform(parsed: Sequence[Transform]) -> Callable[[Tensor], Tensor]:
    """What evaluation does to bytes (N, C, H, W): crops alone, and the centre where training
    takes a random place.
    """
    crops = tuple(transform for transform in parsed if isinstance(transform, Crop | RandomCrop))

    def transform_for_eval(images: Tensor) -> Tensor:
        for crop in crops:
            if isinstance(crop, Crop):
                images = crop_fixed(images, crop)
            else:
                images = crop_center(images, crop.output_size(*images.shape[-2:]), fill=crop.fill)
        return images

    return transform_for_eval


def _augment(transform: Transform, images: Tensor, generator: Generator) -> Tensor:
    num, device = len(images), images.device
    height, width = images.shape[-2:]
    match transform:
        case RandomCrop(padding=padding, fill=fill):
            size = transform.output_size(height, width)
            room = (height + 2 * padding - size[0], width + 2 * padding - size[1])
            corners = _move(draw_corners(num, generator, room=room), device)
            return crop_at(images, corners, size=size, padding=padding, fill=fill)
        case Crop():
            return crop_fixed(images, transform)
        case RandomHorizontalFlip(p=p):
            return flip_where(images, _move(draw_chances(num, generator, p=p), device))
        case RandomInvert(p=p):
            return invert_where(images, _move(draw_chances(num, generator, p=p), device))
        case RandomRotation(degrees=degrees, interpolation=interpolation, fill=fill):
            low, high = degrees if isinstance(degrees, tuple) else (-degrees, degrees)
            angles = _move(draw_uniform(num, generator, low=low, high=high), device)
            return rotate(images, angles, interpolation=interpolation, fill=fill)
        case ColorJitter():
            return _jitter(transform, images, generator)
        case RandomErasing(value=value):
            boxes = _move(
                draw_boxes(num, generator, transform=transform, size=(height, width)), device
            )
            return erase(images, boxes, value=value)


def _jitter(transform: ColorJitter, images: Tensor, generator: Generator) -> Tensor:
    # As in torchvision, the order is drawn once a call; a tensor on the CPU may be asked.
    steps = [(adjust_brightness, transform.brightness), (adjust_contrast, transform.contrast)]
    if torch.rand((), generator=generator) < 0.5:
        steps.reverse()
    for adjust, strength in steps:
        low, high = (
            strength if isinstance(strength, tuple) else (max(0.0, 1 - strength), 1 + strength)
        )
        factors = draw_uniform(len(images), generator, low=low, high=high)
        if (low, high) != (1.0, 1.0):
            images = adjust(images, _move(factors, images.device))
    return images


def _move(parameters: Tensor, device: torch.device) -> Tensor:
    # Only from pinned memory does a copy to CUDA not wait; the caching allocator makes pinning
    # cheap.
    pinned = parameters.pin_memory() if device.type == "cuda" else parameters
    return pinned.to(device, non_blocking=True)


def draw_chances(num: int, generator: Generator, *, p: float) -> Tensor:
    """Booleans (num,), each true with probability `p`."""
    return torch.rand(num, generator=generator) < p


def draw_uniform(num: int, generator: Generator, *, low: float, high: float) -> Tensor:
    """Floats (num,), uniform in [low, high]."""
    return torch.rand(num, generator=generator).mul_(high - low).add_(low)


def draw_corners(num: int, generator: Generator, *, room: tuple[int, int]) -> Tensor:
    """Integers (2, num): a row in 0..room[0] and a column in 0..room[1] for each image, both
    ends included.
    """
    return torch.stack([torch.randint(0, end + 1, (num,), generator=generator) for end in room])


def draw_boxes(
    num: int, generator: Generator, *, transform: RandomErasing, size: tuple[int, int]
) -> Tensor:
    """Integers (4, num): top, left, height and width of the rectangle to erase; height 0 for an
    image left alone.

    Area uniform in `scale`, aspect log-uniform in `ratio`: Zhong et al., Random Erasing,
    https://arxiv.org/abs/1708.04896, with torchvision's rounding and its ten tries.
    """
    tries = (_ERASING_TRIES, num)
    low, high = transform.scale
    areas = torch.rand(tries, generator=generator, dtype=torch.float64).mul_(high - low).add_(
        low
    ) * math.prod(size)
    low, high = map(math.log, transform.ratio)
    ratios = (
        torch.rand(tries, generator=generator, dtype=torch.float64)
        .mul_(high - low)
        .add_(low)
        .exp_()
    )
    heights, widths = (areas * ratios).sqrt_().round_(), (areas / ratios).sqrt_().round_()
    fits = (heights < size[0]) & (widths < size[1])
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    chosen = fits.any(0) & draw_chances(num, generator, p=transform.p)
    height, width = heights.gather(0, first)[0] * chosen, widths.gather(0, first)[0] * chosen
    place = torch.rand((2, num), generator=generator, dtype=torch.float64)
    top, left = place[0] * (size[0] - height + 1), place[1] * (size[1] - width + 1)
    return torch.stack((top, left, height, width)).long()


def crop_fixed(images: Tensor, crop: Crop) -> Tensor:
    """A view (N, C, height, width) of `images`."""
    return images[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def crop_center(images: Tensor, size: tuple[int, int], *, fill: int) -> Tensor:
    """The middle of `images`, (N, C, *size), `fill` around it where `size` is larger; as
    torchvision's center_crop.
    """
    margins: list[int] = []
    for have, want in zip(images.shape[:1:-1], size[::-1], strict=True):
        before = (want - have) // 2 if want > have else -round((have - want) / 2)
        margins += [before, want - have - before]
    # F.pad cuts where a margin is negative.
    return F.pad(images, margins, value=fill) if any(margins) else images


def crop_at(
    images: Tensor, corners: Tensor, *, size: tuple[int, int], padding: int, fill: int
) -> Tensor:
    """Crops (N, C, *size) of `images` padded with `fill`, image n's from row corners[0, n] and
    column corners[1, n].
    """
    (num, channels, height, width), (crop_height, crop_width) = images.shape, size
    rows, columns = height + 2 * padding, width + 2 * padding
    padded = images.new_full((num, channels, rows, columns), fill)
    padded[..., padding : padding + height, padding : padding + width] = images
    # Every run of crop_width bytes is a row of this view, so one index picks a whole line of a
    # crop: 33 us for (64, 1, 28, 28) on one core; 55 us over 2-d windows, 63 us by gather, 190 to
    # 240 us with an index a pixel.
    lines = padded.view(-1).unfold(0, crop_width, 1)
    planes = torch.arange(num * channels, device=images.device).view(num, channels, 1) * (
        rows * columns
    )
    starts = (corners[0] * columns + corners[1])[:, None, None]
    offsets = torch.arange(crop_height, device=images.device) * columns
    return lines.index_select(0, (planes + starts + offsets).view(-1)).view(
        num, channels, crop_height, crop_width
    )


def flip_where(images: Tensor, mask: Tensor) -> Tensor:
    """`images` with left and right swapped where `mask` (N,) is true."""
    # Picking whole images of both versions: 24 us for (64, 1, 28, 28) on one core, 52 us by
    # torch.where.
    both = torch.cat((images, images.flip(-1)))
    return both.index_select(
        0, torch.arange(len(images), device=images.device) + mask * len(images)
    )


def invert_where(images: Tensor, mask: Tensor) -> Tensor:
    """255 - v for every grey value v of the images where `mask` (N,) is true."""
    return images ^ (mask.to(torch.uint8) * 255)[:, None, None, None]


def rotate(images: Tensor, degrees: Tensor, *, interpolation: str, fill: int) -> Tensor:
    """`images` rotated about their centres by `degrees` (N,), anticlockwise; `interpolation` is
    nearest or bilinear.

    At the rim, bilinear blends with `fill` by the part that lies outside; torchvision darkens those
    pixels twice.
    """
    height, width = images.shape[-2:]
    columns = torch.arange(width, device=images.device) - (width - 1) / 2
    rows = torch.arange(height, device=images.device) - (height - 1) / 2
    # The source of pixel (x, y) is (x cos - y sin, x sin + y cos), in units of half the image for
    # grid_sample. Complex numbers write such pairs in one pass: 70 us for (64, 1, 28, 28) on one
    # core, 316 us by affine_grid.
    angles = torch.deg2rad(degrees)[:, None]
    cos, sin = angles.cos(), angles.sin()
    along_row = torch.complex(cos * (2 / width), sin * (2 / height)) * columns
    along_column = torch.complex(-sin * (2 / width), cos * (2 / height)) * rows
    grid = torch.view_as_real(along_row[:, None, :] + along_column[:, :, None])
    # Zeros are what grid_sample finds outside, so `fill` is made zero for the while.
    values = images.float().sub_(fill)
    sampled = F.grid_sample(
        values, grid, mode=interpolation, padding_mode="zeros", align_corners=False
    )
    return sampled.add_(fill).round_().to(torch.uint8)


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Every grey value times its image's factor (N,), cut off at 255, as torchvision's
    adjust_brightness.
    """
    return (images * factors[:, None, None, None]).clamp_(0, 255).to(torch.uint8)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """factor v + (1 - factor) mean, with the image's mean in grey, cut to 0..255; as
    torchvision's adjust_contrast.
    """
    values, ratio = images.float(), factors[:, None, None, None]
    gray = values
    if images.shape[1] == 3:
        red, green, blue = values.chunk(3, dim=1)
        # Luma of ITU-R BT.601, rounded down as Pillow does.
        gray = (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()
    mean = gray.mean((1, 2, 3), keepdim=True)
    return (values * ratio).add_(mean * (1 - ratio)).clamp_(0, 255).to(torch.uint8)


def erase(images: Tensor, boxes: Tensor, *, value: int) -> Tensor:
    """`images` with a rectangle each set to `value`; `boxes` (4, N) holds tops, lefts, heights
    and widths.
    """
    top, left, height, width = boxes[:, :, None]
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    in_rows = ((rows >= top) & (rows < top + height)).to(torch.uint8) * 255
    in_columns = ((columns >= left) & (columns < left + width)).to(torch.uint8) * 255
    # A choice bit by bit, all in bytes: 50 us for (64, 1, 28, 28) on one core, 89 us by
    # masked_fill.
    mask = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return torch.bitwise_xor(images, mask & (images ^ value))
