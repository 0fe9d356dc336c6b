"""Building: what Hydra composed, or a checkpoint holds, as checked dataclasses, and back.

Past `load_fit`, `load_sweep`, `load_eval` and `from_saved` there is no DictConfig.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from trainer.config.closed_schema import refuse_code
from trainer.config.compatibility import check_fit
from trainer.config.keys import Key, Section, keys_of
from trainer.config.run import EvalConfig, EvalOptions, FitConfig, RunConfig
from trainer.config.schema import (
    CHOICES,
    COMMAND_SCHEMAS,
    SCHEMAS,
    SECTIONS,
    TOP_LEVEL,
    ConfigTree,
    affects,
    flatten,
    is_custom,
    with_younger_keys,
)
from trainer.config.sweep import LAUNCHER, SWEEP, GridConfig, LauncherConfig
from trainer.errors import CheckpointError, ConfigError, UsageError, suggestion
from trainer.registry import look_up

S = TypeVar("S", bound=Section)


def load_fit(composed: DictConfig) -> FitConfig:
    """What Hydra composed for `fit`; raises ConfigError naming the key."""
    config = _build(_of_the_run(composed))
    check_fit(config)
    # Now, and not when a resume reads it back: a person's own kwargs may have a `${` or a `_key`.
    try:
        refuse_code(to_plain(config), source="this config")
    except CheckpointError as error:
        _refuse_underscores(config)
        raise ConfigError(f"A checkpoint could not hold this config. {error.what}") from error
    return config


def _refuse_underscores(config: FitConfig) -> None:
    """Raise ConfigError for a keyword argument of a person's own class that begins so."""
    for name in flatten(to_plain(config)):
        key = next((part for part in name.split(".") if part.startswith("_")), None)
        if key is not None:
            raise ConfigError(
                f"A checkpoint could not hold this config: {name} begins with an underscore, as "
                "Hydra's words for code do.",
                hint=f"Give the argument another name in your class, such as {key.strip('_')}.",
            )


def load_sweep(composed: DictConfig) -> tuple[GridConfig, LauncherConfig, RunConfig]:
    """The groups `sweep`, `launcher` and `run` of what Hydra composed; raises ConfigError."""
    whole = _resolved(_without(composed, "experiment"))
    return (
        _choice("sweep", whole.get("sweep"), SWEEP),
        _choice("launcher", whole.get("launcher"), LAUNCHER),
        _section("run", whole.get("run"), RunConfig),
    )


def load_eval(composed: DictConfig) -> EvalConfig:
    """What Hydra composed for `eval`; raises ConfigError naming the key."""
    whole = _of_the_run(composed)
    options = _section("eval", whole.get("eval"), EvalOptions)
    if not isinstance(whole.get("ckpt"), str):
        raise ConfigError("ckpt is missing.")  # the command line checks it before, with a hint
    fit = _build(_without(whole, "eval", "ckpt"))
    check_fit(fit)
    return EvalConfig(fit=fit, ckpt=whole["ckpt"], eval=options)


def from_saved(saved: Mapping[str, object], *, source: str) -> FitConfig:
    """The config inside a checkpoint: a closed schema of names and plain values.

    Nothing in it is resolved, imported or called. A key that did not exist when it was written gets
    the value that keeps the behaviour of then (`Key.before`). Raises CheckpointError for an unknown
    key, a wrong type, an interpolation or anything that asks to run code; `source` names the file
    in the message.
    """
    # Before OmegaConf gets it, which would parse interpolations and take seconds for a long config.
    refuse_code(saved, source=source)
    try:
        return _build(OmegaConf.create(with_younger_keys(saved)))
    except (UsageError, OmegaConfBaseException) as error:
        what = error.what if isinstance(error, UsageError) else str(error).splitlines()[0]
        raise CheckpointError(
            f"{source}: its config is not one of trainer's. {what[:300]}"
        ) from error


