"""Which loss fits which data and which model: refused here, before anything slow, with what
would fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from trainer.config.run import FitConfig

CLASSES, VALUES = "classes", "values"
# A loss, what its targets are, and the model outputs it makes sense on. The hinge compares
# differences of outputs only, and log-softmax leaves those as they are; cross-entropy applies
# log-softmax, which changes log-probabilities nothing.
LOSS_FITS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cross_entropy": (CLASSES, ("logits", "log_probs")),
    "nll": (CLASSES, ("log_probs",)),
    "bce_with_logits": (CLASSES, ("logits",)),
    "hinge": (CLASSES, ("logits", "log_probs")),
    "mse": (VALUES, ("logits",)),
    "l1": (VALUES, ("logits",)),
    "huber": (VALUES, ("logits",)),
}
IMAGE_DATA = ("mnist", "fashion_mnist")
IMAGE_MODELS = ("lenet5", "cnn", "cnn_dropout")
TARGETS = {"mnist": CLASSES, "fashion_mnist": CLASSES, "dirichlet": CLASSES, "line": VALUES}


def check_fit(config: FitConfig) -> None:
    """Raise ConfigError when parts of `config` contradict one another."""
    _check_model(config)
    _check_loss(config)
    _check_optimizer(config)
    _check_monitor(config)


def target_kind(config: FitConfig) -> str:
    """`classes` or `values`: what the data's targets are."""
    if config.data.name == "custom":
        return CLASSES if config.data.task == "classification" else VALUES  # type: ignore[attr-defined]
    return TARGETS[config.data.name]


def monitored_metric(config: FitConfig) -> str:
    """The metric that `best` and early stopping go by: `trainer.monitor`, or the natural one for
    this data.
    """
    if config.trainer.monitor is not None:
        return config.trainer.monitor
    split = "val" if has_validation(config) else "train"
    return (
        f"{split}/accuracy"
        if split == "val" and target_kind(config) == CLASSES
        else f"{split}/loss"
    )


def has_validation(config: FitConfig) -> bool:
    """Whether part of the training data is held out."""
    return config.data.val_size > 0


def _output_kind(config: FitConfig) -> str:
    if config.model.name == "custom":
        return str(config.model.output)
    return "log_probs" if config.model.name == "cnn_dropout" else "logits"


def _check_model(config: FitConfig) -> None:
    data, model = config.data.name, config.model.name
    if model in IMAGE_MODELS and data in ("dirichlet", "line"):
        raise ConfigError(
            f"model={model} needs images, and data={data} has none.",
            hint=f"Choose model=mlp or model=linear, or data={' or data='.join(IMAGE_DATA)}.",
        )


def _check_loss(config: FitConfig) -> None:
    kind, outputs = LOSS_FITS[config.loss.name]
    targets, output = target_kind(config), _output_kind(config)
    if kind == targets and output in outputs:
        return
    fitting = [name for name, fit in LOSS_FITS.items() if fit[0] == targets and output in fit[1]]
    if kind != targets:
        what = f"loss={config.loss.name} compares with {kind}, and the targets of data={config.data.name} are {targets}."
    elif output == "logits":
        what = f"loss={config.loss.name} needs log-probabilities, and model={config.model.name} ends without log-softmax."
    else:
        what = f"loss={config.loss.name} needs logits, and model={config.model.name} ends in log-softmax."
    choose = (
        f"Choose loss={' or loss='.join(fitting)}."
        if fitting
        else f"No loss fits model={config.model.name} here."
    )
    raise ConfigError(what, hint=choose)


def _check_optimizer(config: FitConfig) -> None:
    trainer, optimizer = config.trainer, config.optimizer.name
    if optimizer == "lbfgs" and (trainer.accumulate > 1 or trainer.precision == "fp16"):
        key = "trainer.accumulate" if trainer.accumulate > 1 else "trainer.precision"
        raise ConfigError(
            f"optimizer=lbfgs evaluates the loss several times a step, which {key} does not allow.",
            hint="Set trainer.accumulate=1 trainer.precision=fp32, or choose another optimizer.",
        )
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
    names = ["loss", "accuracy"] if target_kind(config) == CLASSES else ["loss"]
    splits = ["train", "val"] if has_validation(config) else ["train"]
    return [f"{split}/{name}" for split in splits for name in names]
