"""Running a model without leaving a trace in it or in the random generators. What is run is the
caller's business.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Passes through `model` in here leave no trace, also when they raise.

    Put back are its parameters and buffers (the same tensors with the same bits), whether they are
    trained, the mode and the plain attributes of every module, and the random generators of Python,
    NumPy, torch and its CUDA devices. Inside there are no gradients at first; afterwards they are
    the objects that they were, with the values of then. Lazy layers must have seen a batch: torch
    cannot take back their first.
    """
    tensors = [
        tensor for tensor in chain(model.parameters(), model.buffers()) if not is_lazy(tensor)
    ]
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    # Undone from the last to the first: a tensor is put back where it was before its bytes are
    # written.
    with torch.random.fork_rng(devices), ExitStack() as undo:
        _keep_generators(undo)
        for storage in _storages(tensors):
            undo.callback(storage.copy_, storage.clone())  # type: ignore[no-untyped-call]
        for tensor in tensors:
            _keep_tensor(tensor, undo)
        for module in model.modules():
            _keep_attributes(module, undo)
        yield


def _keep_generators(undo: ExitStack) -> None:
    undo.callback(random.setstate, random.getstate())
    # One that has not been imported has drawn nothing yet.
    if (numpy := sys.modules.get("numpy.random")) is not None:
        undo.callback(numpy.set_state, numpy.get_state())


def _storages(tensors: list[Tensor]) -> list[torch.UntypedStorage]:
    """The memory of the tensors, each piece once. Bytes restore what copying would not: NaN, and
    views that overlap.

    Sparse tensors have no such memory; layers do not write into them.
    """
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
    return list({storage._cdata: storage for storage in storages}.values())


def _keep_tensor(tensor: Tensor, undo: ExitStack) -> None:
    # `.data` is another tensor on the same memory: writing through it is no step that autograd
    # would count.
    memory, is_trained = tensor.data, tensor.requires_grad

    def put_back() -> None:
        if tensor.layout is torch.strided and not tensor.is_set_to(memory):
            tensor.data = memory
        if (
            tensor.requires_grad != is_trained
        ):  # a buffer, that something with a gradient was added to
            tensor.detach_().requires_grad_(is_trained)

    if tensor.is_leaf:
        undo.callback(setattr, tensor, "grad", tensor.grad)
        # A backward pass adds into the gradient that it finds.
        tensor.grad = None
    undo.callback(put_back)


def _keep_attributes(module: nn.Module, undo: ExitStack) -> None:
    """Mode, counters, caches: every attribute, and what is in those that are a list, a dictionary
    or a set.

    Among them are the tables in which a module holds its parameters, buffers, modules and hooks.
    """
    attributes = vars(module)
    before = dict(attributes)

    def put_back() -> None:
        for name in attributes.keys() - before.keys():
            del attributes[name]
        attributes.update(before)

    for value in before.values():
        if (refill := _refilling(value)) is not None:
            undo.callback(refill)
    undo.callback(put_back)


def _refilling(value: Any) -> Callable[[], None] | None:
    """What gives `value` its items of now again; None when it has none that can be exchanged."""
    if isinstance(value, list):
        items = list(value)
        return lambda: value.__setitem__(slice(None), items)
    if isinstance(value, (dict, set)):
        held: Any = dict(value) if isinstance(value, dict) else set(value)

        def refill() -> None:
            value.clear()
            value.update(held)

        return refill
    return None