def to_plain(config: FitConfig) -> ConfigTree:
    """`config` as plain values, ready for YAML or JSON: what `from_saved` reads back."""
    return dataclasses.asdict(config)


def comparable(config: FitConfig) -> ConfigTree:
    """`config` as plain values, without the folders: where it is equal, runs train the same."""
    return {key: value for key, value in to_plain(config).items() if affects(key) != "command"}


def overlay(composed: DictConfig, saved: FitConfig, changed: Sequence[str]) -> DictConfig:
    """`saved`, with the keys in `changed` (those on the command line) as Hydra composed them.

    A group on the command line is taken as a whole, unless it names the saved choice anyway.
    """
    # Which keys an experiment sets is not known here, so nothing of the saved config is kept.
    if "experiment" in changed:
        return composed
    result = OmegaConf.create(to_plain(saved))
    for key in composed:
        # Where results go and what to resume is up to this command.
        is_new = key not in result or affects(str(key)) == "command"
        if is_new or _is_other_code(str(key), composed[key], saved):
            result[key] = composed[key]
    for key in changed:
        value = OmegaConf.select(composed, key)
        is_choice = key in SCHEMAS and value is not None
        if not is_choice or value.get("name") != result[key]["name"]:
            # Not merged: model.kwargs={a: 1} means that table, without the saved keys beside it.
            OmegaConf.update(result, key, value, merge=False, force_add=True)
    return result


def _is_other_code(group: str, composed: Any, saved: FitConfig) -> bool:
    """Whether a group names another class of a person's own: only the command line may do so."""
    if group not in SCHEMAS or composed.get("name") != "custom":
        return False
    before = getattr(saved, group)
    if OmegaConf.is_missing(composed, "target") or not is_custom(before):
        return True
    return bool(composed["target"] != before.target)


def _without(composed: DictConfig, *keys: str) -> DictConfig:
    # The nodes: to read a value would resolve a ${…}, and raise where it is ???.
    return OmegaConf.create({key: composed._get_node(key) for key in composed if key not in keys})


def _of_the_run(composed: DictConfig) -> DictConfig:
    """What Hydra composed, resolved, without the groups of the command; raises ConfigError."""
    whole = _resolved(_without(composed, "experiment"))
    for group, choices in COMMAND_SCHEMAS.items():
        # A single run has no use for them, but a wrong key in a person's YAML is an error anyway.
        if group in whole:
            _choice(group, whole.get(group), choices)
    return _without(whole, *COMMAND_SCHEMAS)


def _resolved(composed: DictConfig) -> DictConfig:
    """`composed` with every ${…} replaced by its value; raises ConfigError naming the key."""
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{error.full_key} cannot be read: {str(error).splitlines()[0]}."
        ) from error
    assert isinstance(plain, dict), "it is made of a DictConfig"
    return OmegaConf.create(plain)


def _build(composed: DictConfig) -> FitConfig:
    known = {*SCHEMAS, *SECTIONS, *TOP_LEVEL}
    for key in composed:
        if key not in known:
            raise ConfigError(
                f"{key!s} is not a key of trainer.", hint=suggestion(str(key), known, label="Keys")
            )
    for key in sorted(known - set(composed)):  # sorted, so that the same one is named each time
        raise ConfigError(
            f"{key} is missing from the config.", hint=f"Every config needs it: {key}=…"
        )
    parts: dict[str, Any] = {}
    for group, choices in SCHEMAS.items():
        parts[group] = _choice(group, composed.get(group), choices)
    for group, schema in SECTIONS.items():
        parts[group] = _section(group, composed.get(group), schema)
    for name in TOP_LEVEL:
        parts[name] = _top_level(name, composed.get(name))
    return FitConfig(**parts)


def _top_level(name: str, value: object) -> object:
    # OmegaConf would read the text "0" as a seed, and True is an int for Python.
    types = {"int": (int,), "str | None": (str, NoneType)}[keys_of(FitConfig)[name].type]
    if not isinstance(value, types) or isinstance(value, bool):
        hint = {"seed": "Write a whole number: seed=1", "resume": "Name a run: resume=last"}[name]
        raise ConfigError(f"{name}={value} has the wrong type.", hint=hint)
    return value


