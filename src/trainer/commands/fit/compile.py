"""`trainer.compile`: the fastest way to run the model here, measured once and remembered."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from trainer.commands.fit.components import Components
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
# Compiling takes some 10 to 60 seconds on two cores; nobody waits for that in a run that is over
# before it pays.
_WORTH_S = 120.0
# What compiling must save of a pass, so that noise does not decide.
_MARGIN = 0.05
_TOO_SHORT = "the run is too short for compiling to pay"


class CompileError(Exception):
    """The model cannot be compiled here; the text says why, in a phrase."""


def compiled(model: nn.Module, *, batch_size: int) -> Forward:
    """`model` compiled for batches of `batch_size`; any other goes through it as it is.

    For another shape it would be compiled anew, which takes as long again: the last batch of an
    epoch is not worth it. The names of its tensors stay the same. Random numbers, of dropout, are
    drawn as in eager mode.
    """
    # This imports torch's compiler, which takes over a second: called only where it is needed.
    whole = torch.compile(model, dynamic=False, options={"fallback_random": True})

    def forward(inputs: Tensor) -> Tensor:
        outputs: Tensor = whole(inputs) if len(inputs) == batch_size else model(inputs)
        return outputs

    return forward


def try_out(once: Callable[[Forward], None], forward: Forward) -> float:
    """Seconds of the first passes, which compile; raises CompileError when they cannot."""
    start = time.perf_counter()
    try:
        for _ in range(_WARM_UP):
            once(forward)
    # The name is looked up only after an error, when the compiler has been imported.
    except torch._dynamo.exc.TorchDynamoException as error:
        # The first line has the reason; a trace of the compiler follows.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CompileError(lines[0][:200] if lines else type(error).__name__) from error
    return time.perf_counter() - start


def seconds_a_pass(
    once: Callable[[Forward], None], forwards: Mapping[str, Forward]
) -> dict[str, float]:
    """Seconds of a pass in each way: medians over rounds that take turns.

    A disturbance of the machine thus meets them all.
    """
    times: dict[str, list[float]] = {name: [] for name in forwards}
    for _ in range(_ROUNDS):
        for name, forward in forwards.items():
            num = 0
            start = time.perf_counter()
            while (elapsed := time.perf_counter() - start) < _ROUND_S or not num:
                once(forward)
                num += 1
            times[name].append(elapsed / num)
    return {name: statistics.median(found) for name, found in times.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the model is run, `eager` or `compiled`, and why; the time of a pass, if measured."""

    variant: str
    why: str
    eager_ms: float | None = None
    compiled_ms: float | None = None
    compile_s: float | None = None

    def __str__(self) -> str:
        text = f"{self.variant}, {self.why}"
        if self.eager_ms is None or self.compiled_ms is None:
            return text
        return f"{text} (eager {self.eager_ms:.2f} ms a pass, compiled {self.compiled_ms:.2f} ms)"

    def as_record(self) -> dict[str, object]:
        """For run.json."""
        return asdict(self)


def choose_variant(components: Components, terminal: Terminal, *, keep: bool) -> Choice:
    """Run the model as `trainer.compile` says; raises EnvironmentFault when that cannot be.

    With `auto`, a resumed run with `keep` stays as it was. Any other is run as is fastest for this
    model, batch, machine and version of torch, which is measured now unless it was before.
    """
    setting = components.config.trainer.compile
    machine = components.machine
    if setting == "off":
        return Choice(variant=EAGER, why="as set")
    # A resumed run keeps its way even where the other is faster: it rounds differently.
    if setting == "auto" and keep and machine.saved_variant == EAGER:
        choice = Choice(variant=EAGER, why="as before")
    else:
        trial = _Trial(components, terminal)
        # Passes move the statistics of batch norm and draw for dropout: training must not see it.
        with preserve_state(components.model):
            try:
                if setting == "on":
                    choice = trial.compile_model("as set")
                elif keep:
                    choice = trial.compile_model("as before")
                else:
                    choice = trial.fastest()
            except CompileError as error:
                choice = _without(setting, error, terminal, keep=keep)
        if choice.variant == COMPILED:
            components.state.step.set_forward(trial.forward)
    machine.variant = choice.variant
    terminal.line(f"trainer.compile={setting}: {choice}.")
    return choice


