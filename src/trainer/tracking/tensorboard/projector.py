"""TensorBoard's projector: features of a balanced sample, with labels and thumbnails, as files.

The caller decides which samples and when. No events.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeGuard

import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import ConfigError, suggestion
from trainer.files import part_path, remove, write_text
from trainer.run.folder import retired_path, step_of
from trainer.tracking.preserve import preserve_state
from trainer.tracking.tensorboard.activations import first_of

FOLDER = "projector"
CONFIG_FILE = "projector_config.pbtxt"
_TENSORS = "tensors.tsv"
_METADATA = "metadata.tsv"
_SPRITE = "sprite.png"
_ENTRY = "entry.pbtxt"
_KEY = "logger.projector_layer"
# A sprite of 46 x 46 thumbnails of 64 x 64 pixels; a browser takes one of at most 8192 x 8192.
MAX_THUMBNAILS = 2048
MAX_SIDE = 64
_MAX_VALUES = 1024


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Find the module called `name`, at any depth; raises ConfigError when there is none."""
    modules: dict[str, nn.Module] = {path: part for path, part in model.named_modules() if path}
    if name not in modules:
        hint = suggestion(name, list(modules), label="Layers")
        raise ConfigError(f"{_KEY}={name} is not a layer of the model.", hint=hint)
    return modules[name]


