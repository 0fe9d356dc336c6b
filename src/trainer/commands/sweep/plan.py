"""Which jobs a sweep has, and what tells one sweep, and one job, from another. Nothing is
written or started here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from trainer.config import CHOICES, FitConfig, comparable, load_fit
from trainer.config.sweep import Axis, SweepRequest, key_of
from trainer.errors import ConfigError, UsageError

# More jobs than anybody waits for: a typing error in a range.
_MAX_JOBS = 5_000
# Of a command whose first values are wrong, so many jobs are looked at before it is called wrong as
# a whole.
_MAX_LOOKED_AT = 50
# What changes how a sweep is run, but not which jobs it has.
_NOT_THE_JOBS = ("sweep", "launcher", "run")

Values = dict[str, str]
"""What a job sets of the keys that a sweep varies, as typed: `{"optimizer.lr": "0.1"}`."""


def grid(axes: Sequence[Axis]) -> list[Values]:
    """Every combination, the last axis varying fastest; raises UsageError for an interval, or
    for too many.
    """
    for axis in axes:
        if not axis.values:
            raise UsageError(
                f"{axis.key} is an interval, and a grid needs values.",
                hint="Draw from it: sweep=random sweep.trials=20, or search it: sweep=optuna "
                "sweep.trials=20",
            )
    count = math.prod(len(axis.values) for axis in axes)
    if count > _MAX_JOBS:
        raise UsageError(
            f"That would be {count:,} jobs.", hint="Draw from them: sweep=random sweep.trials=100"
        )
    keys = [axis.key for axis in axes]
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(axis.values for axis in axes))
    ]


def samples(axes: Sequence[Axis]) -> Iterator[Values]:
    """A few jobs that show whether the command is right: one for each combination of the choices
    of groups.
    """
    few = [
        axis if axis.key in CHOICES or axis.key == "experiment" else _with_one_value(axis)
        for axis in axes
    ]
    yield from grid(few)


def _with_one_value(axis: Axis) -> Axis:
    value = axis.values[0] if axis.values else repr(int(axis.low) if axis.is_int else axis.low)
    return Axis(key=axis.key, prefix=axis.prefix, values=(value,))


def words_of(request: SweepRequest, values: Values) -> list[str]:
    """All overrides of a job."""
    return [
        *request.words,
        *(axis.word(values[axis.key]) for axis in request.axes if axis.key in values),
    ]


def config_of(request: SweepRequest, values: Values) -> FitConfig:
    """The config of a job; raises UsageError."""
    return load_fit(request.compose(words_of(request, values)))


def check(request: SweepRequest, jobs: Sequence[Values]) -> list[FitConfig]:
    """Raises what is wrong with the command: with a choice, or with every job; gives the configs it
    looked at.

    A value that is wrong in some jobs fails those alone.
    """
    fine, first = _loaded(request, samples(request.axes))
    if not fine:  # the samples have the first values of the other keys, which may be the wrong ones
        fine, _ = _loaded(request, jobs[:_MAX_LOOKED_AT])
    if first is not None and not fine:
        raise first
    return fine


def _loaded(
    request: SweepRequest, jobs: Iterable[Values]
) -> tuple[list[FitConfig], ConfigError | None]:
    """The configs of those jobs whose values are right, and the first error of the others."""
    fine: list[FitConfig] = []
    first = None
    for values in jobs:
        composed = request.compose(words_of(request, values))
        if "experiment" in values and composed.sweep.params:
            raise UsageError(
                f"experiment={values['experiment']} is a sweep itself, and cannot be varied.",
                hint="Sweep over one at a time, or over experiments that are single runs.",
            )
        try:
            fine.append(load_fit(composed))
        except ConfigError as error:
            first = first or error
    return fine, first


def identity(request: SweepRequest, configs: Sequence[FitConfig]) -> str:
    """The same for every command that asks for the same jobs, in whatever order it names them.

    `configs` are those that `check` gave. A job of a grid is known by its config; a trial only by
    this.
    """
    asked = request.sweep
    settings = {
        name: getattr(asked, name)
        for name in ("seed", "startup_trials", "pruner", "warmup", "storage")
        if hasattr(asked, name)
    }
    # Of a key that is given twice, the last one counts.
    words = {
        key_of(word): word
        for word in request.words
        if key_of(word).partition(".")[0] not in _NOT_THE_JOBS
    }
    axes: list[list[Any]] = [[axis.prefix + axis.key, sorted(axis.values)] for axis in request.axes]
    shared: list[str] = []
    if asked.name != "grid":
        for told, axis in zip(
            axes, request.axes, strict=True
        ):  # for a grid, range(0,2) and 0,1 are the same jobs
            told += [axis.low, axis.high, axis.step, axis.log]
        shared = sorted({_digest(_not_varied(config, request.axes)) for config in configs})
    return _digest(
        [
            asked.name,
            settings,
            sorted(words.values()),
            sorted(axes, key=str),
            shared,
            request.flags,
            request.run.name,
        ]
    )


def _not_varied(config: FitConfig, axes: Sequence[Axis]) -> dict[str, Any]:
    """What the jobs have in common: of the shipped YAML, and of the person's own."""
    plain = comparable(config)
    for axis in axes:
        group, _, key = axis.key.partition(".")
        if not key:
            plain.pop(group, None)
        elif isinstance(plain.get(group), dict):
            plain[group].pop(key, None)
    return plain


def config_hash(config: FitConfig) -> str:
    """The same for configs that train the same: of all keys but those that say where a run goes."""
    return _digest(comparable(config))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
