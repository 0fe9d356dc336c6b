"""Grids of pictures: their sizes, and where the values of a known tensor are in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.tracking.tensorboard.image_grids import Pixels, feature_maps, filters, grid, is_image

GAP = 4
MAGENTA = [255, 0, 255]


def cell(pixels: Pixels, row: int, column: int, *, side: int, room: int = 0) -> Pixels:
    """The picture in a place of a grid of squares; `room` is for captions."""
    top, left = GAP + row * (side + room + GAP), GAP + column * (side + GAP)
    return pixels[top : top + side, left : left + side]


def values(picture: Pixels, *, times: int) -> Pixels:
    """A picture as it was before each value became a square; all of a square must be alike."""
    small = picture[::times, ::times]
    np.testing.assert_array_equal(picture, small.repeat(times, axis=0).repeat(times, axis=1))
    return small


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 28, 28), True),
        ((3, 1, 1), True),
        ((784,), False),
        ((28, 28), False),
        ((1, 0, 5), False),
        ((), False),
    ],
)
def test_what_a_picture_is(shape: tuple[int, ...], expected: bool) -> None:
    assert is_image(shape) == expected


def test_grey_values_are_where_they_should_be_from_black_to_white() -> None:
    images = torch.full((3, 1, 28, 28), -1.0)
    images[1, 0, 2, 5], images[2, 0, 0, 27] = 3.0, 1.0
    pixels = grid(images, columns=2)
    assert pixels.shape == (2 * (112 + GAP) + GAP, 2 * (112 + GAP) + GAP, 3)
    assert pixels.dtype == np.uint8
    for index, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        found = values(cell(pixels, row, column, side=112), times=4)
        expected = ((images[index, 0] + 1) * 255 / 4 + 0.5).to(torch.uint8).numpy()
        np.testing.assert_array_equal(found, np.stack([expected] * 3, axis=-1))
    assert len(np.unique(cell(pixels, 1, 1, side=112))) == 1  # an empty place


def test_three_channels_are_red_green_and_blue() -> None:
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0, 0, 0] = image[0, 1, 0, 1] = image[0, 2, 1, 0] = 1.0
    found = values(cell(grid(image, scale=5), 0, 0, side=10), times=5)
    assert found.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]]


@pytest.mark.parametrize("channels", [2, 4])
def test_of_other_numbers_of_channels_the_first_is_shown(channels: int) -> None:
    images = torch.rand(4, channels, 6, 6)
    np.testing.assert_array_equal(grid(images), grid(images[:, :1]))


@pytest.mark.parametrize(
    ("num_images", "columns", "size"), [(1, None, (1, 1)), (12, None, (3, 4)), (5, 8, (1, 5))]
)
def test_a_grid_is_about_square_or_as_wide_as_it_is_asked_to_be(
    num_images: int, columns: int | None, size: tuple[int, int]
) -> None:
    pixels = grid(torch.rand(num_images, 1, 8, 8), columns=columns, scale=1)
    assert pixels.shape == (size[0] * (8 + GAP) + GAP, size[1] * (8 + GAP) + GAP, 3)


def test_large_images_are_made_smaller_and_keep_their_shape() -> None:
    images = torch.zeros(2, 3, 400, 800)
    images[:, :, :, 400:] = 1.0
    pixels = grid(images, columns=1)
    assert pixels.shape == (2 * (96 + GAP) + GAP, 192 + 2 * GAP, 3)
    assert (pixels[GAP : GAP + 96, GAP : GAP + 96] == 0).all()
    assert (pixels[GAP : GAP + 96, GAP + 96 : GAP + 192] == 255).all()


def test_what_large_images_show_is_the_mean_of_their_values() -> None:
    image = torch.zeros(1, 1, 384, 384)
    image[..., :192, ::2] = 1.0
    image[..., 192:, 192:] = 1.0
    found = cell(grid(image), 0, 0, side=192)[..., 0]
    assert (found[:96] == 128).all()
    assert (found[96:, :96] == 0).all()
    assert (found[96:, 96:] == 255).all()


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_magenta_and_does_not_change_the_rest(fault: float) -> None:
    images = torch.tensor([[[[0.0, 1.0], [0.5, fault]]]])
    found = values(cell(grid(images, scale=3), 0, 0, side=6), times=3)
    assert found.tolist() == [[[0] * 3, [255] * 3], [[128] * 3, MAGENTA]]
    everything = grid(torch.full((2, 3, 4, 4), fault), scale=2)
    assert (cell(everything, 0, 1, side=8) == MAGENTA).all()


@pytest.mark.parametrize("value", [0.0, 7.5, -3e38])
def test_images_of_one_value_are_black(value: float) -> None:
    assert (cell(grid(torch.full((1, 1, 3, 3), value), scale=2), 0, 0, side=6) == 0).all()


def test_the_largest_range_of_all_is_shown() -> None:
    images = torch.tensor([[[[-3e38, 3e38]]]])
    assert grid(images, scale=1)[GAP, GAP : GAP + 2, 0].tolist() == [0, 255]


def ink(pixels: Pixels, row: int, column: int, *, room: int) -> Pixels:
    """The caption below a picture 112 pixels wide: where it is not white."""
    top, left = GAP + row * (112 + room + GAP) + 112, GAP + column * (112 + GAP)
    return np.asarray((pixels[top : top + room, left : left + 112] < 128).any(axis=-1))


def test_captions_stand_below_their_pictures() -> None:
    images = torch.rand(3, 1, 28, 28)
    pixels = grid(images, ["Sneaker", "", "Bag"], columns=2)
    assert pixels.shape == (2 * (112 + 16 + GAP) + GAP, 2 * (112 + GAP) + GAP, 3)
    written = [ink(pixels, row, column, room=16) for row, column in [(0, 0), (0, 1), (1, 0)]]
    assert written[0].sum() > written[2].sum() > 0 == written[1].sum()
    uncaptioned = grid(images, columns=2)
    for row, column in [(0, 0), (0, 1), (1, 0)]:
        expected = cell(uncaptioned, row, column, side=112)
        np.testing.assert_array_equal(cell(pixels, row, column, side=112, room=16), expected)


@pytest.mark.parametrize("label", ["Ankle boot > Sneaker 97%", "Shirt >\nCoat 97%", "a\nb\nc"])
def test_a_label_has_two_lines_if_need_be(label: str) -> None:
    pixels = grid(torch.rand(1, 1, 28, 28), [label])
    assert pixels.shape[0] == 112 + 32 + 2 * GAP
    written = ink(pixels, 0, 0, room=32)
    assert written[:16].any() and written[16:].any()


def test_a_label_is_broken_between_words_and_only_if_it_is_too_long() -> None:
    image = torch.rand(1, 1, 28, 28)
    broken = grid(image, ["Ankle boot >\nSneaker 97%"])
    np.testing.assert_array_equal(grid(image, ["Ankle  boot > Sneaker 97%"]), broken)
    assert grid(image, ["Bag > Coat 7%"]).shape[0] == 112 + 16 + 2 * GAP


def test_a_label_is_cut_to_the_width_of_its_picture() -> None:
    images = torch.rand(2, 1, 28, 28)
    pixels = grid(images, ["W" * 300 + " " + "M " * 300, "x"], columns=2)
    assert pixels.shape[0] == 112 + 32 + 2 * GAP
    # As with a label that just fits, nothing runs into the gap or the next picture's caption.
    plain = grid(images, ["W\nM", "x"], columns=2)
    np.testing.assert_array_equal(pixels[:, GAP + 112 :], plain[:, GAP + 112 :])
    assert ink(pixels, 0, 0, room=32)[:, 80:].any()


@pytest.mark.parametrize(
    "label", ["é", "日本語", "\t\x00\x07", "\udc80", "🙂" * 50, "…", "\n", "\n\n\n"]
)
def test_any_text_may_be_a_label(label: str) -> None:
    for side in (1, 2, 28):
        assert grid(torch.rand(1, 1, side, side), [label], scale=1).shape[1] == side + 2 * GAP


def test_accents_that_the_font_lacks_are_left_out() -> None:
    images = torch.rand(1, 1, 28, 28)
    np.testing.assert_array_equal(grid(images, ["Café"]), grid(images, ["Cafe"]))


def test_filters_are_white_at_zero_blue_below_and_red_above() -> None:
    weight = torch.zeros(5, 1, 3, 3)
    weight[0, 0, 0, 0], weight[0, 0, 0, 1], weight[1, 0, 2, 2] = 2.0, -2.0, 1.0
    pixels = filters(weight)
    assert pixels.shape == (2 * (48 + GAP) + GAP, 3 * (48 + GAP) + GAP, 3)
    first, second = (
        values(cell(pixels, 0, column, side=48), times=16).astype(int) for column in (0, 1)
    )
    assert first[1, 1].tolist() == [255] * 3
    red, blue, pale = first[0, 0], first[0, 1], second[2, 2]
    assert red[0] > red[1:].max() + 100
    assert blue[2] > blue[:2].max() + 50
    # One scale for all: half the value is half the way from white.
    np.testing.assert_allclose(pale, (255 + red) / 2, atol=1)


def test_filters_over_three_channels_have_their_colours() -> None:
    weight = torch.zeros(1, 3, 1, 2)
    weight[0, 0, 0, 0], weight[0, 2, 0, 0] = 1.0, -1.0
    pixels = filters(weight)
    assert pixels[GAP, GAP].tolist() == [255, 128, 0]
    assert pixels[GAP, GAP + 24].tolist() == [128] * 3


def test_filters_that_are_all_zero_or_not_finite_have_a_picture() -> None:
    assert (cell(filters(torch.zeros(1, 1, 3, 3)), 0, 0, side=48) == 255).all()
    weight = torch.tensor([[[[torch.nan, 1.0]]]])
    pixels = filters(weight)
    assert pixels[GAP, GAP].tolist() == MAGENTA
    assert pixels[GAP, GAP + 24].tolist() != MAGENTA
    assert (filters(torch.full((1, 3, 1, 1), torch.nan))[GAP, GAP] == MAGENTA).all()


def brightness(picture: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.asarray(picture.astype(np.int64).sum(axis=-1))


def test_feature_maps_have_a_row_for_each_sample_and_their_own_scales() -> None:
    maps = torch.zeros(2, 3, 12, 12)
    maps[0, 0, 0, 0], maps[0, 0, 0, 1] = 0.01, 0.005
    maps[1, 2, 11, 11], maps[1, 2, 0, 0] = 1000.0, -1000.0
    pixels = feature_maps(maps)
    assert pixels.shape == (2 * (48 + GAP) + GAP, 3 * (48 + GAP) + GAP, 3)
    first = brightness(values(cell(pixels, 0, 0, side=48), times=4))
    last = brightness(values(cell(pixels, 1, 2, side=48), times=4))
    assert first[0, 0] == last[11, 11] == first.max() > 600
    assert first[5, 5] < first[0, 1] < first[0, 0]
    assert last[0, 0] == last[5, 5] == first[5, 5] < 10
    assert (brightness(cell(pixels, 1, 1, side=48)) < 10).all()


def test_only_the_first_channels_have_maps() -> None:
    maps = torch.rand(2, 40, 48, 48)
    assert feature_maps(maps).shape[1] == 16 * (48 + GAP) + GAP
    np.testing.assert_array_equal(feature_maps(maps, 3), feature_maps(maps[:, :3]))


def test_feature_maps_that_are_not_finite_are_magenta() -> None:
    maps = torch.ones(1, 2, 1, 1)
    maps[0, 1] = torch.nan
    pixels = feature_maps(maps)
    assert (cell(pixels, 0, 1, side=48) == MAGENTA).all()
    assert (cell(pixels, 0, 0, side=48) != MAGENTA).any()


def on_the_tape(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, dtype=torch.bfloat16, requires_grad=True)


def test_tensors_with_gradients_and_of_half_precision_are_taken_as_they_are() -> None:
    for draw in (grid, filters, feature_maps):
        tensor = on_the_tape((2, 1, 5, 5))
        before = tensor.detach().clone()
        assert draw(tensor).ndim == 3
        assert torch.equal(tensor.detach(), before)
