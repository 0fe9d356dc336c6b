"""Passes of a person's own model before training, without a trace in it: what fits it here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainer.engine.evaluate import own_outputs
from trainer.models.layout import use_channels_last
from trainer.models.modes import evaluating, start_training
from trainer.tracking.preserve import preserve_state


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPass:
    """What a forward and backward pass in training mode showed: an error, or sparse gradients."""

    error: Exception | None
    has_sparse_gradients: bool


def give_shapes(model: nn.Module, inputs: Tensor) -> None:
    """Run `model` once on `inputs` (N, …) if it has lazy layers, which take their shapes then."""
    if any(map(is_lazy, chain(model.parameters(), model.buffers()))):
        with torch.no_grad(), evaluating(model):
            model(inputs.clone())  # it may change them in place


def outputs_in_evaluation(model: nn.Module, inputs: Tensor) -> Any:
    """What `model` returns for `inputs` (N, …) in evaluation mode; it is left as it was."""
    with preserve_state(model), torch.no_grad():
        model.eval()
        return own_outputs(model, inputs)


def training_pass(model: nn.Module, inputs: Tensor) -> TrainingPass:
    """Pass `inputs` (N, …) forward and backward in training mode; `model` is left as it was."""
    with preserve_state(model):
        start_training(model)
        try:
            outputs = model(inputs.clone())
            if isinstance(outputs, Tensor) and outputs.requires_grad:
                outputs.float().sum().backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            return TrainingPass(error=error, has_sparse_gradients=False)
        gradients = [parameter.grad for parameter in model.parameters()]
        has_sparse = any(grad is not None and grad.layout != torch.strided for grad in gradients)
        return TrainingPass(error=None, has_sparse_gradients=has_sparse)


def fit_layout(model: nn.Module, inputs: Tensor, *, expected: Tensor) -> str | None:
    """Use channels-last layout if `model` computes the same in it; else returns why not.

    `expected` are its outputs for `inputs` in evaluation mode, in the usual layout. Code that takes
    tensors apart by their place in memory (`view` after a convolution) does not compute the same.
    """
    undo = use_channels_last(model)
    if undo is None:
        return None
    try:
        found = outputs_in_evaluation(model, inputs)
        error = training_pass(model, inputs).error
    except torch.OutOfMemoryError:
        raise
    except Exception as raised:
        error = raised
    if error is None and not _are_close(found, expected):
        error = ValueError("the outputs differ")
    if error is None:
        return None
    undo()
    return f"{type(error).__name__}: {error}"


def _are_close(found: object, expected: Tensor) -> bool:
    if not isinstance(found, Tensor):
        return False
    scale = expected.abs().max().item() if expected.numel() else 0.0
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * scale, equal_nan=True)
