"""Types and checks of the `data` group. Values live in configs/data/, the loading in trainer.data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.config import checks
from trainer.config.transforms import output_shape, parse_transforms, to_plain
from trainer.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """What every data set has: batches, and how many samples are held out or used."""

    name: str
    batch_size: int
    eval_batch_size: int
    val_size: int
    drop_last: bool
    train_limit: int | None
    eval_limit: int | None

    def __post_init__(self) -> None:
        checks.at_least("data.batch_size", self.batch_size, 1)
        checks.at_least("data.eval_batch_size", self.eval_batch_size, 1)
        checks.at_least("data.val_size", self.val_size, 0)
        checks.at_least("data.train_limit", self.train_limit, 1)
        checks.at_least("data.eval_limit", self.eval_limit, 1)


@dataclass(kw_only=True, slots=True)
class ImagesConfig(DataConfig):
    """MNIST and Fashion-MNIST: images of 1 x 28 x 28 bytes, ten classes, 60,000 to train and
    10,000 to test.
    """

    root: str
    transforms: list[Any]

    def __post_init__(self) -> None:
        # super() without arguments does not work in a dataclass with slots: the class is made anew.
        DataConfig.__post_init__(self)
        checks.filled("data.root", self.root)
        parsed = parse_transforms(self.transforms)
        output_shape(parsed, IMAGE_SHAPE)
        self.transforms = to_plain(parsed)
        if self.val_size >= NUM_TRAIN_IMAGES:
            raise ConfigError(
                f"data.val_size={self.val_size} leaves nothing of the {NUM_TRAIN_IMAGES} training "
                "images."
            )
        if self.batch_size > NUM_TRAIN_IMAGES:
            raise ConfigError(
                f"data.batch_size={self.batch_size} is larger than the {NUM_TRAIN_IMAGES} training "
                "images."
            )


NUM_TRAIN_IMAGES, IMAGE_SHAPE = 60_000, (1, 28, 28)


# Of the synthetic data: 0.8 GB.
_MAX_VALUES = 200_000_000


@dataclass(kw_only=True, slots=True)
class DirichletConfig(DataConfig):
    """x ~ Dirichlet(alpha) of `features` values; the label is the index of the largest."""

    features: int
    alpha: float
    train_size: int
    test_size: int

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        checks.at_least("data.features", self.features, 2)
        checks.above("data.alpha", self.alpha, 0)
        checks.at_least("data.train_size", self.train_size, 1)
        checks.at_least("data.test_size", self.test_size, 0)
        if (self.train_size + self.test_size) * self.features > _MAX_VALUES:
            raise ConfigError(
                f"data.train_size={self.train_size} with data.features={self.features} are more "
                f"than {_MAX_VALUES:,} "
                "numbers, which are kept in memory.",
                hint="Use fewer samples or features.",
            )
        if self.val_size >= self.train_size:
            raise ConfigError(
                f"data.val_size={self.val_size} leaves nothing of "
                f"data.train_size={self.train_size}."
            )


@dataclass(kw_only=True, slots=True)
class LineConfig(DataConfig):
    """y = a x + b + noise at the points `x`, for linear regression."""

    a: float
    b: float
    noise: float
    x: list[float]

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        checks.at_least("data.noise", self.noise, 0)
        if not self.x:
            raise ConfigError(
                "data.x=[] is empty: give at least one point, such as data.x=[1,2,3]."
            )
        if self.val_size >= len(self.x):
            raise ConfigError(
                f"data.val_size={self.val_size} leaves nothing of the {len(self.x)} points of "
                "data.x."
            )


@dataclass(kw_only=True, slots=True)
class CustomDataConfig(DataConfig):
    """A person's own map-style `torch.utils.data.Dataset`, streamed through a DataLoader."""

    target: str
    kwargs: dict[str, Any]
    test_kwargs: dict[str, Any] | None
    num_workers: int
    task: str
    num_classes: int | None

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        checks.within("data.num_workers", self.num_workers, 0, 512)
        checks.one_of("data.task", self.task, ("classification", "regression"))
        checks.at_least("data.num_classes", self.num_classes, 2)
        check_target("data.target", self.target)


def check_target(key: str, target: str) -> None:
    """Refuse anything but `package.module.Class`; nothing is imported here."""
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"{key}={target} is not the path of a class.",
            hint=f"Write {key}=my_package.my_module.MyClass",
        )


DATA: dict[str, type[DataConfig]] = {
    "mnist": ImagesConfig,
    "fashion_mnist": ImagesConfig,
    "dirichlet": DirichletConfig,
    "line": LineConfig,
    "custom": CustomDataConfig,
}
