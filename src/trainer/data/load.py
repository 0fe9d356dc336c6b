"""From the `data` group of a config to batches for training, validation and test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from trainer.config.data import (
    CustomDataConfig,
    DataConfig,
    DirichletConfig,
    ImagesConfig,
    LineConfig,
)
from trainer.config.transforms import output_shape, parse_transforms
from trainer.data.batches import Batch, Batches, Prepare, TensorBatches, unchanged
from trainer.data.dataset import EpochHook, Part, split_dataset
from trainer.data.fingerprint import fingerprint
from trainer.data.image_sets.catalog import IMAGE_SETS
from trainer.data.image_sets.download import Report
from trainer.data.image_sets.locate import load_image_set
from trainer.data.own_dataset import (
    OwnDataset,
    check_same_classes,
    check_samples,
    class_names,
    first_sample,
)
from trainer.data.own_generators import watching_generators
from trainer.data.samples import Form
from trainer.data.seeding import split_indices
from trainer.data.streams import Streams
from trainer.data.synthetic import dirichlet, line
from trainer.data.transforms import Augmentation, make_eval_transform
from trainer.errors import ConfigError, pointing_to
from trainer.process_state import ProcessState
from trainer.user_code import errors_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInputs:
    """What the model takes: float32, or any type (`is_float`); pictures only (`needs_images`)."""

    is_float: bool = True
    needs_images: bool = False


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

    def split(self, name: str) -> Batches | None:
        """The batches of `train`, `val` or `test` for an evaluation, in order."""
        return {"train": self.train_unshuffled, "val": self.val, "test": self.test}[name]


def load_data(
    config: DataConfig,
    *,
    seed: int,
    device: torch.device,
    report: Report,
    model_inputs: ModelInputs = ModelInputs(),
) -> Data:
    """The data set of `config`, its tensors on `device`, for a model that takes `model_inputs`.

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
            with pointing_to("docs/custom.md"):
                data = _stream_dataset(
                    config, seed=seed, device=device, report=report, model_inputs=model_inputs
                )
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


def _data_seed(config: DataConfig, seed: int) -> int:
    """The seed of what the data are, where `seed` is that of the run."""
    return seed if config.seed is None else config.seed


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
    drawn = _data_seed(config, seed)
    make = partial(dirichlet, features=config.features, alpha=config.alpha, seed=drawn)
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
    make = partial(line, config.x, a=config.a, b=config.b, seed=_data_seed(config, seed))
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


def _stream_dataset(
    config: CustomDataConfig,
    *,
    seed: int,
    device: torch.device,
    report: Report,
    model_inputs: ModelInputs,
) -> Data:
    own = _open_own(config)
    train = own["train"]
    classes = class_names(train, config) if config.task == "classification" else None
    num_classes = len(classes) if classes else None
    doing = f"data.target={config.target}: reading its first samples"

    def fingerprints() -> dict[str, str]:
        with errors_of(doing), ProcessState.kept(doing):
            found = fingerprint(train.dataset, name="train", classes=classes)
            if "test" in own:
                found |= fingerprint(own["test"].dataset, name="test", classes=None)
            return found

    for part in own.values():
        EpochHook(part.dataset).set(0)
    with (
        errors_of(doing),
        ProcessState.kept(doing),
        watching_generators(
            train.dataset, name=train.name, num_workers=config.num_workers, report=report
        ),
    ):
        forms = _forms(own, config, num_classes=num_classes, needs=model_inputs)
        inputs, targets = first_sample(train, forms["train"])
    parts = {split: part.converted(forms[split]) for split, part in own.items()}
    trained, val = split_dataset(
        parts["train"],
        config.val_size,
        seed=_data_seed(config, seed),
        held_out_from=parts.get("val"),
    )
    # Limited after the split: val is the same for every limit.
    trained = trained.limited(config.train_limit)
    streams = Streams(config, seed=seed, device=device, report=report)
    store = streams.make_store(trained)
    return Data(
        train=streams.for_training(trained, store),
        train_unshuffled=streams.for_eval(trained, store),
        val=streams.split(val),
        test=streams.split(Part.whole(parts["test"]) if "test" in parts else None),
        input_shape=tuple(inputs.shape),
        num_outputs=num_classes or len(targets),
        classes=classes,
        checksums=fingerprints(),
        reread=fingerprints,
    )


def _open_own(config: CustomDataConfig) -> dict[str, OwnDataset]:
    """The person's data set, once for each split that has arguments, and `train` first."""
    name = f"data.target={config.target}"
    own = {"train": OwnDataset(config.target, config.kwargs, name=name)}
    for split, kwargs in (("val", config.val_kwargs), ("test", config.test_kwargs)):
        if kwargs is None:
            continue
        more = f"{name} with data.{split}_kwargs"
        own[split] = OwnDataset(config.target, {**config.kwargs, **kwargs}, name=more)
        check_same_classes(own["train"], own[split])
    if "val" in own and own["val"].length != own["train"].length:
        raise ConfigError(
            f"{own['val'].name} has {own['val'].length} samples, and the training set has "
            f"{own['train'].length}: data.val_size holds out some of the same samples.",
            hint="data.val_kwargs changes how samples are given, not which: leave out "
            "augmentation, say.",
        )
    return own


def _forms(
    own: dict[str, OwnDataset],
    config: CustomDataConfig,
    *,
    num_classes: int | None,
    needs: ModelInputs,
) -> dict[str, Form]:
    """What the samples of each split must be like, by its first sample; some of them are tried.

    A built-in model takes one shape. A person's own may take several, but not in one batch.
    """
    form = Form(num_classes=num_classes, is_float=needs.is_float, needs_images=needs.needs_images)
    is_one_by_one = max(config.batch_size, config.eval_batch_size) == 1
    any_shape = is_one_by_one and not needs.is_float
    forms = {"train": check_samples(own["train"], form, any_shape=any_shape)}
    for split in [name for name in own if name != "train"]:
        given = forms["train"]
        if not needs.is_float:
            given = dataclasses.replace(given, input_shape=None)
        forms[split] = check_samples(own[split], given, any_shape=any_shape)
    return forms


class _Splits(TypedDict):
    train: Batches
    train_unshuffled: Batches
    val: Batches | None
    test: Batches | None


def _split_in_memory(
    train: Batch,
    test: Batch | None,
    *,
    config: DataConfig,
    seed: int,
    device: torch.device,
    prepare: tuple[Prepare, Prepare] = (unchanged, unchanged),
    is_random: bool = False,
) -> _Splits:
    """Hold out the validation part, cut to the limits, and move everything to `device` once.

    `train` and `test` are all inputs and targets; `prepare` is for training and for evaluation.
    """
    kept, held_out = split_indices(len(train[0]), config.val_size, seed=_data_seed(config, seed))
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
