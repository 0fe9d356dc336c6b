"""`trainer.compile`: which way of running the model is the fastest here; measured on the spot,
remembered, and said.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.commands.fit.components import Parts
from trainer.config import to_plain
from trainer.data.image_sets.cache import cache_folder
from trainer.device import COMPILED, EAGER, device_name
from trainer.engine.step import Forward
from trainer.errors import EnvironmentFault
from trainer.files import finite_or_null, read_json, write_json
from trainer.tracking.console import Terminal
from trainer.tracking.preserve import preserve_state

_WARM_UP = 3  # passes
_ROUNDS = 7
_ROUND_S = 0.1


class CompileError(Exception):
    """The model cannot be compiled here; the text says why, in a phrase."""


def compiled(model: nn.Module, *, batch_size: int) -> Forward:
    """`model` compiled for batches of `batch_size`; any other goes through it as it is.

    For another shape it would be compiled anew, which takes as long again: the last batch of an
    epoch is not worth it. The names of its tensors stay the same. Random numbers, of dropout, are
    drawn as in eager mode.
    """
    whole = torch.compile(model, dynamic=False, options={"fallback_random": True})

    def forward(inputs: Tensor) -> Tensor:
        outputs: Tensor = whole(inputs) if len(inputs) == batch_size else model(inputs)
        return outputs

    return forward


def try_out(once: Callable[[Forward], None], forward: Forward) -> float:
    """Seconds that the first passes take, compiling among them; raises CompileError when it
    cannot be done.
    """
    start = time.perf_counter()
    try:
        for _ in range(_WARM_UP):
            once(forward)
    except torch._dynamo.exc.TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CompileError(lines[0][:200] if lines else type(error).__name__) from error
    return time.perf_counter() - start


def seconds_a_pass(
    once: Callable[[Forward], None], forwards: Mapping[str, Forward]
) -> dict[str, float]:
    """How long a pass takes in each way: medians over rounds that take turns, so that a
    disturbance meets them all.
    """
    taken: dict[str, list[float]] = {name: [] for name in forwards}
    for _ in range(_ROUNDS):
        for name, forward in forwards.items():
            num, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < _ROUND_S or not num:
                once(forward)
                num += 1
            taken[name].append(elapsed / num)
    return {name: statistics.median(times) for name, times in taken.items()}


# Compiling takes some 10 to 60 seconds on two cores; nobody waits for that in a run that is over
# before it pays.
_WORTH_S = 120.0
# What compiling must save of a pass, so that noise does not decide.
_MARGIN = 0.05
_TOO_SHORT = "the run is too short for compiling to pay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the model is run, `eager` or `compiled`, and why; what a forward and backward pass
    takes, if measured.
    """

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
    """Let `parts` run the model in the way that `trainer.compile` asks for; raises EnvironmentFault
    when it cannot.

    With `auto`, a run that is gone on with `keeps` its way; else it is the one that was measured as
    the fastest for this model, batch, machine and version of torch, and is measured now where it
    never was.
    """
    asked = parts.config.trainer.compile
    if asked == "off":
        return Choice(variant=EAGER, why="asked for")
    if asked == "auto" and keeps and parts.machine.saved_variant == EAGER:
        choice = Choice(variant=EAGER, why="as before")
    else:
        trial = _Trial(parts, terminal)
        with preserve_state(parts.model):
            try:
                if asked == "on" or keeps:
                    choice = trial.compile_model("asked for" if asked == "on" else "as before")
                else:
                    choice = trial.fastest()
            except CompileError as error:
                choice = _without(asked, error, terminal, keeps=keeps)
        if choice.variant == COMPILED:
            parts.step.use(trial.forward)
    parts.machine.variant = choice.variant
    terminal.line(f"trainer.compile={asked}: {choice}.")
    return choice


