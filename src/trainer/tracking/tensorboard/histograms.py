"""Histograms of parameters, gradients and activations, counted on the device that has them."""

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
    """Count each tensor in `bins` equal bins from its least to its greatest value.

    None for a tensor with a value that is not finite, and for an empty one. The host waits for the
    device twice, however many tensors there are: for the ranges, and for the counts.
    """
    flat = {name: _as_floats(tensor) for name, tensor in tensors.items() if tensor.numel()}
    facts = _on_host({name: _facts(values) for name, values in flat.items()})
    finite = {name: row for name, row in facts.items() if all(map(math.isfinite, row[:2]))}
    # `histc` wants the range as numbers of the host, hence the first of the two waits.
    counts = _on_host(
        {
            name: _counts(flat[name], bins, low, high)
            for name, (low, high, *_) in finite.items()
            if low < high
        }
    )
    found: dict[str, HistogramProto | None] = dict.fromkeys(tensors)
    for name, row in finite.items():
        num = flat[name].numel()
        # A range without width is one bin with everything.
        found[name] = _as_proto(num, row, counts.get(name, [float(num)]))
    return found


def _on_host(rows: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Rows (K,) of equal length as lists, by name; the host waits for the device once."""
    if not rows:
        return {}
    return dict(zip(rows, torch.stack(list(rows.values())).tolist(), strict=True))


def as_wide(fact: Tensor) -> Tensor:
    """`fact` in float64, where its device has it: an Apple GPU has not."""
    return fact if fact.device.type == "mps" else fact.double()


def _as_floats(tensor: Tensor) -> Tensor:
    # `histc` takes floats only, and a sum of squares in fp16 would overflow beyond 65,504.
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
    facts = [*torch.aminmax(values), values.sum(), torch.dot(values, values)]
    return torch.stack([as_wide(fact) for fact in facts])


def _as_proto(num: int, facts: list[float], counts: list[float]) -> HistogramProto:
    low, high, total, squares = facts
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
