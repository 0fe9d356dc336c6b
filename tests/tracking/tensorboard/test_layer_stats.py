"""Numbers by layer, against numpy and the textbook."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainer.tracking.observer import Update
from trainer.tracking.tensorboard.layer_stats import Layers, distance


def an_update(model: nn.Module, lr: float = 0.1) -> Update:
    """A real update of plain gradient descent."""
    inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    model(inputs).square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    before = {
        name: p.detach().clone() for name, p in model.named_parameters() if p.grad is not None
    }
    with torch.no_grad():
        for name, gradient in gradients.items():
            model.get_parameter(name).sub_(lr * gradient)
    return Update(
        inputs=inputs, targets=torch.zeros(8), gradients=gradients, before=before, loss_scale=None
    )


def test_they_are_what_numpy_says() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False)
    )
    update = an_update(model)
    numbers = Layers(model).measure(update)
    assert {tag.partition("/")[2] for tag in numbers} == {"0", "1", "3"} and len(numbers) == 12
    for layer in ("0", "1", "3"):
        weight = model.get_parameter(f"{layer}.weight").detach().double().numpy()
        before = update.before[f"{layer}.weight"].double().numpy()
        assert numbers[f"Weight_mean/{layer}"] == pytest.approx(weight.mean(), rel=1e-5, abs=1e-7)
        assert numbers[f"Weight_std/{layer}"] == pytest.approx(weight.std(), rel=1e-5)
        whole = [
            g.double().numpy().ravel()
            for name, g in update.gradients.items()
            if name.startswith(f"{layer}.")
        ]
        assert numbers[f"Gradient_norm/{layer}"] == pytest.approx(
            np.linalg.norm(np.concatenate(whole)), rel=1e-5
        )
        ratio = np.linalg.norm(weight - before) / np.linalg.norm(before)
        assert numbers[f"Update_ratio/{layer}"] == pytest.approx(ratio, rel=1e-4)


def test_a_layer_that_is_not_trained_has_neither_gradient_nor_update() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    model[0].requires_grad_(False)
    numbers = Layers(model).measure(an_update(model))
    assert {tag for tag in numbers if tag.endswith("/0")} == {"Weight_mean/0", "Weight_std/0"}
    assert "Update_ratio/1" in numbers


class Scale(nn.Module):
    """Parameters of its own, at the root and under another name than `weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([2.0, 4.0, 1.0, 1.0, 1.0, 3.0]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.factor


def test_a_model_that_is_one_layer() -> None:
    model = Scale()
    numbers = Layers(model).measure(an_update(model, lr=0.0))
    assert numbers["Weight_mean/(root)"] == 2.0 and numbers["Update_ratio/(root)"] == 0.0


def test_weights_of_zero_have_no_ratio() -> None:
    model = nn.Linear(6, 2)
    nn.init.zeros_(model.weight)
    assert set(Layers(model).measure(an_update(model))) == {
        "Weight_mean/(root)",
        "Weight_std/(root)",
        "Gradient_norm/(root)",
    }


def test_the_distance_of_an_average() -> None:
    model, average = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
        average.weight.copy_(torch.tensor([[3.0, 3.0]]))
    assert distance(model, average) == pytest.approx(0.2)
