"""State without pickle: nested state dicts as JSON text and a flat table of tensors, and back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.files import JsonObject

# JSON knows neither tensors, tuples, keys that are not text, nor infinities: each becomes an object
# with one key: "$tensor", "$tuple", "$items" or "$float".


def flatten(value: object, *, path: str, tensors: dict[str, Tensor]) -> object:
    """`value` as plain values for JSON; its tensors go to `tensors`, named after `path`.

    Raises TypeError for what cannot be saved without pickle.
    """
    if isinstance(value, Tensor):
        while path in tensors:  # keys 1 and "1" lead to the same path
            path += "'"
        tensors[path] = value
        return {"$tensor": path}
    if isinstance(value, dict):
        return _flatten_table(value, path=path, tensors=tensors)
    if isinstance(value, tuple | list):
        parts = []
        for index, item in enumerate(value):
            parts.append(flatten(item, path=f"{path}.{index}", tensors=tensors))
        # Kept apart: random.setstate takes a tuple and refuses a list.
        return {"$tuple": parts} if isinstance(value, tuple) else parts
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, bool | int | float | str | None):
        return value
    raise TypeError(
        f"state holds a {type(value).__name__} at {path}, which cannot be saved without pickle"
    )


def _flatten_table(table: dict[Any, Any], *, path: str, tensors: dict[str, Tensor]) -> JsonObject:
    items = [
        [key, flatten(item, path=f"{path}.{key}", tensors=tensors)] for key, item in table.items()
    ]
    if all(isinstance(key, str) and not key.startswith("$") for key in table):
        return dict(items)
    # torch's optimizers number their parameters, and JSON would turn these keys into text.
    return {"$items": items}


def unflatten(value: object, *, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `flatten`; raises CheckpointError for anything that it does not make."""
    if isinstance(value, list):
        return [unflatten(item, tensors=tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: unflatten(item, tensors=tensors) for key, item in value.items()}
    if len(value) == 1:
        [(key, content)] = value.items()
        with contextlib.suppress(LookupError):
            return _decode(key, content, tensors)
    raise CheckpointError(f"The state holds an entry of unknown kind ({', '.join(value)[:60]}).")


def _decode(key: str, content: Any, tensors: Mapping[str, Tensor]) -> object:
    """What the object `{key: content}` means; raises LookupError for none that `flatten` makes."""
    match key:
        case "$tensor" if isinstance(content, str):
            return tensors[content]
        case "$tuple" if isinstance(content, list):
            return tuple(unflatten(item, tensors=tensors) for item in content)
        case "$float" if content in ("inf", "-inf", "nan"):
            return float(content)
        case "$items" if _are_pairs(content):
            return {name: unflatten(item, tensors=tensors) for name, item in content}
    raise LookupError(key)


def _are_pairs(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(i, list) and len(i) == 2 for i in content)


def to_saved(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU with storage that nothing else shares, ready to be written."""
    # safetensors refuses tensors in channels-last layout, which build_model gives the weights.
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
