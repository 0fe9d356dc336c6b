"""From the `data` group of a config to batches for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.config.data import (
    CustomDataConfig,
    DataConfig,
    DirichletConfig,
    ImagesConfig,
    LineConfig,
)
from trainer.config.transforms import output_shape, parse_transforms
from trainer.data.batches import Batch, Batches, Prepare, TensorBatches
from trainer.data.dataset import StreamedBatches, first_sample, limited, make_dataset, split_dataset
from trainer.data.fingerprint import fingerprint
from trainer.data.image_sets.catalog import IMAGE_SETS
from trainer.data.image_sets.download import Report
from trainer.data.image_sets.locate import load_image_set
from trainer.data.seeding import split_indices
from trainer.data.synthetic import dirichlet, line
from trainer.data.transforms import Augmentation, make_eval_transform
from trainer.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One data set, ready for the engine.

    `input_shape` is that of one sample as the model sees it; `classes` are the class names, None
    where the targets are values; `checksums` are the SHA-256 of each file's content, or the
    fingerprints of a person's own data, which `reread` takes anew.
    """

    train: Batches
    train_unshuffled: Batches
    val: Batches | None
    test: Batches | None
    input_shape: tuple[int, ...]
    num_outputs: int
    classes: tuple[str, ...] | None
    checksums: dict[str, str]
    reread: Callable[[], dict[str, str]] = dict


def load_data(config: DataConfig, *, seed: int, device: torch.device, report: Report) -> Data:
    """The data set of `config`, its tensors on `device`.

    Raises ConfigError when the sizes leave nothing to train on, and what reading files raises
    (DataError, EnvironmentFault).
    """
    match config:
        case ImagesConfig():
            data = _load_images(config, seed=seed, device=device, report=report)
        case DirichletConfig():
            data = _make_dirichlet(config, seed=seed, device=device)
        case LineConfig():
            data = _make_line(config, seed=seed, device=device)
        case CustomDataConfig():
            data = _stream_dataset(config, seed=seed, device=device)
        case _:
            raise TypeError(f"data={config.name} has no loader")
    num_samples = data.train_unshuffled.num_samples
    if num_samples == 0:
        raise ConfigError(f"data.val_size={config.val_size} leaves no training samples.")
    if data.train.num_batches == 0:
        raise ConfigError(
            f"data.drop_last=true leaves no batch: data.batch_size={config.batch_size}, with "
            f"{num_samples} samples.",
            hint=f"Set data.batch_size={num_samples} or less, or data.drop_last=false.",
        )
    return data


def _load_images(config: ImagesConfig, *, seed: int, device: torch.device, report: Report) -> Data:
    images = load_image_set(config.name, root=Path(config.root), report=report)
    image_set = IMAGE_SETS[config.name]
    transforms = parse_transforms(config.transforms)
    augment = Augmentation(transforms)
    crop = make_eval_transform(transforms)
    # Of bytes, 0..255: one pass over the batch instead of two.
    mean = 255 * image_set.mean
    scale = 1 / (255 * image_set.std)

    def normalise(batch: Tensor) -> Tensor:
        return batch.to(torch.float32).sub_(mean).mul_(scale)

    def prepare_train(batch: Tensor, generator: torch.Generator | None) -> Tensor:
        return normalise(batch if generator is None else augment(batch, generator))

    def prepare_eval(batch: Tensor, _: torch.Generator | None) -> Tensor:
        return normalise(crop(batch))

    # Bytes stay bytes until a batch is made, a quarter of the memory of floats. The losses take
    # classes as int64.
    splits = _split_in_memory(
        (images.train_images.unsqueeze(1), images.train_labels.long()),
        (images.test_images.unsqueeze(1), images.test_labels.long()),
        config=config,
        seed=seed,
        device=device,
        prepare=(prepare_train, prepare_eval),
        is_random=bool(transforms),
    )
    return Data(
        **splits,
        input_shape=output_shape(transforms, (1, *images.train_images.shape[1:])),
        num_outputs=len(image_set.classes),
        classes=image_set.classes,
        checksums=images.checksums,
    )


def _make_dirichlet(config: DirichletConfig, *, seed: int, device: torch.device) -> Data:
    make = partial(dirichlet, features=config.features, alpha=config.alpha, seed=seed)
    train = make(config.train_size, part="train")
    test = make(config.test_size, part="test") if config.test_size else None
    return Data(
        **_split_in_memory(train, test, config=config, seed=seed, device=device),
        input_shape=(config.features,),
        num_outputs=config.features,
        classes=tuple(f"largest is x[{index}]" for index in range(config.features)),
        checksums={},
    )


