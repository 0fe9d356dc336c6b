"""TensorBoard's projector: what a layer gives for a balanced sample, with labels, predictions and
thumbnails, as files.

Which samples, when, and under which random state is the caller's business; event files are not
touched.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

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

FOLDER, CONFIG_FILE = "projector", "projector_config.pbtxt"
_TENSORS, _METADATA, _SPRITE, _ENTRY = "tensors.tsv", "metadata.tsv", "sprite.png", "entry.pbtxt"
_KEY = "logger.projector_layer"
# A sprite of 46 x 46 thumbnails of 64 x 64 pixels; a browser takes one of at most 8192 x 8192.
MAX_THUMBNAILS, MAX_SIDE = 2048, 64
_MAX_VALUES = 1024


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The module called `name`, at any depth; raises ConfigError when there is none."""
    modules = dict(model.named_modules())
    if name == "" or name not in modules:
        hint = suggestion(name, [known for known in modules if known], label="Layers")
        raise ConfigError(f"{_KEY}={name} is not a layer of the model.", hint=hint)
    found: nn.Module = modules[name]
    return found


def last_layer(model: nn.Module, inputs: Tensor) -> str:
    """The layer with parameters of its own that is called last in evaluation mode with a row for
    each of `inputs`.

    What goes into it are the penultimate features. Empty for the model as a whole, where there is
    no such layer.
    """
    called: list[str] = []

    def entering(name: str) -> Any:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = _first(args or tuple(kwargs.values()))
            if isinstance(value, Tensor) and value.ndim and len(value) == len(inputs):
                called.append(name)

        return enter

    with contextlib.ExitStack() as hooks:
        hooks.enter_context(preserve_state(model))
        hooks.enter_context(torch.no_grad())
        model.eval()
        for name, module in model.named_modules():
            if any(True for _ in module.parameters(recurse=False)):
                hooks.callback(
                    module.register_forward_pre_hook(entering(name), with_kwargs=True).remove
                )
        model(inputs)
    return called[-1] if called else ""


def features(
    model: nn.Module, inputs: Tensor, *, layer: str | None, batch_size: int = 100
) -> tuple[str, Tensor, Tensor]:
    """What a layer has for `inputs` (N, …): what to call it, the features (N, F), and the model's
    outputs (N, C).

    With the name of a layer, it is what comes OUT of it; with None, what goes INTO the last one
    (see `last_layer`). Values of places, such as feature maps (N, C, H, W), are averaged over the
    places where they are more than 1024. Both results are float32 on the host. The model runs in
    evaluation mode and is left as it was, like the random generators; of a layer that is called
    several times the last call counts. Raises ConfigError where the layer is unknown, not used, or
    has no value for each sample.
    """
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    if layer is None:
        # Seventeen: no other size of a tensor is likely to be that.
        name = last_layer(model, inputs[:17].to(device))
        called, module = (f"into {name}", model.get_submodule(name)) if name else ("input", model)
    else:
        called, module = layer, find_layer(model, layer)
    found, outputs = [], []
    with preserve_state(model), _caught(module, is_input=layer is None) as caught, torch.no_grad():
        model.eval()
        for batch in torch.split(inputs, batch_size):
            caught.clear()
            outputs.append(model(batch.to(device)).float().cpu())
            value = caught[-1] if caught else None
            if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(batch):
                raise ConfigError(
                    f"{_KEY}: {called} has no features of each sample.", hint="Name another layer."
                )
            found.append(_flat(value).float().cpu())
    return called, torch.cat(found), torch.cat(outputs)


def _flat(values: Tensor) -> Tensor:
    """A row of each sample, as a browser can take it."""
    if values.ndim > 2 and values[0].numel() > _MAX_VALUES:
        values = values.flatten(2).mean(2)
    return values.reshape(len(values), -1)


@contextlib.contextmanager
def _caught(module: nn.Module, *, is_input: bool) -> Iterator[list[Any]]:
    """What goes into a module, or comes out of it, call by call; of several values the first."""
    caught: list[Any] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.append(_first(args or tuple(kwargs.values())))

    handle = (
        module.register_forward_pre_hook(enter, with_kwargs=True)
        if is_input
        else module.register_forward_hook(
            lambda module, args, output: caught.append(_first(output))
        )
    )
    try:
        yield caught
    finally:
        handle.remove()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) and value else value