class _Trial:
    """Passes of a first batch, as the model is and compiled; torch's compiler is loaded when it
    is first asked for.
    """

    def __init__(self, parts: Parts, terminal: Terminal) -> None:
        self._parts, self._terminal = parts, terminal
        with closing(parts.data.train.epoch(0)) as batches:  # type: ignore[type-var]
            self._inputs, self._targets = next(batches)

    @functools.cached_property
    def forward(self) -> Forward:
        """The compiled model, for batches like the first."""
        return compiled(self._parts.model, batch_size=len(self._inputs))

    def compile_model(self, why: str) -> Choice:
        """Compile the model; raises CompileError."""
        self._terminal.note("Compiling the model …")
        return Choice(variant=COMPILED, why=why, compile_s=try_out(self._once, self.forward))

    def fastest(self) -> Choice:
        """What is the fastest, by what is remembered, or else measured now; raises CompileError."""
        parts, memory, key = self._parts, _Memory(), _key(self._parts, self._inputs)
        num_updates = parts.limits.num_updates(parts.data.train.num_batches) - parts.progress.step
        num_passes = num_updates * parts.limits.accumulate
        known, is_new = memory.recall(key), False
        if known is None:
            eager = seconds_a_pass(self._once, {EAGER: parts.model})[EAGER]
            if num_passes * eager < _WORTH_S:
                return Choice(variant=EAGER, why=_TOO_SHORT, eager_ms=1e3 * eager)
            known, is_new = self._measure(), True
            memory.remember(key, known)
        why = "measured: the fastest" if is_new else "measured before: the fastest"
        if known["compiled_ms"] >= (1 - _MARGIN) * known["eager_ms"]:
            return Choice(variant=EAGER, why=why, **known)
        saved_s = num_passes * (known["eager_ms"] - known["compiled_ms"]) / 1e3
        if not is_new:  # else what compiling costs is spent
            if saved_s < known["compile_s"]:
                return Choice(variant=EAGER, why=_TOO_SHORT, **known)
            self.compile_model(why)
        return Choice(variant=COMPILED, why=why, **known)

    def _measure(self) -> dict[str, float]:
        compile_s = self.compile_model("to see whether that is faster").compile_s
        assert compile_s is not None, "it has just been measured"
        seconds = seconds_a_pass(self._once, {EAGER: self._parts.model, COMPILED: self.forward})
        return {
            "eager_ms": 1e3 * seconds[EAGER],
            "compiled_ms": 1e3 * seconds[COMPILED],
            "compile_s": compile_s,
        }

    def _once(self, way: Forward) -> None:
        self._parts.step.rehearse(way, self._inputs, self._targets)
        if self._parts.device.type == "cuda":  # only then is the pass over
            torch.cuda.synchronize(self._parts.device)


def _without(asked: str, error: CompileError, terminal: Terminal, *, keeps: bool) -> Choice:
    if asked == "on":
        raise EnvironmentFault(
            f"The model cannot be compiled here: {error}.",
            hint="torch needs a C++ compiler for that (g++); or use trainer.compile=auto or off.",
        ) from error
    if keeps:
        terminal.warn(
            "the model was compiled, and cannot be here; results will not be bit-identical."
        )
    return Choice(variant=EAGER, why=f"cannot be compiled here: {error}")


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
    """What was measured on this machine, in a file of the user's cache; without one, it is
    measured each time.
    """

    def __init__(self) -> None:
        folder = cache_folder(os.environ)
        self._path: Path | None = None if folder is None else folder / "compile.json"

    def recall(self, key: str) -> dict[str, float] | None:
        """The figures of `key`; None when there are none that make sense."""
        found = {} if self._path is None else read_json(self._path).get(key)
        names = ("eager_ms", "compiled_ms", "compile_s")
        if not isinstance(found, Mapping) or set(found) != set(names):
            return None
        if not all(
            type(found[name]) is float and finite_or_null(found[name]) and found[name] > 0
            for name in names
        ):
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
