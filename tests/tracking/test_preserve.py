"""What a pass may change in a model and beside it, and that all of it is put back."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from trainer.tracking.preserve import preserve_state


class Restless(nn.Module):
    """Changes everything about itself that a pass can change."""

    running: Tensor
    cache: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("running", torch.tensor([1.0, float("nan")]))
        self.register_buffer("wide", torch.zeros(1).expand(3))
        self.register_buffer("cache", None)
        self.num_passes = 0
        self.seen: list[float] = []
        self.by_name = {"a": 1}

    def forward(self, inputs: Tensor) -> Tensor:
        self.num_passes += 1
        self.seen.append(random.random() + float(numpy.random.rand()))
        self.by_name["b"] = 2
        self.extra = inputs
        self.cache = inputs.clone()
        outputs: Tensor = self.drop(self.norm(self.fc(inputs)))
        self.running = self.running + outputs.sum()
        self.fc.weight.data = torch.renorm(self.fc.weight.data, 2, 0, 0.01)
        with torch.no_grad():
            assert self.fc.bias is not None
            self.fc.bias.mul_(2)
        return outputs


def make() -> Restless:
    torch.manual_seed(3)
    model = Restless()
    model.norm.eval()  # as a person may who freezes a part
    model.fc.weight.grad = torch.full((4, 4), 7.0)
    return model


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def state_of(model: Restless) -> dict[str, Any]:
    return {
        "tensors": {name: bits(value) for name, value in model.state_dict().items()},
        "identity": [id(value) for value in (*model.parameters(), *model.buffers())],
        "memory": [value.data_ptr() for value in (*model.parameters(), *model.buffers())],
        "modes": [module.training for module in model.modules()],
        "trained": [parameter.requires_grad for parameter in model.parameters()],
        "buffers trained": [buffer.requires_grad for buffer in model.buffers()],
        "attributes": (
            sorted(vars(model)),
            model.num_passes,
            list(model.seen),
            dict(model.by_name),
            model.cache,
        ),
        "gradients": [
            (id(gradient), None if gradient is None else bits(gradient))
            for gradient in (parameter.grad for parameter in model.parameters())
        ],
        "torch": bits(torch.get_rng_state()),
        "python": random.getstate(),
        "numpy": str(numpy.random.get_state()),
    }


def train_a_pass(model: Restless) -> None:
    model.train()
    model.requires_grad_(True)
    model(torch.randn(8, 4)).sum().backward()


def freeze(model: Restless) -> None:
    model.eval()
    model.fc.requires_grad_(False)


def write_a_buffer_with_a_gradient(model: Restless) -> None:
    model.running.mul_(model.fc.weight.sum())


def zero_the_weights_behind_the_back_of_autograd(model: Restless) -> None:
    model.fc.weight.data.zero_()


@pytest.mark.parametrize(
    "act",
    [
        train_a_pass,
        freeze,
        write_a_buffer_with_a_gradient,
        zero_the_weights_behind_the_back_of_autograd,
    ],
)
def test_nothing_is_left_of_what_happens_inside(act: Callable[[Restless], None]) -> None:
    model = make()
    before = state_of(model)
    with preserve_state(model):
        act(model)
        inside = state_of(model)
    assert {key for key in before if inside[key] != before[key]}, "it changed nothing"
    assert state_of(model) == before


def test_everything_that_can_change_did() -> None:
    model = make()
    before = state_of(model)
    with preserve_state(model):
        train_a_pass(model)
        freeze(model)
        inside = state_of(model)
    same = {key for key in before if inside[key] == before[key]}
    assert same == set()


def test_all_is_put_back_after_an_error() -> None:
    model = make()
    before = state_of(model)
    with pytest.raises(KeyError), preserve_state(model):
        train_a_pass(model)
        raise KeyError
    assert state_of(model) == before


def test_there_are_no_gradients_inside_to_add_to() -> None:
    model = make()
    with preserve_state(model):
        assert [parameter.grad for parameter in model.parameters()] == [None] * 4
        train_a_pass(model)
        assert model.fc.weight.grad is not None
    assert torch.equal(model.fc.weight.grad, torch.full((4, 4), 7.0))


def test_a_backward_pass_that_is_under_way_still_works() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    loss = model(torch.randn(5, 3)).square().sum()
    wanted = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    with preserve_state(model):
        model(torch.randn(5, 3))
    loss.backward()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, gradient)


def test_tied_and_sparse_tensors_are_no_obstacle() -> None:
    model = nn.Module()
    model.first, model.second = nn.Linear(2, 2), nn.Linear(2, 2)
    model.second.weight = model.first.weight
    model.register_buffer("sparse", torch.eye(2).to_sparse())
    with preserve_state(model), torch.no_grad():
        model.second.weight.zero_()
    assert model.second.weight is model.first.weight
    assert model.first.weight.abs().sum() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_generator_and_the_memory_of_a_gpu_are_put_back() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).cuda()
    state = {name: value.cpu().clone() for name, value in model.state_dict().items()}
    generator = torch.cuda.get_rng_state()
    with preserve_state(model):
        model(torch.randn(8, 4, device="cuda")).sum().backward()
    assert torch.equal(torch.cuda.get_rng_state(), generator)
    assert all(torch.equal(value.cpu(), state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
