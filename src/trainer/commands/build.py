"""From a config to the objects that fit and eval both need."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.checkpoint.load import check_fits
from trainer.config import ConfigTree, FitConfig, custom_groups, is_custom
from trainer.config.keys import Section
from trainer.data.image_sets.download import Report
from trainer.data.load import Data, load_data
from trainer.device import (
    autocast_dtype,
    disable_malloc_trim,
    pick_device,
    set_determinism,
    set_threads,
)
from trainer.engine.evaluate import Evaluation, evaluate
from trainer.errors import CheckpointError, CustomCodeError, TrainerError, UsageError
from trainer.losses import Loss, make_loss
from trainer.models import make_model
from trainer.tracking.observer import Watch


def options(section: Section) -> ConfigTree:
    """A group of the config as keyword arguments, its `name` included."""
    return dataclasses.asdict(section)


@contextlib.contextmanager
def user_code_errors(config: FitConfig) -> Iterator[None]:
    """Raise CustomCodeError, with their traceback, for what a person's own class raises.

    What the machine refuses (memory, disk) is raised as it is.
    """
    own = [f"{group}.target" for group in custom_groups(config)]
    try:
        yield
    except (TrainerError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if not own:  # then it is a fault of trainer, and is reported as one
            raise
        what = f"{type(error).__name__}: {error}"
        raise CustomCodeError(
            f"With {' and '.join(own)} of yours, this was raised: {what}"
        ) from error


def prepare_device(config: FitConfig) -> torch.device:
    """Threads, determinism and the device; raises EnvironmentFault when the device is not there."""
    set_threads(config.trainer.threads)
    set_determinism(config.trainer.deterministic)
    return pick_device(config.trainer.device)


def build_data(config: FitConfig, *, device: torch.device, report: Report) -> Data:
    """The data set of the config, on `device`; from then on freed memory is kept."""
    data = load_data(config.data, seed=config.seed, device=device, report=report)
    disable_malloc_trim()  # not earlier: memory that only loading needs is returned
    return data


def build_model(config: FitConfig, *, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The model of the config, with fresh weights, on the CPU, in channels-last layout.

    The layout changes speed only: measured on 2 cores, a step of the cnn takes half the time, one
    of lenet5 9/10 of it. Fit and eval share it, because another layout rounds differently.
    """
    model = make_model(**options(config.model), input_shape=input_shape, num_outputs=num_outputs)
    if config.optimizer.name == "lbfgs":  # torch's takes gradients in the usual layout only
        return model
    return model.to(memory_format=torch.channels_last)


def check_checkpoint_fits(
    config: FitConfig,
    weights: Mapping[str, Tensor],
    *,
    input_shape: tuple[int, ...],
    num_outputs: int,
    source: Path,
) -> None:
    """Raises CheckpointError unless the model of the config has the tensors of `weights`.

    No memory is taken for the model: a stranger's config may have any sizes. A custom model is not
    checked, because making it may do anything.
    """
    if is_custom(config.model):
        return
    try:
        # On the meta device tensors have a shape and no memory.
        with torch.device("meta"):
            model = make_model(
                **options(config.model), input_shape=input_shape, num_outputs=num_outputs
            )
    except (RuntimeError, OverflowError) as error:  # more elements, or a size, than 64 bits hold
        raise CheckpointError(
            f"{source}: the model of its config is too large to be made."
        ) from error
    check_fits(model, weights, source=source)


def evaluate_split(
    config: FitConfig,
    model: nn.Module,
    data: Data,
    split: str,
    *,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
    watch: Watch | None = None,
) -> Evaluation:
    """Evaluate `model` on `train`, `val` or `test`; raises UsageError for a missing split."""
    # The train split without augmentation and in its order: the same every time.
    batches = {"test": data.test, "val": data.val, "train": data.train_unshuffled}[split]
    if batches is None:
        raise UsageError(
            f"eval.split={split}: data={config.data.name} has no such split here.",
            hint="Choose eval.split=train, or set data.val_size (data.test_kwargs for your own "
            "data).",
        )
    return evaluate(
        model,
        batches,
        build_loss(config),
        device=device,
        num_classes=len(data.classes) if data.classes else None,
        autocast=autocast_dtype(config.trainer.precision),
        should_stop=should_stop,
        watch=watch,
    )


def build_loss(config: FitConfig) -> Loss:
    """The loss of the config."""
    return make_loss(**options(config.loss))
