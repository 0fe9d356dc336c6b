"""Every optimizer: made from the shipped YAML, trains, and goes on exactly from its saved state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import run_python
from torch import Tensor, nn

from trainer.checkpoint.tree import flatten, to_saved, unflatten
from trainer.commands.build import options
from trainer.config import SCHEMAS
from trainer.errors import ConfigError
from trainer.optim import OPTIMIZERS, OptimizerState, make_optimizer


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def make_conv_net() -> nn.Module:
    """In channels-last layout, as the command trains convolutions, and so its momenta."""
    torch.manual_seed(0)
    layers = (
        nn.Linear(5, 18),
        nn.Unflatten(1, (2, 3, 3)),
        nn.Conv2d(2, 3, 2),
        nn.Tanh(),
        nn.Flatten(),
    )
    return nn.Sequential(*layers, nn.Linear(12, 1)).to(memory_format=torch.channels_last)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, *, steps: range) -> list[float]:
    losses = []
    for seed in steps:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(16, 5, generator=generator)

        def closure(inputs: Tensor = inputs) -> Tensor:
            optimizer.zero_grad()
            loss = (net(inputs) - inputs.sum(1, keepdim=True)).square().mean()
            loss.backward()
            return torch.as_tensor(loss).detach()

        losses.append(float(optimizer.step(closure)))  # type: ignore[arg-type]
    return losses


def shipped(compose: Any, name: str) -> dict[str, Any]:
    return options(compose(f"optimizer={name}").optimizer)


def test_every_optimizer_of_the_config_exists() -> None:
    assert set(OPTIMIZERS) == set(SCHEMAS["optimizer"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_trains_with_the_shipped_values(name: str, compose: Any) -> None:
    net = make_net()
    num_steps = 100 if name == "lbfgs" else 400  # of which each takes up to 20 evaluations
    losses = train(net, make_optimizer(net, **shipped(compose, name)), steps=range(num_steps))
    assert sum(losses[-40:]) < 0.9 * sum(losses[:40])


@pytest.mark.parametrize("make", [make_net, make_conv_net])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_goes_on_exactly_from_saved_state(
    name: str, make: Callable[[], nn.Module], compose: Any
) -> None:
    if name == "lbfgs":
        make = make_net  # torch's takes no gradients in another layout
    net = make()
    optimizer = make_optimizer(net, **shipped(compose, name))
    train(net, optimizer, steps=range(5))
    tensors: dict[str, Tensor] = {}
    text = json.dumps(
        flatten(OptimizerState(optimizer).state_dict(), path="optimizer", tensors=tensors)
    )
    saved = {key: to_saved(tensor) for key, tensor in tensors.items()}

    twin = make()
    twin.load_state_dict(net.state_dict())
    other = make_optimizer(twin, **shipped(compose, name))
    OptimizerState(other).load_state_dict(unflatten(json.loads(text), tensors=saved))
    train(net, optimizer, steps=range(5, 10))
    train(twin, other, steps=range(5, 10))
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ({"name": "adam", "amsgrad": True}, {"name": "adam", "amsgrad": False}, "max_exp_avg_sq"),
        ({"name": "sgd", "momentum": 0.9}, {"name": "sgd", "momentum": 0.0}, "momentum_buffer"),
        ({"name": "sgd", "momentum": 0.0}, {"name": "sgd", "momentum": 0.9}, "nothing"),
    ],
)
def test_a_setting_may_change(before: dict[str, Any], after: dict[str, Any], lost: str) -> None:
    net = make_net()
    optimizer = make_optimizer(net, lr=0.1, **before)
    train(net, optimizer, steps=range(3))
    other = make_optimizer(net, lr=0.1, **after)
    OptimizerState(other).load_state_dict(OptimizerState(optimizer).state_dict())
    assert all(lost not in entries for entries in other.state.values())
    train(net, other, steps=range(3, 6))


def test_a_setting_that_needs_what_was_not_kept_is_refused() -> None:
    net = make_net()
    optimizer = make_optimizer(net, name="adam", lr=0.1)
    train(net, optimizer, steps=range(3))
    other = OptimizerState(make_optimizer(net, name="adam", lr=0.1, amsgrad=True))
    with pytest.raises(
        ValueError, match="no max_exp_avg_sq of parameter 0, which these settings need"
    ):
        other.load_state_dict(OptimizerState(optimizer).state_dict())


def test_biases_and_norms_can_be_spared_from_decay() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = make_optimizer(net, name="sgd", decay_all=False, lr=0.1, weight_decay=0.5)
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert [parameter.ndim for parameter in decayed["params"]] == [2]
    assert [parameter.ndim for parameter in spared["params"]] == [1, 1, 1]
    assert len(make_optimizer(net, name="sgd", lr=0.1, weight_decay=0.5).param_groups) == 1


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameters to train"):
        make_optimizer(nn.Flatten(), name="sgd", lr=0.1)


USED_BY_ALL = """
import sys, torch
from trainer.engine.step import Step
from trainer.optim import OPTIMIZERS, OptimizerState, make_optimizer

for name in OPTIMIZERS:
    model = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(model, name=name, lr=0.1)
    options = {"optimizer": optimizer, "device": torch.device("cpu"), "counts_correct": True}
    step = Step(model, torch.nn.functional.cross_entropy, **options)
    step(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]), is_update=True)
    OptimizerState(optimizer).load_state_dict(OptimizerState(optimizer).state_dict())
print("torch._dynamo" in sys.modules)
"""


def test_no_optimizer_imports_the_compiler(tmp_path: Path) -> None:
    """It takes longer than torch itself; torch imports it for the wrappers of its optimizers."""
    ran = run_python("-c", USED_BY_ALL, cwd=tmp_path)
    assert (ran.code, ran.out) == (0, "False\n"), ran.err
