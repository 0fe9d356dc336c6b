"""Types and checks of the `scheduler` group. Fields are torch's own argument names, in small
letters.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import checks


@dataclass(kw_only=True, slots=True)
class SchedulerConfig:
    """What every scheduler has: the learning rate rises linearly over the first `warmup_steps`
    updates.
    """

    name: str
    warmup_steps: int

    def __post_init__(self) -> None:
        checks.at_least("scheduler.warmup_steps", self.warmup_steps, 0)


@dataclass(kw_only=True, slots=True)
class StepConfig(SchedulerConfig):
    """The learning rate times `gamma` every `step_size` epochs."""

    step_size: int
    gamma: float

    def __post_init__(self) -> None:
        SchedulerConfig.__post_init__(self)
        checks.at_least("scheduler.step_size", self.step_size, 1)
        checks.above("scheduler.gamma", self.gamma, 0)


@dataclass(kw_only=True, slots=True)
class MultistepConfig(SchedulerConfig):
    """The learning rate times `gamma` after each epoch named in `milestones`."""

    milestones: list[int]
    gamma: float

    def __post_init__(self) -> None:
        SchedulerConfig.__post_init__(self)
        checks.sizes("scheduler.milestones", self.milestones)
        checks.above("scheduler.gamma", self.gamma, 0)


@dataclass(kw_only=True, slots=True)
class ExponentialConfig(SchedulerConfig):
    """The learning rate times `gamma` every epoch."""

    gamma: float

    def __post_init__(self) -> None:
        SchedulerConfig.__post_init__(self)
        checks.above("scheduler.gamma", self.gamma, 0)


@dataclass(kw_only=True, slots=True)
class CosineConfig(SchedulerConfig):
    """Half a cosine from the learning rate to `eta_min` over the whole run, or over `t_max` updates."""

    t_max: int | None
    eta_min: float

    def __post_init__(self) -> None:
        SchedulerConfig.__post_init__(self)
        checks.at_least("scheduler.t_max", self.t_max, 1)
        checks.at_least("scheduler.eta_min", self.eta_min, 0)


@dataclass(kw_only=True, slots=True)
class OneCycleConfig(SchedulerConfig):
    """Up to `max_lr` and down again over the whole run; null means that `optimizer.lr` is the top."""

    max_lr: float | None
    pct_start: float
    anneal_strategy: str
    cycle_momentum: bool
    base_momentum: float
    max_momentum: float
    div_factor: float
    final_div_factor: float

    def __post_init__(self) -> None:
        SchedulerConfig.__post_init__(self)
        checks.above("scheduler.max_lr", self.max_lr, 0)
        checks.within("scheduler.pct_start", self.pct_start, 0, 1)
        checks.one_of("scheduler.anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        checks.within("scheduler.base_momentum", self.base_momentum, 0, 1, open_end=True)
        checks.within("scheduler.max_momentum", self.max_momentum, 0, 1, open_end=True)
        checks.at_least("scheduler.div_factor", self.div_factor, 1)
        checks.at_least("scheduler.final_div_factor", self.final_div_factor, 1)


@dataclass(kw_only=True, slots=True)
class PlateauConfig(SchedulerConfig):
    """The learning rate times `factor` once the monitored metric has not improved for `patience`
    evaluations.
    """

    factor: float
    patience: int
    threshold: float
    cooldown: int
    min_lr: float

    def __post_init__(self) -> None:
        SchedulerConfig.__post_init__(self)
        checks.within("scheduler.factor", self.factor, 0, 1, open_end=True)
        checks.at_least("scheduler.patience", self.patience, 0)
        checks.at_least("scheduler.threshold", self.threshold, 0)
        checks.at_least("scheduler.cooldown", self.cooldown, 0)
        checks.at_least("scheduler.min_lr", self.min_lr, 0)


SCHEDULER: dict[str, type[SchedulerConfig]] = {
    "constant": SchedulerConfig,
    "step": StepConfig,
    "multistep": MultistepConfig,
    "exponential": ExponentialConfig,
    "cosine": CosineConfig,
    "one_cycle": OneCycleConfig,
    "plateau": PlateauConfig,
}
