"""Types, defaults and checks of `data.transforms`, the list of augmentations;
trainer.data.transforms applies them.

Defaults live here and not in configs/, because these are options inside a list and not keys of a
YAML group. Names, options and meanings are those of torchvision.transforms.v2; grey values are
bytes, 0 to 255.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, get_args

from trainer.config import checks
from trainer.errors import ConfigError, suggestion

_KEY = "data.transforms"


@dataclass(kw_only=True, slots=True)
class RandomCrop:
    """Pad with `fill` by `padding` pixels on every side, then cut out `size` (one number,
    [height, width], or null for the image's own size) at a random place. Evaluation takes the
    centre instead, if `size` is given.
    """

    name: ClassVar[str] = "random_crop"
    size: int | tuple[int, int] | None = None
    padding: int = 4
    fill: int = 0

    def __post_init__(self) -> None:
        if self.size is not None:
            self.size = _size(self, "size")
        _integer(self, "padding", low=0)
        _integer(self, "fill", low=0, high=255)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the crop of an image of `height` and `width`. Raises ConfigError
        if it does not fit.
        """
        size = self.size or (height, width)
        wanted = (size, size) if isinstance(size, int) else size
        padded = (height + 2 * self.padding, width + 2 * self.padding)
        if wanted[0] > padded[0] or wanted[1] > padded[1]:
            area = f"{padded[0]} x {padded[1]} with padding={self.padding}"
            raise ConfigError(
                f"{_key(self, 'size')}={_shown(self.size)} is larger than the image, {area}."
            )
        if self.padding >= min(wanted):
            area = f"{wanted[0]} x {wanted[1]}"
            raise ConfigError(
                f"{_key(self, 'padding')}={self.padding} lets a crop of {area} miss the image "
                "altogether."
            )
        return wanted


@dataclass(kw_only=True, slots=True)
class Crop:
    """Cut out `height` x `width` pixels, from row `top` and column `left` on. It also happens at
    evaluation.
    """

    name: ClassVar[str] = "crop"
    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for option, low in (("top", 0), ("left", 0), ("height", 1), ("width", 1)):
            _integer(self, option, low=low)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the crop of an image of `height` and `width`. Raises ConfigError
        if it does not fit.
        """
        for start, size, limit in (("top", "height", height), ("left", "width", width)):
            end = getattr(self, start) + getattr(self, size)
            if end > limit:
                why = f"{start} + {size} is {end}, the image's {size} is {limit}"
                raise ConfigError(f"{_KEY}: crop is outside the image: {why}.")
        return self.height, self.width


@dataclass(kw_only=True, slots=True)
class RandomHorizontalFlip:
    """Swap left and right with probability `p`."""

    name: ClassVar[str] = "random_horizontal_flip"
    p: float = 0.5

    def __post_init__(self) -> None:
        self.p = _probability(self)


@dataclass(kw_only=True, slots=True)
class RandomRotation:
    """Rotate about the centre by an angle drawn from [-degrees, degrees], or from `degrees` if
    it is [min, max]; positive is anticlockwise. `interpolation` is nearest or bilinear, what
    comes in from outside has the value `fill`.
    """

    name: ClassVar[str] = "random_rotation"
    degrees: float | tuple[float, float] = 10.0
    interpolation: str = "nearest"
    fill: int = 0

    def __post_init__(self) -> None:
        self.degrees = _number_or_interval(self, "degrees", low=None)
        if not isinstance(self.interpolation, str):
            raise _wrong_type(self, "interpolation", "a word, nearest or bilinear")
        checks.one_of(_key(self, "interpolation"), self.interpolation, ("nearest", "bilinear"))
        _integer(self, "fill", low=0, high=255)


@dataclass(kw_only=True, slots=True)
class RandomInvert:
    """Turn every grey value v into 255 - v with probability `p`."""

    name: ClassVar[str] = "random_invert"
    p: float = 0.5

    def __post_init__(self) -> None:
        self.p = _probability(self)


@dataclass(kw_only=True, slots=True)
class ColorJitter:
    """Change brightness and contrast, each by a factor drawn from [max(0, 1 - x), 1 + x], or
    from x itself if it is [min, max]. 0 leaves an image as it is.
    """

    name: ClassVar[str] = "color_jitter"
    brightness: float | tuple[float, float] = 0.0
    contrast: float | tuple[float, float] = 0.0

    def __post_init__(self) -> None:
        self.brightness = _number_or_interval(self, "brightness", low=0)
        self.contrast = _number_or_interval(self, "contrast", low=0)


@dataclass(kw_only=True, slots=True)
class RandomErasing:
    """With probability `p` set a random rectangle to `value`; it covers a part of the image
    drawn from `scale`, and its height over its width is drawn from `ratio` (both [min, max]).
    """

    name: ClassVar[str] = "random_erasing"
    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: int = 0

    def __post_init__(self) -> None:
        self.p = _probability(self)
        self.scale = _interval(self, "scale")
        checks.within(_key(self, "scale[0]"), self.scale[0], 0, 1)
        checks.within(_key(self, "scale[1]"), self.scale[1], 0, 1)
        self.ratio = _interval(self, "ratio")
        checks.above(_key(self, "ratio[0]"), self.ratio[0], 0)
        _integer(self, "value", low=0, high=255)


Transform: TypeAlias = (
    RandomCrop
    | Crop
    | RandomHorizontalFlip
    | RandomRotation
    | RandomInvert
    | ColorJitter
    | RandomErasing
)

TRANSFORMS: dict[str, type[Transform]] = {kind.name: kind for kind in get_args(Transform)}


def parse_transforms(items: object) -> list[Transform]:
    """Read `data.transforms`: a list of names and `{name: ..., option: ...}`. Raises
    ConfigError, naming the option.
    """
    if not isinstance(items, list | tuple):
        hint = f"Write {_KEY}=[random_crop,random_invert], or {_KEY}=[] for none."
        raise ConfigError(f"{_KEY}={_shown(items)} must be a list.", hint=hint)
    return [_parse_one(item) for item in items]


def to_plain(parsed: list[Transform]) -> list[dict[str, Any]]:
    """`parsed` as `{name: ..., option: ...}` with every option spelt out: `parse_transforms`
    turns it back.
    """
    return [
        {"name": transform.name}
        | {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(transform).items()
        }
        for transform in parsed
    ]


def output_shape(parsed: list[Transform], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape (C, h, w) of an image of `shape` (C, H, W) after `parsed`; the same in training and at
    evaluation.

    Raises ConfigError if a crop does not lie in the image, or the samples are not such images.
    """
    for transform in parsed:
        if len(shape) != 3:
            what = f"{_KEY}: {transform.name} needs images of (channels, height, width), not samples of {shape}."
            raise ConfigError(what, hint=f"Write {_KEY}=[].")
        channels, height, width = shape
        if isinstance(transform, Crop | RandomCrop):
            shape = (channels, *transform.output_size(height, width))
        elif isinstance(transform, ColorJitter) and channels not in (1, 3):
            raise ConfigError(
                f"{_KEY}: {transform.name} needs grey or RGB images, of 1 or 3 channels, not "
                f"{channels}."
            )
    return shape


def _parse_one(item: object) -> Transform:
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, dict):
        raise ConfigError(
            f"{_KEY}: {_shown(item)} is neither a name nor {{name: ..., option: ...}}."
        )
    name = item.get("name")
    if not isinstance(name, str):
        # A single key is how other tools spell it: {random_crop: {padding: 4}}.
        spelled = next(iter(item)) if len(item) == 1 else None
        hint = f"Write {{name: {spelled}, option: ...}}." if spelled in TRANSFORMS else None
        raise ConfigError(
            f"{_KEY}: {_shown(item)} has no name.", hint=hint or suggestion("", TRANSFORMS)
        )
    if name not in TRANSFORMS:
        raise ConfigError(f"{_KEY}: {name} is not a transform.", hint=suggestion(name, TRANSFORMS))
    return _build(
        TRANSFORMS[name], {str(option): value for option, value in item.items() if option != "name"}
    )


