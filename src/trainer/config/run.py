"""Types and checks of the `trainer`, `logger`, `run` and `eval` groups, and the whole config of a command."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import checks
from trainer.config.checks import Cadence
from trainer.config.data import DataConfig
from trainer.config.optim import OptimizerConfig
from trainer.config.scheduler import SchedulerConfig
from trainer.errors import ConfigError

# What a person may write in place of a run; no folder may be called so.
_WORDS = ("last", "auto")


@dataclass(kw_only=True, slots=True)
class TrainerConfig:
    """How long and on what to train, what changes the maths of a step, and when to evaluate and save."""

    epochs: int
    max_steps: int | None
    device: str
    precision: str
    compile: str
    accumulate: int
    clip_norm: float | None
    l1: float
    ema: float | None
    patience: int | None
    monitor: str | None
    threads: int | None
    deterministic: bool
    save_every: str
    eval_every: str
    keep: int
    # The values are in configs/; these are for checkpoints from before there were such keys.
    profile: bool = False
    profile_from: int = 10
    profile_steps: int = 20

    def __post_init__(self) -> None:
        checks.at_least("trainer.epochs", self.epochs, 0)
        checks.at_least("trainer.max_steps", self.max_steps, 0)
        checks.one_of("trainer.precision", self.precision, ("fp32", "bf16", "fp16"))
        # YAML reads a bare `off` as false, the command line reads it as a word.
        self.compile = {"true": "on", "false": "off"}.get(self.compile.lower(), self.compile)
        checks.one_of("trainer.compile", self.compile, ("off", "on", "auto"))
        checks.at_least("trainer.accumulate", self.accumulate, 1)
        checks.above("trainer.clip_norm", self.clip_norm, 0)
        checks.at_least("trainer.l1", self.l1, 0)
        checks.within("trainer.ema", self.ema, 0, 1, open_end=True)
        checks.at_least("trainer.patience", self.patience, 1)
        checks.within("trainer.threads", self.threads, 1, checks.MAX_THREADS)
        checks.at_least("trainer.keep", self.keep, 0)
        checks.at_least("trainer.profile_from", self.profile_from, 1)
        checks.within("trainer.profile_steps", self.profile_steps, 1, 1000)
        Cadence.parse("trainer.save_every", self.save_every)
        Cadence.parse("trainer.eval_every", self.eval_every)
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", self.device):
            raise ConfigError(
                f"trainer.device={self.device} is not a device.",
                hint="Write auto, cpu, cuda, or cuda:1 for the second GPU.",
            )


@dataclass(kw_only=True, slots=True)
class TensorBoardConfig:
    """What goes to TensorBoard, and how often: a switch for each kind of record, and for most a cadence."""

    name: str
    log_every: int
    scalars: bool
    hparams: bool
    # The values are in configs/; these are for checkpoints from before there were such keys.
    axes: list[str] = field(default_factory=list)
    layers: bool = False
    layers_every: int = 100
    histograms: bool = False
    histograms_every: int = 1000
    images: bool = False
    images_every: int = 1000
    figures: bool = False
    figures_every: int | None = None
    pr_curves: bool = False
    pr_curves_every: int = 1
    projector: bool = False
    projector_epochs: list[int] = field(default_factory=list)
    projector_layer: str | None = None
    projector_samples: int = 1000
    graph: bool = False
    text: bool = False

    def __post_init__(self) -> None:
        for key in ("log_every", "layers_every", "histograms_every", "images_every", "pr_curves_every"):
            checks.at_least(f"logger.{key}", getattr(self, key), 1)
        checks.at_least("logger.figures_every", self.figures_every, 1)
        checks.within("logger.projector_samples", self.projector_samples, 10, 2048)
        for axis in self.axes:
            checks.one_of("logger.axes", axis, ("samples", "seconds"))
        for epoch in self.projector_epochs:
            checks.at_least("logger.projector_epochs", epoch, 1)


@dataclass(kw_only=True, slots=True)
class NoLoggerConfig:
    """No TensorBoard; metrics.jsonl is written all the same."""

    name: str
    log_every: int

    def __post_init__(self) -> None:
        checks.at_least("logger.log_every", self.log_every, 1)


# The two differ in their values only: a preset is a choice of its own, so that a resume can change to it.
LOGGER: dict[str, type] = {
    "tensorboard": TensorBoardConfig,
    "tensorboard_full": TensorBoardConfig,
    "none": NoLoggerConfig,
}


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
                f"run.dir={self.dir} is a word of trainer's: resume={self.dir} would mean another run.",
                hint="Choose another name for the folder.",
            )
        if self.name is not None and not re.fullmatch(r"[^\x00-\x1f\x7f/\\]+", self.name):
            raise ConfigError(f"run.name={self.name!r} cannot name a folder.", hint="Use run.dir for a whole path.")


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
