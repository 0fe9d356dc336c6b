"""State without pickle: nested state dicts as JSON text plus a flat table of tensors, and back,
exactly.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.errors import CheckpointError

# JSON knows neither tensors, tuples, keys that are not text, nor infinities: each is an object with
# one such key.
_TENSOR, _TUPLE, _ITEMS, _FLOAT = "$tensor", "$tuple", "$items", "$float"


def flatten(value: Any, *, path: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON-ready plain values; its tensors go to `tensors` under names made from `path`."""
    if isinstance(value, Tensor):
        while path in tensors:  # keys 1 and "1" lead to the same path
            path += "'"
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, (OrderedDict, dict)):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {
                key: flatten(item, path=f"{path}.{key}", tensors=tensors)
                for key, item in value.items()
            }
        items = [
            [key, flatten(item, path=f"{path}.{key}", tensors=tensors)]
            for key, item in value.items()
        ]
        return {_ITEMS: items}
    if isinstance(value, (tuple, list)):
        parts = [
            flatten(item, path=f"{path}.{index}", tensors=tensors)
            for index, item in enumerate(value)
        ]
        return {_TUPLE: parts} if isinstance(value, tuple) else parts
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"state holds a {type(value).__name__} at {path}, which cannot be saved without pickle"
    )


def unflatten(value: Any, *, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `flatten`; raises CheckpointError for anything that `flatten` does not make."""
    if isinstance(value, list):
        return [unflatten(item, tensors=tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, content), *_ = value.items()
        if key == _TENSOR and isinstance(content, str) and content in tensors:
            return tensors[content]
        if key == _TUPLE and isinstance(content, list):
            return tuple(unflatten(item, tensors=tensors) for item in content)
        if key == _FLOAT and content in ("inf", "-inf", "nan"):
            return float(content)
        if (
            key == _ITEMS
            and isinstance(content, list)
            and all(isinstance(i, list) and len(i) == 2 for i in content)
        ):
            return {item_key: unflatten(item, tensors=tensors) for item_key, item in content}
    if any(key.startswith("$") for key in value):
        raise CheckpointError(
            f"The state holds an entry of unknown kind ({', '.join(value)[:60]})."
        )
    return {key: unflatten(item, tensors=tensors) for key, item in value.items()}


def to_saved(tensor: Tensor) -> Tensor:
    """A copy on the CPU, contiguous and of its own storage, ready to be written."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
