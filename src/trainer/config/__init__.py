"""The one place where YAML becomes dataclasses. Types and checks are here, values in configs/;
torch is not imported.

`load_fit` and `load_eval` take what Hydra composed; `from_saved` takes the plain values in a
checkpoint. Past them there is no DictConfig.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from trainer.config.compatibility import check_fit
from trainer.config.data import DATA
from trainer.config.logger import LOGGER
from trainer.config.model import LOSS, MODEL
from trainer.config.optim import OPTIMIZER
from trainer.config.run import EvalConfig, EvalOptions, FitConfig, RunConfig
from trainer.config.scheduler import SCHEDULER
from trainer.config.sweep import LAUNCHER, SWEEP
from trainer.config.trainer import TrainerConfig
from trainer.errors import CheckpointError, ConfigError, UsageError, suggestion
from trainer.registry import look_up

__all__ = [
    "CHOICES", "COMMAND_SCHEMAS", "SCHEMAS", "EvalConfig", "FitConfig", "comparable", "from_saved", "load_eval",
    "load_fit", "load_sweep", "overlay", "to_plain",
]  # fmt: skip

# Groups whose schema depends on the choice, found by the `name` in the group.
SCHEMAS: dict[str, Mapping[str, type]] = {
    "data": DATA,
    "model": MODEL,
    "loss": LOSS,
    "optimizer": OPTIMIZER,
    "scheduler": SCHEDULER,
    "logger": LOGGER,
}
# Groups of the command and not of a run: no run's config holds them.
COMMAND_SCHEMAS: dict[str, Mapping[str, type]] = {"sweep": SWEEP, "launcher": LAUNCHER}
# Every group of which one is chosen by name.
CHOICES = {**SCHEMAS, **COMMAND_SCHEMAS}
# Groups with one schema.
SECTIONS: dict[str, type] = {"trainer": TrainerConfig, "run": RunConfig}
# Top-level keys that are no group, with what may stand there.
_TOP_LEVEL: dict[str, type | tuple[type, ...]] = {"seed": int, "resume": (str, type(None))}
# Of a config in a checkpoint. OmegaConf takes a second for 10,000 values; a stranger's header has
# room for millions.
_MAX_VALUES = 20_000


def load_fit(composed: DictConfig) -> FitConfig:
    """What Hydra composed for `fit`, as checked dataclasses; raises ConfigError naming the key."""
    config = _build(_resolved(_without(composed, "experiment", *COMMAND_SCHEMAS)))
    check_fit(config)
    try:
        _refuse_code(to_plain(config), source="this config")
    except CheckpointError as error:
        raise ConfigError(f"A checkpoint could not hold this config. {error.what}") from error
    return config


def load_sweep(composed: DictConfig) -> tuple[Any, Any, RunConfig]:
    """The groups `sweep`, `launcher` and `run` of what Hydra composed; raises ConfigError naming
    the key.
    """
    whole = _resolved(_without(composed, "experiment"))
    sweep, launcher = (
        _choice(group, whole.get(group), choices) for group, choices in COMMAND_SCHEMAS.items()
    )
    return sweep, launcher, _section("run", whole.get("run"), RunConfig)


def load_eval(composed: DictConfig) -> EvalConfig:
    """What Hydra composed for `eval`, as checked dataclasses; raises ConfigError naming the key."""
    whole = _resolved(_without(composed, "experiment", *COMMAND_SCHEMAS))
    options = _section("eval", whole.get("eval"), EvalOptions)
    if not isinstance(whole.get("ckpt"), str):
        raise ConfigError(
            "ckpt is missing.",
            hint="Say what to evaluate: trainer eval ckpt=last, or ckpt=runs/<run>.",
        )
    fit = _build(_without(whole, "eval", "ckpt"))
    check_fit(fit)
    return EvalConfig(fit=fit, ckpt=whole["ckpt"], eval=options)


def from_saved(saved: Mapping[str, Any], *, source: str) -> FitConfig:
    """The config inside a checkpoint: a closed schema of names and plain values.

    Nothing in it is resolved, imported or called. Raises CheckpointError for an unknown key, a
    wrong type, an interpolation or anything that asks to run code; `source` names the file in the
    message.
    """
    _refuse_code(saved, source=source)
    try:
        return _build(OmegaConf.create(dict(saved)))
    except (UsageError, OmegaConfBaseException) as error:
        what = error.what if isinstance(error, UsageError) else str(error).splitlines()[0]
        raise CheckpointError(
            f"{source}: its config is not one of trainer's. {what[:300]}"
        ) from error


def to_plain(config: FitConfig) -> dict[str, Any]:
    """`config` as plain values, ready for YAML or JSON: what `from_saved` reads back."""
    return dataclasses.asdict(config)


def comparable(config: FitConfig) -> dict[str, Any]:
    """`config` as plain values, without what says where a run goes: configs that are equal in it
    train the same.
    """
    return {key: value for key, value in to_plain(config).items() if key not in ("resume", "run")}


def overlay(composed: DictConfig, saved: FitConfig, changed: list[str]) -> DictConfig:
    """`saved`, with the keys in `changed` (the ones on the command line) taken from what Hydra
    composed.

    A group on the command line is taken as a whole, unless it names the choice that was saved
    anyway.
    """
    if "experiment" in changed:
        return composed
    result = OmegaConf.create(to_plain(saved))
    for key in composed:
        # Where results go and what to resume is this command's business.
        if (
            key in ("run", "resume")
            or key not in result
            or _is_other_code(composed[key], result[key])
        ):
            result[key] = composed[key]
    for key in changed:
        value = OmegaConf.select(composed, key)
        is_same_choice = (
            key in SCHEMAS and value is not None and value.get("name") == result[key]["name"]
        )
        if not is_same_choice:
            OmegaConf.update(result, key, value, merge=False, force_add=True)
    return result


def _is_other_code(composed: Any, saved: Any) -> bool:
    """Whether a group names a person's own class, other than the saved one: only the command
    line may name code.
    """
    if not isinstance(composed, DictConfig) or composed.get("name") != "custom":
        return False
    return OmegaConf.is_missing(composed, "target") or composed["target"] != saved.get("target")


def _without(composed: DictConfig, *keys: str) -> DictConfig:
    return OmegaConf.create({key: composed._get_node(key) for key in composed if key not in keys})


def _resolved(composed: DictConfig) -> DictConfig:
    """`composed` with every ${…} replaced by its value; raises ConfigError naming the key."""
    try:
        return OmegaConf.create(OmegaConf.to_container(composed, resolve=True))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{error.full_key} cannot be read: {str(error).splitlines()[0]}."
        ) from error


def _build(composed: DictConfig) -> FitConfig:
    known = {*SCHEMAS, *SECTIONS, *_TOP_LEVEL}
    for key in composed:
        if key not in known:
            raise ConfigError(
                f"{key!s} is not a key of trainer.", hint=suggestion(str(key), known, label="Keys")
            )
    for key in sorted(known - set(composed)):
        raise ConfigError(
            f"{key} is missing from the config.", hint=f"Every config needs it: {key}=…"
        )
    parts: dict[str, Any] = {}
    for group, choices in SCHEMAS.items():
        parts[group] = _choice(group, composed.get(group), choices)
    for group, schema in SECTIONS.items():
        parts[group] = _section(group, composed.get(group), schema)
    for key, types in _TOP_LEVEL.items():
        parts[key] = composed.get(key)
        if not isinstance(parts[key], types) or isinstance(parts[key], bool):
            raise ConfigError(
                f"{key}={parts[key]} has the wrong type.",
                hint="seed is a whole number, resume a path.",
            )
    return FitConfig(**parts)


def _choice(group: str, section: Any, choices: Mapping[str, type]) -> Any:
    """A group as the dataclass of its choice."""
    name = section.get("name") if isinstance(section, DictConfig) else None
    if not isinstance(name, str):
        hint = suggestion("", choices, label="Its YAML needs a key `name`, one of")
        raise ConfigError(f"The config of {group} has no name.", hint=hint)
    return _section(group, section, look_up(choices, name, kind=group))


def _section(group: str, section: Any, schema: type) -> Any:
    """One group as its dataclass, its types and values checked."""
    if not isinstance(section, DictConfig):
        raise ConfigError(f"{group}={section} is not a group of keys.")
    label = f"{group}={section['name']}" if group in CHOICES else group
    fields = {field.name: field.type for field in dataclasses.fields(schema)}
    for key in section:
        if key not in fields:
            hint = suggestion(
                str(key), (f for f in fields if f != "name" or group not in CHOICES), label="Keys"
            )
            raise ConfigError(f"{group}.{key!s}: {label} has no such key.", hint=hint)
    key = group
    try:
        merged = OmegaConf.structured(schema)
        for key in section:  # one key at a time, so that an error can name it
            if fields[str(key)] == "bool" and section[key] not in (True, False, "true", "false"):
                raise ValidationError("OmegaConf takes any number, and more words than YAML does.")
            merged[key] = section[key]
        return OmegaConf.to_object(merged)
    except (ValidationError, OverflowError) as error:
        value = OmegaConf.to_container(section, resolve=False).get(key)  # type: ignore[union-attr]
        raise ConfigError(
            f"{group}.{key!s}={value} has the wrong type: {_in_words(fields[str(key)])} is "
            "expected."
        ) from error
    except MissingMandatoryValue as error:
        # Without one, what is missing is a value in a list: OmegaConf reads `???` as such.
        missing = next((name for name in fields if name not in section), str(error.full_key or key))
        raise ConfigError(
            f"{group}.{missing} is missing: {label} needs it.", hint=f"Add {group}.{missing}=…"
        ) from error
    except (ConfigKeyError, OmegaConfBaseException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{group}.{key!s} cannot be read: {reason}.") from error


def _in_words(kind: Any) -> str:
    """A field's type as a person would say it."""
    words = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a text",
        "None": "null",
        "list[int]": "a list of whole numbers, such as [1,2],",
        "list[str]": "a list of words, such as [a,b],",
        "list[float]": "a list of numbers, such as [0.1,0.2],",
        "list[Any]": "a list, such as [a,b],",
        "dict[str, Any]": "a table, such as {a: 1},",
    }
    return " or ".join(words[part] for part in str(kind).split(" | "))


