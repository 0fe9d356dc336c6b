"""Training and evaluation mode: of each module its own, not only that of the model as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


def start_training(model: nn.Module) -> list[str]:
    """Put `model` in training mode as a plain loop does, by `model.train()`.

    Modules that its class left in evaluation mode while the model as a whole is in training mode
    stay so (frozen batch norm). Returns their names, of nested ones the outermost.
    """
    kept = {
        name: module
        for name, module in model.named_modules()
        if model.training and not module.training
    }
    model.train()
    for module in kept.values():
        module.training = False
    return [name for name in kept if name.rpartition(".")[0] not in kept]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has its own mode again."""
    was_training = model.training
    modes = [(module, module.training) for module in model.modules()]
    # Never what these return: a class that overrides `train` may forget `return self`.
    model.eval()
    try:
        yield
    finally:
        # By the model first: its class may do more in `train` than set flags.
        model.train(was_training)
        for module, mode in modes:
            module.training = mode
