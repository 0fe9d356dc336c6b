"""The outputs of the layers of a model for some samples, taken by forward hooks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.tracking.preserve import preserve_state
from trainer.tracking.tensorboard.layer_stats import ROOT

# Layers that only move, drop or pick values: their outputs say nothing new.
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


def computes(module: nn.Module) -> bool:
    """Whether a layer computes values: no container, and none that only passes them on."""
    return not any(module.children()) and not isinstance(module, _PASSING)


def first_of(value: object) -> object:
    """The first item of a tuple or list; anything else as it is."""
    return value[0] if isinstance(value, tuple | list) and value else value


def outputs_of(
    model: nn.Module, inputs: Tensor, *, where: Callable[[nn.Module], bool]
) -> dict[str, Tensor]:
    """The output of each layer that `where` chooses, by name, for `inputs` (N, …) in evaluation.

    Of a layer that runs several times it is the first; a layer whose output is no tensor of floats
    is left out. The model, its mode and the random generators stay as they are.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            # A recurrent layer and attention return the output of every step first.
            output = first_of(output)
            if isinstance(output, Tensor) and output.is_floating_point() and name not in found:
                found[name] = output.detach().clone()  # a ReLU that works in place may come next

        return hook

    with preserve_state(model), torch.no_grad():
        for name, module in model.named_modules():
            if where(module):
                # preserve_state removes the hooks.
                module.register_forward_hook(keep(name or ROOT))
        model.eval()
        model(inputs)
    return found