def _refuse_code(saved: Mapping[str, Any], *, source: str) -> None:
    """Walk plain values; refuse what could be resolved or called, and what is deeper or longer
    than any of ours.
    """
    todo: list[tuple[Any, str, int]] = [(saved, "config", 0)]
    num_values = 0
    while todo:
        value, path, depth = todo.pop()
        num_values += 1
        if depth > 12:
            raise CheckpointError(
                f"{source}: its config is nested too deeply to be one of trainer's."
            )
        if isinstance(value, (Mapping, list)) and num_values + len(todo) + len(value) > _MAX_VALUES:
            raise CheckpointError(
                f"{source}: its config is too long to be one of trainer's ({path})."
            )
        if isinstance(value, str):
            if "${" in value or len(value) > 4096:
                raise CheckpointError(
                    f"Refused: {source} holds an interpolation or an oversized text ({path})."
                )
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if not isinstance(key, str) or key.startswith("_"):
                    raise CheckpointError(
                        f"Refused: {source} asks to run code ({path}.{str(key)[:60]}).",
                        hint="trainer never runs code from a checkpoint.",
                    )
                todo.append((item, f"{path}.{key[:60]}", depth + 1))
        elif isinstance(value, list):
            todo.extend((item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
        elif not isinstance(value, (bool, int, float, type(None))):
            raise CheckpointError(f"{source}: its config holds a {type(value).__name__} ({path}).")
