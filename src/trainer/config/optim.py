"""Types and checks of the `optimizer` group. Fields are torch's own argument names.

A field's default value never appears here: configs/optimizer/ holds the values.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import checks
from trainer.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """What every optimizer has."""

    name: str
    lr: float

    def __post_init__(self) -> None:
        checks.above("optimizer.lr", self.lr, 0)


@dataclass(kw_only=True, slots=True)
class DecayConfig(OptimizerConfig):
    """An optimizer with weight decay; `decay_all=false` spares biases and norms (parameters of
    fewer than 2 axes).
    """

    weight_decay: float
    decay_all: bool

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        checks.at_least("optimizer.weight_decay", self.weight_decay, 0)


@dataclass(kw_only=True, slots=True)
class SGDConfig(DecayConfig):
    momentum: float
    dampening: float
    nesterov: bool

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.within("optimizer.momentum", self.momentum, 0, 1, open_end=True)
        checks.within("optimizer.dampening", self.dampening, 0, 1)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ConfigError(
                "optimizer.nesterov=true needs optimizer.momentum above 0 and "
                "optimizer.dampening=0.",
                hint="Set optimizer.momentum=0.9 optimizer.dampening=0, or "
                "optimizer.nesterov=false.",
            )


@dataclass(kw_only=True, slots=True)
class AdamConfig(DecayConfig):
    """adam, adamw."""

    betas: list[float]
    eps: float
    amsgrad: bool

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.betas("optimizer.betas", self.betas)
        checks.at_least("optimizer.eps", self.eps, 0)


@dataclass(kw_only=True, slots=True)
class RAdamConfig(DecayConfig):
    betas: list[float]
    eps: float
    decoupled_weight_decay: bool

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.betas("optimizer.betas", self.betas)
        checks.at_least("optimizer.eps", self.eps, 0)


@dataclass(kw_only=True, slots=True)
class NAdamConfig(RAdamConfig):
    momentum_decay: float

    def __post_init__(self) -> None:
        RAdamConfig.__post_init__(self)
        checks.at_least("optimizer.momentum_decay", self.momentum_decay, 0)


@dataclass(kw_only=True, slots=True)
class AdamaxConfig(DecayConfig):
    betas: list[float]
    eps: float

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.betas("optimizer.betas", self.betas)
        checks.at_least("optimizer.eps", self.eps, 0)


@dataclass(kw_only=True, slots=True)
class RMSpropConfig(DecayConfig):
    alpha: float
    eps: float
    momentum: float
    centered: bool

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.within("optimizer.alpha", self.alpha, 0, 1)
        checks.at_least("optimizer.eps", self.eps, 0)
        checks.at_least("optimizer.momentum", self.momentum, 0)


@dataclass(kw_only=True, slots=True)
class AdagradConfig(DecayConfig):
    lr_decay: float
    initial_accumulator_value: float
    eps: float

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.at_least("optimizer.lr_decay", self.lr_decay, 0)
        checks.at_least("optimizer.initial_accumulator_value", self.initial_accumulator_value, 0)
        checks.at_least("optimizer.eps", self.eps, 0)


@dataclass(kw_only=True, slots=True)
class AdadeltaConfig(DecayConfig):
    rho: float
    eps: float

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.within("optimizer.rho", self.rho, 0, 1)
        checks.at_least("optimizer.eps", self.eps, 0)


@dataclass(kw_only=True, slots=True)
class AdafactorConfig(DecayConfig):
    beta2_decay: float
    d: float

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        if self.beta2_decay > 0:
            raise ConfigError(
                f"optimizer.beta2_decay={self.beta2_decay} is out of range: it must be at most 0."
            )
        checks.at_least("optimizer.d", self.d, 1)


@dataclass(kw_only=True, slots=True)
class ASGDConfig(DecayConfig):
    lambd: float
    alpha: float
    t0: float

    def __post_init__(self) -> None:
        DecayConfig.__post_init__(self)
        checks.at_least("optimizer.lambd", self.lambd, 0)
        checks.at_least("optimizer.alpha", self.alpha, 0)
        checks.at_least("optimizer.t0", self.t0, 0)


@dataclass(kw_only=True, slots=True)
class RpropConfig(OptimizerConfig):
    etas: list[float]
    step_sizes: list[float]

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
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
    max_iter: int
    tolerance_grad: float
    tolerance_change: float
    history_size: int
    line_search_fn: str | None

    def __post_init__(self) -> None:
        OptimizerConfig.__post_init__(self)
        checks.at_least("optimizer.max_iter", self.max_iter, 1)
        checks.at_least("optimizer.history_size", self.history_size, 1)
        checks.at_least("optimizer.tolerance_grad", self.tolerance_grad, 0)
        checks.at_least("optimizer.tolerance_change", self.tolerance_change, 0)
        if self.line_search_fn is not None:
            checks.one_of("optimizer.line_search_fn", self.line_search_fn, ("strong_wolfe",))


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