def _build(kind: type[Transform], given: dict[str, Any]) -> Transform:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for option in given:
        if option not in fields:
            hint = suggestion(option, fields, label="Options")
            raise ConfigError(f"{_KEY}: {kind.name} has no option {option}.", hint=hint)
    missing = [
        o for o, field in fields.items() if o not in given and field.default is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(
            f"{_KEY}: {kind.name} needs {', '.join(missing)}.",
            hint=f"Options: {', '.join(fields)}.",
        )
    return kind(**given)


def _key(transform: Transform, option: str) -> str:
    return f"{_KEY}: {transform.name}.{option}"


def _shown(value: object) -> str:
    """`value` as YAML would have it: null and true, not None and True."""
    return json.dumps(value, default=str, ensure_ascii=False)


def _wrong_type(transform: Transform, option: str, wanted: str) -> ConfigError:
    return ConfigError(
        f"{_key(transform, option)}={_shown(getattr(transform, option))} must be {wanted}."
    )


def _is_integer(value: object) -> bool:
    # The bound is where floats stop to hold every integer, and long before math.isfinite()
    # overflows.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _integer(transform: Transform, option: str, *, low: int, high: int | None = None) -> None:
    value = getattr(transform, option)
    if not _is_integer(value):
        raise _wrong_type(transform, option, "an integer")
    checks.at_least(_key(transform, option), value, low)
    checks.within(_key(transform, option), value, low, value if high is None else high)


def _probability(transform: RandomHorizontalFlip | RandomInvert | RandomErasing) -> float:
    if not _is_number(transform.p):
        raise _wrong_type(transform, "p", "a number in [0, 1]")
    checks.within(_key(transform, "p"), transform.p, 0, 1)
    return float(transform.p)


def _size(transform: Transform, option: str) -> int | tuple[int, int]:
    value = getattr(transform, option)
    sides = list(value) if _is_pair(value) else [value]
    if not all(_is_integer(side) for side in sides):
        raise _wrong_type(transform, option, "an integer, [height, width] or null")
    if min(sides) < 1:
        raise _wrong_type(transform, option, "at least 1")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _interval(transform: Transform, option: str) -> tuple[float, float]:
    value = getattr(transform, option)
    if not (_is_pair(value) and all(_is_number(end) for end in value)):
        raise _wrong_type(transform, option, "two numbers, [min, max]")
    if value[0] > value[1]:
        raise _wrong_type(transform, option, "[min, max], the smaller number first")
    return float(value[0]), float(value[1])


def _number_or_interval(
    transform: Transform, option: str, *, low: float | None
) -> float | tuple[float, float]:
    """A number of at least 0, or [min, max] with a min of at least `low`."""
    value = getattr(transform, option)
    if _is_pair(value):
        interval = _interval(transform, option)
        if low is not None:
            checks.at_least(_key(transform, f"{option}[0]"), interval[0], low)
        return interval
    if not _is_number(value):
        raise _wrong_type(transform, option, "a number or [min, max]")
    checks.at_least(_key(transform, option), value, 0)
    return float(value)
