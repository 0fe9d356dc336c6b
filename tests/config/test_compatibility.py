"""Which parts go together. The sets below are written by hand, from what the losses mean, and not
from the source.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
from composing import COMPANIONS, config_of

from trainer.config import SCHEMAS, FitConfig
from trainer.config.compatibility import (
    available_metrics,
    check_fit,
    has_validation,
    monitored_metric,
)
from trainer.config.data import DATA
from trainer.config.model import MODEL
from trainer.errors import ConfigError

CLASS_LOSSES = {"cross_entropy", "bce_with_logits", "hinge"}
LOG_PROB_LOSSES = {"cross_entropy", "nll", "hinge"}
VALUE_LOSSES = {"mse", "l1", "huber"}
# What the targets are and what the model gives -> the losses that fit.
FITTING: dict[tuple[str, str], set[str]] = {
    ("classes", "logits"): CLASS_LOSSES,
    ("classes", "log_probs"): LOG_PROB_LOSSES,
    ("values", "logits"): VALUE_LOSSES,
    ("values", "log_probs"): set(),
}
BUILT_IN = [
    (model, data)
    for model in SCHEMAS["model"]
    for data in SCHEMAS["data"]
    if "custom" not in (model, data)
]


@functools.cache
def part(group: str, choice: str) -> Any:
    """One group of the shipped config; every group is composed in a config of its own that fits."""
    override = f"{group}={choice}"
    return getattr(config_of(override, *COMPANIONS.get(override, ())), group)


def together(**choices: str) -> FitConfig:
    """The default config with these choices; not checked yet."""
    return replace(
        part_of_default(), **{group: part(group, choice) for group, choice in choices.items()}
    )


@functools.cache
def part_of_default() -> FitConfig:
    return config_of()


def refusal(config: FitConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        check_fit(config)
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_every_loss_is_in_a_set() -> None:
    assert set(SCHEMAS["loss"]) == CLASS_LOSSES | LOG_PROB_LOSSES | VALUE_LOSSES


@pytest.mark.parametrize(("model", "data"), BUILT_IN)
def test_a_model_that_needs_images_is_refused_where_there_are_none(model: str, data: str) -> None:
    config = together(model=model, data=data, loss="mse" if data == "line" else "cross_entropy")
    if not config.model.needs_images or config.data.may_be_images:
        return
    message = refusal(config)
    assert f"model={model} needs images, and data={data} has none" in message
    assert "model=mlp" in message and "data=mnist" in message and "custom" not in message


def test_which_models_need_images() -> None:
    needing = {name for name, kind in MODEL.items() if kind.needs_images}
    assert {"lenet5", "cnn", "cnn_dropout"} <= needing
    assert needing.isdisjoint({"linear", "mlp", "custom"})
    with_images = {name for name, kind in DATA.items() if kind.may_be_images}
    assert with_images.isdisjoint({"dirichlet", "line"})
    assert {"mnist", "fashion_mnist", "custom"} <= with_images


@pytest.mark.parametrize("loss", SCHEMAS["loss"])
@pytest.mark.parametrize(("model", "data"), BUILT_IN)
def test_model_data_and_loss(model: str, data: str, loss: str) -> None:
    config = together(model=model, data=data, loss=loss)
    if config.model.needs_images and not config.data.may_be_images:
        return
    fitting = FITTING[config.data.targets, config.model.outputs]
    if loss in fitting:
        check_fit(config)
        return
    message = refusal(config)
    assert f"loss={loss}" in message.splitlines()[0]
    suggested = {
        word.strip(".").removeprefix("loss=")
        for word in message.splitlines()[1].split()
        if "loss=" in word
    }
    assert suggested == fitting


def test_what_the_shipped_models_and_data_are() -> None:
    assert {model: part("model", model).outputs for model in ("mlp", "cnn", "cnn_dropout")} == {
        "mlp": "logits",
        "cnn": "logits",
        "cnn_dropout": "log_probs",
    }
    assert {data: part("data", data).targets for data in ("mnist", "dirichlet", "line")} == {
        "mnist": "classes",
        "dirichlet": "classes",
        "line": "values",
    }


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("output", ["logits", "log_probs"])
@pytest.mark.parametrize("loss", list(SCHEMAS["loss"]))
def test_peoples_own_model_and_data_say_what_they_are(task: str, output: str, loss: str) -> None:
    config = together(loss=loss)
    config.model = replace(part("model", "custom"), output=output)
    config.data = replace(part("data", "custom"), task=task)
    if loss in FITTING["classes" if task == "classification" else "values", output]:
        check_fit(config)
    else:
        assert f"loss={loss}" in refusal(config)


METRICS = {
    ("mnist", 100): ["train/loss", "train/accuracy", "val/loss", "val/accuracy"],
    ("mnist", 0): ["train/loss", "train/accuracy"],
    ("line", 2): ["train/loss", "val/loss", "val/mse", "val/mae"],
    ("line", 0): ["train/loss"],
}
NATURAL = {
    ("mnist", 100): "val/accuracy",
    ("mnist", 0): "train/loss",
    ("line", 2): "val/loss",
    ("line", 0): "train/loss",
}


@pytest.mark.parametrize(("data", "val_size"), list(METRICS))
def test_a_monitor_is_one_of_the_metrics_there_are(data: str, val_size: int) -> None:
    config = together(data=data, model="linear", loss="mse" if data == "line" else "cross_entropy")
    config.data = replace(config.data, val_size=val_size)
    assert available_metrics(config) == METRICS[data, val_size]
    assert has_validation(config) == (val_size > 0)
    assert config.data.targets == ("values" if data == "line" else "classes")
    assert monitored_metric(config) == NATURAL[data, val_size]
    for metric in (
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "test/loss",
        "val/acc",
    ):
        config.trainer = replace(config.trainer, monitor=metric)
        if metric in METRICS[data, val_size]:
            check_fit(config)
            assert monitored_metric(config) == metric
        else:
            message = refusal(config)
            assert f"trainer.monitor={metric}" in message
            assert all(name in message for name in METRICS[data, val_size])
            assert ("data.val_size=0" in message) == (val_size == 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accumulate": 2}, "trainer.accumulate"),
        ({"precision": "fp16"}, "trainer.precision"),
    ],
)
def test_lbfgs_evaluates_the_loss_several_times_a_step(changes: dict[str, Any], words: str) -> None:
    config = together(optimizer="lbfgs")
    check_fit(config)
    config.trainer = replace(config.trainer, **changes)
    message = refusal(config)
    assert "optimizer=lbfgs" in message
    assert words in message


def test_lbfgs_may_use_bf16() -> None:
    config = together(optimizer="lbfgs")
    config.trainer = replace(config.trainer, precision="bf16")
    check_fit(config)


def test_half_precision_needs_a_gpu() -> None:
    config = together()
    for device, fits in (("cpu", False), ("auto", True), ("cuda", True), ("cuda:1", True)):
        config.trainer = replace(config.trainer, precision="fp16", device=device)
        if fits:
            check_fit(config)
        else:
            assert "trainer.precision=fp16 needs a GPU" in refusal(config)
