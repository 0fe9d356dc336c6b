"""The model that a checkpoint gives back, compared with the one that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.checkpoint.load import load_into
from trainer.commands.build import first_batch, loaded_model
from trainer.commands.fit.components import Components
from trainer.config.model import CustomModelConfig
from trainer.data.image_sets.download import QuietReport
from trainer.device import seed_everything
from trainer.engine.trial import outputs_in_evaluation
from trainer.errors import TrainerError
from trainer.tracking.console import Terminal
from trainer.tracking.preserve import preserve_state


def restored_model(
    components: Components, weights: Mapping[str, object], terminal: Terminal, *, source: Path
) -> nn.Module:
    """The model with the `weights` of the checkpoint `source`, as `eval` will make it.

    Of a person's own class it is a new object, and a difference from the trained one is reported:
    the class computes with something that its state dict does not have.
    """
    load_into(components.evaluated, weights, source=source)
    config = components.config
    if not isinstance(config.model, CustomModelConfig):
        return components.evaluated
    target = f"model.target={config.model.target}"
    try:
        fresh = loaded_model(
            config,
            components.data,
            weights,
            device=components.device,
            report=QuietReport(),
            source=source,
        )
    except TrainerError as error:
        terminal.warn(
            f"{target} cannot be made anew from the checkpoint ({error.what}): the test is of the "
            "trained model, and `eval` may fail."
        )
        return components.evaluated
    differ = _difference(components, fresh)
    if differ:
        terminal.warn(
            f"{target}, made anew from the checkpoint, gives other outputs than the trained model "
            f"({differ}): its state dict lacks something that forward uses. The test is of the new "
            "one, as in `eval`."
        )
    seed_everything(config.seed)
    return fresh


def _difference(components: Components, fresh: nn.Module) -> str:
    """How much the outputs of the first batch differ, in words; empty where they do not."""
    data = components.data
    batches = data.test or data.val or data.train_unshuffled
    inputs = first_batch(batches)[0]
    found = []
    for model in (components.evaluated, fresh):
        with preserve_state(model):
            seed_everything(components.config.seed)
            found.append(outputs_in_evaluation(model, inputs))
    before, after = found
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return "another type"
    if before.shape != after.shape:
        return "another shape"
    scale = before.abs().max().item() if before.numel() else 0.0
    if torch.allclose(after, before, rtol=1e-4, atol=1e-5 * scale, equal_nan=True):
        return ""
    return f"by up to {(after - before).abs().max().item():.3g}"
