"""Types and checks of the `trainer` group."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainer.config import checks
from trainer.config.checks import Cadence
from trainer.errors import ConfigError


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
