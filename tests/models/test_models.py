"""The built-in models: the layers of their description, on images of any size that fits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainer.errors import ConfigError
from trainer.models import count_parameters, make_model

OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {"bias": True},
    "mlp": {"hidden": [512, 512], "dropout": 0.0},
    "lenet5": {"channels": [6, 16], "hidden": [120, 84]},
    "cnn": {"channels": [32, 64], "hidden": 128},
    "cnn_dropout": {"channels": [32, 64], "hidden": 128, "conv_dropout": 0.25, "fc_dropout": 0.5},
}
# Counted by hand from the layers: weights + biases.
PARAMETERS = {
    "linear": 784 * 10 + 10,
    "mlp": (784 * 512 + 512) + (512 * 512 + 512) + (512 * 10 + 10),
    "lenet5": (25 * 6 + 6)
    + (25 * 6 * 16 + 16)
    + (400 * 120 + 120)
    + (120 * 84 + 84)
    + (84 * 10 + 10),
    "cnn": (9 * 32 + 32) + (9 * 32 * 64 + 64) + (64 * 49 * 128 + 128) + (128 * 10 + 10),
    "cnn_dropout": (9 * 32 + 32) + (9 * 32 * 64 + 64) + (9216 * 128 + 128) + (128 * 10 + 10),
}


def make(name: str, shape: tuple[int, ...] = (1, 28, 28), num_outputs: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return make_model(name, input_shape=shape, num_outputs=num_outputs, **OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_are_those_of_the_description(name: str) -> None:
    assert count_parameters(make(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 18, 18), (1, 13, 21)])
def test_every_image_shape_goes_through(name: str, shape: tuple[int, ...]) -> None:
    assert make(name, shape, 7)(torch.randn(4, *shape)).shape == (4, 7)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_flat_samples_go_through(name: str) -> None:
    assert make(name, (10,), 3)(torch.randn(4, 10)).shape == (4, 3)


def test_cnn_is_the_textbook_function() -> None:
    model = make("cnn").eval()
    state = model.state_dict()
    inputs = torch.randn(2, 1, 28, 28)
    x = inputs
    for layer in ("conv1", "conv2"):
        x = nn.functional.conv2d(x, state[f"{layer}.weight"], state[f"{layer}.bias"], padding=1)
        x = nn.functional.max_pool2d(x.relu(), 2)
    x = nn.functional.linear(x.flatten(1), state["fc1.weight"], state["fc1.bias"]).relu()
    x = nn.functional.linear(x, state["fc2.weight"], state["fc2.bias"])
    torch.testing.assert_close(model(inputs), x)


def test_cnn_dropout_ends_in_log_probabilities_and_drops_only_in_training() -> None:
    model = make("cnn_dropout").eval()
    inputs = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(model(inputs).exp().sum(1), torch.ones(3))
    assert torch.equal(model(inputs), model(inputs))
    model.train()
    assert not torch.equal(model(inputs), model(inputs))


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet5", (1, 10, 10)), ("cnn", (1, 3, 9)), ("cnn_dropout", (1, 5, 28))]
)
def test_too_small_images_are_refused_in_a_sentence(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="too small"):
        make(name, shape)


@pytest.mark.parametrize("name", ["lenet5", "cnn", "cnn_dropout"])
def test_flat_samples_are_refused_by_image_models(name: str) -> None:
    with pytest.raises(ConfigError, match="needs images"):
        make(name, (10,))
