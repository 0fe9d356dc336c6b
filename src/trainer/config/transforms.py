"""The list `data.transforms`: its options with their bounds. trainer.data.transforms applies them.

Options have their default here and not in configs/, because they are options inside a list and not
keys of a YAML group. Names, options and meanings are those of torchvision.transforms.v2; grey
values are bytes, 0 to 255.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeGuard, get_args

from trainer.config import checks
from trainer.config.keys import REQUIRED, Section, key, keys_of
from trainer.errors import ConfigError, suggestion

_KEY = "data.transforms"
_BYTE = (0, 255)
Interval: TypeAlias = tuple[float, float]


@dataclass(kw_only=True, slots=True)
class _Transform(Section):
    """An item of the list; `group` is what its options are called after."""

    name: ClassVar[str]

    @classmethod
    def dotted(cls, name: str) -> str:
        return f"{_KEY}: {cls.name}.{name}"


@dataclass(kw_only=True, slots=True)
class RandomCrop(_Transform):
    """Pad with `fill` by `padding` pixels on every side, then cut out `size` at a random place.

    `size` is one number, [height, width], or null for the image's own size. Evaluation takes the
    centre instead, if `size` is given.
    """

    name: ClassVar[str] = "random_crop"
    size: int | tuple[int, int] | None = key(at_least=1, default=None)
    padding: int = key(at_least=0, default=4)
    fill: int = key(between=_BYTE, default=0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the crop of an image; raises ConfigError if it does not fit."""
        size = self.size or (height, width)
        wanted = (size, size) if isinstance(size, int) else size
        padded = (height + 2 * self.padding, width + 2 * self.padding)
        if wanted[0] > padded[0] or wanted[1] > padded[1]:
            area = f"{padded[0]} x {padded[1]} with padding={self.padding}"
            raise ConfigError(
                f"{self.dotted('size')}={_as_yaml(self.size)} is larger than the image, {area}."
            )
        if self.padding >= min(wanted):
            area = f"{wanted[0]} x {wanted[1]}"
            raise ConfigError(
                f"{self.dotted('padding')}={self.padding} lets a crop of {area} miss the image "
                "altogether."
            )
        return wanted


@dataclass(kw_only=True, slots=True)
class Crop(_Transform):
    """Cut out `height` x `width` pixels, from row `top` and column `left` on; at evaluation too."""

    name: ClassVar[str] = "crop"
    top: int = key(at_least=0)
    left: int = key(at_least=0)
    height: int = key(at_least=1)
    width: int = key(at_least=1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the crop of an image; raises ConfigError if it does not fit."""
        for start, size, limit in (("top", "height", height), ("left", "width", width)):
            end = getattr(self, start) + getattr(self, size)
            if end > limit:
                why = f"{start} + {size} is {end}, the image's {size} is {limit}"
                raise ConfigError(f"{_KEY}: crop is outside the image: {why}.")
        return self.height, self.width


@dataclass(kw_only=True, slots=True)
class RandomHorizontalFlip(_Transform):
    """Swap left and right with probability `p`."""

    name: ClassVar[str] = "random_horizontal_flip"
    p: float = key(between=(0, 1), default=0.5)


@dataclass(kw_only=True, slots=True)
class RandomRotation(_Transform):
    """Rotate about the centre by an angle drawn from [-degrees, degrees], or from [min, max].

    Positive is anticlockwise. `interpolation` is nearest or bilinear, what comes in from outside
    has the value `fill`.
    """

    name: ClassVar[str] = "random_rotation"
    degrees: float | Interval = key(default=10.0)
    interpolation: str = key(one_of=("nearest", "bilinear"), default="nearest")
    fill: int = key(between=_BYTE, default=0)

    def check_together(self) -> None:
        # Both ends of [min, max] may be negative.
        if not isinstance(self.degrees, tuple):
            checks.at_least(self.dotted("degrees"), self.degrees, 0)


@dataclass(kw_only=True, slots=True)
class RandomInvert(_Transform):
    """Turn every grey value v into 255 - v with probability `p`."""

    name: ClassVar[str] = "random_invert"
    p: float = key(between=(0, 1), default=0.5)


@dataclass(kw_only=True, slots=True)
class ColorJitter(_Transform):
    """Change brightness and contrast, each by a factor drawn from [max(0, 1 - x), 1 + x].

    If x is [min, max], the factor is drawn from that. 0 leaves an image as it is.
    """

    name: ClassVar[str] = "color_jitter"
    brightness: float | Interval = key(at_least=0, default=0.0)
    contrast: float | Interval = key(at_least=0, default=0.0)


@dataclass(kw_only=True, slots=True)
class RandomErasing(_Transform):
    """With probability `p` set a random rectangle to `value`.

    It covers a part of the image drawn from `scale`, and its height over its width is drawn from
    `ratio` (both [min, max]).
    """

    name: ClassVar[str] = "random_erasing"
    p: float = key(between=(0, 1), default=0.5)
    scale: Interval = key(between=(0, 1), default=(0.02, 0.33))
    ratio: Interval = key(above=0, default=(0.3, 3.3))
    value: int = key(between=_BYTE, default=0)


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
    """Read `data.transforms`, a list of names and of `{name: ..., option: ...}`.

    Raises ConfigError, naming the option.
    """
    # By hand, not by OmegaConf: for the items of a list of several types it knows no schema.
    if not isinstance(items, list | tuple):
        hint = f"Write {_KEY}=[random_crop,random_invert], or {_KEY}=[] for none."
        raise ConfigError(f"{_KEY}={_as_yaml(items)} must be a list.", hint=hint)
    return [_parse_one(item) for item in items]


def to_plain(parsed: list[Transform]) -> list[dict[str, object]]:
    """`parsed` with every option spelt out, as `parse_transforms` reads it."""
    return [
        {"name": transform.name}
        | {
            option: list(value) if isinstance(value, tuple) else value
            for option, value in dataclasses.asdict(transform).items()
        }
        for transform in parsed
    ]


def output_shape(parsed: list[Transform], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape (C, h, w) of an image of `shape` (C, H, W) after `parsed`, at evaluation as well.

    Raises ConfigError if a crop does not lie in the image, or the samples are not such images.
    """
    for transform in parsed:
        if len(shape) != 3:
            raise ConfigError(
                f"{_KEY}: {transform.name} needs images of (channels, height, width), not samples "
                f"of {shape}.",
                hint=f"Write {_KEY}=[].",
            )
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
            f"{_KEY}: {_as_yaml(item)} is neither a name nor {{name: ..., option: ...}}."
        )
    name = item.get("name")
    if not isinstance(name, str):
        # A single key is how other tools spell it: {random_crop: {padding: 4}}.
        spelled = next(iter(item)) if len(item) == 1 else None
        hint = f"Write {{name: {spelled}, option: ...}}." if spelled in TRANSFORMS else None
        raise ConfigError(
            f"{_KEY}: {_as_yaml(item)} has no name.", hint=hint or suggestion("", TRANSFORMS)
        )
    if name not in TRANSFORMS:
        from trainer.config.synonyms import page_of, suggest  # long tables, for errors only

        hint = f"{suggest(_KEY, name, TRANSFORMS)} {page_of(_KEY, TRANSFORMS)}"
        raise ConfigError(f"{_KEY}: {name} is not a transform.", hint=hint)
    options = {str(option): value for option, value in item.items() if option != "name"}
    return _build(TRANSFORMS[name], options)


