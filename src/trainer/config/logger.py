"""Types and checks of the `logger` group."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.config import checks


@dataclass(kw_only=True, slots=True)
class TensorBoardConfig:
    """What goes to TensorBoard, and how often: a switch for each kind of record, and for most a
    cadence.
    """

    name: str
    log_every: int
    scalars: bool
    hparams: bool
    # The values are in configs/; these are for checkpoints from before there were such keys.
    axes: list[str] = field(default_factory=list)
    layers: bool = False
    layers_every: int = 100
    histograms: bool = False
    histograms_every: int = 1000
    images: bool = False
    images_every: int = 1000
    figures: bool = False
    figures_every: int | None = None
    pr_curves: bool = False
    pr_curves_every: int = 1
    projector: bool = False
    projector_epochs: list[int] = field(default_factory=list)
    projector_layer: str | None = None
    projector_samples: int = 1000
    graph: bool = False
    text: bool = False

    def __post_init__(self) -> None:
        for key in (
            "log_every",
            "layers_every",
            "histograms_every",
            "images_every",
            "pr_curves_every",
        ):
            checks.at_least(f"logger.{key}", getattr(self, key), 1)
        checks.at_least("logger.figures_every", self.figures_every, 1)
        checks.within("logger.projector_samples", self.projector_samples, 10, 2048)
        for axis in self.axes:
            checks.one_of("logger.axes", axis, ("samples", "seconds"))
        for epoch in self.projector_epochs:
            checks.at_least("logger.projector_epochs", epoch, 1)


@dataclass(kw_only=True, slots=True)
class NoLoggerConfig:
    """No TensorBoard; metrics.jsonl is written all the same."""

    name: str
    log_every: int

    def __post_init__(self) -> None:
        checks.at_least("logger.log_every", self.log_every, 1)


# The two differ in their values only: a preset is a choice of its own, so that a resume can change
# to it.
LOGGER: dict[str, type] = {
    "tensorboard": TensorBoardConfig,
    "tensorboard_full": TensorBoardConfig,
    "none": NoLoggerConfig,
}