def last_layer(model: nn.Module, inputs: Tensor) -> str:
    """Find the layer whose inputs are the penultimate features: the last with parameters.

    It is the one called last in evaluation mode, with a row for each of `inputs` (N, …), whose
    parameters belong to no layer inside it. Returns "", the model as a whole, where there is none.
    """
    called: list[str] = []

    def enter(
        name: str, _module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        if _has_rows(_argument(args, kwargs), len(inputs)):
            called.append(name)

    with preserve_state(model), torch.no_grad():
        for name, module in model.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                module.register_forward_pre_hook(functools.partial(enter, name), with_kwargs=True)
        model.eval()
        model(inputs)
    return called[-1] if called else ""


def features(
    model: nn.Module, inputs: Tensor, *, layer: str | None, batch_size: int = 100
) -> tuple[str, Tensor, Tensor]:
    """Return a name of the features of `inputs` (N, …), the features (N, F), the outputs (N, C).

    The features are the output of `layer`; with None, the input of the last one (see `last_layer`).
    Feature maps (N, C, H, W) of more than 1024 values are averaged over their places. Both results
    are float32 on the host. The model runs in evaluation mode and is left as it was, like the
    random generators; of a layer that is called several times the last call counts. Raises
    ConfigError where the layer is unknown, not used, or has no value for each sample.
    """
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    if layer is None:
        # Seventeen: no other size of a tensor is likely to be that.
        name = last_layer(model, inputs[:17].to(device, copy=True))
        called, module = (f"into {name}", model.get_submodule(name)) if name else ("input", model)
    else:
        called = layer
        module = find_layer(model, layer)
    caught: list[object] = []
    found = []
    outputs = []
    with preserve_state(model), torch.no_grad():
        if layer is None:
            module.register_forward_pre_hook(
                lambda _, args, kwargs: caught.append(_argument(args, kwargs)), with_kwargs=True
            )
        else:
            module.register_forward_hook(lambda _, __, output: caught.append(first_of(output)))
        model.eval()
        # A hundred at a time and not 512: the process needs 30 MB less at its peak.
        for batch in torch.split(inputs, batch_size):
            caught.clear()
            # A copy: a person's own model may change its inputs in place.
            outputs.append(model(batch.to(device, copy=True)).float().cpu())
            if not caught or not _has_rows(caught[-1], len(batch)):
                raise ConfigError(
                    f"{_KEY}: {called} has no features of each sample.", hint="Name another layer."
                )
            found.append(_flat(caught[-1]).float().cpu())
    return called, torch.cat(found), torch.cat(outputs)


def _argument(args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """The first argument of a call."""
    return first_of(args or tuple(kwargs.values()))


def _has_rows(value: object, num: int) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == num


def _flat(values: Tensor) -> Tensor:
    """A row of each sample, short enough for a browser."""
    if values.ndim > 2 and values[0].numel() > _MAX_VALUES:
        values = values.flatten(2).mean(2)
    return values.reshape(len(values), -1)


def balanced(
    batches: Iterable[tuple[Tensor, Tensor]], *, num: int, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Take the first `num` // `num_classes` samples of each class, at least one, at most `num`.

    `batches` are inputs (N, …) and targets, classes (N,) or one-hot (N, C); they are read once, in
    order, and only until the sample is full. Returns inputs (M, …) and classes (M,) in the order of
    the stream; a class that does not come is missing. Raises ValueError where there is no sample.
    """
    quota = max(1, num // num_classes)
    missing = [quota] * num_classes
    wanted = min(num, quota * num_classes)
    inputs = []
    targets = []
    for batch, labels in batches:
        classes = labels.argmax(1) if labels.ndim == 2 else labels
        chosen = []
        for index, label in enumerate(classes.tolist()):
            if wanted and missing[label]:
                missing[label] -= 1
                wanted -= 1
                chosen.append(index)
        # Also where none is chosen: the shape of a sample is known then.
        at = torch.tensor(chosen, dtype=torch.long)
        inputs.append(batch[at])
        targets.append(classes[at])
        if not wanted:
            break
    if not inputs:
        raise ValueError("no samples to choose from")
    return torch.cat(inputs), torch.cat(targets)


def write(
    run: Path,
    *,
    tag: str,
    layer: str,
    features: Tensor,
    labels: Sequence[str],
    predicted: Sequence[str],
    thumbnails: Tensor | None,
) -> None:
    """Write `features` (N, F) into `run`/projector/`tag`, such as step-000938.

    TensorBoard calls them `step 000938, into fc2`, by `tag` and `layer`. `labels` and `predicted`
    are N names of classes, `thumbnails` are (N, C, H, W): bytes, or numbers whose range becomes
    that of the colours; None, or more than 2048, for points. Features that are not finite become 0.
    Killed at any moment, the folder is there as a whole or not at all.
    """
    final = run / FOLDER / tag
    aside = part_path(final)
    retired = retired_path(final)
    remove(aside)
    aside.mkdir(parents=True)
    name = re.sub(r"[^\w., -]", "_", f"{tag.replace('-', ' ')}, {layer}")
    entry = EmbeddingInfo(tensor_name=name)
    try:
        (aside / _TENSORS).write_text(_tensors(features), encoding="utf-8")
        (aside / _METADATA).write_text(_metadata(labels, predicted), encoding="utf-8")
        if thumbnails is not None and len(thumbnails) <= MAX_THUMBNAILS:
            sprite, sides = _sprite(thumbnails)
            sprite.save(aside / _SPRITE)
            entry.sprite.single_image_dim.extend(sides)
        (aside / _ENTRY).write_text(text_format.MessageToString(entry), encoding="utf-8")
    except BaseException:
        remove(aside)
        raise
    # A folder cannot be renamed onto another: the old one is moved aside first, under a name that
    # `rewind` removes after a kill.
    if final.exists():
        remove(retired)
        final.rename(retired)
    aside.rename(final)
    remove(retired)
    _write_config(run)


def rewind(run: Path, *, step: int) -> None:
    """Drop the features from after `step`, and the incomplete folders of a killed process."""
    if not (run / FOLDER).is_dir():
        remove(run / CONFIG_FILE)
        return
    for folder in sorted((run / FOLDER).iterdir()):
        at = step_of(folder)
        if at is not None and at > step:
            # Out of sight first: a kill leaves nothing that looks whole.
            folder = folder.rename(retired_path(folder))
        if folder.name.startswith("."):
            remove(folder)
    with contextlib.suppress(OSError):  # it is not empty
        (run / FOLDER).rmdir()
    _write_config(run)


def _write_config(run: Path) -> None:
    """Name the folders that are there, and no others, in the file that TensorBoard reads."""
    config = ProjectorConfig()
    for folder in sorted((run / FOLDER).glob("[!.]*")):
        path = folder / _ENTRY
        entry = EmbeddingInfo()
        try:
            # To open a named pipe would wait for its writer.
            text_format.Parse(path.read_text(encoding="utf-8") if path.is_file() else "", entry)
        except (ValueError, text_format.ParseError):
            continue
        if not entry.tensor_name:
            continue
        # Relative to this file: a run may be moved, and TensorBoard refuses a path that leads out
        # of the folder.
        place = f"{FOLDER}/{folder.name}"
        entry.tensor_path = f"{place}/{_TENSORS}"
        entry.metadata_path = f"{place}/{_METADATA}"
        if entry.HasField("sprite"):
            entry.sprite.image_path = f"{place}/{_SPRITE}"
        config.embeddings.append(entry)
    if config.embeddings:
        write_text(run / CONFIG_FILE, text_format.MessageToString(config))
    else:
        remove(run / CONFIG_FILE)


def _tensors(features: Tensor) -> str:
    """A line a sample, with at least two numbers, as TensorBoard shows no fewer."""
    if features.ndim != 2 or not features.numel():
        raise ValueError(f"features of shape {tuple(features.shape)}, not (N, F)")
    finite = torch.nan_to_num(features.float(), nan=0.0, posinf=0.0, neginf=0.0)
    finite = functional.pad(finite, (0, max(0, 2 - finite.shape[1])))
    line = "\t".join(["%.4g"] * finite.shape[1]) + "\n"
    return "".join(line % tuple(row) for row in finite.tolist())


def _metadata(labels: Sequence[str], predicted: Sequence[str]) -> str:
    """The columns label, predicted and right, under a header."""
    lines = ["label\tpredicted\tright"]
    for label, guess in zip(labels, predicted, strict=True):
        lines.append(f"{_cell(label)}\t{_cell(guess)}\t{'yes' if label == guess else 'no'}")
    return "\n".join(lines) + "\n"


def _cell(name: str) -> str:
    """A name without tabs, line ends and control characters, which would break the table."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", name).strip() or "?"


def _sprite(thumbnails: Tensor) -> tuple[Image.Image, tuple[int, int]]:
    """Arrange pictures (N, C, H, W) in an image about square; returns the size of one too."""
    images = thumbnails.detach().cpu()
    if images.dtype != torch.uint8:
        images = torch.nan_to_num(images.float(), nan=0.0, posinf=0.0, neginf=0.0)
        low = images.min()
        high = images.max()
        images = (images - low) / (high - low).clamp(min=1e-12) * 255
    channels = 3 if images.shape[1] == 3 else 1
    images = images[:, :channels].float()
    height, width = images.shape[2:]
    shrink = max(height, width) / MAX_SIDE
    if shrink > 1:
        height = max(1, round(height / shrink))
        width = max(1, round(width / shrink))
        images = functional.interpolate(images, size=(height, width), mode="area")
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    images = functional.pad(images.round(), (0, 0, 0, 0, 0, 0, 0, rows * columns - len(images)))
    table = images.reshape(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = table.reshape(rows * height, columns * width, channels).to(torch.uint8).numpy()
    return Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]), (width, height)
