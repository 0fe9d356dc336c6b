"""Layers and parameters that a module hides in plain objects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from trainer.models.unregistered import find_unregistered


class Holder(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.inner = nn.Sequential(nn.Identity())
        self.inner[0].value = value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([nn.ReLU(), 3], ["inner.0.value[0] (ReLU)"]),
        ({"a": (nn.ReLU(),)}, ["inner.0.value['a'][0] (ReLU)"]),
        (SimpleNamespace(head=nn.ReLU()), ["inner.0.value.head (ReLU)"]),
        (torch.ones(2, requires_grad=True), ["inner.0.value (Tensor)"]),
        ([nn.Parameter(torch.ones(2))], ["inner.0.value[0] (Parameter)"]),
        (torch.ones(2), []),
        (["text", 1, None, torch.ones(2), len, nn.Module], []),
    ],
    ids=str,
)
def test_what_is_hidden_is_named(value: Any, found: list[str]) -> None:
    assert find_unregistered(Holder(value)) == found


def test_what_is_registered_elsewhere_and_circles_are_no_fault() -> None:
    model = Holder(None)
    circle: list[Any] = [model, model.own, model.own.weight]
    circle.append(circle)
    setattr(model, "also", circle)  # noqa: B010 - for mypy an attribute is a tensor or a module
    assert find_unregistered(model) == []
