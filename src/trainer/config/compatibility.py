"""Which parts of a config go together: refused before anything slow, with what would fit."""

from __future__ import annotations

from trainer.config.data import DATA
from trainer.config.model import LOSS, MODEL
from trainer.config.run import FitConfig
from trainer.errors import ConfigError, suggestion


def check_fit(config: FitConfig) -> None:
    """Raise ConfigError when parts of `config` contradict one another."""
    _check_model(config)
    _check_loss(config)
    _check_optimizer(config)
    _check_monitor(config)


def monitored_metric(config: FitConfig) -> str:
    """The metric of `best` and early stopping: `trainer.monitor`, or the natural one here."""
    if config.trainer.monitor is not None:
        return config.trainer.monitor
    if not has_validation(config):
        return "train/loss"
    return "val/accuracy" if config.data.targets == "classes" else "val/loss"


def has_validation(config: FitConfig) -> bool:
    """Whether part of the training data is held out."""
    return config.data.val_size > 0


def _check_model(config: FitConfig) -> None:
    data = config.data
    model = config.model
    if not model.needs_images or data.may_be_images:
        return
    others = [f"model={name}" for name, kind in MODEL.items() if not kind.needs_images]
    images = [f"data={name}" for name, kind in DATA.items() if kind.may_be_images]
    raise ConfigError(
        f"model={model.name} needs images, and data={data.name} has none.",
        hint=f"Choose {_or(others)}, or {_or(images)}.",
    )


def _or(words: list[str]) -> str:
    # custom fits everything, and nothing that is at hand.
    return " or ".join(word for word in words if not word.endswith("=custom"))


def _check_loss(config: FitConfig) -> None:
    targets = config.data.targets
    outputs = config.model.outputs
    loss = f"loss={config.loss.name}"
    model = f"model={config.model.name}"
    if config.loss.targets != targets:
        what = (
            f"{loss} compares with {config.loss.targets}, and the targets of "
            f"data={config.data.name} are {targets}."
        )
    elif outputs in config.loss.outputs:
        return
    elif outputs == "logits":
        what = f"{loss} needs log-probabilities, and {model} ends without log-softmax."
    else:
        what = f"{loss} needs logits, and {model} ends in log-softmax."
    fitting = [
        f"loss={name}"
        for name, kind in LOSS.items()
        if kind.targets == targets and outputs in kind.outputs
    ]
    hint = f"Choose {_or(fitting)}." if fitting else f"No loss fits {model} here."
    raise ConfigError(what, hint=hint)


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
    names = ["loss", "accuracy"] if config.data.targets == "classes" else ["loss"]
    splits = ["train", "val"] if has_validation(config) else ["train"]
    return [f"{split}/{name}" for split in splits for name in names]
