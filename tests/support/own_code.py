"""Training with people's own classes in this process: small data sets, and one call that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from composing import config_of
from running import Run
from torch import Tensor
from torch.utils.data import Dataset

from trainer.commands import eval as evaluation
from trainer.commands.fit import run as fitting
from trainer.commands.fit.resume import find_saved, open_saved
from trainer.config import FitConfig
from trainer.config.run import EvalConfig, EvalOptions
from trainer.tracking.console import Terminal

Sample = tuple[Tensor, Any]


class Points(Dataset[Sample]):
    """`size` points of 6 values in three classes: which of the first three values is largest."""

    classes = ("a", "b", "c")

    def __init__(self, size: int = 40, seed: int = 0) -> None:
        own = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(size, 6, generator=own)
        self.labels = self.inputs[:, :3].argmax(1)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Sample:
        return self.inputs[index], int(self.labels[index])


class Pictures(Points):
    """Pictures of 1 x 8 x 8 values."""

    def __init__(self, size: int = 40, seed: int = 0) -> None:
        super().__init__(size, seed)
        own = torch.Generator().manual_seed(seed)
        self.inputs = torch.randn(size, 1, 8, 8, generator=own)


class Words(Points):
    """Five ids of twenty words (int64)."""

    def __init__(self, size: int = 40, seed: int = 0) -> None:
        super().__init__(size, seed)
        own = torch.Generator().manual_seed(seed)
        self.inputs = torch.randint(0, 20, (size, 5), generator=own)


class Curve(Points):
    """One value to predict, of 6."""

    def __getitem__(self, index: int) -> Sample:
        return self.inputs[index], self.inputs[index].sum().reshape(1)


def name_of(kind: type) -> str:
    """The name to import a class by."""
    return f"{kind.__module__}.{kind.__qualname__}"


def own_words(model: type, data: type | None = Points) -> list[str]:
    """What names the classes; the data set has a validation set of 8 and a test set of 10.

    Without a class of a data set the caller chooses one that ships.
    """
    named = ["model=custom", f"model.target={name_of(model)}"]
    if data is None:
        return named
    return [
        *named,
        "data=custom",
        f"data.target={name_of(data)}",
        "data.test_kwargs={size: 10, seed: 1}",
        "data.val_size=8",
        "data.batch_size=8",
        *(["data.task=regression", "loss=mse"] if data is Curve else []),
    ]


def config_for(folder: Path, model: type, *words: str, data: type | None = Points) -> FitConfig:
    """The config of a short training of a person's own model."""
    small = ["trainer.epochs=1", "logger=none", f"run.dir={folder}"]
    return config_of(*own_words(model, data), *small, *words)


def train(folder: Path, model: type, *words: str, data: type | None = Points) -> Run:
    """Train a person's own model for an epoch into `folder`."""
    config = config_for(folder, model, *words, data=data)
    fitting.run(config, command=("fit",), terminal=Terminal())
    return Run(folder)


def evaluate(folder: Path, model: type, *words: str, data: type = Points) -> None:
    """`trainer eval --json` of the best checkpoint of a run."""
    config = config_for(folder, model, *words, data=data)
    options = EvalOptions(split="test", json=True)
    saved = find_saved(str(folder), root=folder)
    evaluation.run(
        EvalConfig(fit=config, ckpt=str(folder), eval=options), saved, terminal=Terminal()
    )


def resume(folder: Path, model: type, *words: str, data: type = Points) -> Run:
    """Continue the run in `folder`."""
    config = config_for(folder, model, *words, "run.dir=null", f"resume={folder}", data=data)
    with open_saved(str(folder), root=folder, in_place=True) as saved:
        fitting.run(config, command=("fit",), terminal=Terminal(), saved=saved)
    return Run(folder)
