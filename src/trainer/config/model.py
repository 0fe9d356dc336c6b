"""Types and checks of the `model` and `loss` groups. The modules are in trainer.models, the
formulas in losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.config import checks
from trainer.config.data import check_target


@dataclass(kw_only=True, slots=True)
class LinearConfig:
    """One `nn.Linear`."""

    name: str
    bias: bool


@dataclass(kw_only=True, slots=True)
class MLPConfig:
    """Fully connected layers with ReLU between them."""

    name: str
    hidden: list[int]
    dropout: float

    def __post_init__(self) -> None:
        checks.sizes("model.hidden", self.hidden)
        checks.within("model.dropout", self.dropout, 0, 1, open_end=True)


@dataclass(kw_only=True, slots=True)
class LeNet5Config:
    """Two convolutions of 5 x 5 with average pooling, then three fully connected layers."""

    name: str
    channels: list[int]
    hidden: list[int]

    def __post_init__(self) -> None:
        checks.sizes("model.channels", self.channels, length=2)
        checks.sizes("model.hidden", self.hidden, length=2)


@dataclass(kw_only=True, slots=True)
class CNNConfig:
    """Two padded convolutions of 3 x 3 with max pooling, then two fully connected layers."""

    name: str
    channels: list[int]
    hidden: int

    def __post_init__(self) -> None:
        checks.sizes("model.channels", self.channels, length=2)
        checks.at_least("model.hidden", self.hidden, 1)


@dataclass(kw_only=True, slots=True)
class CNNDropoutConfig:
    """Two convolutions of 3 x 3, one max pooling, dropout twice, log-softmax at the end."""

    name: str
    channels: list[int]
    hidden: int
    conv_dropout: float
    fc_dropout: float

    def __post_init__(self) -> None:
        checks.sizes("model.channels", self.channels, length=2)
        checks.at_least("model.hidden", self.hidden, 1)
        checks.within("model.conv_dropout", self.conv_dropout, 0, 1, open_end=True)
        checks.within("model.fc_dropout", self.fc_dropout, 0, 1, open_end=True)


@dataclass(kw_only=True, slots=True)
class CustomModelConfig:
    """A person's own `nn.Module`, called as `target(**kwargs)`."""

    name: str
    target: str
    kwargs: dict[str, Any]
    output: str

    def __post_init__(self) -> None:
        check_target("model.target", self.target)
        checks.one_of("model.output", self.output, ("logits", "log_probs"))


MODEL: dict[str, type] = {
    "linear": LinearConfig,
    "mlp": MLPConfig,
    "lenet5": LeNet5Config,
    "cnn": CNNConfig,
    "cnn_dropout": CNNDropoutConfig,
    "custom": CustomModelConfig,
}


@dataclass(kw_only=True, slots=True)
class PlainLossConfig:
    """A loss without options."""

    name: str


@dataclass(kw_only=True, slots=True)
class SmoothedLossConfig:
    """A loss over classes whose targets can be smoothed."""

    name: str
    label_smoothing: float

    def __post_init__(self) -> None:
        checks.within("loss.label_smoothing", self.label_smoothing, 0, 1, open_end=True)


@dataclass(kw_only=True, slots=True)
class HingeConfig:
    """The multi-class margin loss."""

    name: str
    margin: float
    p: int

    def __post_init__(self) -> None:
        checks.above("loss.margin", self.margin, 0)
        checks.within("loss.p", self.p, 1, 2)


@dataclass(kw_only=True, slots=True)
class HuberConfig:
    """Squared up to `delta`, linear beyond it."""

    name: str
    delta: float

    def __post_init__(self) -> None:
        checks.above("loss.delta", self.delta, 0)


LOSS: dict[str, type] = {
    "cross_entropy": SmoothedLossConfig,
    "nll": PlainLossConfig,
    "bce_with_logits": SmoothedLossConfig,
    "hinge": HingeConfig,
    "mse": PlainLossConfig,
    "l1": PlainLossConfig,
    "huber": HuberConfig,
}
