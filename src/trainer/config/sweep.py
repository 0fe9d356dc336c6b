"""Types and checks of the `sweep` and `launcher` groups: which runs a sweep makes, and where they
run.

They are about the command and not about a run: no run's config holds them, and no checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from trainer.config import checks
from trainer.config.run import RunConfig
from trainer.errors import ConfigError

_AUTO = "auto"


@dataclass(kw_only=True, slots=True)
class GridConfig:
    """Every combination of the values; and what every sweep has."""

    name: str
    jobs: str
    devices: list[int] | None
    jobs_per_device: int
    retry_failed: bool
    fresh: bool
    params: dict[str, Any]

    def __post_init__(self) -> None:
        if self.jobs != _AUTO and not (
            self.jobs.isascii() and self.jobs.isdigit() and 1 <= int(self.jobs) <= 1024
        ):
            raise ConfigError(
                f"sweep.jobs={self.jobs} is not known.",
                hint="Write auto, or how many jobs run at a time: sweep.jobs=2",
            )
        checks.within("sweep.jobs_per_device", self.jobs_per_device, 1, 64)
        if self.devices is not None:
            if not self.devices or len(set(self.devices)) < len(self.devices):
                raise ConfigError(
                    f"sweep.devices={self.devices} must name GPUs, each once.",
                    hint="Such as sweep.devices=[0,1].",
                )
            for device in self.devices:
                checks.within("sweep.devices", device, 0, 1023)

    @property
    def num_jobs(self) -> int | None:
        """How many jobs run at a time; None when the machine decides."""
        return None if self.jobs == _AUTO else int(self.jobs)


@dataclass(kw_only=True, slots=True)
class RandomConfig(GridConfig):
    """Values drawn at random."""

    trials: int
    seed: int

    def __post_init__(self) -> None:
        GridConfig.__post_init__(self)
        checks.within("sweep.trials", self.trials, 1, 100_000)
        checks.within("sweep.seed", self.seed, 0, 2**31 - 1)


@dataclass(kw_only=True, slots=True)
class OptunaConfig(RandomConfig):
    """Values that Optuna suggests from what the trials before gave, and an early end for trials
    without prospects.
    """

    startup_trials: int
    pruner: str
    warmup: int
    storage: str | None

    def __post_init__(self) -> None:
        RandomConfig.__post_init__(self)
        checks.within("sweep.startup_trials", self.startup_trials, 1, 100_000)
        checks.one_of("sweep.pruner", self.pruner, ("median", "hyperband", "none"))
        checks.within("sweep.warmup", self.warmup, 0, 100_000)
        checks.filled("sweep.storage", self.storage)


SWEEP: dict[str, type] = {"grid": GridConfig, "random": RandomConfig, "optuna": OptunaConfig}


@dataclass(kw_only=True, slots=True)
class LocalConfig:
    """Processes on this machine."""

    name: str


@dataclass(kw_only=True, slots=True)
class SlurmConfig:
    """Jobs of a Slurm cluster, handed in by submitit; None leaves a value to the cluster."""

    name: str
    cluster: str
    partition: str | None
    account: str | None
    qos: str | None
    timeout_min: int
    cpus_per_task: int | None
    mem_gb: float | None
    gpus_per_node: int | None
    array_parallelism: int
    setup: list[str]
    extra: dict[str, Any]

    def __post_init__(self) -> None:
        checks.one_of("launcher.cluster", self.cluster, ("slurm", "local"))
        checks.at_least("launcher.timeout_min", self.timeout_min, 1)
        checks.within("launcher.cpus_per_task", self.cpus_per_task, 1, checks.MAX_THREADS)
        checks.above("launcher.mem_gb", self.mem_gb, 0)
        checks.at_least("launcher.gpus_per_node", self.gpus_per_node, 0)
        checks.within("launcher.array_parallelism", self.array_parallelism, 1, 1_000_000)


@dataclass(kw_only=True, slots=True)
class RayConfig:
    """Tasks of a Ray cluster; without an address one is started here."""

    name: str
    address: str | None
    cpus_per_job: float
    gpus_per_job: float

    def __post_init__(self) -> None:
        checks.filled("launcher.address", self.address)
        checks.above("launcher.cpus_per_job", self.cpus_per_job, 0)
        checks.at_least("launcher.gpus_per_job", self.gpus_per_job, 0)


LAUNCHER: dict[str, type] = {"local": LocalConfig, "slurm": SlurmConfig, "ray": RayConfig}


def key_of(word: str) -> str:
    """The key that an override sets: `model.kwargs.width` of `+model.kwargs.width=3`."""
    return word.lstrip("+~").partition("=")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A key that a sweep varies, with what its values may be: `values` as typed, or the range `low`
    to `high`.

    Of a range, `step` is None for any number in between; `is_int` asks for whole ones, `log` for a
    draw by magnitude. A range with a step has its values as well; a search takes it as a range.
    `prefix` is the + or ++ of Hydra that was typed before the key.
    """

    key: str
    prefix: str = ""
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_int: bool = False
    log: bool = False

    def word(self, value: str) -> str:
        """The override that sets the key to `value`."""
        return f"{self.prefix}{self.key}={value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """What a command line asks for: the `command` as typed, the `flags` and the `words` that all
    jobs share, the axes.

    `compose` gives the config of a job from its overrides, all of them; it raises UsageError. `run`
    says where the sweep goes.
    """

    command: list[str]
    flags: list[str]
    words: list[str]
    axes: list[Axis]
    sweep: GridConfig
    launcher: Any
    run: RunConfig
    compose: Callable[[Sequence[str]], DictConfig]
