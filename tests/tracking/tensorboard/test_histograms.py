"""Histograms against numpy, and as TensorBoard reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.util import tensor_util

from trainer.tracking.tensorboard.histograms import NUM_BINS, histograms
from trainer.tracking.tensorboard.writer import EventWriter


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1000,), (64, 1, 3, 3), (7, 11)])
def test_counts_and_facts_are_those_of_numpy(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    made = histograms({"a": values})["a"]
    assert made is not None
    plain = values.double().numpy().ravel()
    assert (made.min, made.max, made.num) == (plain.min(), plain.max(), plain.size)
    assert made.sum == pytest.approx(plain.sum(), abs=1e-3) and made.sum_squares == pytest.approx(
        (plain**2).sum()
    )
    edges = [made.min, *made.bucket_limit]
    assert edges == pytest.approx(np.histogram_bin_edges(plain, NUM_BINS))
    # A value within rounding of an edge may be counted on either side of it.
    counts = np.histogram(plain, NUM_BINS)[0]
    assert (
        sum(made.bucket) == plain.size
        and np.abs(np.cumsum(made.bucket) - np.cumsum(counts)).max() <= 1
    )


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50))
def test_every_value_is_counted_once(values: list[float]) -> None:
    made = histograms({"a": torch.tensor(values)})["a"]
    assert made is not None and sum(made.bucket) == made.num == len(values)
    assert made.min == min(values) and made.bucket_limit[-1] == max(values)
    assert list(made.bucket_limit) == sorted(made.bucket_limit)


@pytest.mark.parametrize("value", [0.0, 1.5, -3.0])
def test_equal_values_have_one_bin(value: float) -> None:
    made = histograms({"a": torch.full((9,), value)})["a"]
    assert made is not None and list(made.bucket) == [9] and list(made.bucket_limit) == [value]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_has_none_and_does_not_disturb_the_others(wrong: float) -> None:
    made = histograms(
        {
            "bad": torch.tensor([1.0, wrong]),
            "none": torch.empty(0),
            "good": torch.tensor([1.0, 2.0]),
        }
    )
    assert made["bad"] is None and made["none"] is None
    assert made["good"] is not None and made["good"].num == 2


def test_where_only_deterministic_operations_are_allowed_the_counts_are_the_same() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    usual = histograms({"a": values})["a"]
    torch.use_deterministic_algorithms(True)
    try:
        strict = histograms({"a": values})["a"]
    finally:
        torch.use_deterministic_algorithms(False)
    assert usual is not None and strict is not None
    assert (
        np.abs(np.cumsum(usual.bucket) - np.cumsum(strict.bucket)).max() <= 1
        and sum(strict.bucket) == 1000
    )


def test_nothing_at_all() -> None:
    assert histograms({}) == {}


def test_tensorboard_shows_them(tmp_path: Path) -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    writer = EventWriter(tmp_path, purge_step=0)
    for tag, histogram in histograms({"normal": values, "equal": torch.ones(4)}).items():
        assert histogram is not None
        writer.histogram(tag, histogram, 1)
    writer.close()
    events = plugin_event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    (shown,) = events.Tensors("normal")
    buckets = tensor_util.make_ndarray(shown.tensor_proto)  # rows of left edge, right edge, count
    assert buckets[:, 2].sum() == 5000
    assert (buckets[0, 0], buckets[-1, 1]) == pytest.approx(
        (values.min().item(), values.max().item())
    )
    (equal,) = events.Tensors("equal")
    assert tensor_util.make_ndarray(equal.tensor_proto)[:, 2].sum() == 4
