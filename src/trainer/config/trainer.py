"""The `trainer` group: how long and on what to train, and what changes the maths of a step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from trainer.config.checks import MAX_THREADS, Cadence
from trainer.config.keys import Section, key
from trainer.errors import ConfigError


def _device(name: str, value: str) -> None:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", value):
        raise ConfigError(
            f"{name}={value} is not a device.",
            hint="Write auto, cpu, cuda, cuda:1 for the second GPU, or mps (Apple, untested).",
        )


@dataclass(kw_only=True, slots=True)
class TrainerConfig(Section):
    """How long and on what to train, and when to evaluate and save."""

    group: ClassVar[str] = "trainer"
    settable: ClassVar[tuple[str, ...]] = ("eval",)

    epochs: int = key(at_least=0, listed=("fit",), column=7)
    max_steps: int | None = key(at_least=0, listed=("fit",), column=18)
    device: str = key(
        form=_device,
        words=("auto", "cpu", "cuda", "mps"),
        affects="rounding",
        listed=("fit", "eval"),
        settable=("eval", "reproduce"),
    )
    precision: str = key(one_of=("fp32", "bf16", "fp16"), listed=("fit",))
    # Compiled code fuses operations and orders sums in another way.
    compile: str = key(one_of=("off", "on", "auto"), affects="rounding")
    accumulate: int = key(at_least=1, affects="order", listed=("fit",))
    clip_norm: float | None = key(above=0, listed=("fit",))
    l1: float = key(at_least=0)
    ema: float | None = key(between=(0, 1), open_end=True, listed=("fit",))
    patience: int | None = key(at_least=1, listed=("fit",))
    monitor: str | None = key(listed=("fit",))
    # The threads split a sum between them, so another number rounds it in another way.
    threads: int | None = key(between=(1, MAX_THREADS), affects="rounding")
    deterministic: bool = key(affects="rounding")
    # Parsed to be checked; the config keeps the text, which YAML and a checkpoint can hold.
    save_every: str = key(form=Cadence.parse, affects="record", listed=("fit",))
    eval_every: str = key(form=Cadence.parse, affects="evaluation")
    keep: int = key(at_least=0, affects="record")
    profile: bool = key(affects="record")
    profile_from: int = key(at_least=1, affects="record")
    # 1,000 steps of lenet5 are a trace of 83 MB, which takes 1.4 GB to sum up.
    profile_steps: int = key(between=(1, 1000), affects="record")

    def __post_init__(self) -> None:
        # YAML reads a bare `off` as false, the command line reads it as a word.
        self.compile = {"true": "on", "false": "off"}.get(self.compile.lower(), self.compile)
        # super() without arguments does not work in a dataclass with slots: the class is made anew.
        Section.__post_init__(self)
