"""The five built-in models: their shapes come from the data, their sizes from the config."""

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
    return _sequence(
        flatten=nn.Flatten(), fc=Linear(math.prod(input_shape), num_outputs, bias=bias)
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
    return _sequence(**layers)


def lenet5(
    input_shape: Shape, num_outputs: int, *, channels: Sequence[int], hidden: Sequence[int]
) -> nn.Module:
    """LeNet-5 with ReLU (after LeCun et al., 1998): (N, C, H, W) -> (N, num_outputs)."""
    depth, height, width = _image(input_shape, model="lenet5")
    layers = (("conv", 5, 2), ("pool", 2, 0), ("conv", 5, 0), ("pool", 2, 0))
    height, width = _size_after(layers, height, width, model="lenet5")
    return _sequence(
        # The padding makes 28 x 28 the 32 x 32 of the paper.
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


def cnn(input_shape: Shape, num_outputs: int, *, channels: Sequence[int], hidden: int) -> nn.Module:
    """Two padded 3 x 3 convolutions with max pooling and two linear layers.

    (N, C, H, W) -> (N, num_outputs).
    """
    depth, height, width = _image(input_shape, model="cnn")
    layers = (("conv", 3, 1), ("pool", 2, 0), ("conv", 3, 1), ("pool", 2, 0))
    height, width = _size_after(layers, height, width, model="cnn")
    return _sequence(
        conv1=nn.Conv2d(depth, channels[0], 3, padding=1),
        # Pooling before ReLU is the same function, for a quarter of the work of ReLU.
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


def cnn_dropout(
    input_shape: Shape,
    num_outputs: int,
    *,
    channels: Sequence[int],
    hidden: int,
    conv_dropout: float,
    fc_dropout: float,
) -> nn.Module:
    """Two 3 x 3 convolutions, one max pooling, dropout twice and log-softmax.

    (N, C, H, W) -> (N, num_outputs).
    """
    depth, height, width = _image(input_shape, model="cnn_dropout")
    layers = (("conv", 3, 0), ("conv", 3, 0), ("pool", 2, 0))
    height, width = _size_after(layers, height, width, model="cnn_dropout")
    return _sequence(
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


BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "linear": linear,
    "mlp": mlp,
    "lenet5": lenet5,
    "cnn": cnn,
    "cnn_dropout": cnn_dropout,
}


def _sequence(**layers: nn.Module) -> nn.Module:
    # By name, not by number: weights keep their names when a layer without weights comes or goes.
    return nn.Sequential(OrderedDict(layers))


def _image(shape: Shape, *, model: str) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ConfigError(
            f"model={model} needs images (channels, height, width), and the samples have shape "
            f"{shape}.",
            hint="Choose model=mlp or model=linear.",
        )
    return shape[0], shape[1], shape[2]


def _size_after(
    layers: Sequence[tuple[str, int, int]], height: int, width: int, *, model: str
) -> tuple[int, int]:
    """Height and width after convolutions ("conv", kernel, padding) and poolings ("pool", size, 0).

    Raises ConfigError when no pixel remains.
    """

    # As torch: convolutions have stride 1, and a pooling leaves the odd rest out.
    def after(size: int) -> int:
        for kind, kernel, padding in layers:
            size = size + 2 * padding - kernel + 1 if kind == "conv" else size // kernel
        return size

    if after(height) < 1 or after(width) < 1:
        raise ConfigError(
            f"Images of {height} x {width} are too small for model={model}: nothing is left after "
            "its layers.",
            hint="Crop less (data.transforms), or choose model=mlp.",
        )
    return after(height), after(width)
