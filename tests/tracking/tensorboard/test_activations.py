"""What layers give, taken without a trace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainer.models import make_model
from trainer.tracking.tensorboard.activations import computes, outputs_of

SIZES = {"cnn": {"channels": [4, 6], "hidden": 8}, "mlp": {"hidden": [5, 6], "dropout": 0.5}}


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_they_are_what_the_layers_give_in_turn(name: str) -> None:
    torch.manual_seed(0)
    model = make_model(name, input_shape=(1, 8, 8), num_outputs=3, **SIZES[name])
    inputs = torch.randn(5, 1, 8, 8)
    model.train()
    found = outputs_of(model, inputs, where=computes)
    twin, values = copy.deepcopy(model).eval(), inputs
    for layer, module in twin.named_children():
        values = module(values)
        assert (layer in found) == (not layer.startswith(("pool", "flatten", "dropout")))
        if layer in found:
            assert torch.equal(found[layer], values)


def test_feature_maps_are_those_of_the_convolutions() -> None:
    model = make_model("cnn", input_shape=(1, 8, 8), num_outputs=3, **SIZES["cnn"])
    found = outputs_of(
        model, torch.randn(2, 1, 8, 8), where=lambda module: isinstance(module, nn.Conv2d)
    )
    assert {name: tuple(maps.shape) for name, maps in found.items()} == {
        "conv1": (2, 4, 8, 8),
        "conv2": (2, 6, 4, 4),
    }


def test_nothing_is_left_behind() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)
    )
    model[1].eval()  # a person's own choice
    model(torch.randn(3, 4)).sum().backward()
    before, modes = (
        copy.deepcopy(model.state_dict()),
        [module.training for module in model.modules()],
    )
    gradients = [parameter.grad for parameter in model.parameters()]
    generator = torch.get_rng_state()
    found = outputs_of(model, torch.randn(3, 4, generator=torch.Generator()), where=computes)
    assert (found["1"] < 0).any(), "what batch norm gave, before the ReLU wrote over it"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(
        parameter.grad is kept
        for parameter, kept in zip(model.parameters(), gradients, strict=True)
    )
    assert torch.equal(generator, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_gone_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(RuntimeError):
        outputs_of(model, torch.randn(3, 5), where=computes)
    assert not model[0]._forward_hooks
