"""Optimizers by name, made from plain values; the formulas are torch's. Learning rates over time: see `schedule`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.errors import ConfigError
from trainer.registry import look_up
from trainer.state import check

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "asgd": torch.optim.ASGD,
    "rprop": torch.optim.Rprop,
    "lbfgs": torch.optim.LBFGS,
}
# Implementations that update all parameters in one pass, on CPU as well.
_FUSED = {"sgd", "adam", "adamw", "adagrad"}


def make_optimizer(model: nn.Module, *, name: str, decay_all: bool = True, **options: Any) -> Optimizer:
    """The optimizer called `name` over the trained parameters of `model`.

    With `decay_all=False` the parameters of fewer than two axes (biases, norms) form a group without weight decay.
    Raises ConfigError for a model without parameters.
    """
    maker = look_up(OPTIMIZERS, name, kind="optimizer")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError("The model has no parameters to train.", hint="Choose a model with layers that learn.")
    groups: list[Any] = trained
    if not decay_all:
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim >= 2]},
            {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
        ]
    if name in _FUSED:
        options["fused"] = True
    # YAML has no tuples.
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return maker(groups, **options)


class OptimizerState:
    """An optimizer as an entry of the state table: momenta and the like are saved, settings come from the config.

    torch's `load_state_dict` would bring the saved learning rate and weight decay back over what the config says now.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """torch's own state dict."""
        return dict(self._optimizer.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state and keep the settings; raises ValueError when the parameters differ."""
        check(state, state=dict, param_groups=list)
        self._check_shapes(state["state"])
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state)
        for group, ours in zip(self._optimizer.param_groups, settings, strict=True):
            group.update(ours)

    def _check_shapes(self, state: Mapping[Any, Any]) -> None:
        """Every tensor belongs to a parameter: of its shape, or of one that spreads over it (rows, columns, counts)."""
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        # L-BFGS keeps lists of whole gradients with the first parameter.
        is_flat = isinstance(self._optimizer, torch.optim.LBFGS)
        num_values = sum(parameter.numel() for parameter in parameters)
        for index, entries in state.items():
            shape = (num_values,) if is_flat else parameters[index].shape
            for name, value in entries.items():
                for tensor in value if isinstance(value, list) else [value]:
                    if isinstance(tensor, Tensor) and not _spreads_over(tensor.shape, shape):
                        raise ValueError(f"{name} of parameter {index} is {tuple(tensor.shape)}, not {tuple(shape)}")


def _spreads_over(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    """Whether a tensor of shape `inner` can be broadcast to `outer`."""
    fits = all(own in (1, size) for own, size in zip(reversed(inner), reversed(outer), strict=False))
    return fits and (len(inner) <= len(outer) or math.prod(inner) == 1)
