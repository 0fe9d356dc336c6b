"""Equivalent ways to run a model in training, as it is or compiled; and how long a pass takes in each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]

_WARM_UP = 3  # passes
_ROUNDS = 7
_ROUND_S = 0.1


class CompileError(Exception):
    """The model cannot be compiled here; the text says why, in a phrase."""


def compiled(model: nn.Module, *, batch_size: int) -> Forward:
    """`model` compiled for batches of `batch_size`; any other goes through it as it is.

    For another shape it would be compiled anew, which takes as long again: the last batch of an epoch is not worth it.
    The names of its tensors stay the same. Random numbers, of dropout, are drawn as in eager mode.
    """
    whole = torch.compile(model, dynamic=False, options={"fallback_random": True})

    def forward(inputs: Tensor) -> Tensor:
        outputs: Tensor = whole(inputs) if len(inputs) == batch_size else model(inputs)
        return outputs

    return forward


def try_out(once: Callable[[Forward], None], forward: Forward) -> float:
    """Seconds that the first passes take, compiling among them; raises CompileError when it cannot be done."""
    start = time.perf_counter()
    try:
        for _ in range(_WARM_UP):
            once(forward)
    except torch._dynamo.exc.TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CompileError(lines[0][:200] if lines else type(error).__name__) from error
    return time.perf_counter() - start


def seconds_a_pass(once: Callable[[Forward], None], forwards: Mapping[str, Forward]) -> dict[str, float]:
    """How long a pass takes in each way: medians over rounds that take turns, so that a disturbance meets them all."""
    taken: dict[str, list[float]] = {name: [] for name in forwards}
    for _ in range(_ROUNDS):
        for name, forward in forwards.items():
            num, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < _ROUND_S or not num:
                once(forward)
                num += 1
            taken[name].append(elapsed / num)
    return {name: statistics.median(times) for name, times in taken.items()}
