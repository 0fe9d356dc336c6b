"""Data sets by name: from plain keyword arguments to batches for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config.transforms import output_shape, parse_transforms
from trainer.data.batches import Batches, Prepare, TensorBatches
from trainer.data.dataset import StreamedBatches, first_sample, limited, make_dataset, split_dataset
from trainer.data.image_sets.catalog import IMAGE_SETS
from trainer.data.image_sets.download import Report
from trainer.data.image_sets.locate import load_image_set
from trainer.data.seeding import split_indices
from trainer.data.synthetic import dirichlet, line
from trainer.data.transforms import make_augmentation, make_eval_transform
from trainer.errors import ConfigError
from trainer.registry import look_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One data set, ready for the engine. `classes` are the class names, None where the targets are
    values.

    `input_shape` is that of one sample as the model sees it; `checksums` are the SHA-256 of each
    file's content.
    """

    train: Batches
    train_unshuffled: Batches
    val: Batches | None
    test: Batches | None
    input_shape: tuple[int, ...]
    num_outputs: int
    classes: tuple[str, ...] | None
    checksums: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How samples are divided and batched: the keys that every data set has."""

    batch_size: int
    eval_batch_size: int
    val_size: int
    drop_last: bool
    train_limit: int | None
    eval_limit: int | None


def load_data(
    name: str, *, seed: int, device: torch.device, report: Report, **options: Any
) -> Data:
    """The data set called `name`, its tensors on `device`.

    Raises ConfigError when the sizes leave nothing to train on, and what reading files raises
    (DataError, EnvironmentFault).
    """
    sizes = Sizes(**{key: options.pop(key) for key in Sizes.__slots__})
    return look_up(_LOADERS, name, kind="data")(
        name, seed=seed, device=device, report=report, sizes=sizes, **options
    )


def _images(
    name: str,
    *,
    seed: int,
    device: torch.device,
    report: Report,
    sizes: Sizes,
    root: str,
    transforms: list[Any],
) -> Data:
    images = load_image_set(name, root=Path(root), report=report)
    catalog, parsed = IMAGE_SETS[name], parse_transforms(transforms)
    shape = output_shape(parsed, (1, *images.train_images.shape[1:]))
    augmentation, crop = make_augmentation(parsed), make_eval_transform(parsed)
    mean, scale = 255 * catalog.mean, 1 / (255 * catalog.std)

    def normalise(batch: Tensor) -> Tensor:
        return batch.to(torch.float32).sub_(mean).mul_(scale)

    def for_training(batch: Tensor, own: torch.Generator | None) -> Tensor:
        return normalise(augmentation(batch, own) if own is not None else batch)

    def for_evaluation(batch: Tensor, own: torch.Generator | None) -> Tensor:
        return normalise(crop(batch))

    return _divide(
        train=(images.train_images.unsqueeze(1), images.train_labels.long()),
        test=(images.test_images.unsqueeze(1), images.test_labels.long()),
        seed=seed,
        device=device,
        sizes=sizes,
        prepare=(for_training, for_evaluation),
        is_random=bool(parsed),
        about={
            "input_shape": tuple(shape),
            "num_outputs": len(catalog.classes),
            "classes": tuple(catalog.classes),
            "checksums": dict(images.checksums),
        },
    )


def _dirichlet(
    name: str,
    *,
    seed: int,
    device: torch.device,
    report: Report,
    sizes: Sizes,
    features: int,
    alpha: float,
    train_size: int,
    test_size: int,
) -> Data:
    def part(size: int, which: str) -> tuple[Tensor, Tensor]:
        return dirichlet(size, features=features, alpha=alpha, seed=seed, part=which)

    return _divide(
        train=part(train_size, "train"),
        test=part(test_size, "test") if test_size else None,
        seed=seed,
        device=device,
        sizes=sizes,
        about={
            "input_shape": (features,),
            "num_outputs": features,
            "classes": tuple(f"largest is x[{index}]" for index in range(features)),
            "checksums": {},
        },
    )


def _line(
    name: str,
    *,
    seed: int,
    device: torch.device,
    report: Report,
    sizes: Sizes,
    a: float,
    b: float,
    noise: float,
    x: list[float],
) -> Data:
    return _divide(
        train=line(x, a=a, b=b, noise=noise, seed=seed),
        test=line(x, a=a, b=b, noise=0.0, seed=seed),
        seed=seed,
        device=device,
        sizes=sizes,
        about={"input_shape": (1,), "num_outputs": 1, "classes": None, "checksums": {}},
    )


def _custom(
    name: str,
    *,
    seed: int,
    device: torch.device,
    report: Report,
    sizes: Sizes,
    target: str,
    kwargs: dict[str, Any],
    test_kwargs: dict[str, Any] | None,
    num_workers: int,
    task: str,
    num_classes: int | None,
) -> Data:
    whole = make_dataset(target, kwargs)
    sample, answer = first_sample(whole, target)
    classes = None
    if task == "classification":
        classes = _class_names(whole, num_classes, target)
    train, val = split_dataset(whole, sizes.val_size, seed=seed)
    test = None if test_kwargs is None else make_dataset(target, {**kwargs, **test_kwargs})

    def batches(dataset: Any, size: int, limit: int | None, **how: Any) -> StreamedBatches:
        return StreamedBatches(
            limited(dataset, limit),
            batch_size=size,
            num_workers=num_workers,
            device=device,
            num_classes=len(classes) if classes else None,
            seed=seed,
            **how,
        )

    data = Data(
        train=batches(
            train, sizes.batch_size, sizes.train_limit, is_shuffled=True, drop_last=sizes.drop_last
        ),
        train_unshuffled=batches(train, sizes.eval_batch_size, sizes.train_limit),
        val=batches(val, sizes.eval_batch_size, sizes.eval_limit) if val is not None else None,
        test=batches(test, sizes.eval_batch_size, sizes.eval_limit) if test is not None else None,
        input_shape=tuple(sample.shape),
        num_outputs=len(classes) if classes else max(1, answer.numel()),
        classes=classes,
        checksums={},
    )
    _check_batches(data, sizes)
    return data


_LOADERS: dict[str, Callable[..., Data]] = {
    "mnist": _images,
    "fashion_mnist": _images,
    "dirichlet": _dirichlet,
    "line": _line,
    "custom": _custom,
}


def _class_names(dataset: Any, num_classes: int | None, target: str) -> tuple[str, ...]:
    if num_classes is not None:
        return tuple(str(index) for index in range(num_classes))
    if not hasattr(dataset, "classes"):
        raise ConfigError(
            f"data.target={target} does not say how many classes it has.",
            hint="Set data.num_classes, or give the Dataset a list `classes`; for values set "
            "data.task=regression.",
        )
    return tuple(map(str, dataset.classes))


def _as_they_are(batch: Tensor, own: torch.Generator | None) -> Tensor:
    return batch


def _divide(
    *,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None,
    seed: int,
    device: torch.device,
    sizes: Sizes,
    about: dict[str, Any],
    prepare: tuple[Prepare, Prepare] = (_as_they_are, _as_they_are),
    is_random: bool = False,
) -> Data:
    """Hold out the validation part, cut to the limits, move everything to the device once."""
    kept, held_out = split_indices(len(train[0]), sizes.val_size, seed=seed)
    kept, held_out = kept[: sizes.train_limit], held_out[: sizes.eval_limit]

    def take(pair: tuple[Tensor, Tensor], chosen: Tensor | slice) -> tuple[Tensor, Tensor]:
        return pair[0][chosen].to(device), pair[1][chosen].to(device)

    inputs, targets = take(train, kept)

    def evaluated(pair: tuple[Tensor, Tensor]) -> TensorBatches:
        return TensorBatches(*pair, batch_size=sizes.eval_batch_size, prepare=prepare[1])

    data = Data(
        train=TensorBatches(
            inputs,
            targets,
            batch_size=sizes.batch_size,
            prepare=prepare[0],
            shuffle_seed=seed,
            drop_last=sizes.drop_last,
            is_random=is_random,
        ),
        train_unshuffled=evaluated((inputs, targets)),
        val=evaluated(take(train, held_out)) if sizes.val_size else None,
        test=evaluated(take(test, slice(sizes.eval_limit))) if test is not None else None,
        **about,
    )
    _check_batches(data, sizes)
    return data


def _check_batches(data: Data, sizes: Sizes) -> None:
    num_samples = data.train_unshuffled.num_samples
    if num_samples == 0:
        raise ConfigError(f"data.val_size={sizes.val_size} leaves no training samples.")
    if data.train.num_batches == 0:
        raise ConfigError(
            f"data.drop_last=true leaves no batch: data.batch_size={sizes.batch_size}, with "
            f"{num_samples} samples.",
            hint=f"Set data.batch_size={num_samples} or less, or data.drop_last=false.",
        )
