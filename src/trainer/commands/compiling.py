"""`trainer.compile`: which way of running the model is the fastest here; measured on the spot, remembered, and said."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.commands.parts import Parts
from trainer.config import to_plain
from trainer.data.cache import cache_folder
from trainer.device import COMPILED, EAGER, device_name
from trainer.engine.variants import CompileError, Forward, compiled, seconds_a_pass, try_out, untouched
from trainer.errors import EnvironmentFault
from trainer.rundir import finite_or_null, read_json, write_json
from trainer.tracking.console import Terminal

# Compiling takes some 10 to 60 seconds on two cores; nobody waits for that in a run that is over before it pays.
_WORTH_S = 120.0
# What compiling must save of a pass, so that noise does not decide.
_MARGIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the model is run, `eager` or `compiled`, and why; what a forward and backward pass takes, if measured."""

    variant: str
    why: str
    eager_ms: float | None = None
    compiled_ms: float | None = None
    compile_s: float | None = None

    def __str__(self) -> str:
        if self.eager_ms is None or self.compiled_ms is None:
            return f"{self.variant}, {self.why}"
        return f"{self.variant}, {self.why} (eager {self.eager_ms:.2f} ms a pass, compiled {self.compiled_ms:.2f} ms)"

    def as_record(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)


def choose_variant(parts: Parts, terminal: Terminal, *, keeps: bool) -> Choice:
    """Let `parts` run the model in the way that `trainer.compile` asks for; raises EnvironmentFault when it cannot.

    With `auto`, a run that is gone on with `keeps` its way; else it is the one that was measured as the fastest for
    this model, batch, machine and version of torch, and is measured now where it never was.
    """
    asked = parts.config.trainer.compile
    if asked == "off":
        return Choice(variant=EAGER, why="asked for")
    forward = compiled(parts.model, batch_size=parts.config.data.batch_size)
    inputs, targets = _first_batch(parts)

    def once(way: Forward) -> None:
        parts.step.rehearse(way, inputs, targets)
        if parts.device.type == "cuda":  # only then is the pass over
            torch.cuda.synchronize(parts.device)

    with untouched(parts.model):
        try:
            if asked == "on" or (keeps and parts.machine.saved_variant == COMPILED):
                terminal.note("Compiling the model …")
                why = "asked for" if asked == "on" else "as before"
                choice = Choice(variant=COMPILED, why=why, compile_s=try_out(once, forward))
            elif keeps:
                choice = Choice(variant=EAGER, why="as before")
            else:
                choice = _fastest(parts, once, forward, inputs, terminal)
        except CompileError as error:
            choice = _without(asked, error, terminal, keeps=keeps)
    if choice.variant == COMPILED:
        parts.step.use(forward)
    parts.machine.variant = choice.variant
    terminal.line(f"trainer.compile={asked}: {choice}.")
    return choice


def _fastest(
    parts: Parts, once: Callable[[Forward], None], forward: Forward, inputs: Tensor, terminal: Terminal
) -> Choice:
    memory, key = _Memory(), _key(parts, inputs)
    known = memory.recall(key)
    num_passes = (
        parts.limits.num_updates(parts.data.train.num_batches) - parts.progress.step
    ) * parts.limits.accumulate
    if known is None:
        eager = seconds_a_pass(once, {EAGER: parts.model})[EAGER]
        if num_passes * eager < _WORTH_S:
            return Choice(variant=EAGER, why="the run is too short for compiling to pay", eager_ms=1e3 * eager)
        terminal.note("Compiling the model, to see whether that is faster; it is remembered …")
        compile_s = try_out(once, forward)
        seconds = seconds_a_pass(once, {EAGER: parts.model, COMPILED: forward})
        known = {"eager_ms": 1e3 * seconds[EAGER], "compiled_ms": 1e3 * seconds[COMPILED], "compile_s": compile_s}
        memory.remember(key, known)
        saved_s, why = compile_s, "measured"  # what compiling costs is spent
    else:
        saved_s, why = num_passes * (known["eager_ms"] - known["compiled_ms"]) / 1e3, "measured before"
    is_faster = known["compiled_ms"] < (1 - _MARGIN) * known["eager_ms"]
    if is_faster and saved_s < known["compile_s"]:
        return Choice(variant=EAGER, why="the run is too short for compiling to pay", **known)
    if not is_faster:
        return Choice(variant=EAGER, why=f"{why}: the fastest", **known)
    if why != "measured":
        terminal.note("Compiling the model …")
        try_out(once, forward)
    return Choice(variant=COMPILED, why=f"{why}: the fastest", **known)


def _without(asked: str, error: CompileError, terminal: Terminal, *, keeps: bool) -> Choice:
    if asked == "on":
        raise EnvironmentFault(
            f"The model cannot be compiled here: {error}.",
            hint="torch needs a C++ compiler for that (g++); or use trainer.compile=auto or off.",
        ) from error
    if keeps:
        terminal.warn("the model was compiled, and cannot be here; results will not be bit-identical.")
    return Choice(variant=EAGER, why=f"cannot be compiled here: {error}")


def _first_batch(parts: Parts) -> tuple[Tensor, Tensor]:
    with closing(parts.data.train.epoch(0)) as batches:  # type: ignore[type-var]
        return next(batches)


def _key(parts: Parts, inputs: Tensor) -> str:
    """All that the time of a pass depends on, as one word."""
    config = to_plain(parts.config)
    facts = {
        "model": [config["model"], repr(parts.model)],
        "loss": config["loss"],
        "precision": config["trainer"]["precision"],
        "input": [list(inputs.shape), str(inputs.dtype)],
        "machine": [device_name(parts.device), torch.get_num_threads(), str(torch.__version__)],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class _Memory:
    """What was measured on this machine, in a file of the user's cache; without one, it is measured each time."""

    def __init__(self) -> None:
        folder = cache_folder(os.environ)
        self._path: Path | None = None if folder is None else folder / "compile.json"

    def recall(self, key: str) -> dict[str, float] | None:
        """The figures of `key`; None when there are none that make sense."""
        found = {} if self._path is None else read_json(self._path).get(key)
        names = ("eager_ms", "compiled_ms", "compile_s")
        if not isinstance(found, Mapping) or set(found) != set(names):
            return None
        if not all(type(found[name]) is float and finite_or_null(found[name]) and found[name] > 0 for name in names):
            return None
        return {name: found[name] for name in names}

    def remember(self, key: str, figures: Mapping[str, float]) -> None:
        """Keep them, as far as the file can be written: only the next start takes longer without."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {**read_json(self._path), key: dict(figures)})
        except OSError:
            return
