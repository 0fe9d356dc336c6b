"""Words of a command line that are to be copied: the values quoted for Hydra. No torch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config.schema import may_set


def override(key: str, value: str) -> str:
    """`key=value`, the value quoted where Hydra's grammar needs it."""
    # Outside of quotes its names and numbers are ASCII.
    if all((char.isascii() and char.isalnum()) or char in f"_-./:{os.sep}" for char in value):
        return f"{key}={value}"
    escaped = value.replace("'", "\\'")
    return f"{key}='{escaped}'"


def own_words(config: Mapping[str, Any], *, given: Sequence[str] = ()) -> list[str]:
    """The words that name the person's own classes again: a checkpoint never names code.

    `config` is a run's config as plain values. Words of the command `given` are repeated; a class
    that came from elsewhere, such as an experiment, is named by its import path. The arguments of a
    class are in the checkpoint.
    """
    targets = {
        group: str(section["target"])
        for group, section in config.items()
        if isinstance(section, Mapping) and section.get("target")
    }
    words = []
    for group, target in reversed(targets.items()):
        repeated = [word for word in given if _group(word) == group]
        if group not in map(_key, repeated):
            named = [f"{group}=custom", override(f"{group}.target", target)]
            repeated = named + [word for word in repeated if _key(word) != f"{group}.target"]
        words += repeated
    return words + (_config_dir(given) if targets else [])


def _key(word: str) -> str:
    """`model.kwargs.width` for `+model.kwargs.width=3`."""
    return word.lstrip("+").partition("=")[0]


def _group(word: str) -> str:
    """`model` for `+model.kwargs.width=3`."""
    return _key(word).partition(".")[0]


def _config_dir(given: Sequence[str]) -> list[str]:
    """The flag that names the person's own folder of YAML, and its value."""
    found = [word for word in given if word.startswith(("--config-dir=", "-cd="))]
    for flag, value in itertools.pairwise(given):
        if flag in ("-cd", "--config-dir"):
            found += [flag, value]
    return found


def eval_words(config: Mapping[str, Any], *, given: Sequence[str] = ()) -> list[str]:
    """What `trainer eval` needs besides `ckpt`: own classes, and a split where there is no test."""
    # All else is in the checkpoint, and eval refuses keys of the data that it may not set.
    kept = [word for word in given if _group(word) != "data" or may_set("eval", _key(word))]
    return [*own_words(config, given=kept), *_split_words(config)]


def _split_words(config: Mapping[str, Any]) -> list[str]:
    """`eval.split=val` or `=train` where there is no test set; no word where there is one."""
    data = config.get("data")
    if not isinstance(data, Mapping):
        return []
    has_test = data.get("test_size", 1) != 0 and data.get("test_kwargs", {}) is not None
    if has_test:
        return []
    return ["eval.split=val" if data.get("val_size") else "eval.split=train"]
