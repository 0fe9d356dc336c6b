"""Run a model without leaving a trace in it or in the random generators."""

from __future__ import annotations

import operator
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Undo on exit, also after an error, what passes through `model` change.

    Put back are its parameters and buffers (the same tensors with the same bits), whether they are
    trained, the mode, hooks and plain attributes of every module, and the random generators of
    Python, NumPy, torch and its CUDA devices. Inside there are no gradients at first; afterwards
    they are the same objects with the same values. Lazy layers must have seen a batch: torch cannot
    undo their first.
    """
    tensors = [
        tensor for tensor in chain(model.parameters(), model.buffers()) if not is_lazy(tensor)
    ]
    # Without this list torch initialises every GPU of the machine, and warns if there are several.
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    # In reverse order: a tensor gets its memory back before the bytes in it.
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
    # If it is not imported, nothing was drawn from it.
    if (numpy := sys.modules.get("numpy.random")) is not None:
        undo.callback(numpy.set_state, numpy.get_state())


def _storages(tensors: list[Tensor]) -> list[torch.UntypedStorage]:
    """The memory of the tensors, each piece once; sparse ones have none, and are not written into.

    Bytes restore what copying values would not: NaN, and views that overlap.
    """
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.layout is torch.strided]
    # By the address of torch's object: tied weights and views share one.
    return list({storage._cdata: storage for storage in storages}.values())


def _keep_tensor(tensor: Tensor, undo: ExitStack) -> None:
    # `.data` is another tensor on the same memory: autograd does not count what is written to it.
    memory = tensor.data
    is_trained = tensor.requires_grad

    def put_back() -> None:
        if tensor.layout is torch.strided and not tensor.is_set_to(memory):
            tensor.data = memory
        # A buffer to which something with a gradient was added.
        if tensor.requires_grad != is_trained:
            tensor.detach_().requires_grad_(is_trained)

    if tensor.is_leaf:
        undo.callback(setattr, tensor, "grad", tensor.grad)
        # A backward pass adds into the gradient that it finds.
        tensor.grad = None
    undo.callback(put_back)


def _keep_attributes(module: nn.Module, undo: ExitStack) -> None:
    """Keep every attribute of a module, and the items of those that are a list, dict or set.

    Among them are the tables of its parameters, buffers, modules and hooks.
    """
    attributes = vars(module)
    before = dict(attributes)
    # A scripted module has its mode in C++, not among its attributes.
    if "training" not in attributes:
        undo.callback(setattr, module, "training", module.training)

    def put_back() -> None:
        for name in attributes.keys() - before.keys():
            del attributes[name]
        attributes.update(before)

    for value in before.values():
        # What is registered last is undone first.
        if isinstance(value, list):
            undo.callback(operator.setitem, value, slice(None), list(value))
        elif isinstance(value, (dict, set)):
            undo.callback(value.update, value.copy())
            undo.callback(value.clear)
    undo.callback(put_back)
