"""People's own models: any nn.Module class, named on their command line or in their own YAML."""

from __future__ import annotations

import torch
from torch import nn

from trainer.errors import ConfigError, CustomCodeError
from trainer.user_code import call, import_class


def custom(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    target: str,
    kwargs: dict[str, object],
    output: str,  # noqa: ARG001 - a key of the model group, for the choice of losses
) -> nn.Module:
    """`target(**kwargs)`, after a trial on a batch of two zeros.

    `output` matters to the choice of losses only. Raises ConfigError when the class makes no module
    or one that does not fit, CustomCodeError when the module raises.
    """
    model = call(import_class(target, key="model.target"), kwargs, key="model.target")
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model.target={target} made a {type(model).__name__}, not a torch.nn.Module."
        )
    was_training = model.training
    try:
        with torch.no_grad():
            # In eval mode, so that zeros do not enter the running means of a batch norm. Of two
            # samples: with one, a mean over the batch would pass.
            outputs = model.eval()(torch.zeros(2, *input_shape))
    except Exception as error:
        raise CustomCodeError(
            f"model.target={target} raised {type(error).__name__} on a batch of shape "
            f"{(2, *input_shape)}: {error}."
        ) from error
    finally:
        model.train(was_training)
    if not isinstance(outputs, torch.Tensor):
        raise ConfigError(
            f"model.target={target} returns a {type(outputs).__name__}, not a tensor."
        )
    if tuple(outputs.shape) != (2, num_outputs):
        raise ConfigError(
            f"model.target={target} returns shape {tuple(outputs.shape)} for two samples, not (2, "
            f"{num_outputs}).",
            hint=f"Its last layer needs {num_outputs} outputs; pass sizes with model.kwargs={{…}}.",
        )
    return model
