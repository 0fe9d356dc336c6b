"""Numbers by layer: mean and deviation of its weights, norm of its gradient, and how large an
update is beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainer.tracking.observer import Update
from trainer.tracking.records import GRADIENT_NORM, UPDATE_RATIO, WEIGHT_MEAN, WEIGHT_STD

# What parameters of the model itself are called by; no module can have this name.
ROOT = "(root)"


class Layers:
    """The layers of a model that have parameters of their own, by name, each with the names of its
    parameters.

    Of a layer's weights is spoken where it has `weight`, as all of torch have; else of all its
    parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = dict(model.named_parameters())
        self._of: dict[str, list[str]] = {}
        for name in self._parameters:
            self._of.setdefault(name.rpartition(".")[0] or ROOT, []).append(name)

    @torch.no_grad()
    def measure(self, update: Update) -> dict[str, float]:
        """The numbers by tag, after `update` was made; the host waits for the device once.

        Mean and standard deviation (of the population) are of the weights after the update, the norm is that of the
        layer's whole gradient before clipping, the ratio is |change of the weights| / |weights before|.
        """
        tags: list[str] = []
        values: list[Tensor] = []
        for layer, names in self._of.items():
            weights = [self._parameters[name] for name in _weights(names)]
            found = {WEIGHT_MEAN: _mean(weights), WEIGHT_STD: _deviation(weights)}
            gradients = [update.gradients[name] for name in names if name in update.gradients]
            if gradients:
                found[GRADIENT_NORM] = nn.utils.get_total_norm(gradients)
            changed = [name for name in _weights(names) if name in update.before]
            if changed:
                found[UPDATE_RATIO] = _ratio(changed, self._parameters, update.before)
            tags += [f"{kind}/{layer}" for kind in found]
            values += [value.double() for value in found.values()]
        numbers = dict(zip(tags, torch.stack(values).tolist(), strict=True)) if values else {}
        # Beside weights of zero, which some layers start with, no update has a ratio.
        return {
            tag: value
            for tag, value in numbers.items()
            if math.isfinite(value) or not tag.startswith(UPDATE_RATIO)
        }


@torch.no_grad()
def distance(model: nn.Module, average: nn.Module) -> float:
    """|moving average - weights| / |weights|, over all parameters."""
    weights = dict(model.named_parameters())
    return float(_ratio(list(weights), dict(average.named_parameters()), weights))


def _weights(names: Sequence[str]) -> Sequence[str]:
    return [name for name in names if name.rpartition(".")[2] == "weight"] or names


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.sum() for tensor in tensors]).sum() / sum(
        tensor.numel() for tensor in tensors
    )


def _deviation(tensors: Sequence[Tensor]) -> Tensor:
    flat = tensors[0] if len(tensors) == 1 else torch.cat([tensor.flatten() for tensor in tensors])
    return flat.std(correction=0)


def _ratio(
    names: Sequence[str], after: Mapping[str, Tensor], before: Mapping[str, Tensor]
) -> Tensor:
    change = nn.utils.get_total_norm([after[name] - before[name] for name in names])
    return change / nn.utils.get_total_norm([before[name].detach() for name in names])