def _choice(group: str, section: object, choices: Mapping[str, type[S]]) -> S:
    """A group as the dataclass of its choice."""
    name = section.get("name") if isinstance(section, DictConfig) else None
    if isinstance(section, str):
        raise ConfigError(
            f"The config of {group} has no name: it is the text {section}.",
            hint=f"In YAML a choice is made in the defaults list: - override /{group}: {section}",
        )
    if not isinstance(name, str):
        hint = suggestion("", choices, label="Its YAML needs a key `name`, one of")
        raise ConfigError(f"The config of {group} has no name.", hint=hint)
    return _section(group, section, look_up(choices, name, kind=group))


def _section(group: str, section: object, schema: type[S]) -> S:
    """One group as its dataclass, its types and values checked."""
    if not isinstance(section, DictConfig):
        raise ConfigError(
            f"{group}={section} is not a group of keys.",
            hint=suggestion("", keys_of(schema), label=f"Keys of {group}"),
        )
    keys = keys_of(schema)
    _refuse_unknown(group, section, keys)
    name = ""
    try:
        merged = OmegaConf.structured(schema)
        for name in map(str, section):  # one key at a time, so that an error can name it
            _assign(merged, name, section, keys[name])
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (OmegaConfBaseException, OverflowError) as error:  # float() of 400 digits overflows
        raise _describe(error, group, name, section=section, keys=keys) from error


def _label(group: str, section: DictConfig) -> str:
    return f"{group}={section['name']}" if group in CHOICES else group


def _refuse_unknown(group: str, section: DictConfig, keys: Mapping[str, Key]) -> None:
    for name in section:
        if name not in keys:
            settable = [key for key in keys if key != "name" or group not in CHOICES]
            raise ConfigError(
                f"{group}.{name!s}: {_label(group, section)} has no such key.",
                hint=suggestion(str(name), settable, label="Keys"),
            )


def _describe(
    error: Exception, group: str, name: str, *, section: DictConfig, keys: Mapping[str, Key]
) -> ConfigError:
    """What OmegaConf refuses about the key `name`, in our words."""
    if isinstance(error, ValidationError | OverflowError):
        plain = OmegaConf.to_container(section, resolve=False)
        assert isinstance(plain, dict), "it is the config of a group"
        value = plain.get(name)
        hint = None
        if "list[" in keys[name].type and isinstance(value, int | float | str) and value != "":
            hint = f"Write {shlex.quote(f'{group}.{name}=[{value}]')}"
        return ConfigError(
            f"{group}.{name}={value} has the wrong type: {in_words(keys[name].type)} is expected.",
            hint=hint,
        )
    if isinstance(error, MissingMandatoryValue):
        # Where no key is missing, a value in a list is: OmegaConf reads `???` as such.
        missing = next((key for key in keys if key not in section), error.full_key or name)
        is_code = missing in keys and keys[str(missing)].is_code
        example = "my_package.my_module.MyClass; docs/custom.md has an example." if is_code else "…"
        return ConfigError(
            f"{group}.{missing!s} is missing: {_label(group, section)} needs it.",
            hint=f"Add {group}.{missing!s}={example}",
        )
    return ConfigError(f"{group}.{name} cannot be read: {str(error).splitlines()[0]}.")


def _assign(merged: DictConfig, name: str, section: DictConfig, key: Key) -> None:
    value = section[name]
    # OmegaConf takes any number for a switch, and more words than YAML does.
    if key.type == "bool" and value not in (True, False, "true", "false"):
        raise ValidationError(f"{value} is no switch.")
    merged[name] = value


def in_words(kind: str) -> str:
    """A field's type in a person's words."""
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
    return " or ".join(words[part] for part in kind.split(" | "))
