"""Models by name: the built-in ones of `layers`, and people's own through `custom`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from trainer.models.custom import custom
from trainer.models.layers import BUILT_IN
from trainer.registry import look_up

MODELS: dict[str, Callable[..., nn.Module]] = {**BUILT_IN, "custom": custom}


def make_model(
    name: str, *, input_shape: tuple[int, ...], num_outputs: int, **options: object
) -> nn.Module:
    """The model called `name`: (N, *input_shape) -> (N, num_outputs), with torch's initial weights.

    Raises ConfigError when the name is unknown or the model cannot take such inputs.
    """
    return look_up(MODELS, name, kind="model")(input_shape, num_outputs, **options)


def count_parameters(model: nn.Module) -> int:
    """The number of values that training changes."""
    # So neither buffers, such as the means of a batch norm, nor what a person's model freezes.
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
