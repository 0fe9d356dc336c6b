"""The jobs of a sweep, and the hashes that distinguish two sweeps, or two jobs."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Sequence

from trainer.commands.sweep.names import sweep_name
from trainer.config import (
    CHOICES,
    ConfigTree,
    FitConfig,
    affects,
    comparable,
    load_fit,
    without_younger_keys,
)
from trainer.config.keys import keys_of
from trainer.config.sweep import Axis, SweepRequest, key_of
from trainer.errors import ConfigError, UsageError

# More jobs than anybody waits for: a typing error in a range.
_MAX_JOBS = 5_000
# The whole command is called wrong once this many of its jobs are: to read a config takes
# milliseconds.
_MAX_CHECKED = 50

Values = dict[str, str]
"""The value of each varied key in one job, as typed: `{"optimizer.lr": "0.1"}`."""


def grid(axes: Sequence[Axis]) -> list[Values]:
    """Every combination of the values, the last axis varying fastest.

    Raises UsageError for an interval, and for too many jobs.
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


def samples(axes: Sequence[Axis]) -> list[Values]:
    """A few jobs that show whether a command is right: every choice of a group, else one value."""
    return grid(
        [
            axis if axis.key in CHOICES or axis.key == "experiment" else _with_one_value(axis)
            for axis in axes
        ]
    )


def _with_one_value(axis: Axis) -> Axis:
    value = axis.values[0] if axis.values else _number(axis, axis.low)
    return Axis(key=axis.key, prefix=axis.prefix, values=(value,))


def _number(axis: Axis, value: float) -> str:
    return repr(int(value) if axis.is_int else value)


def words_of(request: SweepRequest, values: Values) -> list[str]:
    """All overrides of a job."""
    varied = [axis.word(values[axis.key]) for axis in request.axes if axis.key in values]
    return [*request.words, *varied]


def command_of(request: SweepRequest, values: Values) -> list[str]:
    """The command that repeats a job alone, without the sweep around it."""
    # `run.dir` is the folder of the sweep, which is in use.
    words = [
        word
        for word in words_of(request, values)
        if _group_of(word) not in ("sweep", "launcher") and key_of(word) != "run.dir"
    ]
    return ["trainer", "fit", *request.flags, *words]


def _group_of(word: str) -> str:
    return key_of(word).partition(".")[0]


def config_of(request: SweepRequest, values: Values) -> FitConfig:
    """The config of a job; raises UsageError."""
    return load_fit(request.compose(words_of(request, values)))


def check(request: SweepRequest, jobs: Sequence[Values]) -> list[FitConfig]:
    """Check a command before anything is written, and return the valid configs it looked at.

    Raises the first error where a choice of a group is wrong, or every job is. A value that is
    wrong in some jobs fails those alone.
    """
    valid, error = _loaded(request, samples(request.axes))
    if not valid:
        # The samples have the first values of the other keys, which may be the only wrong ones.
        valid, _ = _loaded(request, jobs[:_MAX_CHECKED])
    if error is not None and not valid:
        raise error
    return valid


def last_values(request: SweepRequest) -> list[FitConfig]:
    """The config of one job, with the last value of each varied key; none where that is wrong."""
    values = {
        axis.key: axis.values[-1] if axis.values else _number(axis, axis.high)
        for axis in request.axes
    }
    try:
        return _loaded(request, [values])[0]
    except UsageError:
        return []


def _loaded(
    request: SweepRequest, jobs: Iterable[Values]
) -> tuple[list[FitConfig], ConfigError | None]:
    """The configs of the jobs whose values are right, and the first error of the others."""
    valid: list[FitConfig] = []
    first = None
    for values in jobs:
        composed = request.compose(words_of(request, values))
        if "experiment" in values and composed.sweep.params:
            raise UsageError(
                f"experiment={values['experiment']} is a sweep itself, and cannot be varied.",
                hint="Sweep over one at a time, or over experiments that are single runs.",
            )
        try:
            valid.append(load_fit(composed))
        except ConfigError as error:
            first = first or error
    return valid, first


def identities(request: SweepRequest, configs: Sequence[FitConfig]) -> list[str]:
    """The identity of a sweep, and what it was in versions that took the name of the first job."""
    former = _identity(request, configs, name=request.run.name)
    return list(dict.fromkeys([identity(request, configs), former]))


def identity(request: SweepRequest, configs: Sequence[FitConfig]) -> str:
    """A hash that all commands with the same jobs share, in whatever order they name them.

    `configs` are those that `check` returned. A job of a grid is known by its config as well; a
    trial of a search by this hash alone.
    """
    template = request.name_template or ""
    name = template if "${" in template else sweep_name(request, configs)
    return _identity(request, configs, name=name)


def _identity(request: SweepRequest, configs: Sequence[FitConfig], *, name: str | None) -> str:
    sweep = request.sweep
    settings = {
        name: getattr(sweep, name)
        for name, key in keys_of(type(sweep)).items()
        if key.affects == "trials"
    }
    # Of a key that is given twice, the last one counts.
    words = {key_of(word): word for word in request.words if affects(_group_of(word)) != "command"}
    axes: list[list[object]] = []
    shared: list[str] = []
    for axis in request.axes:
        described: list[object] = [axis.prefix + axis.key, sorted(axis.values)]
        if sweep.name != "grid":  # for a grid, range(0,2) and 0,1 are the same jobs
            described += [axis.low, axis.high, axis.step, axis.log]
        axes.append(described)
    if sweep.name != "grid":
        shared = sorted({_digest(_not_varied(config, request.axes)) for config in configs})
    return _digest(
        [
            sweep.name,
            settings,
            sorted(words.values()),
            sorted(axes, key=str),
            shared,
            request.flags,
            name,
        ]
    )


def _not_varied(config: FitConfig, axes: Sequence[Axis]) -> ConfigTree:
    """The part of a config that all jobs share, from the shipped YAML and from the person's own."""
    plain = without_younger_keys(comparable(config))
    for axis in axes:
        group, _, key = axis.key.partition(".")
        if not key:
            plain.pop(group, None)
        elif isinstance(plain.get(group), dict):
            plain[group].pop(key, None)
    return plain


def config_hash(config: FitConfig) -> str:
    """A hash that configs share which train the same; where a run goes does not count."""
    return _digest(without_younger_keys(comparable(config)))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
