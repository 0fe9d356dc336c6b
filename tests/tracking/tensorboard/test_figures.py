"""Charts: what is drawn where, that any names and numbers can be drawn, and that nothing global
is touched.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.tracking.tensorboard.figures import confusion_figure, reliability_figure
from trainer.tracking.tensorboard.image_grids import Pixels
from trainer.tracking.tensorboard.predictions import Reliability

CLASSES = ["T-shirt/top", "Trouser", "Ankle boot"]


def made(num_classes: int, *, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    generator = np.random.default_rng(seed)
    return generator.poisson(2, (num_classes, num_classes)) + np.diag(
        generator.poisson(60, num_classes)
    )


def reliability_of(accuracy: list[float], *, count: list[int]) -> Reliability:
    bins = len(accuracy)
    confidence = np.where(np.array(count) > 0, (np.arange(bins) + 0.5) / bins, np.nan)
    return Reliability(confidence, np.array(accuracy), np.array(count), 0.1)


def blueness(pixels: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.asarray(pixels[..., 2].astype(np.int64) - pixels[..., 0])


def heat_map(pixels: Pixels) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a heat map with dark cells at both ends of the diagonal."""
    dark = blueness(pixels) > 90
    rows, columns = (np.flatnonzero(dark.sum(axis=axis) > 15) for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_rows_are_true_classes_and_columns_predicted_ones() -> None:
    confusion = np.diag([10, 10, 10])
    confusion[0] = [5, 0, 5]
    pixels = confusion_figure(confusion, CLASSES)
    assert pixels.shape == (600, 600, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    top, bottom, left, right = heat_map(pixels)
    height, width = (bottom - top) / 3, (right - left) / 3
    # Near a corner of the cell, where no count is.
    shades = [
        [
            int(
                blueness(pixels)[
                    int(top + (row + 0.1) * height), int(left + (column + 0.1) * width)
                ]
            )
            for column in range(3)
        ]
        for row in range(3)
    ]
    is_dark = np.array(shades) > 50
    assert is_dark.tolist() == [[True, False, True], [False, True, False], [False, False, True]]
    assert shades[0][0] == shades[0][2]
    # Shares of the row, not counts.
    thousand = confusion_figure(
        np.diag([1, 10, 1000]) + np.array([[0, 0, 1], [0] * 3, [0] * 3]), CLASSES
    )
    np.testing.assert_array_equal(
        thousand[top : top + 10, left : left + 30], pixels[top : top + 10, left : left + 30]
    )


def test_counts_are_written_up_to_twelve_classes() -> None:
    for num_classes, written in [(12, True), (13, False)]:
        ones = confusion_figure(np.full((num_classes, num_classes), 11), ["x"] * num_classes)
        eights = confusion_figure(np.full((num_classes, num_classes), 88), ["x"] * num_classes)
        # Below the title, which has the number of samples.
        assert np.array_equal(ones[60:], eights[60:]) != written


def test_the_title_tells_the_accuracy() -> None:
    right, wrong = (
        confusion_figure(np.array(rows), ["a", "b"])
        for rows in ([[5, 0], [0, 5]], [[5, 0], [1, 4]])
    )
    assert not np.array_equal(right[:45], wrong[:45])


def has_a_margin(pixels: Pixels) -> bool:
    """Whether nothing runs over the edge of the picture."""
    frame = (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:])
    return all((part == 255).all() for part in frame)


@pytest.mark.parametrize("num_classes", [1, 2, 10, 12, 13, 25, 26, 100, 300])
@pytest.mark.parametrize(
    "name", ["{}", "class {}", "{} is a name that is rather long, as some are"]
)
def test_any_number_of_classes_fits(num_classes: int, name: str) -> None:
    pixels = confusion_figure(
        made(num_classes), [name.format(index) for index in range(num_classes)]
    )
    assert has_a_margin(pixels)
    assert (blueness(pixels) > 90).sum() > 200  # the diagonal is seen


@pytest.mark.parametrize("count", [9_999, 123_456, 98_765_432])
def test_large_counts_stay_in_their_cells(count: int) -> None:
    """Between two cells of a column there is no ink."""
    pixels = confusion_figure(np.full((12, 12), count), ["a name that leaves little room"] * 12)
    assert has_a_margin(pixels)
    ink = pixels.max(axis=-1) < 110
    left = int(np.flatnonzero((blueness(pixels) > 20).sum(axis=0) > 300)[0])
    width = (586 - left) / 12
    for column in range(1, 12):
        assert not ink[60:420, round(left + column * width)].any()


def test_a_class_without_samples_and_no_samples_at_all_have_a_figure() -> None:
    assert has_a_margin(confusion_figure(np.array([[5, 1], [0, 0]]), ["a", "b"]))
    assert (
        blueness(confusion_figure(np.zeros((3, 3), np.int64), CLASSES)[60:450, 200:500]) < 20
    ).all()


@settings(deadline=None, max_examples=25)
@given(names=st.lists(st.text(max_size=40), min_size=2, max_size=4))
def test_any_text_may_be_the_name_of_a_class(names: list[str]) -> None:
    assert has_a_margin(confusion_figure(made(len(names)), names))


@pytest.mark.parametrize(
    "name",
    ["日本語", "$x_1$", "$", "$\\frac$", "a\nb", "\x00\x07", "\udc80", "🙂" * 40, "", "{}", "%s"],
)
def test_names_are_taken_as_they_are(name: str) -> None:
    assert has_a_margin(confusion_figure(made(2), [name, "other"]))


def test_a_name_is_one_line() -> None:
    several, one = (confusion_figure(made(2), [name, "other"]) for name in ("a\n b\t", "a b"))
    np.testing.assert_array_equal(several, one)


def test_of_many_classes_only_so_many_are_named_that_the_names_stand_apart() -> None:
    pixels = confusion_figure(made(100), [f"class {index}" for index in range(100)])
    has_ink = (pixels[45:510, 40:95].max(axis=-1) < 110).any(axis=1)
    assert 20 <= np.count_nonzero(np.diff(has_ink.astype(int)) == 1) <= 25


@pytest.mark.parametrize("bins", [1, 2, 10, 12, 13, 50])
def test_a_reliability_diagram_of_any_number_of_bins_fits(bins: int) -> None:
    share = (np.arange(bins) + 0.5) / bins
    pixels = reliability_figure(reliability_of(share.tolist(), count=[7] * bins))
    assert pixels.shape == (600, 600, 3)
    assert pixels.dtype == np.uint8
    assert has_a_margin(pixels)


def blue_heights(pixels: Pixels, bins: int) -> list[int]:
    """Rows of blue in the left part of each bin's bar."""
    blue = (blueness(pixels) > 90)[50:365]
    return [int(blue[:, 80 + int((index + 0.08) * 488 / bins)].sum()) for index in range(bins)]


def test_the_bars_are_as_high_as_the_accuracy() -> None:
    heights = blue_heights(
        reliability_figure(reliability_of([0.1, 0.3, 0.6, 0.2], count=[5, 5, 5, 5])), 4
    )
    np.testing.assert_allclose(
        heights, [30, 90, 180, 60], atol=14
    )  # the lines in front cover some of it


def test_bins_without_samples_have_no_bar() -> None:
    pixels = reliability_figure(reliability_of([np.nan, 0.4, np.nan, 0.7], count=[0, 10, 0, 30]))
    heights = blue_heights(pixels, 4)
    assert heights[0] == heights[2] == 0 < heights[1] < heights[3]
    grey = (pixels[410:526] == 140).all(axis=-1)
    first, second = (int(grey[:, 80 + int((index + 0.2) * 488 / 4)].sum()) for index in (1, 3))
    assert second == pytest.approx(3 * first, abs=8)


def test_a_reliability_diagram_of_no_samples() -> None:
    pixels = reliability_figure(reliability_of([np.nan] * 10, count=[0] * 10))
    assert has_a_margin(pixels)
    assert blue_heights(pixels, 10) == [0] * 10


def test_threads_draw_the_same_as_one() -> None:
    expected = [confusion_figure(made(4, seed=seed), list("abcd")) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda seed: confusion_figure(made(4, seed=seed), list("abcd")), range(6))
        )
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_person_s_own_settings_of_matplotlib_are_neither_used_for_text_nor_changed() -> None:
    expected = confusion_figure(made(3), CLASSES)
    with matplotlib.rc_context(
        {"font.family": "DejaVu Serif", "text.usetex": True, "font.size": 30}
    ):
        before = dict(matplotlib.rcParams)
        np.testing.assert_array_equal(confusion_figure(made(3), CLASSES), expected)
        assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_loaded_with_the_first_chart_and_pyplot_never() -> None:
    code = (
        "import sys, numpy; from trainer.tracking.tensorboard.figures import confusion_figure as "
        "draw;"
        "assert 'matplotlib' not in sys.modules; draw(numpy.eye(2, dtype=int), ['a', 'b']);"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
