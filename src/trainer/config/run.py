"""The `run` and `eval` groups, and the whole config of a command."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from trainer.config.data import DataConfig
from trainer.config.keys import Affects, Section, key
from trainer.config.logger import LoggerConfig
from trainer.config.model import LossConfig, ModelConfig
from trainer.config.optim import OptimizerConfig
from trainer.config.scheduler import SchedulerConfig
from trainer.config.trainer import TrainerConfig
from trainer.errors import ConfigError

# What a person may write in place of a run; no folder may be called so.
_WORDS = ("last", "auto")
# A folder may have a name of 255 bytes; a time and a number are added, and more while it is
# removed.
_MAX_NAME_BYTES = 200
_MAX_CLASS = 40


def _folder_name(name: str, value: str) -> None:
    # Control characters, C0 and DEL: every list of runs would print them to the terminal.
    if not re.fullmatch(r"[^\x00-\x1f\x7f/\\]+", value):
        raise ConfigError(
            f"{name}={value!r} cannot name a folder.", hint="Use run.dir for a whole path."
        )
    size = len(os.fsencode(value))
    if size > _MAX_NAME_BYTES:
        raise ConfigError(
            f"{name} has {size} bytes ({value[:30]}…); {_MAX_NAME_BYTES} are the most."
        )


def _no_word(name: str, value: str) -> None:
    # Through Path: ./last and last/ are the same folder.
    if str(Path(value)) in _WORDS:
        raise ConfigError(
            f"{name}={value} is a word of trainer's: resume={value} would mean another run.",
            hint="Choose another name for the folder.",
        )


@dataclass(kw_only=True, slots=True)
class RunConfig(Section):
    """Where the run folder goes: `root`/<date>/<time>-`name`, or exactly `dir`."""

    group: ClassVar[str] = "run"
    affects: ClassVar[Affects] = "command"
    settable: ClassVar[tuple[str, ...]] = ("eval", "reproduce")

    root: str = key(is_path=True, listed=("fit",))
    name: str | None = key(form=_folder_name, listed=("fit",))
    dir: str | None = key(is_path=True, form=_no_word)


def _short_name(section: DataConfig | ModelConfig) -> str:
    """The choice of a group; of a person's own class its name, without its module."""
    return class_name(getattr(section, "target", "") or "") or section.name


def class_name(target: str) -> str:
    """How a run is named after a person's own class: without its module."""
    return target.rpartition(".")[2][:_MAX_CLASS]


@dataclass(kw_only=True, slots=True)
class EvalOptions(Section):
    """What `trainer eval` evaluates and how it reports."""

    group: ClassVar[str] = "eval"
    affects: ClassVar[Affects] = "command"
    settable: ClassVar[tuple[str, ...]] = ("eval",)

    split: str = key(one_of=("test", "val", "train"), listed=("eval",))
    json: bool = key(listed=("eval",))


@dataclass(kw_only=True, slots=True)
class FitConfig(Section):
    """Everything `trainer fit` needs."""

    data: DataConfig
    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    run: RunConfig
    seed: int = key(between=(0, 2**63 - 1), affects="order", listed=("fit",), column=8)
    resume: str | None = key(is_path=True, affects="command", words=("last",), listed=("fit",))

    @property
    def run_name(self) -> str:
        """What the folder of its run is called, besides its date or number."""
        return self.run.name or f"{_short_name(self.data)}-{_short_name(self.model)}"


@dataclass(kw_only=True, slots=True)
class EvalConfig(Section):
    """Everything `trainer eval` needs; all but `ckpt` and `eval` comes from the checkpoint."""

    fit: FitConfig
    ckpt: str = key(is_path=True, affects="command", words=("last",), settable=("eval",))
    eval: EvalOptions
