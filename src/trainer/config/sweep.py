"""The `sweep` and `launcher` groups: which runs a sweep makes, and where they run.

They belong to the command and not to a run: neither a run's config nor a checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from omegaconf import DictConfig

from trainer.config.checks import MAX_THREADS
from trainer.config.keys import Affects, Section, key
from trainer.config.run import RunConfig
from trainer.errors import ConfigError

_AUTO = "auto"


def _num_jobs(name: str, value: str) -> None:
    # The length first: int() raises ValueError for more than 4,300 digits.
    is_short = value.isascii() and value.isdigit() and len(value) <= 4
    is_number = is_short and 1 <= int(value) <= 1024
    if value != _AUTO and not is_number:
        raise ConfigError(
            f"{name}={value} is not known.",
            hint=f"Write auto, or how many jobs run at a time: {name}=2",
        )


@dataclass(kw_only=True, slots=True)
class GridConfig(Section):
    """Every combination of the values, and what every sweep has."""

    group: ClassVar[str] = "sweep"
    affects: ClassVar[Affects] = "command"

    name: str
    jobs: str = key(form=_num_jobs, words=(_AUTO,), affects="speed", listed=("fit",))
    devices: list[int] | None = key(between=(0, 1023), affects="speed")
    jobs_per_device: int = key(between=(1, 64), affects="speed")
    retry_failed: bool
    fresh: bool
    params: dict[str, Any]

    def check_together(self) -> None:
        if self.devices is None:
            return
        # A GPU that is named twice would get twice jobs_per_device.
        if not self.devices or len(set(self.devices)) < len(self.devices):
            raise ConfigError(
                f"sweep.devices={self.devices} must name GPUs, each once.",
                hint="Such as sweep.devices=[0,1].",
            )

    @property
    def num_jobs(self) -> int | None:
        """How many jobs run at a time; None when the machine decides."""
        return None if self.jobs == _AUTO else int(self.jobs)


@dataclass(kw_only=True, slots=True)
class RandomConfig(GridConfig):
    """Values drawn at random."""

    # It affects none of the trials: with a larger number a sweep continues, with the same draws.
    trials: int = key(between=(1, 100_000))
    seed: int = key(between=(0, 2**31 - 1), affects="trials")


@dataclass(kw_only=True, slots=True)
class OptunaConfig(RandomConfig):
    """Values that Optuna suggests from earlier trials, and an early end for hopeless ones."""

    startup_trials: int = key(between=(1, 100_000), affects="trials")
    pruner: str = key(one_of=("median", "hyperband", "none"), affects="trials")
    warmup: int = key(between=(0, 100_000), affects="trials")
    storage: str | None = key(is_filled=True, affects="trials")


SWEEP: dict[str, type[GridConfig]] = {
    "grid": GridConfig,
    "random": RandomConfig,
    "optuna": OptunaConfig,
}


@dataclass(kw_only=True, slots=True)
class _Launcher(Section):
    """What every launcher has."""

    group: ClassVar[str] = "launcher"
    affects: ClassVar[Affects] = "command"

    name: str


@dataclass(kw_only=True, slots=True)
class LocalConfig(_Launcher):
    """Processes on this machine."""


@dataclass(kw_only=True, slots=True)
class SlurmConfig(_Launcher):
    """Jobs of a Slurm cluster, handed in by submitit; None leaves a value to the cluster."""

    cluster: str = key(one_of=("slurm", "local"))
    partition: str | None
    account: str | None
    qos: str | None
    timeout_min: int = key(at_least=1)
    cpus_per_task: int | None = key(between=(1, MAX_THREADS))
    mem_gb: float | None = key(above=0)
    gpus_per_node: int | None = key(at_least=0)
    array_parallelism: int = key(between=(1, 1_000_000))
    setup: list[str]
    extra: dict[str, Any] = key(is_open=True)


@dataclass(kw_only=True, slots=True)
class RayConfig(_Launcher):
    """Tasks of a Ray cluster; without an address one is started here."""

    address: str | None = key(is_filled=True)
    cpus_per_job: float = key(above=0)
    gpus_per_job: float = key(at_least=0)


LauncherConfig: TypeAlias = LocalConfig | SlurmConfig | RayConfig

LAUNCHER: dict[str, type[LauncherConfig]] = {
    "local": LocalConfig,
    "slurm": SlurmConfig,
    "ray": RayConfig,
}


def key_of(word: str) -> str:
    """The key that an override sets: `model.kwargs.width` of `+model.kwargs.width=3`."""
    return word.lstrip("+~").partition("=")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A key that a sweep varies: over `values` as typed, or over the range `low` to `high`.

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
    """A sweep as the command line describes it.

    `command` is as typed; all jobs share `flags` and `words`. `compose` gives the config of a job
    from all its overrides and raises UsageError. `run` says where the sweep is written; its `name`
    is that of the first job, and `name_template` is `run.name` as it is written, with each ${…}:
    None where experiments are varied, each of which may have another.
    """

    command: list[str]
    flags: list[str]
    words: list[str]
    axes: list[Axis]
    sweep: GridConfig
    launcher: LauncherConfig
    run: RunConfig
    name_template: str | None
    compose: Callable[[Sequence[str]], DictConfig]
