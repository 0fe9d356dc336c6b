"""Before anything is written: each split's first samples, its smallest batch, a save and a load.

Only for a person's own model or data set: what a run would meet after hours is found at once. The
passes leave no trace in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainer.checkpoint.rehearse import rehearse_save
from trainer.commands.build import build_loss, user_code_errors
from trainer.commands.fit.components import Components
from trainer.config import custom_groups
from trainer.config.model import CustomModelConfig
from trainer.data.batches import Batches
from trainer.engine.outputs import check_outputs
from trainer.engine.trial import outputs_in_evaluation
from trainer.errors import ConfigError, CustomCodeError, TrainerError
from trainer.tracking.preserve import preserve_state

Pass = Callable[[Tensor, Tensor], None]


def rehearse(components: Components, *, description: Mapping[str, object]) -> None:
    """Try all that a run does; `description` is the header of its checkpoints.

    Raises ConfigError for what does not fit, CustomCodeError for what a person's class raises.
    """
    config = components.config
    if not custom_groups(config):
        return
    data = components.data
    size, eval_size = config.data.batch_size, config.data.eval_batch_size
    with user_code_errors(config):
        _try_split(components, "train", data.train, batch_size=size)
        for split, batches in (("val", data.val), ("test", data.test)):
            if batches is not None:
                _try_split(components, split, batches, batch_size=eval_size)
        if isinstance(config.model, CustomModelConfig):
            _try_save(components, description, target=config.model.target)


def _try_split(components: Components, split: str, batches: Batches, *, batch_size: int) -> None:
    """Pass the smallest batch of a split through the model, or of a large one two samples."""
    if not batches.num_samples:
        return
    run = _training(components) if split == "train" else _evaluation(components, split)
    smallest = batches.num_samples % batch_size or min(batch_size, batches.num_samples)
    error = None
    # A class may be made for one size of batches, so the real ones are tried, too.
    for num in sorted({min(2, smallest), smallest}):
        error = _error_of(run, components, split, batches, num)
        if error is None:
            return
    assert error is not None, "a batch was tried"
    where = f"a batch of {smallest} from {split}"
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    whole = min(batch_size, batches.num_samples)
    is_for_larger = whole > smallest and not _error_of(run, components, split, batches, whole)
    if is_for_larger:
        key = "data.batch_size" if split == "train" else "data.eval_batch_size"
        drop = "data.drop_last=true, or " if split == "train" else ""
        raise ConfigError(
            f"The model fails on {where}, the last of its {batches.num_samples} samples: {what}",
            hint=f"Set {drop}another {key} (now {batch_size}).",
        ) from error
    own = " and ".join(f"{group}.target" for group in custom_groups(components.config))
    raise CustomCodeError(f"With {own} of yours, {where} raised {what}") from error


def _error_of(
    run: Pass, components: Components, split: str, batches: Batches, num: int
) -> Exception | None:
    """What the first `num` samples of a split raise in the model, if anything.

    Raises what is known already: an error of ours, of the data set, or of the machine.
    """
    inputs, targets = batches.first(num)
    shape = tuple(inputs.shape[1:])
    if shape != components.data.input_shape:
        raise ConfigError(
            f"The first sample of {split} has shape {shape}, and those of training have shape "
            f"{components.data.input_shape}.",
            hint="Give every split samples of one shape (data.test_kwargs is for the test set).",
        )
    try:
        run(inputs, targets)
    except (TrainerError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        return error
    return None


def _training(components: Components) -> Pass:
    def run(inputs: Tensor, targets: Tensor) -> None:
        with preserve_state(components.model):
            components.state.step.time_pass(components.model, inputs, targets)

    return run


def _evaluation(components: Components, split: str) -> Pass:
    loss = build_loss(components.config)

    def run(inputs: Tensor, targets: Tensor) -> None:
        outputs = outputs_in_evaluation(components.evaluated, inputs)
        where = f"In evaluation on {split}"
        check_outputs(outputs, targets, num_outputs=components.data.num_outputs, where=where)
        loss(outputs.float(), targets)

    return run


def _try_save(components: Components, description: Mapping[str, object], *, target: str) -> None:
    model = components.evaluated
    try:
        with preserve_state(model):
            rehearse_save(
                model,
                components.table,
                description=description,
                progress=components.state.progress.counters(),
            )
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = "; ".join(line for line in str(error).splitlines() if line)
        raise ConfigError(
            f"model.target={target}: its state cannot be saved and loaded back: "
            f"{type(error).__name__}: {text[:300]}",
            hint="A checkpoint takes tensors, and as extra state numbers, text, lists and tables "
            "of them.",
        ) from error