def _build(kind: type[Transform], given: dict[str, object]) -> Transform:
    known = keys_of(kind)
    for option in given:
        if option not in known:
            hint = suggestion(option, known, label="Options")
            raise ConfigError(f"{_KEY}: {kind.name} has no option {option}.", hint=hint)
    missing = [
        option
        for option, declared in known.items()
        if option not in given and declared.default is REQUIRED
    ]
    if missing:
        raise ConfigError(
            f"{_KEY}: {kind.name} needs {', '.join(missing)}.",
            hint=f"Options: {', '.join(known)}.",
        )
    options: dict[str, Any] = {
        option: _READERS[known[option].type](kind.dotted(option), value)
        for option, value in given.items()
    }
    return kind(**options)


def _as_yaml(value: object) -> str:
    """`value` as YAML would have it: null and true, not None and True."""
    return json.dumps(value, default=str, ensure_ascii=False)


def _wrong_type(option: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{option}={_as_yaml(value)} must be {wanted}.")


def _is_integer(value: object) -> TypeGuard[int]:
    # Above the bound a float does not represent every integer, and far above math.isfinite()
    # overflows.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _is_number(value: object) -> TypeGuard[float]:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_pair(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple) and len(value) == 2


def _integer(option: str, value: object) -> int:
    if not _is_integer(value):
        raise _wrong_type(option, value, "an integer")
    return int(value)


def _number(option: str, value: object) -> float:
    if not _is_number(value):
        raise _wrong_type(option, value, "a number")
    return float(value)


def _word(option: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(option, value, "a word")
    return value


def _size(option: str, value: object) -> int | tuple[int, int] | None:
    if value is None:
        return None
    if _is_integer(value):
        return int(value)
    if not _is_pair(value) or not all(map(_is_integer, value)):
        raise _wrong_type(option, value, "an integer, [height, width] or null")
    return value[0], value[1]


def _interval(option: str, value: object) -> Interval:
    if not _is_pair(value) or not all(map(_is_number, value)):
        raise _wrong_type(option, value, "two numbers, [min, max]")
    if value[0] > value[1]:
        raise _wrong_type(option, value, "[min, max], the smaller number first")
    return float(value[0]), float(value[1])


def _number_or_interval(option: str, value: object) -> float | Interval:
    if _is_pair(value):
        return _interval(option, value)
    if not _is_number(value):
        raise _wrong_type(option, value, "a number or [min, max]")
    return float(value)


# By the annotation of the option, as text: `from __future__ import annotations` keeps it so.
_READERS: dict[str, Callable[[str, object], object]] = {
    "int": _integer,
    "float": _number,
    "str": _word,
    "Interval": _interval,
    "float | Interval": _number_or_interval,
    "int | tuple[int, int] | None": _size,
}
