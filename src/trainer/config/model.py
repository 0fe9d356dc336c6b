"""The `model` and `loss` groups. The modules are in trainer.models, the formulas in losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from trainer.config import checks
from trainer.config.data import Targets
from trainer.config.keys import Section, key

# What has more does not fit into any memory, and the product of two still fits into 64 bits.
_LAYER = (1, 2**31)


@dataclass(kw_only=True, slots=True)
class ModelConfig(Section):
    """What every model has, and what it needs and gives."""

    group: ClassVar[str] = "model"
    needs_images: ClassVar[bool] = False

    name: str = key(column=1)

    @property
    def outputs(self) -> str:
        """`logits` or `log_probs`."""
        return "logits"


@dataclass(kw_only=True, slots=True)
class LinearConfig(ModelConfig):
    """One `nn.Linear`."""

    bias: bool


@dataclass(kw_only=True, slots=True)
class MLPConfig(ModelConfig):
    """Fully connected layers with ReLU between them."""

    hidden: list[int] = key(between=_LAYER, column=14)
    # At 1 no value gets through.
    dropout: float = key(between=(0, 1), open_end=True, redefines=("train/*",), column=16)


@dataclass(kw_only=True, slots=True)
class LeNet5Config(ModelConfig):
    """Two convolutions of 5 x 5 with average pooling, then three fully connected layers."""

    needs_images: ClassVar[bool] = True

    channels: list[int] = key(between=_LAYER, length=2, column=15)
    hidden: list[int] = key(between=_LAYER, length=2, column=14)


@dataclass(kw_only=True, slots=True)
class CNNConfig(ModelConfig):
    """Two padded convolutions of 3 x 3 with max pooling, then two fully connected layers."""

    needs_images: ClassVar[bool] = True

    channels: list[int] = key(between=_LAYER, length=2, column=15)
    hidden: int = key(at_least=1, column=14)


@dataclass(kw_only=True, slots=True)
class CNNDropoutConfig(CNNConfig):
    """Two convolutions of 3 x 3, one max pooling, dropout twice, log-softmax at the end."""

    conv_dropout: float = key(between=(0, 1), open_end=True, redefines=("train/*",))
    fc_dropout: float = key(between=(0, 1), open_end=True, redefines=("train/*",))

    @property
    def outputs(self) -> str:
        return "log_probs"


@dataclass(kw_only=True, slots=True)
class CustomModelConfig(ModelConfig):
    """A person's own `nn.Module`, called as `target(**kwargs)`."""

    target: str = key(form=checks.class_path, is_code=True)
    kwargs: dict[str, Any] = key(is_open=True)
    output: str = key(one_of=("logits", "log_probs"))

    @property
    def outputs(self) -> str:
        return self.output


MODEL: dict[str, type[ModelConfig]] = {
    "linear": LinearConfig,
    "mlp": MLPConfig,
    "lenet5": LeNet5Config,
    "cnn": CNNConfig,
    "cnn_dropout": CNNDropoutConfig,
    "custom": CustomModelConfig,
}


@dataclass(kw_only=True, slots=True)
class LossConfig(Section):
    """What a loss compares with, and the model outputs it makes sense on."""

    group: ClassVar[str] = "loss"
    redefines: ClassVar[tuple[str, ...]] = ("*/loss",)
    targets: ClassVar[Targets] = "classes"
    outputs: ClassVar[tuple[str, ...]] = ("logits",)

    name: str = key(column=11)


@dataclass(kw_only=True, slots=True)
class BCEConfig(LossConfig):
    """A loss over classes whose targets can be smoothed."""

    label_smoothing: float = key(between=(0, 1), open_end=True, column=12)


@dataclass(kw_only=True, slots=True)
class CrossEntropyConfig(BCEConfig):
    """It applies log-softmax, which changes log-probabilities nothing."""

    outputs: ClassVar[tuple[str, ...]] = ("logits", "log_probs")


@dataclass(kw_only=True, slots=True)
class NLLConfig(LossConfig):
    """The negative log-likelihood."""

    # Of logits it is minus the logit of the class, which training lowers without end.
    outputs: ClassVar[tuple[str, ...]] = ("log_probs",)


@dataclass(kw_only=True, slots=True)
class HingeConfig(LossConfig):
    """The multi-class margin loss: of differences of outputs, which log-softmax leaves alone."""

    outputs: ClassVar[tuple[str, ...]] = ("logits", "log_probs")

    margin: float = key(above=0)
    p: int = key(between=(1, 2))


@dataclass(kw_only=True, slots=True)
class ValueLossConfig(LossConfig):
    """A loss of differences of values."""

    targets: ClassVar[Targets] = "values"


@dataclass(kw_only=True, slots=True)
class HuberConfig(ValueLossConfig):
    """Squared up to `delta`, linear beyond it."""

    delta: float = key(above=0)


LOSS: dict[str, type[LossConfig]] = {
    "cross_entropy": CrossEntropyConfig,
    "nll": NLLConfig,
    "bce_with_logits": BCEConfig,
    "hinge": HingeConfig,
    "mse": ValueLossConfig,
    "l1": ValueLossConfig,
    "huber": HuberConfig,
}
