"""The `optimizer` group. Fields are torch's own argument names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.keys import Section, key
from trainer.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class OptimizerConfig(Section):
    """What every optimizer has."""

    group: ClassVar[str] = "optimizer"
    repeats_loss: ClassVar[bool] = False

    name: str = key(column=3)
    lr: float = key(above=0, listed=("fit",), column=2)


@dataclass(kw_only=True, slots=True)
class DecayConfig(OptimizerConfig):
    """Weight decay; `decay_all=false` spares biases and norms (parameters of fewer than 2 axes)."""

    weight_decay: float = key(at_least=0, listed=("fit",), column=9)
    decay_all: bool


@dataclass(kw_only=True, slots=True)
class SGDConfig(DecayConfig):
    """Stochastic gradient descent; nesterov needs a momentum and no dampening."""

    momentum: float = key(between=(0, 1), open_end=True, listed=("fit",), column=10)
    dampening: float = key(between=(0, 1))
    nesterov: bool

    def check_together(self) -> None:
        # torch raises for it too, but only after the data is loaded.
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ConfigError(
                "optimizer.nesterov=true needs optimizer.momentum above 0 and "
                "optimizer.dampening=0.",
                hint="Set optimizer.momentum=0.9 optimizer.dampening=0, or "
                "optimizer.nesterov=false.",
            )


@dataclass(kw_only=True, slots=True)
class AdamaxConfig(DecayConfig):
    """Two decay rates, and `eps` in the denominator: what the family of Adam has."""

    # At 1 a mean never moves; torch refuses it too.
    betas: list[float] = key(between=(0, 1), open_end=True, length=2)
    eps: float = key(at_least=0)


@dataclass(kw_only=True, slots=True)
class AdamConfig(AdamaxConfig):
    """adam, adamw."""

    amsgrad: bool


@dataclass(kw_only=True, slots=True)
class RAdamConfig(AdamaxConfig):
    """Adam with a rectified start; the decay may be decoupled as in AdamW."""

    decoupled_weight_decay: bool


@dataclass(kw_only=True, slots=True)
class NAdamConfig(RAdamConfig):
    """Adam with Nesterov momentum."""

    momentum_decay: float = key(at_least=0)


@dataclass(kw_only=True, slots=True)
class RMSpropConfig(DecayConfig):
    """`alpha` is the decay rate of the mean square; `centered` subtracts the squared mean."""

    alpha: float = key(between=(0, 1))
    eps: float = key(at_least=0)
    momentum: float = key(at_least=0, listed=("fit",), column=10)
    centered: bool


@dataclass(kw_only=True, slots=True)
class AdagradConfig(DecayConfig):
    """Divides by the root of the sum of all squares so far."""

    lr_decay: float = key(at_least=0)
    initial_accumulator_value: float = key(at_least=0)
    eps: float = key(at_least=0)


@dataclass(kw_only=True, slots=True)
class AdadeltaConfig(DecayConfig):
    """`rho` is the decay rate of the mean squares of gradients and of updates."""

    rho: float = key(between=(0, 1))
    eps: float = key(at_least=0)


@dataclass(kw_only=True, slots=True)
class AdafactorConfig(DecayConfig):
    """`beta2_decay` is an exponent, so at most 0; `d` clips the root mean square of an update."""

    beta2_decay: float = key(at_most=0)
    d: float = key(at_least=1)


@dataclass(kw_only=True, slots=True)
class ASGDConfig(DecayConfig):
    """SGD that averages the weights from step `t0` on."""

    lambd: float = key(at_least=0)
    alpha: float = key(at_least=0)
    t0: float = key(at_least=0)


@dataclass(kw_only=True, slots=True)
class RpropConfig(OptimizerConfig):
    """Step sizes that grow and shrink with the sign of the gradient; no weight decay."""

    # No bounds by `key`: the two numbers of a pair have different ones.
    etas: list[float]
    step_sizes: list[float]

    def check_together(self) -> None:
        if len(self.etas) != 2 or not 0 < self.etas[0] < 1 < self.etas[1]:
            raise ConfigError(
                f"optimizer.etas={self.etas} must hold two numbers with 0 < first < 1 < second."
            )
        if len(self.step_sizes) != 2 or not 0 < self.step_sizes[0] <= self.step_sizes[1]:
            raise ConfigError(
                f"optimizer.step_sizes={self.step_sizes} must hold the least and the largest step."
            )


@dataclass(kw_only=True, slots=True)
class LBFGSConfig(OptimizerConfig):
    """Estimates the curvature from a history of updates; evaluates the loss several times."""

    repeats_loss: ClassVar[bool] = True

    max_iter: int = key(at_least=1)
    tolerance_grad: float = key(at_least=0)
    tolerance_change: float = key(at_least=0)
    history_size: int = key(at_least=1)
    line_search_fn: str | None = key(one_of=("strong_wolfe",))


OPTIMIZER: dict[str, type[OptimizerConfig]] = {
    "sgd": SGDConfig,
    "adam": AdamConfig,
    "adamw": AdamConfig,
    "adamax": AdamaxConfig,
    "nadam": NAdamConfig,
    "radam": RAdamConfig,
    "rmsprop": RMSpropConfig,
    "adagrad": AdagradConfig,
    "adadelta": AdadeltaConfig,
    "adafactor": AdafactorConfig,
    "asgd": ASGDConfig,
    "rprop": RpropConfig,
    "lbfgs": LBFGSConfig,
}
