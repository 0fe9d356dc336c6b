"""Every group and key there is, and the questions that other modules put to them.

A dotted key may name a value inside a table, such as `model.kwargs.width`: it is as its table.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from trainer.config.data import DATA
from trainer.config.keys import REQUIRED, Affects, Key, Section, keys_of
from trainer.config.logger import LOGGER
from trainer.config.model import LOSS, MODEL
from trainer.config.optim import OPTIMIZER
from trainer.config.run import EvalConfig, EvalOptions, FitConfig, RunConfig
from trainer.config.scheduler import SCHEDULER
from trainer.config.sweep import LAUNCHER, SWEEP
from trainer.config.trainer import TrainerConfig

# A config, or a group of one, as nested plain values.
ConfigTree: TypeAlias = dict[str, Any]
# Groups whose schema depends on the choice, found by the `name` in the group.
SCHEMAS: dict[str, Mapping[str, type[Section]]] = {
    "data": DATA,
    "model": MODEL,
    "loss": LOSS,
    "optimizer": OPTIMIZER,
    "scheduler": SCHEDULER,
    "logger": LOGGER,
}
# Groups of the command and not of a run: no run's config holds them.
COMMAND_SCHEMAS: dict[str, Mapping[str, type[Section]]] = {"sweep": SWEEP, "launcher": LAUNCHER}
# Every group of which one is chosen by name.
CHOICES = {**SCHEMAS, **COMMAND_SCHEMAS}
# Groups with one schema.
SECTIONS: dict[str, type[Section]] = {"trainer": TrainerConfig, "run": RunConfig}
# Keys of a run's config that are in no group.
TOP_LEVEL = tuple(name for name in keys_of(FitConfig) if name not in {**SCHEMAS, **SECTIONS})


def schemas_of(group: str) -> list[type[Section]]:
    """The schemas of a group, one for each choice; none for what is no group."""
    one = {**SECTIONS, "eval": EvalOptions}
    return [one[group]] if group in one else list(CHOICES.get(group, {}).values())


def every_key() -> Iterator[tuple[str, Key]]:
    """Every key of every choice of every group, by its dotted name: some names come more often."""
    for group in ("eval", *SCHEMAS, *SECTIONS, *COMMAND_SCHEMAS):
        for schema in schemas_of(group):
            for name, key in keys_of(schema).items():
                yield schema.dotted(name), key
    for name in TOP_LEVEL:
        yield name, keys_of(FitConfig)[name]
    yield "ckpt", keys_of(EvalConfig)["ckpt"]


@functools.cache
def known_keys() -> Mapping[str, Key]:
    """Every key by its dotted name.

    What a key changes and where it appears is the same in all choices that have it; its bounds are
    those of the first.
    """
    found: dict[str, Key] = {}
    for name, key in every_key():
        found.setdefault(name, key)
    return found


def find_key(dotted: str) -> Key | None:
    """The key called so; None for a whole group and for what is unknown."""
    # The third part and more are inside a table, such as model.kwargs.
    return known_keys().get(".".join(dotted.split(".")[:2]))


def affects(dotted: str) -> Affects:
    """What a key changes, or the keys of a group unless they say otherwise."""
    key = find_key(dotted)
    if key is not None and key.affects is not None:
        return key.affects
    schemas = schemas_of(dotted.partition(".")[0])
    return schemas[0].affects if schemas else "result"


def may_set(verb: str, dotted: str) -> bool:
    """Whether a verb on a checkpoint may change this key, or the choice of this group."""
    key = find_key(dotted)
    if key is not None and key.settable is not None:
        return verb in key.settable
    schemas = schemas_of(dotted.partition(".")[0])
    return bool(schemas) and verb in schemas[0].settable


def listed_keys(verb: str) -> list[str]:
    """The keys on the help page of a verb."""
    return [name for name, key in known_keys().items() if verb in key.listed]


def settable_keys(verb: str) -> list[str]:
    """The single keys that a verb on a checkpoint may change."""
    return [name for name, key in known_keys().items() if verb in (key.settable or ())]


def is_custom(section: Section) -> bool:
    """Whether a group of a config names a person's own class."""
    return any(key.is_code for key in keys_of(type(section)).values())


def custom_groups(config: FitConfig) -> list[str]:
    """The groups of a config that name a person's own class, under `target`, the model first."""
    return [group for group in reversed(SCHEMAS) if is_custom(getattr(config, group))]


def with_younger_keys(saved: Mapping[str, Any]) -> ConfigTree:
    """A saved config with the keys that did not exist when it was written.

    They get their value `before`; the config is not checked.
    """
    whole = dict(saved)
    for name, key in keys_of(FitConfig).items():
        if key.before is not REQUIRED:
            whole.setdefault(name, copy.deepcopy(key.before))
    for group, schema in _chosen(whole).items():
        younger = {
            name: copy.deepcopy(key.before)
            for name, key in keys_of(schema).items()
            if key.before is not REQUIRED
        }
        whole[group] = {**younger, **whole[group]}
    return whole


def without_younger_keys(plain: Mapping[str, object]) -> ConfigTree:
    """A config as plain values, without keys that are as before they existed.

    So its hash is the one that an older version of trainer made of the same config.
    """
    older = _without_younger(plain, FitConfig)
    return older | {
        group: _without_younger(older[group], schema) for group, schema in _chosen(older).items()
    }


def _without_younger(plain: Mapping[str, object], schema: type[Section]) -> ConfigTree:
    keys = keys_of(schema)
    return {
        name: value
        for name, value in plain.items()
        if name not in keys or keys[name].before != value
    }


def _chosen(plain: Mapping[str, object]) -> dict[str, type[Section]]:
    """The schema of each group in a config that may be of anybody's."""
    found = {}
    for group, section in plain.items():
        if not isinstance(section, Mapping):
            continue
        if group in SECTIONS:
            found[group] = SECTIONS[group]
        elif isinstance(name := section.get("name"), str) and name in SCHEMAS.get(group, {}):
            found[group] = SCHEMAS[group][name]
    return found


def flatten(table: Mapping[str, object], *, levels: int = 100) -> dict[str, object]:
    """Nested tables as one of dotted keys. With `levels=2`, a table in a group is a value."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and levels > 1:
            inner = flatten(value, levels=levels - 1)
            flat |= {f"{key}.{name}": item for name, item in inner.items()}
        else:
            flat[str(key)] = value
    return flat
