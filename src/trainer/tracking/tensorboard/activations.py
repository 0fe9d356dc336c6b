"""What the layers of a model give for some samples, taken by forward hooks that are gone
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainer.tracking.preserve import preserve_state
from trainer.tracking.tensorboard.layer_stats import ROOT

# Layers that only move, drop or pick values: what they give says nothing that the layer before does
# not.
_PASSING = (
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


def matters(module: nn.Module) -> bool:
    """Whether a layer computes values: no container, and none that only passes them on."""
    return not any(module.children()) and not isinstance(module, _PASSING)


def is_convolution(module: nn.Module) -> bool:
    """Whether a layer gives feature maps."""
    return isinstance(module, nn.Conv2d)


def outputs_of(
    model: nn.Module, inputs: Tensor, *, where: Callable[[nn.Module], bool]
) -> dict[str, Tensor]:
    """What each layer gives that `where` chooses, by its name, for `inputs` (N, …), in evaluation
    mode.

    Of a layer that is run several times, what it gives first; a layer that gives no tensor of
    numbers is left out. The model, its mode and the random generators stay as they are.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, tuple | list) and output:
                output = output[
                    0
                ]  # of a recurrent layer, and of attention, what it gives for every step
            if isinstance(output, Tensor) and output.is_floating_point() and name not in found:
                found[name] = output.detach().clone()  # a ReLU that works in place may come next

        return hook

    handles = [
        module.register_forward_hook(keep(name or ROOT))
        for name, module in model.named_modules()
        if where(module)
    ]
    try:
        with preserve_state(model), torch.no_grad():
            model.eval()
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
