"""Composing the shipped YAML as the command line does, for tests of the config."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from trainer.cli.configs import configs_folder
from trainer.config import SCHEMAS, FitConfig, load_fit

CONFIGS = configs_folder()

# Choices that a choice needs beside it to fit; the rest fits the defaults.
_LINE = ("data=line", "model=linear")
COMPANIONS: dict[str, tuple[str, ...]] = {
    "data=dirichlet": ("model=mlp",),
    "data=line": ("model=linear", "loss=mse"),
    "data=custom": ("data.target=my_package.MyDataset",),
    "model=custom": ("model.target=my_package.MyModel",),
    "loss=nll": ("model=cnn_dropout",),
    "loss=mse": _LINE,
    "loss=l1": _LINE,
    "loss=huber": _LINE,
}


def composed(*overrides: str, verb: str = "fit") -> DictConfig:
    """What Hydra composes from the shipped YAML and `overrides`."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(verb, overrides=list(overrides))


def config_of(*overrides: str) -> FitConfig:
    """The shipped config with `overrides`, checked."""
    return copy.deepcopy(_config_of(*overrides))


@functools.cache
def _config_of(*overrides: str) -> FitConfig:
    # Many tests have the same, and Hydra takes a tenth of a second.
    return load_fit(composed(*overrides))


def choices_of(group: str) -> list[str]:
    """The choices that ship for a group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a table."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def all_choices() -> list[str]:
    """`group=choice` for every choice of every group with a schema of its own, and of `trainer`."""
    return [f"{group}={choice}" for group in (*SCHEMAS, "trainer") for choice in choices_of(group)]
