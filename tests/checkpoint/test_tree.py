"""State to JSON text and tensors and back: exactly, and nothing else is accepted."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.checkpoint.tree import flatten, unflatten
from trainer.errors import CheckpointError

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
)
KEYS = st.text(max_size=6) | st.integers(-5, 5)
TREES = st.recursive(
    SCALARS | st.integers(0, 5).map(lambda n: torch.arange(n, dtype=torch.float32)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, NaN equal to NaN, order of keys included."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return (
            isinstance(a, Tensor)
            and isinstance(b, Tensor)
            and a.dtype == b.dtype
            and torch.equal(a, b)
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    return bool(a == b)


@settings(deadline=None, max_examples=300)
@given(TREES)
def test_what_goes_in_comes_out(tree: Any) -> None:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(flatten(tree, path="state", tensors=tensors), allow_nan=False)
    assert same(unflatten(json.loads(text), tensors=tensors), tree)


def test_an_object_is_refused_when_saving() -> None:
    with pytest.raises(TypeError, match="without pickle"):
        flatten({"fn": len}, path="state", tensors={})


@pytest.mark.parametrize(
    "entry",
    [
        {"$tensor": "missing"},
        {"$float": "1e999"},
        {"$tuple": 3},
        {"$items": [[1]]},
        {"$new": 1},
        {"$a": 1, "b": 2},
    ],
    ids=str,
)
def test_what_flatten_does_not_make_is_refused(entry: Any) -> None:
    with pytest.raises(CheckpointError):
        unflatten(entry, tensors={})


def test_keys_of_one_name_and_another_type_stay_apart() -> None:
    tensors: dict[str, Tensor] = {}
    tree = {1: torch.zeros(1), "1": torch.ones(1)}
    text = json.dumps(flatten(tree, path="s", tensors=tensors))
    assert same(unflatten(json.loads(text), tensors=tensors), tree)
