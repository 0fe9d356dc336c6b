"""The names of what a sweep makes: its folder, and the run folders of its jobs.

A name has letters, digits, dots, dashes and underscores, besides what a person's `run.name` has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from trainer.commands.sweep.record import short
from trainer.config import SCHEMAS, TOP_LEVEL, FitConfig
from trainer.config.run import class_name
from trainer.config.sweep import Axis, SweepRequest

# Of a job's name in characters; a number is added where the folder exists.
_MAX_NAME = 80
# What a long run.name has of it at least.
_MIN_RUN_NAME = 36
# A longer key or value would leave no room for the others.
_MAX_WORD = 24
# `optimizer.lr` in `${optimizer.lr}`; relative to the group in `${..optimizer.lr}`.
_REFERENCE = re.compile(r"\$\{\.*([^${}:]+)\}")


def sweep_name(request: SweepRequest, configs: Sequence[FitConfig]) -> str | None:
    """The `run.name` that all jobs share; None for none, and where it may depend on the job.

    `configs` are those that `plan.check` returned.
    """
    # In those configs all keys but the groups have their first values.
    if "${" in (request.name_template or ""):
        return None
    names = {config.run.name for config in configs}
    return names.pop() if len(names) == 1 else None


def job_name(
    request: SweepRequest, number: int, values: Mapping[str, str], config: FitConfig
) -> str:
    """The name of a job's run folder: `003-dirichlet-mlp-lr0.1-seed3`.

    It has the number, by which names differ, the run's name, and the varied values that the run's
    name does not have.
    """
    head = f"{number:03d}-"
    parts = [f"-{part}" for part in _parts(request, values, config)]
    room = max(_MAX_NAME - len(head) - sum(map(len, parts)), _MIN_RUN_NAME)
    name = f"{head}{config.run_name[:room]}"
    for part in parts:
        # Half of a number would be another one.
        if len(name) + len(part) <= _MAX_NAME:
            name += part
    return name.rstrip("-._ ")


def _parts(request: SweepRequest, values: Mapping[str, str], config: FitConfig) -> Iterator[str]:
    known = _keys_in_name(request, values, config)
    # A key with one value, such as a pattern that matches one choice, says nothing.
    axes = [axis for axis in request.axes if len(axis.values) != 1 and axis.key not in known]
    for axis in axes:
        others = [other for other in axes if other is not axis]
        value = _safe_value(axis, values[axis.key])
        key = _short_key(axis.key, others)
        if value and _is_choice(axis.key) and not _is_ambiguous(values[axis.key], others):
            yield value
        else:
            yield f"{key}{_separator(key, value)}{value}"


def _safe_value(axis: Axis, value: str) -> str:
    """A value as a name has it: the end of one that begins as another one does."""
    begin = _safe(value)
    is_alike = any(other != value and _safe(other) == begin for other in axis.values)
    return _safe(value, from_end=True) if is_alike else begin


def _keys_in_name(request: SweepRequest, values: Mapping[str, str], config: FitConfig) -> set[str]:
    """The keys whose values the run's name has already."""
    if config.run.name is None:
        found = {"data", "model"}
        targets = [axis for axis in request.axes if axis.key in ("data.target", "model.target")]
        # Two modules may each have a class of one name.
        found |= {
            axis.key
            for axis in targets
            if len(set(map(class_name, axis.values))) == len(axis.values)
        }
    else:
        named = _REFERENCE.findall(request.name_template or "")
        found = {*named, *(key.removesuffix(".name") for key in named)}
    # A choice of a person's own may be called otherwise, such as model=small, which is an mlp.
    return {
        key for key in found if key not in SCHEMAS or values.get(key) == getattr(config, key).name
    }


def _is_choice(key: str) -> bool:
    """Whether the values of a key are choices of a group."""
    return "." not in key and key not in TOP_LEVEL


def _is_ambiguous(value: str, others: Sequence[Axis]) -> bool:
    """Whether a value may be of another group as well."""
    return any(_is_choice(other.key) and value in other.values for other in others)


def _short_key(key: str, others: Sequence[Axis]) -> str:
    """The last part of a key, or as many parts as no other key ends with."""
    # seed alone is the seed of the run, also where only data.seed is varied.
    rivals = {*(axis.key for axis in others), *TOP_LEVEL} - {key}
    parts = key.split(".")
    for start in range(len(parts) - 1, -1, -1):
        end = ".".join(parts[start:])
        if not any(f".{rival}".endswith(f".{end}") for rival in rivals):
            break
    return _safe(end)


def _separator(key: str, value: str) -> str:
    """`_` between words, as in `precision_bf16`, and digits, as in `l1_0.5`; none in `lr0.1`."""
    is_clear = re.match(r"-?\.?[0-9]", value) and not key[-1:].isdigit()
    return "_" if key and value and not is_clear else ""


def _safe(text: str, *, from_end: bool = False) -> str:
    """The words of a text with dashes in between, without what a path or a shell would read.

    Of a long text there are the first ones, or the last ones.
    """
    split = re.split(r"[^A-Za-z0-9._+-]+|\.{2,}", text)
    words = [word for word in map(_safe_word, split) if word]
    kept: list[str] = []
    for word in reversed(words) if from_end else words:
        longer = [word, *kept] if from_end else [*kept, word]
        if len("-".join(longer)) > _MAX_WORD:
            # Half of a number would be another one, but some of a long text is better than none.
            kept = kept or [word[-_MAX_WORD:] if from_end else word[:_MAX_WORD]]
            break
        kept = longer
    return "-".join(kept).lstrip("._").rstrip("-._")


def _safe_word(word: str) -> str:
    is_negative = re.match(r"-\.?[0-9]", word)
    kept = short(word).replace("+", "").strip("-._")
    return f"-{kept}" if is_negative else kept