def balanced(
    batches: Iterable[tuple[Tensor, Tensor]], *, num: int, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The first `num` // `num_classes` samples of each class, at least one, but never more than
    `num` in all.

    `batches` are inputs (N, …) and targets, classes (N,) or one-hot (N, C); they are gone through
    once, in order, and only until all is found. Returns inputs (M, …), classes (M,) and places in
    the stream (M,), in the stream's order; a class that does not come is missing. Raises ValueError
    where there is no sample at all.
    """
    quota = max(1, num // num_classes)
    missing, wanted = [quota] * num_classes, min(num, quota * num_classes)
    inputs, targets, positions = [], [], []
    start = 0
    for batch, labels in batches:
        classes = labels.argmax(1) if labels.ndim == 2 else labels
        chosen = []
        for index, label in enumerate(classes.tolist()):
            if missing[label] and wanted:
                missing[label] -= 1
                wanted -= 1
                chosen.append(index)
        # By a mask of its own even if empty: the shape of a sample is known then.
        at = torch.tensor(chosen, dtype=torch.long)
        inputs.append(batch[at.to(batch.device)])
        targets.append(classes[at.to(classes.device)])
        positions.append(at + start)
        start += len(batch)
        if not wanted:
            break
    if not start:
        raise ValueError("no samples to choose from")
    return torch.cat(inputs), torch.cat(targets), torch.cat(positions)


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
    """Write `features` (N, F) into `run`/projector/`tag`, such as step-000938, beside those of
    other tags.

    TensorBoard calls them `step 000938, into fc2`, by `tag` and `layer`. `labels` and `predicted`
    are N names of classes, `thumbnails` are (N, C, H, W): bytes, or numbers whose range becomes
    that of the colours; None, or more than 2048, for points. Features that are not finite become 0.
    Killed at any moment, the folder is there as a whole or not at all.
    """
    final = run / FOLDER / tag
    aside, retired = part_path(final), retired_path(final)
    remove(aside)
    aside.mkdir(parents=True)
    entry = EmbeddingInfo(
        tensor_name=re.sub(r"[^\w., -]", "_", f"{tag.replace('-', ' ')}, {layer}")
    )
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
    if final.exists():
        remove(retired)
        final.rename(retired)
    aside.rename(final)
    remove(retired)
    _write_config(run)


def rewind(run: Path, *, step: int) -> None:
    """Drop what lies past `step`, and what a killed process left; what was written exactly at
    `step` stays.
    """
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
    with contextlib.suppress(OSError):  # something is left in it
        (run / FOLDER).rmdir()
    _write_config(run)


def _write_config(run: Path) -> None:
    """Have TensorBoard know the folders that are there, and no other."""
    config = ProjectorConfig()
    for folder in sorted((run / FOLDER).glob("[!.]*")):
        path = folder / _ENTRY
        entry = EmbeddingInfo()
        try:
            # Looked at before opening: to open a named pipe would wait for its writer.
            text_format.Parse(path.read_text(encoding="utf-8") if path.is_file() else "", entry)
        except (ValueError, text_format.ParseError):
            continue
        if not entry.tensor_name:
            continue
        place = f"{FOLDER}/{folder.name}"
        entry.tensor_path, entry.metadata_path = f"{place}/{_TENSORS}", f"{place}/{_METADATA}"
        if entry.HasField("sprite"):
            entry.sprite.image_path = f"{place}/{_SPRITE}"
        config.embeddings.append(entry)
    if config.embeddings:
        write_text(run / CONFIG_FILE, text_format.MessageToString(config))
    else:
        remove(run / CONFIG_FILE)


def _tensors(features: Tensor) -> str:
    """A line a sample, its numbers in four digits; at least two, as TensorBoard shows no fewer."""
    if features.ndim != 2 or not features.numel():
        raise ValueError(f"features of shape {tuple(features.shape)}, not (N, F)")
    finite = torch.nan_to_num(features.float(), nan=0.0, posinf=0.0, neginf=0.0)
    finite = functional.pad(finite, (0, max(0, 2 - finite.shape[1])))
    line = "\t".join(["%.4g"] * finite.shape[1]) + "\n"
    return "".join(line % tuple(row) for row in finite.tolist())


def _metadata(labels: Sequence[str], predicted: Sequence[str]) -> str:
    """The columns label, predicted and right, under a header, as several columns have one."""
    lines = ["label\tpredicted\tright"]
    for label, guess in zip(labels, predicted, strict=True):
        lines.append(f"{_cell(label)}\t{_cell(guess)}\t{'yes' if label == guess else 'no'}")
    return "\n".join(lines) + "\n"


def _cell(name: str) -> str:
    """A name without tabs, ends of lines and other control characters, which would break the table."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", name).strip() or "?"


def _sprite(thumbnails: Tensor) -> tuple[Image.Image, tuple[int, int]]:
    """Pictures (N, C, H, W) in rows of one image as square as can be, and the width and height
    of each.
    """
    images = thumbnails.detach().cpu()
    if images.dtype != torch.uint8:
        images = torch.nan_to_num(images.float(), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = images.min(), images.max()
        images = (images - low) / (high - low).clamp(min=1e-12) * 255
    channels = 3 if images.shape[1] == 3 else 1
    images = images[:, :channels].float()
    height, width = images.shape[2:]
    shrink = max(height, width) / MAX_SIDE
    if shrink > 1:
        height, width = max(1, round(height / shrink)), max(1, round(width / shrink))
        images = functional.interpolate(images, size=(height, width), mode="area")
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    images = functional.pad(images.round(), (0, 0, 0, 0, 0, 0, 0, rows * columns - len(images)))
    table = images.reshape(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = table.reshape(rows * height, columns * width, channels).to(torch.uint8).numpy()
    return Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]), (width, height)
