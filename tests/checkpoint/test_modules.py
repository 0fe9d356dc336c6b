"""The state of modules that hold more than plain tensors, taken apart and put together again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.checkpoint.load import with_extra
from trainer.checkpoint.modules import load_state, own_memory
from trainer.checkpoint.store import split_state
from trainer.errors import CheckpointError

HERE = Path("here")


class Wide(nn.Module):
    one: Tensor
    wide: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("one", torch.full((1, 2), value))
        self.register_buffer("wide", self.one.expand(3, 2))
        self.register_buffer("view", torch.arange(6.0).unfold(0, 3, 1))


def test_expanded_buffers_take_values_and_still_share_memory() -> None:
    model = Wide(0.0)
    load_state(model, Wide(7.0).state_dict())
    assert torch.equal(model.wide, torch.full((3, 2), 7.0))
    model.one += 1
    assert torch.equal(model.wide, torch.full((3, 2), 8.0))


def test_a_state_that_does_not_fit_leaves_the_buffers() -> None:
    model = Wide(1.0)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_state(model, {"one": torch.zeros(1, 2)})
    assert model.wide.stride() == (0, 1)


def test_buffers_with_their_own_memory_can_be_written_into() -> None:
    model = Wide(1.0)
    own_memory(model)
    model.wide.add_(torch.ones(3, 2))
    assert torch.equal(model.wide, torch.full((3, 2), 2.0))


def test_extra_state_comes_back() -> None:
    state = {
        "fc.weight": torch.ones(2),
        "_extra_state": {"a": [1, None, (2.5, "x")], "t": torch.ones(2), 3: float("-inf")},
        "inner._extra_state": None,
    }
    tensors, aliases, extra = split_state(state)
    assert set(tensors) == {"fc.weight", "_extra_state.t"} and aliases == {}
    found = with_extra(tensors, extra, source=HERE)
    assert set(found) == set(state)
    assert torch.equal(found["_extra_state"].pop("t"), torch.ones(2))
    assert found["_extra_state"] == {"a": [1, None, (2.5, "x")], 3: float("-inf")}


@pytest.mark.parametrize(
    "value", [{1, 2}, b"bytes", object(), [print]], ids=lambda value: type(value).__name__
)
def test_what_needs_pickle_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be saved without pickle"):
        split_state({"_extra_state": value})


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "content",
    [
        {"$tensor": "nowhere"},
        {"$tensor": ["fc"]},
        {"$items": [[[1], 2]]},
        {"$code": "print()"},
        {"$float": "1"},
        {"$tuple": {}},
    ],
    ids=str,
)
def test_a_forged_extra_state_is_refused(content: Any) -> None:
    with pytest.raises(CheckpointError, match="its extra state x makes no sense"):
        with_extra({}, {"x": content}, source=HERE)
