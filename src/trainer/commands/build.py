"""From a config to the objects that fit and eval both need."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.checkpoint.load import check_fits, load_into
from trainer.config import ConfigTree, FitConfig, custom_groups, is_custom
from trainer.config.data import ImagesConfig
from trainer.config.keys import Section
from trainer.config.model import CustomModelConfig
from trainer.data.batches import Batch, Batches, find_not_finite
from trainer.data.image_sets.download import Report
from trainer.data.load import Data, ModelInputs, load_data
from trainer.data.workers import death_of_worker
from trainer.device import (
    autocast_dtype,
    disable_malloc_trim,
    pick_device,
    seed_everything,
    set_determinism,
    set_threads,
)
from trainer.engine.evaluate import Evaluation, EvaluationWay, evaluate
from trainer.engine.trial import fit_layout, give_shapes, outputs_in_evaluation
from trainer.errors import (
    CheckpointError,
    ConfigError,
    CustomCodeError,
    TrainerError,
    UsageError,
    is_out_of_memory,
)
from trainer.files import without_empty
from trainer.losses import Loss, make_loss
from trainer.models import make_model
from trainer.models.layout import use_channels_last
from trainer.process_state import ProcessState, pop_changes
from trainer.signals import SignalExit
from trainer.tracking.observer import Watch
from trainer.user_code import exit_error, is_fault_of


def options(section: Section) -> ConfigTree:
    """A group of the config as keyword arguments, its `name` included."""
    return dataclasses.asdict(section)


@contextlib.contextmanager
def user_code_errors(config: FitConfig) -> Iterator[None]:
    """Raise CustomCodeError, with their traceback, for what a person's own class raises.

    What the machine refuses (memory, disk) is raised as it is.
    """
    own = [f"{group}.target" for group in custom_groups(config)]
    targets = [getattr(config, group).target for group in custom_groups(config)]
    try:
        yield
    except (TrainerError, OSError):
        raise
    except SystemExit as error:
        if not own or isinstance(error, SignalExit):
            raise
        raise exit_error(f"With {' and '.join(own)} of yours, training", error) from error
    except Exception as error:
        if fault := death_of_worker(error):
            raise fault from None
        # What is not theirs is a fault of trainer or of the machine, and is reported as one.
        if not own or is_out_of_memory(error) or not is_fault_of(error, targets):
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
    # A person's own model gets tensors of any type, as from a plain DataLoader.
    model_inputs = ModelInputs(
        is_float=not is_custom(config.model), needs_images=config.model.needs_images
    )
    # A relative data.root is that of another place when a run is resumed from elsewhere.
    root = Path(config.data.root if isinstance(config.data, ImagesConfig) else ".")
    with without_empty(root):
        data = load_data(
            config.data, seed=config.seed, device=device, report=report, model_inputs=model_inputs
        )
    disable_malloc_trim()  # not earlier: memory that only loading needs is returned
    return data


def build_model(config: FitConfig, *, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The model of the config, with fresh weights, on the CPU, before any trial on data.

    A built-in one is in channels-last layout. Fit and eval share it, because another layout rounds
    differently.
    """
    model = make_model(**options(config.model), input_shape=input_shape, num_outputs=num_outputs)
    if _has_fast_layout(config) and not is_custom(config.model):
        use_channels_last(model)
    return model


def _has_fast_layout(config: FitConfig) -> bool:
    return config.optimizer.name != "lbfgs"  # torch's takes gradients in the usual layout only


def prepare_model(
    config: FitConfig, data: Data, *, device: torch.device, report: Report
) -> nn.Module:
    """The model of the config, with fresh weights, on `device`, ready for batches of `data`.

    A person's own is tried out on the first samples; the trial leaves no trace. Raises ConfigError
    when its outputs do not fit, and CustomCodeError when it raises.
    """
    shape, num_outputs = data.input_shape, data.num_outputs
    model = build_model(config, input_shape=shape, num_outputs=num_outputs)
    if not isinstance(config.model, CustomModelConfig):
        return model.to(device)
    target = config.model.target
    trial = f"model.target={target}: its trial on samples"
    with user_code_errors(config), ProcessState.kept(trial):
        model.to(device)  # not its result: a class that overrides `to` may forget it
        inputs, outputs = _fitting_inputs(model, data, target=target, num_outputs=num_outputs)
        if _has_fast_layout(config):
            reason = fit_layout(model, inputs, expected=outputs)
            if reason is not None:
                report.note(
                    f"model.target={target}: its convolutions keep the usual memory layout; in the "
                    f"faster one (channels last) it fails: {reason.splitlines()[0][:200]}"
                )
    for change in pop_changes():
        report.warn(change)
    return model