class _Trial:
    """Passes of a first batch, through the model as it is and compiled.

    torch's compiler is imported only when it is needed.
    """

    def __init__(self, components: Components, terminal: Terminal) -> None:
        self._components = components
        self._terminal = terminal
        with closing(components.data.train.epoch(0)) as batches:  # type: ignore[type-var]
            self._inputs, self._targets = next(batches)

    @functools.cached_property
    def forward(self) -> Forward:
        """The compiled model, for batches like the first."""
        return compiled(self._components.model, batch_size=len(self._inputs))

    def compile_model(self, why: str) -> Choice:
        """Compile the model; raises CompileError."""
        self._terminal.note("Compiling the model …")
        return Choice(variant=COMPILED, why=why, compile_s=try_out(self._once, self.forward))

    def fastest(self) -> Choice:
        """The fastest way by an earlier measurement, or else by one now; raises CompileError."""
        key = _key(self._components, self._inputs)
        num_passes = self._num_passes()
        known = _recall(key)
        if known is None:
            model = self._components.model
            eager = seconds_a_pass(self._once, {EAGER: model})[EAGER]
            # Decided by the cheap measurement alone: the other one means compiling.
            if num_passes * eager < _WORTH_S:
                return Choice(variant=EAGER, why=_TOO_SHORT, eager_ms=1e3 * eager)
            known = self._measure()
            _remember(key, known)
            return Choice(variant=_faster(known), why="measured: the fastest", **known)
        why = "measured before: the fastest"
        if _faster(known) == EAGER:
            return Choice(variant=EAGER, why=why, **known)
        saved_s = num_passes * (known["eager_ms"] - known["compiled_ms"]) / 1e3
        if saved_s < known["compile_s"]:
            return Choice(variant=EAGER, why=_TOO_SHORT, **known)
        self.compile_model(why)
        return Choice(variant=COMPILED, why=why, **known)

    def _num_passes(self) -> int:
        state = self._components.state
        return (self._components.num_updates - state.progress.step) * state.limits.accumulate

    def _measure(self) -> dict[str, float]:
        compile_s = self.compile_model("to measure it").compile_s
        assert compile_s is not None, "it has just been measured"
        forwards: dict[str, Forward] = {EAGER: self._components.model, COMPILED: self.forward}
        seconds = seconds_a_pass(self._once, forwards)
        return {
            "eager_ms": 1e3 * seconds[EAGER],
            "compiled_ms": 1e3 * seconds[COMPILED],
            "compile_s": compile_s,
        }

    def _once(self, forward: Forward) -> None:
        self._components.state.step.time_pass(forward, self._inputs, self._targets)
        if self._components.device.type == "cuda":  # only then is the pass over
            torch.cuda.synchronize(self._components.device)


def _faster(known: Mapping[str, float]) -> str:
    return COMPILED if known["compiled_ms"] < (1 - _MARGIN) * known["eager_ms"] else EAGER


def _without(setting: str, error: CompileError, terminal: Terminal, *, keep: bool) -> Choice:
    if setting == "on":
        raise EnvironmentFault(
            f"The model cannot be compiled here: {error}.",
            hint="torch needs a C++ compiler for that (g++); or use trainer.compile=auto or off.",
        ) from error
    if keep:
        terminal.warn(
            "the model was compiled, and cannot be here; results will not be bit-identical."
        )
    return Choice(variant=EAGER, why=f"cannot be compiled here: {error}")


def _key(components: Components, inputs: Tensor) -> str:
    """All that the time of a pass depends on, as one word."""
    config = to_plain(components.config)
    machine = [device_name(components.device), torch.get_num_threads(), str(torch.__version__)]
    facts = {
        # The layers too: a person's class may have changed behind the same name.
        "model": [config["model"], repr(components.model)],
        "loss": config["loss"],
        "precision": config["trainer"]["precision"],
        "input": [list(inputs.shape), str(inputs.dtype)],
        "machine": machine,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# The measurements of this machine are in a file of the user's cache; where there is no such
# folder, every run measures.
_MEMORY_FILE = "compile.json"


def _recall(key: str) -> dict[str, float] | None:
    """The measurement of `key`; None when there is none, or it is invalid."""
    folder = cache_folder(os.environ)
    found = None if folder is None else read_json(folder / _MEMORY_FILE).get(key)
    if not isinstance(found, Mapping) or set(found) != {"eager_ms", "compiled_ms", "compile_s"}:
        return None
    for value in found.values():
        if type(value) is not float or not finite_or_null(value) or value <= 0:
            return None
    return dict(found)


def _remember(key: str, figures: Mapping[str, float]) -> None:
    """Keep a measurement, if the file can be written: without it only the next start is slower."""
    folder = cache_folder(os.environ)
    if folder is None:
        return
    path = folder / _MEMORY_FILE
    # Without a lock: of two runs at once one measurement may be lost, and is made again.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {**read_json(path), key: dict(figures)})
