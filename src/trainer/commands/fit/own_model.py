"""A person's own model in training: its modes, what it hides from torch, its moving average."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.checkpoint.load import load_into
from trainer.checkpoint.modules import own_memory
from trainer.commands.build import prepare_model
from trainer.config import FitConfig
from trainer.config.model import CustomModelConfig
from trainer.data.image_sets.download import QuietReport, Report
from trainer.data.load import Data
from trainer.errors import CustomCodeError, TrainerError, listing
from trainer.models.modes import start_training
from trainer.models.unregistered import find_unregistered
from trainer.tracking.preserve import preserve_state

_MAX_NAMED = 3


def report_modules(config: CustomModelConfig, model: nn.Module, report: Report) -> None:
    """Put `model` in training mode; report what a plain loop would do without a word."""
    target = f"model.target={config.target}"
    if not model.training:
        report.note(f"{target} leaves the model in evaluation mode; training is in training mode.")
    if kept := start_training(model):
        names = listing(kept, most=_MAX_NAMED)
        report.note(f"{target}: in evaluation mode as its class leaves them: {names}.")
    if hidden := find_unregistered(model):
        names = listing(hidden, most=_MAX_NAMED)
        report.warn(
            f"{target} does not register {names}: training leaves them as they are, and no "
            "checkpoint has them. Use nn.ModuleList, nn.ModuleDict or nn.Parameter."
        )


def make_average(
    config: FitConfig, model: nn.Module, data: Data, *, device: torch.device
) -> AveragedModel:
    """The moving average of the weights of `model`, at first a copy of it.

    A model that cannot be copied (it has a lock or a generator) is made a second time. Raises
    CustomCodeError when that fails, too.
    """
    formula = get_ema_multi_avg_fn(config.trainer.ema)  # type: ignore[no-untyped-call]
    # What AveragedModel would copy itself is put in its place.
    average = AveragedModel(nn.Identity(), multi_avg_fn=formula)
    try:
        average.module = copy.deepcopy(model)
    except Exception as error:
        average.module = _made_again(config, model, data, device=device, error=error)
    own_memory(average.module)
    return average


def _made_again(
    config: FitConfig, model: nn.Module, data: Data, *, device: torch.device, error: Exception
) -> nn.Module:
    try:
        with preserve_state(model):
            twin = prepare_model(config, data, device=device, report=QuietReport())
        load_into(twin, model.state_dict(), source=Path("the model"))
    except TrainerError:
        raise CustomCodeError(
            "trainer.ema needs a second copy of the model, which can neither be copied "
            f" ({type(error).__name__}: {error}) nor made again."
        ) from error
    for module, other in zip(twin.modules(), model.modules(), strict=False):
        module.training = other.training
    return twin
