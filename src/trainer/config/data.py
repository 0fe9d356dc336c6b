"""The `data` group: its keys and their bounds. Values live in configs/data/, the loading in
trainer.data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from trainer.config import checks
from trainer.config.keys import Section, key
from trainer.config.transforms import output_shape, parse_transforms, to_plain
from trainer.errors import ConfigError

Targets = Literal["classes", "values"]
NUM_TRAIN_IMAGES = 60_000
# Known before the data is: a crop that does not fit is refused at once.
IMAGE_SHAPE = (1, 28, 28)
# Of the synthetic data, in float32: 0.8 GB.
_MAX_VALUES = 200_000_000


def val_size_hint(num_samples: int) -> str:
    """What to write where `data.val_size` leaves nothing of so many samples: a fifth of them."""
    return f"Set data.val_size={num_samples // 5}."


@dataclass(kw_only=True, slots=True)
class DataConfig(Section):
    """What every data set has: batches, and how many samples are held out or used."""

    group: ClassVar[str] = "data"
    settable: ClassVar[tuple[str, ...]] = ("eval",)
    may_be_images: ClassVar[bool] = False

    name: str = key(affects="order", redefines=("*",), column=4)
    batch_size: int = key(at_least=1, affects="order", listed=("fit",), column=5)
    # The sums of an evaluation are added up in another order.
    eval_batch_size: int = key(at_least=1, affects="rounding")
    # The held-out part is not trained on: with another size, val would have trained samples.
    val_size: int = key(
        at_least=0, affects="order", redefines=("train/*", "val/*"), listed=("fit",), settable=()
    )
    # Null: it follows `seed`.
    seed: int | None = key(between=(0, 2**63 - 1), affects="samples", settable=(), before=None)
    drop_last: bool = key(affects="order")
    train_limit: int | None = key(
        at_least=1, affects="order", redefines=("train/*",), listed=("fit",)
    )
    eval_limit: int | None = key(at_least=1, affects="evaluation", redefines=("val/*", "test/*"))

    @property
    def targets(self) -> Targets:
        """What a loss compares with."""
        return "classes"

    @property
    def drawn(self) -> tuple[str, ...]:
        """What is drawn from `seed` of this group, a word each; `split`: which are held out."""
        return self._drawn_split()

    def _drawn_split(self) -> tuple[str, ...]:
        return ("split",) if self.val_size else ()


@dataclass(kw_only=True, slots=True)
class ImagesConfig(DataConfig):
    """MNIST and Fashion-MNIST: images of 1 x 28 x 28 bytes in ten classes, 60,000 and 10,000."""

    may_be_images: ClassVar[bool] = True

    root: str = key(
        is_path=True, affects="place", listed=("fit", "eval"), settable=("eval", "reproduce")
    )
    transforms: list[Any] = key(affects="order", redefines=("train/*",), listed=("fit",), column=13)

    def check_together(self) -> None:
        parsed = parse_transforms(self.transforms)
        output_shape(parsed, IMAGE_SHAPE)
        # With every option: a checkpoint means the same when a default here changes.
        self.transforms = to_plain(parsed)
        if self.val_size >= NUM_TRAIN_IMAGES:
            raise ConfigError(
                f"data.val_size={self.val_size} leaves nothing of the {NUM_TRAIN_IMAGES} training "
                "images.",
                hint=val_size_hint(NUM_TRAIN_IMAGES),
            )
        if self.batch_size > NUM_TRAIN_IMAGES:
            raise ConfigError(
                f"data.batch_size={self.batch_size} is larger than the {NUM_TRAIN_IMAGES} training "
                "images.",
                hint=f"Set data.batch_size={NUM_TRAIN_IMAGES} or less, such as 64.",
            )


@dataclass(kw_only=True, slots=True)
class DirichletConfig(DataConfig):
    """x ~ Dirichlet(alpha) of `features` values; the label is the index of the largest."""

    features: int = key(at_least=2, affects="samples", redefines=("*",))
    alpha: float = key(above=0, affects="samples", redefines=("*",))
    train_size: int = key(at_least=1, affects="samples", redefines=("train/*", "val/*"))
    test_size: int = key(at_least=0, affects="samples", redefines=("test/*",))

    @property
    def drawn(self) -> tuple[str, ...]:
        return ("samples", *self._drawn_split())

    def check_together(self) -> None:
        if (self.train_size + self.test_size) * self.features > _MAX_VALUES:
            raise ConfigError(
                f"data.train_size={self.train_size} with data.features={self.features} are more "
                f"than {_MAX_VALUES:,} numbers, which are kept in memory.",
                hint="Use fewer samples or features.",
            )
        if self.val_size >= self.train_size:
            raise ConfigError(
                f"data.val_size={self.val_size} leaves nothing of "
                f"data.train_size={self.train_size}.",
                hint=val_size_hint(self.train_size),
            )


@dataclass(kw_only=True, slots=True)
class LineConfig(DataConfig):
    """y = a x + b + noise at the points `x`, for linear regression."""

    a: float = key(affects="samples", redefines=("*",))
    b: float = key(affects="samples", redefines=("*",))
    # The test has none.
    noise: float = key(at_least=0, affects="samples", redefines=("train/*", "val/*"))
    x: list[float] = key(affects="samples", redefines=("*",))

    @property
    def targets(self) -> Targets:
        return "values"

    @property
    def drawn(self) -> tuple[str, ...]:
        noise = ("noise",) if self.noise else ()
        return (*noise, *self._drawn_split())

    def check_together(self) -> None:
        if not self.x:
            raise ConfigError(
                "data.x=[] is empty: give at least one point, such as data.x=[1,2,3]."
            )
        if self.val_size >= len(self.x):
            raise ConfigError(
                f"data.val_size={self.val_size} leaves nothing of the {len(self.x)} points of "
                "data.x.",
                hint=val_size_hint(len(self.x)),
            )


@dataclass(kw_only=True, slots=True)
class CustomDataConfig(DataConfig):
    """A person's own map-style `torch.utils.data.Dataset`, streamed through a DataLoader."""

    # Known from its first sample, when there is one.
    may_be_images: ClassVar[bool] = True

    target: str = key(form=checks.class_path, is_code=True, affects="order", redefines=("*",))
    # For a split, with the arguments of that split on top.
    kwargs: dict[str, Any] = key(is_open=True, affects="order", redefines=("*",))
    val_kwargs: dict[str, Any] | None = key(
        is_open=True, affects="evaluation", redefines=("val/*",), before=None
    )
    test_kwargs: dict[str, Any] | None = key(
        is_open=True, affects="evaluation", redefines=("test/*",)
    )
    # Every sample has its seed from its index, so the number of workers changes no bit.
    num_workers: int = key(between=(0, 512), affects="speed", settable=("eval", "reproduce"))
    task: str = key(one_of=("classification", "regression"), affects="samples", redefines=("*",))
    num_classes: int | None = key(at_least=2, affects="samples")
    # Null: as an attribute `trainer_cache` of the data set says.
    cache: bool | None = key(affects="speed", settable=("eval", "reproduce"), before=None)

    @property
    def targets(self) -> Targets:
        return "classes" if self.task == "classification" else "values"

    def check_together(self) -> None:
        if self.val_kwargs is not None and self.val_size == 0:
            raise ConfigError(
                "data.val_kwargs is for the samples that are held out, and data.val_size=0.",
                hint="Set data.val_size to the number of training samples to hold out.",
            )


DATA: dict[str, type[DataConfig]] = {
    "mnist": ImagesConfig,
    "fashion_mnist": ImagesConfig,
    "dirichlet": DirichletConfig,
    "line": LineConfig,
    "custom": CustomDataConfig,
}
