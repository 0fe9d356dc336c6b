"""Which parts of a config go together: refused before anything slow, with what would fit."""

from __future__ import annotations

from trainer.config.data import DATA, CustomDataConfig
from trainer.config.model import LOSS, MODEL
from trainer.config.run import FitConfig
from trainer.errors import ConfigError, suggestion


def check_fit(config: FitConfig) -> None:
    """Raise ConfigError when parts of `config` contradict one another."""
    _check_model_and_loss(config)
    _check_optimizer(config)
    _check_monitor(config)


def monitored_metric(config: FitConfig) -> str:
    """The metric of `best` and early stopping: `trainer.monitor`, or the natural one here."""
    if config.trainer.monitor is not None:
        return config.trainer.monitor
    if not has_validation(config):
        return "train/loss"
    return "val/accuracy" if config.data.targets == "classes" else "val/loss"


def metric_without_loss(config: FitConfig) -> str | None:
    """The natural metric here that no key of `loss` changes the meaning of; None without one."""
    names = ("val/accuracy", "val/mse", "train/accuracy")
    return next((name for name in names if name in available_metrics(config)), None)


def has_validation(config: FitConfig) -> bool:
    """Whether part of the training data is held out."""
    return config.data.val_size > 0


def _check_model_and_loss(config: FitConfig) -> None:
    model_fault = _model_fault(config)
    loss_fault = _loss_fault(config)
    if model_fault is not None and loss_fault is not None and _other_losses(config):
        # Both at once: to name one after the other would cost a try each.
        models, losses = _other_models(config), _other_losses(config)
        others = _or([*models[1:], *losses[1:]])
        besides = f" ({others} fit too)" if others else ""
        raise ConfigError(
            model_fault,
            where=loss_fault,
            hint=f"Write data={config.data.name} {models[0]} {losses[0]}{besides}.",
        )
    if model_fault is not None:
        images = [f"data={name}" for name, kind in DATA.items() if kind.may_be_images]
        hint = f"Choose {_or(_other_models(config))}, or {_or(images)}."
        raise ConfigError(model_fault, hint=hint)
    if loss_fault is not None:
        fitting = _other_losses(config)
        hint = f"Choose {_or(fitting)}." if fitting else f"No loss fits {_model(config)} here."
        hint += _other_task(config)
        raise ConfigError(loss_fault, hint=hint)


def _model_fault(config: FitConfig) -> str | None:
    """Why the model does not fit the data, if it does not."""
    if not config.model.needs_images or config.data.may_be_images:
        return None
    return f"{_model(config)} needs images, and data={config.data.name} has none."


def _loss_fault(config: FitConfig) -> str | None:
    """Why the loss does not fit the data or the model, if it does not."""
    loss = f"loss={config.loss.name}"
    if config.loss.targets != config.data.targets:
        return (
            f"{loss} compares with {config.loss.targets}, and the targets of "
            f"data={config.data.name} are {config.data.targets}."
        )
    outputs = _outputs(config)
    if outputs in config.loss.outputs:
        return None
    if outputs == "logits":
        return f"{loss} needs log-probabilities, and {_model(config)} ends without log-softmax."
    return f"{loss} needs logits, and {_model(config)} ends in log-softmax."


def _other_task(config: FitConfig) -> str:
    """How a person's own data gets targets of the kind that the loss compares with."""
    if not isinstance(config.data, CustomDataConfig) or config.loss.targets == config.data.targets:
        return ""
    task = "regression" if config.loss.targets == "values" else "classification"
    return f" If the targets are {config.loss.targets}: data.task={task}."


def _outputs(config: FitConfig) -> str:
    """What the model ends in, or the one that takes its place."""
    # Every model without images ends in logits.
    return config.model.outputs if _model_fault(config) is None else "logits"


def _model(config: FitConfig) -> str:
    return f"model={config.model.name}"


def _other_models(config: FitConfig) -> list[str]:
    """The models that fit the data, but a person's own, the likeliest first."""
    is_value = config.data.targets == "values"
    names = ["linear", "mlp"] if is_value else ["mlp", "linear"]
    return [f"model={name}" for name in names if not MODEL[name].needs_images]


def _other_losses(config: FitConfig) -> list[str]:
    """The losses that fit the data and the model, the likeliest first."""
    fitting = [
        name
        for name, kind in LOSS.items()
        if kind.targets == config.data.targets and _outputs(config) in kind.outputs
    ]
    return [f"loss={name}" for name in fitting]


def _or(words: list[str]) -> str:
    # custom fits everything, and nothing that is at hand.
    return " or ".join(word for word in words if not word.endswith("=custom"))


def _check_optimizer(config: FitConfig) -> None:
    trainer = config.trainer
    optimizer = config.optimizer
    # L-BFGS runs a batch again: the earlier batches of a window are gone, and GradScaler takes no
    # closure.
    has_one_loss = trainer.accumulate > 1 or trainer.precision == "fp16"
    if optimizer.repeats_loss and has_one_loss:
        key = "trainer.accumulate" if trainer.accumulate > 1 else "trainer.precision"
        raise ConfigError(
            f"optimizer={optimizer.name} evaluates the loss several times a step, which {key} "
            "does not allow.",
            hint="Set trainer.accumulate=1 trainer.precision=fp32, or choose another optimizer.",
        )
    # With device=auto it depends on the machine; `commands.fit.components` checks again.
    if trainer.precision == "fp16" and trainer.device == "cpu":
        raise ConfigError(
            "trainer.precision=fp16 needs a GPU, and trainer.device=cpu.",
            hint="Use trainer.precision=bf16 or fp32.",
        )


def _check_monitor(config: FitConfig) -> None:
    metrics = available_metrics(config)
    if config.trainer.monitor is not None and config.trainer.monitor not in metrics:
        reason = "" if has_validation(config) else " (data.val_size=0, so there is no val/…)"
        raise ConfigError(
            f"trainer.monitor={config.trainer.monitor}: there is no such metric{reason}.",
            hint=suggestion(config.trainer.monitor, metrics, label="Metrics"),
        )


def available_metrics(config: FitConfig) -> list[str]:
    """The names that `trainer.monitor` may take for this config."""
    is_classes = config.data.targets == "classes"
    names = {
        "train": ["loss", "accuracy"] if is_classes else ["loss"],
        "val": ["loss", "accuracy"] if is_classes else ["loss", "mse", "mae"],
    }
    if not has_validation(config):
        del names["val"]
    return [f"{split}/{name}" for split, found in names.items() for name in found]
