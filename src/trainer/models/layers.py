"""The built-in models: shapes and number of outputs from the data, sizes from the config."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from trainer.errors import ConfigError
from trainer.models.fast_layers import AvgPool2d, Linear

Shape = tuple[int, ...]


def linear(input_shape: Shape, num_outputs: int, *, bias: bool) -> nn.Module:
    """One linear layer: (N, *input_shape) -> (N, num_outputs)."""
    return nn.Sequential(
        _named(flatten=nn.Flatten(), fc=Linear(math.prod(input_shape), num_outputs, bias=bias))
    )


def mlp(
    input_shape: Shape, num_outputs: int, *, hidden: Sequence[int], dropout: float
) -> nn.Module:
    """Fully connected layers with ReLU: (N, *input_shape) -> (N, num_outputs)."""
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    width = math.prod(input_shape)
    for number, size in enumerate(hidden, 1):
        layers[f"fc{number}"] = Linear(width, size)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = size
    layers[f"fc{len(hidden) + 1}"] = Linear(width, num_outputs)
    return nn.Sequential(_named(**layers))


def lenet5(
    input_shape: Shape, num_outputs: int, *, channels: Sequence[int], hidden: Sequence[int]
) -> nn.Module:
    """LeNet-5 with ReLU (after LeCun et al., 1998): (N, C, H, W) -> (N, num_outputs)."""
    depth, height, width = _image(input_shape, model="lenet5")
    height, width = _after(
        height, width, (("conv", 5, 2), ("pool", 2, 0), ("conv", 5, 0), ("pool", 2, 0)), "lenet5"
    )
    return nn.Sequential(
        _named(
            conv1=nn.Conv2d(depth, channels[0], 5, padding=2),
            relu1=nn.ReLU(),
            pool1=AvgPool2d(2),
            conv2=nn.Conv2d(channels[0], channels[1], 5),
            relu2=nn.ReLU(),
            pool2=AvgPool2d(2),
            flatten=nn.Flatten(),
            fc1=Linear(channels[1] * height * width, hidden[0]),
            relu3=nn.ReLU(),
            fc2=Linear(hidden[0], hidden[1]),
            relu4=nn.ReLU(),
            fc3=Linear(hidden[1], num_outputs),
        )
    )


def cnn(input_shape: Shape, num_outputs: int, *, channels: Sequence[int], hidden: int) -> nn.Module:
    """Two padded 3 x 3 convolutions with max pooling, two linear layers: (N, C, H, W) -> (N,
    num_outputs).
    """
    depth, height, width = _image(input_shape, model="cnn")
    height, width = _after(
        height, width, (("conv", 3, 1), ("pool", 2, 0), ("conv", 3, 1), ("pool", 2, 0)), "cnn"
    )
    return nn.Sequential(
        _named(
            conv1=nn.Conv2d(depth, channels[0], 3, padding=1),
            # Pooling before ReLU is the same function, since the largest stays the largest, and a
            # quarter of its work.
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(channels[0], channels[1], 3, padding=1),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=Linear(channels[1] * height * width, hidden),
            relu3=nn.ReLU(),
            fc2=Linear(hidden, num_outputs),
        )
    )


def cnn_dropout(
    input_shape: Shape,
    num_outputs: int,
    *,
    channels: Sequence[int],
    hidden: int,
    conv_dropout: float,
    fc_dropout: float,
) -> nn.Module:
    """Two 3 x 3 convolutions, one max pooling, dropout twice, log-softmax: (N, C, H, W) -> (N,
    num_outputs).
    """
    depth, height, width = _image(input_shape, model="cnn_dropout")
    height, width = _after(
        height, width, (("conv", 3, 0), ("conv", 3, 0), ("pool", 2, 0)), "cnn_dropout"
    )
    return nn.Sequential(
        _named(
            conv1=nn.Conv2d(depth, channels[0], 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(channels[0], channels[1], 3),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            dropout1=nn.Dropout(conv_dropout),
            flatten=nn.Flatten(),
            fc1=Linear(channels[1] * height * width, hidden),
            relu3=nn.ReLU(),
            dropout2=nn.Dropout(fc_dropout),
            fc2=Linear(hidden, num_outputs),
            log_softmax=nn.LogSoftmax(dim=1),
        )
    )


BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "linear": linear,
    "mlp": mlp,
    "lenet5": lenet5,
    "cnn": cnn,
    "cnn_dropout": cnn_dropout,
}


def _named(**layers: nn.Module) -> OrderedDict[str, nn.Module]:
    return OrderedDict(layers)


def _image(shape: Shape, *, model: str) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ConfigError(
            f"model={model} needs images (channels, height, width), and the samples have shape "
            f"{shape}.",
            hint="Choose model=mlp or model=linear.",
        )
    return shape[0], shape[1], shape[2]


def _after(
    height: int, width: int, layers: Sequence[tuple[str, int, int]], model: str
) -> tuple[int, int]:
    """Height and width after convolutions (kernel, padding) and poolings; raises ConfigError
    when nothing is left.
    """
    start = (height, width)
    for kind, kernel, padding in layers:
        if kind == "conv":
            height, width = height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1
        else:
            height, width = height // kernel, width // kernel
    if height < 1 or width < 1:
        raise ConfigError(
            f"Images of {start[0]} x {start[1]} are too small for model={model}: nothing is left "
            "after its layers.",
            hint="Crop less (data.transforms), or choose model=mlp.",
        )
    return height, width
