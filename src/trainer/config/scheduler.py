"""The `scheduler` group. Fields are torch's own argument names, in small letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.keys import Section, key


@dataclass(kw_only=True, slots=True)
class SchedulerConfig(Section):
    """The learning rate rises linearly over the first `warmup_steps` updates."""

    group: ClassVar[str] = "scheduler"

    name: str = key(column=6)
    warmup_steps: int = key(at_least=0, listed=("fit",), column=17)


@dataclass(kw_only=True, slots=True)
class ExponentialConfig(SchedulerConfig):
    """The learning rate times `gamma` every epoch."""

    gamma: float = key(above=0)


@dataclass(kw_only=True, slots=True)
class StepConfig(SchedulerConfig):
    """The learning rate times `gamma` every `step_size` epochs."""

    step_size: int = key(at_least=1)
    gamma: float = key(above=0)


@dataclass(kw_only=True, slots=True)
class MultistepConfig(SchedulerConfig):
    """The learning rate times `gamma` after each epoch named in `milestones`."""

    milestones: list[int] = key(between=(1, 2**31))
    gamma: float = key(above=0)


@dataclass(kw_only=True, slots=True)
class CosineConfig(SchedulerConfig):
    """Half a cosine from the learning rate to `eta_min`, over `t_max` updates or the whole run."""

    t_max: int | None = key(at_least=1)
    eta_min: float = key(at_least=0)


@dataclass(kw_only=True, slots=True)
class OneCycleConfig(SchedulerConfig):
    """Up to `max_lr` and down again over the whole run; null makes `optimizer.lr` the top."""

    max_lr: float | None = key(above=0)
    pct_start: float = key(between=(0, 1))
    anneal_strategy: str = key(one_of=("cos", "linear"))
    cycle_momentum: bool
    base_momentum: float = key(between=(0, 1), open_end=True)
    max_momentum: float = key(between=(0, 1), open_end=True)
    # Below 1 the rate would begin above its top.
    div_factor: float = key(at_least=1)
    final_div_factor: float = key(at_least=1)


@dataclass(kw_only=True, slots=True)
class PlateauConfig(SchedulerConfig):
    """The learning rate times `factor` after `patience` evaluations without improvement."""

    factor: float = key(between=(0, 1), open_end=True)  # torch refuses 1 as well
    patience: int = key(at_least=0)
    threshold: float = key(at_least=0)
    cooldown: int = key(at_least=0)
    min_lr: float = key(at_least=0)


SCHEDULER: dict[str, type[SchedulerConfig]] = {
    "constant": SchedulerConfig,
    "step": StepConfig,
    "multistep": MultistepConfig,
    "exponential": ExponentialConfig,
    "cosine": CosineConfig,
    "one_cycle": OneCycleConfig,
    "plateau": PlateauConfig,
}
