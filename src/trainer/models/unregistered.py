"""Layers and parameters that a module hides from torch: never trained, moved or saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from types import FunctionType, MethodType, ModuleType

from torch import Tensor, nn

_DEEPEST = 4  # of containers within one another
_NAMELESS = (str, bytes, int, float, complex, type, FunctionType, MethodType, ModuleType)


def find_unregistered(model: nn.Module) -> list[str]:
    """`blocks[1] (Linear)` for each layer or trainable tensor that `model` does not register.

    They are in lists, dicts and other plain objects among the attributes of a module.
    """
    known = {id(part) for part in chain(model.modules(), model.parameters(), model.buffers())}
    internal = vars(nn.Module()).keys()
    found: list[str] = []
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in internal:
                path = f"{prefix}.{name}" if prefix else name
                found += _hidden_in(value, path, known, depth=0)
    return found


def _hidden_in(value: object, path: str, known: set[int], *, depth: int) -> Iterator[str]:
    if id(value) in known or value is None or isinstance(value, _NAMELESS):
        return
    known.add(id(value))
    if isinstance(value, nn.Module) or _is_trainable(value):
        yield f"{path} ({type(value).__name__})"
    elif not isinstance(value, Tensor) and depth < _DEEPEST:
        for label, item in _items(value):
            yield from _hidden_in(item, path + label, known, depth=depth + 1)


def _is_trainable(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad and value.is_leaf


def _items(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return [(f".{name}", item) for name, item in getattr(value, "__dict__", {}).items()]
