"""People's own models: any nn.Module class, named on their command line or in their own YAML."""

from __future__ import annotations

from torch import nn

from trainer.errors import ConfigError
from trainer.user_code import call, import_class


def custom(
    input_shape: tuple[int, ...],  # noqa: ARG001 - a trial on the data shows whether it fits
    num_outputs: int,  # noqa: ARG001
    *,
    target: str,
    kwargs: dict[str, object],
    output: str,  # noqa: ARG001 - a key of the model group, for the choice of losses
) -> nn.Module:
    """`target(**kwargs)`; whether it fits the data is tried out later, on its samples.

    `output` matters to the choice of losses only. Raises ConfigError when the class makes no
    module, CustomCodeError when it raises.
    """
    model = call(import_class(target, key="model.target"), kwargs, key="model.target")
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model.target={target} made a {type(model).__name__}, not a torch.nn.Module."
        )
    return model
