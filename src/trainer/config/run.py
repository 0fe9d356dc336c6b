"""Types and checks of the `run` and `eval` groups, and the whole config of a command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import checks
from trainer.config.data import DataConfig
from trainer.config.optim import OptimizerConfig
from trainer.config.scheduler import SchedulerConfig
from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError

# What a person may write in place of a run; no folder may be called so.
_WORDS = ("last", "auto")


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """Where the run folder goes: `root`/<date>/<time>-`name`, or exactly `dir`."""

    root: str
    name: str | None
    dir: str | None

    def __post_init__(self) -> None:
        checks.filled("run.root", self.root)
        checks.filled("run.dir", self.dir)
        if self.dir is not None and str(Path(self.dir)) in _WORDS:
            raise ConfigError(
                f"run.dir={self.dir} is a word of trainer's: resume={self.dir} would mean another "
                "run.",
                hint="Choose another name for the folder.",
            )
        if self.name is not None and not re.fullmatch(r"[^\x00-\x1f\x7f/\\]+", self.name):
            raise ConfigError(
                f"run.name={self.name!r} cannot name a folder.",
                hint="Use run.dir for a whole path.",
            )


@dataclass(kw_only=True, slots=True)
class EvalOptions:
    """What `trainer eval` evaluates and how it reports."""

    split: str
    json: bool

    def __post_init__(self) -> None:
        checks.one_of("eval.split", self.split, ("test", "val", "train"))


@dataclass(kw_only=True, slots=True)
class FitConfig:
    """Everything `trainer fit` needs."""

    data: DataConfig
    model: Any
    loss: Any
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    logger: Any
    run: RunConfig
    seed: int
    resume: str | None

    def __post_init__(self) -> None:
        checks.within("seed", self.seed, 0, 2**63 - 1)

    @property
    def run_name(self) -> str:
        """What the folder of its run is called, besides its date or number."""
        return self.run.name or f"{self.data.name}-{self.model.name}"


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """Everything `trainer eval` needs; all but `ckpt` and `eval` comes from the checkpoint."""

    fit: FitConfig
    ckpt: str
    eval: EvalOptions