def _fitting_inputs(
    model: nn.Module, data: Data, *, target: str, num_outputs: int
) -> tuple[Tensor, Tensor]:
    """Inputs (N, …) that `model` takes in evaluation mode, and its outputs (N, num_outputs).

    Two samples, else a whole batch.
    """
    inputs = data.train_unshuffled.first(2)[0]
    try:
        outputs = _first_outputs(model, inputs)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # A class may be made for one size of batches.
        whole = first_batch(data.train)[0]
        try:
            outputs = _first_outputs(model, whole)
        except Exception:  # whatever it is: two samples are the easier case to look into
            raise CustomCodeError(
                f"model.target={target} raised {type(error).__name__} on a batch of shape "
                f"{tuple(inputs.shape)}: {error}."
            ) from error
        inputs = whole
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"model.target={target} returns a {type(outputs).__name__}, not a tensor.",
            hint=f"Return one tensor (N, {num_outputs}): the loss is computed of it.",
        )
    shape = tuple(outputs.shape)
    if shape != (len(inputs), num_outputs):
        hint = f"Its last layer needs {num_outputs} outputs; pass sizes with model.kwargs={{…}}."
        if shape[:1] == (len(inputs),) and math.prod(shape[1:]) == num_outputs:
            hint = f"Return outputs.reshape(-1, {num_outputs}) in its forward."
        raise ConfigError(
            f"model.target={target} returns shape {shape} for {len(inputs)} samples, not "
            f"{(len(inputs), num_outputs)}.",
            hint=hint,
        )
    return inputs, outputs


def _first_outputs(model: nn.Module, inputs: Tensor) -> object:
    """What `model`, which may have lazy layers, returns for `inputs` in evaluation mode."""
    give_shapes(model, inputs)
    return outputs_in_evaluation(model, inputs)


def first_batch(batches: Batches) -> Batch:
    """The first batch of the first epoch."""
    with contextlib.closing(batches.epoch(0)) as found:  # type: ignore[type-var]
        return next(found)


def loaded_model(
    config: FitConfig,
    data: Data,
    weights: Mapping[str, object],
    *,
    device: torch.device,
    report: Report,
    source: Path,
) -> nn.Module:
    """A new model on `device` with `weights` of the checkpoint `source`: what `eval` evaluates.

    The global generators are seeded for the model and anew for its evaluation, so that what a
    checkpoint does not have (a buffer of random numbers that is not saved) is the same each time.
    Raises CheckpointError when the weights do not fit, and as `prepare_model`.
    """
    seed_everything(config.seed)
    model = prepare_model(config, data, device=device, report=report)
    load_into(model, weights, source=source)
    seed_everything(config.seed)
    return model


def check_checkpoint_fits(
    config: FitConfig,
    weights: Mapping[str, object],
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
    batches = data.split(split)
    if batches is None:
        others = [f"eval.split={name}" for name in ("val", "train") if data.split(name) is not None]
        own = ", or set data.test_kwargs" if split == "test" and is_custom(config.data) else ""
        raise UsageError(
            f"eval.split={split}: data={config.data.name} has no such split here.",
            hint=f"Choose {' or '.join(others)}{own}.",
        )
    return evaluate(
        model,
        batches,
        build_loss(config),
        device=device,
        num_classes=len(data.classes) if data.classes else None,
        way=EvaluationWay(
            split=split,
            autocast=autocast_dtype(config.trainer.precision),
            is_own=is_custom(config.model),
        ),
        should_stop=should_stop,
        watch=watch,
    )


def cause_not_finite(data: Data, split: str) -> str | None:
    """`the input of sample 37`: the first sample of a split that is not finite, if there is one."""
    batches = data.split(split)
    if batches is None:
        return None
    try:
        return find_not_finite(batches, 0)
    except TrainerError:  # a data set that raises when it is read again
        return None


def warning_not_finite(data: Data, split: str, result: Evaluation) -> str | None:
    """The sample to blame for a loss that is not finite; None where it is finite or none is."""
    found = None if math.isfinite(result.loss) else cause_not_finite(data, split)
    if found is None:
        return None
    return f"{split}/loss is {result.loss}: {found} has a value that is not finite."


def build_loss(config: FitConfig) -> Loss:
    """The loss of the config."""
    return make_loss(**options(config.loss))
