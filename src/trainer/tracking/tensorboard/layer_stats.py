"""Numbers by layer: mean and deviation of its weights, norm of its gradient, size of its update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainer.tracking.observer import Update
from trainer.tracking.records import TagGroup
from trainer.tracking.tensorboard.histograms import as_wide

# The layer of parameters of the model itself; no module can have this name.
ROOT = "(root)"


class Layers:
    """The layers of a model with parameters that belong to no layer inside them, by name.

    The weights of a layer are its `weight`, as most layers of torch call it. Without one, they are
    all its parameters.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = dict(model.named_parameters())
        self._names: dict[str, list[str]] = {}
        for name in self._parameters:
            self._names.setdefault(name.rpartition(".")[0] or ROOT, []).append(name)

    @torch.no_grad()
    def measure(self, update: Update) -> dict[str, float]:
        """The numbers by tag, after `update`; the host waits for the device once.

        Mean and standard deviation (of the population) are of the weights after the update, the
        norm is that of the layer's whole gradient before clipping, the ratio is
        |change of the weights| / |weights before|.
        """
        found: dict[str, Tensor] = {}
        for layer, names in self._names.items():
            for group, value in self._measure(names, update).items():
                found[f"{group}/{layer}"] = value
        if not found:
            return {}
        # The only wait for the device, whatever the number of layers.
        values = torch.stack([as_wide(value) for value in found.values()]).tolist()
        # Some layers start with weights of zero: no update has a ratio to these.
        return {
            tag: value
            for tag, value in zip(found, values, strict=True)
            if math.isfinite(value) or not tag.startswith(TagGroup.UPDATE_RATIO)
        }

    def _measure(self, names: Sequence[str], update: Update) -> dict[TagGroup, Tensor]:
        """The numbers of the layer whose parameters have these names, on their device."""
        weights = [name for name in names if name.rpartition(".")[2] == "weight"] or names
        tensors = [self._parameters[name] for name in weights]
        found = {TagGroup.WEIGHT_MEAN: _mean(tensors), TagGroup.WEIGHT_STD: _deviation(tensors)}
        gradients = [update.gradients[name] for name in names if name in update.gradients]
        if gradients:
            found[TagGroup.GRADIENT_NORM] = nn.utils.get_total_norm(gradients)
        changed = [name for name in weights if name in update.before]
        if changed:
            found[TagGroup.UPDATE_RATIO] = _ratio(changed, self._parameters, update.before)
        return found


@torch.no_grad()
def distance(model: nn.Module, average: nn.Module) -> float:
    """|moving average - weights| / |weights|, over all parameters."""
    weights = dict(model.named_parameters())
    return float(_ratio(list(weights), dict(average.named_parameters()), weights))


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    total = torch.stack([tensor.sum() for tensor in tensors]).sum()
    return total / sum(tensor.numel() for tensor in tensors)


def _deviation(tensors: Sequence[Tensor]) -> Tensor:
    # Most layers have one weight, which need not be copied.
    flat = tensors[0] if len(tensors) == 1 else torch.cat([tensor.flatten() for tensor in tensors])
    return flat.std(correction=0)


def _ratio(
    names: Sequence[str], after: Mapping[str, Tensor], before: Mapping[str, Tensor]
) -> Tensor:
    change = nn.utils.get_total_norm([after[name] - before[name] for name in names])
    return change / nn.utils.get_total_norm([before[name].detach() for name in names])