def _make_line(config: LineConfig, *, seed: int, device: torch.device) -> Data:
    make = partial(line, config.x, a=config.a, b=config.b, seed=seed)
    train = make(noise=config.noise)
    # Without noise, the test measures the distance to the line itself.
    test = make(noise=0.0)
    return Data(
        **_split_in_memory(train, test, config=config, seed=seed, device=device),
        input_shape=(1,),
        num_outputs=1,
        classes=None,
        checksums={},
    )


def _stream_dataset(config: CustomDataConfig, *, seed: int, device: torch.device) -> Data:
    whole = make_dataset(config.target, config.kwargs)
    inputs, targets = first_sample(whole, config.target)
    classes = _class_names(whole, config) if config.task == "classification" else None
    # Limited after the split: val is the same for every limit.
    train, val = split_dataset(whole, config.val_size, seed=seed)
    train = limited(train, config.train_limit)
    test = None
    if config.test_kwargs is not None:
        test = make_dataset(config.target, {**config.kwargs, **config.test_kwargs})

    def fingerprints() -> dict[str, str]:
        found = fingerprint(whole, name="train", classes=classes)
        if test is not None:
            found |= fingerprint(test, name="test", classes=None)
        return found

    stream = partial(
        StreamedBatches,
        num_workers=config.num_workers,
        device=device,
        num_classes=len(classes) if classes else None,
        seed=seed,
    )

    def stream_for_eval(dataset: Dataset[object] | None) -> StreamedBatches | None:
        if dataset is None:
            return None
        return stream(limited(dataset, config.eval_limit), batch_size=config.eval_batch_size)

    return Data(
        train=stream(
            train, batch_size=config.batch_size, is_shuffled=True, drop_last=config.drop_last
        ),
        train_unshuffled=stream(train, batch_size=config.eval_batch_size),
        val=stream_for_eval(val),
        test=stream_for_eval(test),
        input_shape=tuple(inputs.shape),
        num_outputs=len(classes) if classes else max(1, targets.numel()),
        classes=classes,
        checksums=fingerprints(),
        reread=fingerprints,
    )


def _class_names(dataset: Dataset[object], config: CustomDataConfig) -> tuple[str, ...]:
    if config.num_classes is not None:
        return tuple(map(str, range(config.num_classes)))
    if not hasattr(dataset, "classes"):
        raise ConfigError(
            f"data.target={config.target} does not say how many classes it has.",
            hint="Set data.num_classes, or give the Dataset a list `classes`; for values set "
            "data.task=regression.",
        )
    return tuple(map(str, dataset.classes))


class _Splits(TypedDict):
    train: Batches
    train_unshuffled: Batches
    val: Batches | None
    test: Batches | None


def _keep(batch: Tensor, _: torch.Generator | None) -> Tensor:
    return batch


def _split_in_memory(
    train: Batch,
    test: Batch | None,
    *,
    config: DataConfig,
    seed: int,
    device: torch.device,
    prepare: tuple[Prepare, Prepare] = (_keep, _keep),
    is_random: bool = False,
) -> _Splits:
    """Hold out the validation part, cut to the limits, and move everything to `device` once.

    `train` and `test` are all inputs and targets; `prepare` is for training and for evaluation.
    """
    kept, held_out = split_indices(len(train[0]), config.val_size, seed=seed)
    prepare_train, prepare_eval = prepare

    def take(samples: Batch, chosen: Tensor | slice) -> Batch:
        inputs, targets = samples
        return inputs[chosen].to(device), targets[chosen].to(device)

    def batches_for_eval(samples: Batch) -> TensorBatches:
        return TensorBatches(*samples, batch_size=config.eval_batch_size, prepare=prepare_eval)

    # The two ways through the training part share its memory.
    trained = take(train, kept[: config.train_limit])
    val = take(train, held_out[: config.eval_limit]) if config.val_size else None
    tested = take(test, slice(config.eval_limit)) if test is not None else None
    return _Splits(
        train=TensorBatches(
            *trained,
            batch_size=config.batch_size,
            prepare=prepare_train,
            shuffle_seed=seed,
            drop_last=config.drop_last,
            is_random=is_random,
        ),
        train_unshuffled=batches_for_eval(trained),
        val=None if val is None else batches_for_eval(val),
        test=None if tested is None else batches_for_eval(tested),
    )
