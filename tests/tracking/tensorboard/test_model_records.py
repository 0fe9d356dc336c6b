"""What is written of an update that was looked at."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.tracking.observer import Update
from trainer.tracking.tensorboard.context import NUM_FIXED, Context
from trainer.tracking.tensorboard.model_records import (
    HistogramRecords,
    ImageRecords,
    LayerRecords,
)


class Written:
    """A writer that only remembers."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def scalar(self, tag: str, value: float, step: int) -> None:
        self.found[tag] = value

    def histogram(self, tag: str, histogram: Any, step: int) -> None:
        self.found[tag] = histogram

    def image(self, tag: str, pixels: Any, step: int) -> None:
        self.found[tag] = pixels


def context_of(model: nn.Module, inputs: Tensor, average: nn.Module | None = None) -> Context:
    batch = inputs, torch.arange(len(inputs)) % 2
    return Context(
        model=model,
        evaluated=average or model,
        classes=("even", "odd"),
        samples=lambda: iter([batch]),
        first=lambda num: (batch[0][:num], batch[1][:num]),
    )


def update_of(model: nn.Module, inputs: Tensor, *, loss_scale: float | None = None) -> Update:
    own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    targets = torch.arange(len(inputs)) % 2
    return Update(inputs=inputs, targets=targets, gradients=own, before=own, loss_scale=loss_scale)


def test_the_scale_and_the_distance_of_the_average_where_there_are_such() -> None:
    model, inputs = nn.Linear(3, 2), torch.randn(4, 3)
    average = copy.deepcopy(model)
    with torch.no_grad():
        average.weight.mul_(1.5)
    writer: Any = Written()
    records = LayerRecords(writer, context_of(model, inputs, average))
    records(1, update_of(model, inputs, loss_scale=1024.0))
    change, whole = (
        0.5 * model.weight.norm(),
        torch.cat([model.weight.flatten(), model.bias]).norm(),
    )
    assert writer.found["Scaler/scale"] == 1024.0
    assert writer.found["EMA/distance"] == pytest.approx((change / whole).item(), rel=1e-5)
    plain = Written()
    LayerRecords(plain, context_of(model, inputs))(1, update_of(model, inputs))  # type: ignore[arg-type]
    assert {tag for tag in writer.found if tag not in plain.found} == {
        "Scaler/scale",
        "EMA/distance",
    }


def test_activations_are_those_of_the_first_samples() -> None:
    model, inputs = nn.Sequential(nn.Linear(3, 2)), torch.randn(100, 3)
    writer: Any = Written()
    records = HistogramRecords(writer, context_of(model, inputs), warn=pytest.fail)
    records(1, update_of(model, inputs))
    expected = model(inputs[:NUM_FIXED])
    assert writer.found["Activations/0"].num == 2 * NUM_FIXED
    assert writer.found["Activations/0"].sum == pytest.approx(expected.sum().item(), abs=1e-4)


def test_what_is_not_finite_gives_one_warning_and_the_rest_is_written() -> None:
    model, inputs, warnings = nn.Linear(3, 2), torch.randn(4, 3), list[str]()
    writer, update = Written(), update_of(model, inputs)
    update.gradients["weight"][0, 0] = torch.inf
    records = HistogramRecords(writer, context_of(model, inputs), warn=warnings.append)  # type: ignore[arg-type]
    records(1, update)
    records(2, update)
    assert warnings == [
        "Gradients/weight has values that are not finite at step 1: TensorBoard has no histogram "
        "of it."
    ]
    assert "Gradients/weight" not in writer.found and "Gradients/bias" in writer.found


def test_pictures_of_images_only() -> None:
    images = torch.randn(8, 1, 6, 6)
    convolution = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(48, 2))
    writer = Written()
    ImageRecords(writer, context_of(convolution, images))(1, update_of(convolution, images))  # type: ignore[arg-type]
    assert set(writer.found) == {"Inputs/train", "Filters/first_convolution", "Feature_maps/0"}
    flat, values = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), torch.randn(8, 36)
    for inputs, expected in ((images, {"Inputs/train"}), (values, set())):
        writer = Written()
        ImageRecords(writer, context_of(flat, inputs))(1, update_of(flat, inputs))  # type: ignore[arg-type]
        assert set(writer.found) == expected
