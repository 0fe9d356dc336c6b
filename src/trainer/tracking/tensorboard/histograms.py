"""Histograms of parameters, gradients and activations, counted on the device that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from tensorboard.compat.proto.summary_pb2 import HistogramProto
from torch import Tensor

NUM_BINS = 64


@torch.no_grad()
def histograms(
    tensors: Mapping[str, Tensor], *, bins: int = NUM_BINS
) -> dict[str, HistogramProto | None]:
    """A histogram of each tensor, in `bins` equal bins from its least to its greatest value.

    None for a tensor with a value that is not finite, and for an empty one. The host waits for the
    device twice, however many tensors there are: for the ranges, and for the counts.
    """
    flat = {name: _as_floats(tensor) for name, tensor in tensors.items() if tensor.numel()}
    if not flat:
        return dict.fromkeys(tensors)
    facts = torch.stack([_facts(values) for values in flat.values()]).tolist()
    # `histc` wants the range as plain numbers; a range without width has one bin with everything.
    ranges = {
        name: (low, high)
        for name, (low, high, *_) in zip(flat, facts, strict=True)
        if math.isfinite(low) and math.isfinite(high) and low < high
    }
    counted = {name: _counts(flat[name], bins, low, high) for name, (low, high) in ranges.items()}
    counts = (
        dict(zip(counted, torch.stack(list(counted.values())).tolist(), strict=True))
        if counted
        else {}
    )
    made = {
        name: _as_proto(values.numel(), fact, counts.get(name, [float(values.numel())]))
        for (name, values), fact in zip(flat.items(), facts, strict=True)
    }
    return {name: made.get(name) for name in tensors}


def _as_floats(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().reshape(-1)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _counts(values: Tensor, bins: int, low: float, high: float) -> Tensor:
    if not torch.are_deterministic_algorithms_enabled():
        return torch.histc(values, bins, low, high)
    # `histc` is refused then on a GPU, where it counts in any order, though whole numbers add up to
    # the same.
    places = ((values - low) * (bins / (high - low))).long().clamp_(0, bins - 1)
    return torch.bincount(places, minlength=bins).to(values.dtype)


def _facts(values: Tensor) -> Tensor:
    """Least and greatest value, sum and sum of squares; a NaN anywhere is a NaN here."""
    low, high = torch.aminmax(values)
    return torch.stack(
        [low.double(), high.double(), values.sum().double(), torch.dot(values, values).double()]
    )


def _as_proto(num: int, facts: list[float], counts: list[float]) -> HistogramProto | None:
    low, high, total, squares = facts
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    width = (high - low) / len(counts)
    limits = [low + width * number for number in range(1, len(counts))] + [high]
    return HistogramProto(
        min=low,
        max=high,
        num=num,
        sum=total,
        sum_squares=squares,
        bucket_limit=limits,
        bucket=counts,
    )
