"""The `logger` group: what is written about a run while it trains, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainer.config.keys import Affects, Section, key


@dataclass(kw_only=True, slots=True)
class LoggerConfig(Section):
    """No TensorBoard; metrics.jsonl is written all the same."""

    group: ClassVar[str] = "logger"
    affects: ClassVar[Affects] = "record"

    name: str
    log_every: int | None = key(at_least=1)


@dataclass(kw_only=True, slots=True)
class TensorBoardConfig(LoggerConfig):
    """What goes to TensorBoard: a switch for each kind of record, and for most a cadence."""

    scalars: bool
    hparams: bool
    axes: list[str] = key(one_of=("samples", "seconds"))
    layers: bool
    layers_every: int = key(at_least=1)
    histograms: bool
    histograms_every: int = key(at_least=1)
    images: bool
    images_every: int = key(at_least=1)
    figures: bool
    figures_every: int | None = key(at_least=1)
    pr_curves: bool
    pr_curves_every: int = key(at_least=1)
    projector: bool
    projector_epochs: list[int] = key(at_least=1)
    projector_layer: str | None
    # A browser takes no larger picture of thumbnails.
    projector_samples: int = key(between=(10, 2048))
    graph: bool
    text: bool


# The two with TensorBoard differ in their values only. Each is a choice with a name, so that
# `fit resume=last logger=tensorboard_full` is another choice than the saved one, and takes effect.
LOGGER: dict[str, type[LoggerConfig]] = {
    "tensorboard": TensorBoardConfig,
    "tensorboard_full": TensorBoardConfig,
    "none": LoggerConfig,
}
