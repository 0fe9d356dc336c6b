"""Records of the model itself: numbers by layer, histograms, pictures. How each is made stands
in modules beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.tracking.observer import Update
from trainer.tracking.records import EMA, SCALER
from trainer.tracking.tensorboard.activations import is_convolution, matters, outputs_of
from trainer.tracking.tensorboard.context import Context
from trainer.tracking.tensorboard.histograms import histograms
from trainer.tracking.tensorboard.image_grids import feature_maps, filters, grid, is_image
from trainer.tracking.tensorboard.layer_stats import Layers, distance
from trainer.tracking.tensorboard.writer import EventWriter

NUM_INPUTS, NUM_MAPPED = 36, 4


class LayerRecords:
    """Numbers by layer; with them the scaler's scale and how far the moving average is, where
    there are such.
    """

    def __init__(self, writer: EventWriter, context: Context) -> None:
        self._writer, self._context, self._layers = writer, context, Layers(context.model)

    def __call__(self, step: int, update: Update) -> None:
        """Write those of an update that was just made."""
        numbers = self._layers.measure(update)
        if self._context.evaluated is not self._context.model:
            numbers[f"{EMA}/distance"] = distance(self._context.model, self._context.evaluated)
        if update.loss_scale is not None:
            numbers[f"{SCALER}/scale"] = update.loss_scale
        for tag, value in numbers.items():
            self._writer.scalar(tag, value, step)


class HistogramRecords:
    """Histograms of parameters and gradients, and of what the layers give for fixed samples."""

    def __init__(
        self, writer: EventWriter, context: Context, *, warn: Callable[[str], None]
    ) -> None:
        self._writer, self._context, self._warn = writer, context, warn
        self._has_warned = False

    def __call__(self, step: int, update: Update) -> None:
        """Write those of an update that was just made; tells once of values that are not finite."""
        model = self._context.model
        tensors: dict[str, Tensor] = {
            f"Parameters/{name}": p for name, p in model.named_parameters()
        }
        tensors |= {f"Gradients/{name}": gradient for name, gradient in update.gradients.items()}
        given = outputs_of(model, self._context.fixed, where=matters)
        tensors |= {f"Activations/{layer}": output for layer, output in given.items()}
        for tag, histogram in histograms(tensors).items():
            if histogram is not None:
                self._writer.histogram(tag, histogram, step)
            elif tensors[tag].numel() and not self._has_warned and not _is_overflow(tag, update):
                self._has_warned = True
                self._warn(
                    f"{tag} has values that are not finite at step {step}: TensorBoard has no "
                    "histogram of it."
                )


def _is_overflow(tag: str, update: Update) -> bool:
    """Whether it is a gradient under a loss scaler, which finds its scale by such."""
    return update.loss_scale is not None and tag.startswith("Gradients/")


class PictureRecords:
    """Training inputs as the model sees them, filters of the first convolution, feature maps of
    every one.
    """

    def __init__(self, writer: EventWriter, context: Context) -> None:
        self._writer, self._context = writer, context
        self._first = next((m for m in context.model.modules() if is_convolution(m)), None)

    def __call__(self, step: int, update: Update) -> None:
        """Write those of an update that was just made; nothing for samples that are no images."""
        if not is_image(update.inputs.shape[1:]):
            return
        labels = None
        if (classes := self._context.classes) is not None:
            labels = [classes[target] for target in update.targets[:NUM_INPUTS].tolist()]
        self._writer.image("Inputs/train", grid(update.inputs[:NUM_INPUTS], labels), step)
        if isinstance(self._first, nn.Conv2d):
            self._writer.image(
                "Filters/first_convolution", filters(self._first.weight.detach()), step
            )
        with torch.no_grad():
            maps = outputs_of(
                self._context.model, self._context.fixed[:NUM_MAPPED], where=is_convolution
            )
        for layer, output in maps.items():
            self._writer.image(f"Feature_maps/{layer}", feature_maps(output), step)
