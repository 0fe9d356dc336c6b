"""Channels-last memory layout of convolutions: faster, for models that do not look at memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def use_channels_last(model: nn.Module) -> Callable[[], None] | None:
    """Lay the weights of 2-d convolutions channels-last; returns what undoes it.

    None where there is no such weight. The layout changes speed only: measured on 2 cores, a step
    of the cnn takes half the time, one of lenet5 9/10 of it.
    """
    found: dict[nn.Parameter, torch.Tensor] = {}
    for module in model.modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        # A weight that is computed (by weight norm, say) is not among the parameters.
        weight = module._parameters.get("weight")
        if weight is not None and not is_lazy(weight):
            found[weight] = weight.data
    if not found:
        return None
    for weight, plain in found.items():
        weight.data = plain.to(memory_format=torch.channels_last)

    def undo() -> None:
        for weight, plain in found.items():
            weight.data = plain

    return undo
