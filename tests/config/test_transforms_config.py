"""Types, defaults, checks and error messages of `data.transforms`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.transforms import (
    TRANSFORMS,
    ColorJitter,
    Crop,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    output_shape,
    parse_transforms,
    to_plain,
)
from trainer.errors import ConfigError

IMAGE = (1, 28, 28)


def refusal(items: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_transforms(items)
    assert len(str(caught.value).splitlines()) <= 3
    return caught.value


def test_table_holds_every_name_of_the_contract() -> None:
    names = (
        "random_crop crop random_horizontal_flip random_rotation random_invert color_jitter "
        "random_erasing"
    )
    assert list(TRANSFORMS) == names.split()
    assert all(kind.__doc__ and kind.__doc__[0] != "(" for kind in TRANSFORMS.values())


def test_names_take_their_defaults() -> None:
    names = [name for name in TRANSFORMS if name != "crop"]
    assert to_plain(parse_transforms(names)) == [
        {"name": "random_crop", "size": None, "padding": 4, "fill": 0},
        {"name": "random_horizontal_flip", "p": 0.5},
        {"name": "random_rotation", "degrees": 10.0, "interpolation": "nearest", "fill": 0},
        {"name": "random_invert", "p": 0.5},
        {"name": "color_jitter", "brightness": 0.0, "contrast": 0.0},
        {
            "name": "random_erasing",
            "p": 0.5,
            "scale": [0.02, 0.33],
            "ratio": [0.3, 3.3],
            "value": 0,
        },
    ]
    assert parse_transforms(names) == parse_transforms([{"name": name} for name in names])
    assert parse_transforms([]) == []


def test_options_are_brought_to_one_type() -> None:
    items = [
        {"name": "random_crop", "size": [24, 20]},
        {"name": "random_rotation", "degrees": 15},
        {"name": "random_rotation", "degrees": [0, 90], "interpolation": "bilinear"},
        {"name": "color_jitter", "brightness": [0.5, 2]},
        {"name": "random_erasing", "p": 1, "scale": [0, 1]},
    ]
    crop, single, interval, jitter, erasing = parse_transforms(items)
    assert isinstance(crop, RandomCrop) and crop.size == (24, 20)
    assert isinstance(single, RandomRotation) and isinstance(single.degrees, float)
    assert isinstance(interval, RandomRotation) and interval.degrees == (0.0, 90.0)
    assert isinstance(jitter, ColorJitter) and jitter.brightness == (0.5, 2.0)
    assert (
        isinstance(erasing, RandomErasing)
        and isinstance(erasing.p, float)
        and erasing.scale == (0.0, 1.0)
    )


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"name": "random_rotation", "degrees": -3}, ("random_rotation.degrees=-3", "at least 0")),
        (
            {"name": "random_rotation", "degrees": True},
            ("random_rotation.degrees=true must be a number",),
        ),
        (
            {"name": "random_rotation", "degrees": [20, 10]},
            ("degrees=[20, 10]", "the smaller number first"),
        ),
        ({"name": "random_rotation", "degrees": float("nan")}, ("random_rotation.degrees=NaN",)),
        (
            {"name": "random_rotation", "interpolation": "bilinaer"},
            ("interpolation=bilinaer", "Did you mean bilinear?"),
        ),
        (
            {"name": "random_rotation", "interpolation": None},
            ("random_rotation.interpolation=null must be a word",),
        ),
        ({"name": "random_rotation", "fill": 256}, ("random_rotation.fill=256", "[0, 255]")),
        ({"name": "random_crop", "padding": -1}, ("random_crop.padding=-1", "at least 0")),
        ({"name": "random_crop", "padding": 1.5}, ("random_crop.padding=1.5 must be an integer",)),
        (
            {"name": "random_crop", "padding": "four"},
            ('random_crop.padding="four" must be an integer',),
        ),
        ({"name": "random_crop", "padding": 10**400}, ("random_crop.padding=1000",)),
        ({"name": "random_crop", "size": 0}, ("random_crop.size=0", "at least 1")),
        (
            {"name": "random_crop", "size": [28, 0]},
            ("random_crop.size[1]=0", "at least 1"),
        ),
        ({"name": "random_crop", "size": [1, 2, 3]}, ("random_crop.size=[1, 2, 3] must be",)),
        ({"name": "random_crop", "size": True}, ("random_crop.size=true must be",)),
        (
            {"name": "crop", "top": 0, "left": 0, "height": 0, "width": 2},
            ("crop.height=0", "at least 1"),
        ),
        (
            {"name": "crop", "top": -1, "left": 0, "height": 1, "width": 2},
            ("crop.top=-1", "at least 0"),
        ),
        (
            {"name": "crop", "top": 0, "height": 4},
            ("crop needs left, width.", "top, left, height, width"),
        ),
        ("crop", ("crop needs top, left, height, width.",)),
        ({"name": "random_horizontal_flip", "p": 1.5}, ("random_horizontal_flip.p=1.5", "[0, 1]")),
        ({"name": "random_invert", "p": "often"}, ('random_invert.p="often" must be a number',)),
        (
            {"name": "color_jitter", "brightness": -0.1},
            ("color_jitter.brightness=-0.1", "at least 0"),
        ),
        (
            {"name": "color_jitter", "contrast": [-1, 1]},
            ("color_jitter.contrast[0]=-1", "at least 0"),
        ),
        (
            {"name": "color_jitter", "hue": 0.1},
            ("color_jitter has no option hue.", "Options: brightness, contrast."),
        ),
        (
            {"name": "random_erasing", "scale": 0.3},
            ("random_erasing.scale=0.3 must be two numbers",),
        ),
        (
            {"name": "random_erasing", "scale": [0.1, 1.2]},
            ("random_erasing.scale[1]=1.2", "[0, 1]"),
        ),
        (
            {"name": "random_erasing", "scale": [-0.1, 0.2]},
            ("random_erasing.scale[0]=-0.1", "[0, 1]"),
        ),
        (
            {"name": "random_erasing", "ratio": [0, 2]},
            ("random_erasing.ratio[0]=0", "greater than 0"),
        ),
        (
            {"name": "random_erasing", "value": "random"},
            ('random_erasing.value="random" must be an integer',),
        ),
        (
            {"name": "random_crop", "paddign": 2},
            ("random_crop has no option paddign.", "Did you mean padding?"),
        ),
        (
            "random_horizontal_flop",
            ("random_horizontal_flop is not", "Did you mean random_horizontal_flip?"),
        ),
        ("RandomCrop", ("RandomCrop is not a transform", "random_crop")),
        (
            {"random_crop": {"padding": 2}},
            ("has no name", "Write {name: random_crop, option: ...}."),
        ),
        ({"padding": 2}, ("has no name", "random_crop")),
        ({}, ("{} has no name",)),
        (3, ("3 is neither a name",)),
        (None, ("null is neither a name",)),
    ],
)
def test_wrong_item_is_refused_with_its_key(item: Any, words: tuple[str, ...]) -> None:
    message = str(refusal([item]))
    assert message.startswith("data.transforms: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("items", ["random_crop", None, {"name": "random_crop"}, 3])
def test_anything_but_a_list_is_refused(items: object) -> None:
    error = refusal(items)
    assert error.what.startswith("data.transforms=") and "must be a list" in error.what
    assert error.hint is not None and "data.transforms=[" in error.hint


def test_a_wrong_value_is_refused_without_the_parser_too() -> None:
    with pytest.raises(ConfigError, match="p=2"):
        RandomHorizontalFlip(p=2)


numbers = st.floats(0, 100, allow_nan=False)
chances = st.floats(0, 1)
greys = st.integers(0, 255)
intervals = st.tuples(numbers, numbers).map(sorted)
sides = st.integers(1, 40)
ITEMS = st.one_of(
    st.sampled_from([name for name in TRANSFORMS if name != "crop"]),
    st.fixed_dictionaries(
        {"name": st.just("random_crop")},
        optional={
            "size": st.none() | sides | st.lists(sides, min_size=2, max_size=2),
            "padding": sides,
            "fill": greys,
        },
    ),
    st.fixed_dictionaries(
        {"name": st.just("crop"), "top": sides, "left": sides, "height": sides, "width": sides},
    ),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["random_horizontal_flip", "random_invert"]), "p": chances}
    ),
    st.fixed_dictionaries(
        {"name": st.just("random_rotation"), "degrees": numbers | intervals},
        optional={"interpolation": st.sampled_from(["nearest", "bilinear"]), "fill": greys},
    ),
    st.fixed_dictionaries(
        {"name": st.just("color_jitter")},
        optional={"brightness": numbers | intervals, "contrast": numbers | intervals},
    ),
    st.fixed_dictionaries(
        {"name": st.just("random_erasing"), "p": chances, "value": greys},
        optional={"scale": st.tuples(chances, chances).map(sorted), "ratio": st.just([0.5, 2])},
    ),
)


@given(st.lists(ITEMS, max_size=4))
def test_plain_form_says_everything_and_reads_back(items: list[Any]) -> None:
    parsed = parse_transforms(items)
    plain = to_plain(parsed)
    assert parse_transforms(json.loads(json.dumps(plain))) == parsed
    for transform, options in zip(parsed, plain, strict=True):
        assert list(options) == ["name", *(field.name for field in dataclasses.fields(transform))]


@pytest.mark.parametrize(
    ("items", "shape"),
    [
        (["random_crop", "random_invert"], (1, 28, 28)),
        ([{"name": "random_crop", "size": 24}], (1, 24, 24)),
        ([{"name": "random_crop", "size": [36, 30]}], (1, 36, 30)),
        ([{"name": "crop", "top": 4, "left": 8, "height": 24, "width": 20}], (1, 24, 20)),
        (
            [
                {"name": "random_crop", "size": 20},
                {"name": "crop", "top": 1, "left": 0, "height": 19, "width": 2},
            ],
            (1, 19, 2),
        ),
    ],
)
def test_output_shape_follows_the_crops(items: list[Any], shape: tuple[int, ...]) -> None:
    assert output_shape(parse_transforms(items), IMAGE) == shape


@pytest.mark.parametrize(
    ("items", "shape", "words"),
    [
        (
            [{"name": "crop", "top": 4, "left": 0, "height": 25, "width": 28}],
            IMAGE,
            "top + height is 29",
        ),
        (
            [{"name": "crop", "top": 0, "left": 1, "height": 28, "width": 28}],
            IMAGE,
            "left + width is 29",
        ),
        (
            [{"name": "random_crop", "size": 37}],
            IMAGE,
            "random_crop.size=37 is larger than the image, 36 x 36",
        ),
        ([{"name": "random_crop", "size": [28, 37]}], IMAGE, "random_crop.size=[28, 37] is larger"),
        ([{"name": "random_crop", "padding": 28}], IMAGE, "padding=28 lets a crop of 28 x 28 miss"),
        ([{"name": "random_crop", "size": 20}, "random_crop", Crop], IMAGE, "crop is outside"),
        (["color_jitter"], (2, 8, 8), "1 or 3 channels, not 2"),
        (["random_invert"], (5,), "not samples of (5,)"),
    ],
)
def test_output_shape_refuses_what_does_not_fit(
    items: list[Any], shape: tuple[int, ...], words: str
) -> None:
    outside = {"name": "crop", "top": 0, "left": 0, "height": 21, "width": 1}
    parsed = parse_transforms([outside if item is Crop else item for item in items])
    with pytest.raises(ConfigError) as caught:
        output_shape(parsed, shape)
    assert words in str(caught.value)


def test_samples_that_are_no_images_pass_through_an_empty_list() -> None:
    assert output_shape([], (5,)) == (5,)


def test_torch_is_not_loaded() -> None:
    code = "import sys, trainer.config.transforms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
