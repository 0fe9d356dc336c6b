"""Records of the model itself: numbers by layer, histograms, images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from trainer.tracking.observer import Update
from trainer.tracking.records import TagGroup
from trainer.tracking.tensorboard.activations import computes, outputs_of
from trainer.tracking.tensorboard.context import Context
from trainer.tracking.tensorboard.histograms import histograms
from trainer.tracking.tensorboard.image_grids import feature_maps, filters, grid, is_image
from trainer.tracking.tensorboard.layer_stats import Layers, distance
from trainer.tracking.tensorboard.writer import EventWriter

NUM_INPUTS = 36
NUM_MAPPED = 4


class LayerRecords:
    """Numbers by layer, the scale of the loss and the distance of the moving average."""

    def __init__(self, writer: EventWriter, context: Context) -> None:
        self._writer = writer
        self._context = context
        self._layers = Layers(context.model)

    def __call__(self, step: int, update: Update) -> None:
        """Write those after `update`."""
        numbers = self._layers.measure(update)
        if self._context.evaluated is not self._context.model:
            numbers[f"{TagGroup.EMA}/distance"] = distance(
                self._context.model, self._context.evaluated
            )
        if update.loss_scale is not None:
            numbers[f"{TagGroup.SCALER}/scale"] = update.loss_scale
        for tag, value in numbers.items():
            self._writer.scalar(tag, value, step)


class HistogramRecords:
    """Histograms of parameters and gradients, and of activations for fixed samples."""

    def __init__(
        self, writer: EventWriter, context: Context, *, warn: Callable[[str], None]
    ) -> None:
        self._writer = writer
        self._context = context
        self._warn = warn
        self._has_warned = False

    def __call__(self, step: int, update: Update) -> None:
        """Write those after `update`; warn once of values that are not finite."""
        model = self._context.model
        groups: dict[str, Mapping[str, Tensor]] = {
            "Parameters": dict(model.named_parameters()),
            "Gradients": update.gradients,
            "Activations": outputs_of(model, self._context.fixed, where=computes),
        }
        tensors = {
            f"{group}/{name}": tensor
            for group, named in groups.items()
            for name, tensor in named.items()
        }
        for tag, histogram in histograms(tensors).items():
            if histogram is not None:
                self._writer.histogram(tag, histogram, step)
            # An empty tensor has no histogram either, and nothing is wrong with it.
            elif tensors[tag].numel() and not self._has_warned and not _is_overflow(tag, update):
                self._has_warned = True
                self._warn(
                    f"{tag} has values that are not finite at step {step}: TensorBoard has no "
                    "histogram of it."
                )


def _is_overflow(tag: str, update: Update) -> bool:
    """Whether the tag is of a gradient under a loss scaler, which overflows to find its scale."""
    return update.loss_scale is not None and tag.startswith("Gradients/")


class ImageRecords:
    """Images of training inputs, of the filters of the first convolution and of feature maps."""

    def __init__(self, writer: EventWriter, context: Context) -> None:
        self._writer = writer
        self._context = context
        layers = context.model.modules()
        self._first = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)

    def __call__(self, step: int, update: Update) -> None:
        """Write those after `update`; nothing where the samples are no images."""
        if not is_image(update.inputs.shape[1:]):
            return
        labels = None
        if (classes := self._context.classes) is not None:
            labels = [classes[target] for target in update.targets[:NUM_INPUTS].tolist()]
        self._writer.image("Inputs/train", grid(update.inputs[:NUM_INPUTS], labels), step)
        if self._first is not None:
            pixels = filters(self._first.weight.detach())
            self._writer.image("Filters/first_convolution", pixels, step)
        samples = self._context.fixed[:NUM_MAPPED]
        maps = outputs_of(self._context.model, samples, where=_has_feature_maps)
        for layer, output in maps.items():
            self._writer.image(f"Feature_maps/{layer}", feature_maps(output), step)


def _has_feature_maps(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)
