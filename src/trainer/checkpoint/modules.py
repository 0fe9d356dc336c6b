"""The state of a module that holds more than plain tensors: extra state, and expanded buffers."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.state_checks import StateDict


def load_state(module: nn.Module, state: Mapping[str, object]) -> None:
    """`module.load_state_dict(state)`, also into buffers whose values share memory (`expand`).

    torch refuses to write into those. Extra state is copied: the class may keep and change it.
    Raises what torch raises.
    """
    given = {
        name: value if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in state.items()
    }
    shared = _expanded_buffers(module)
    try:
        for owner, name, buffer in shared:
            owner._buffers[name] = buffer.contiguous()
        module.load_state_dict(given)
        loaded = [owner._buffers[name] for owner, name, _ in shared]
    finally:
        for owner, name, buffer in shared:
            owner._buffers[name] = buffer
    for (_, _, buffer), values in zip(shared, loaded, strict=True):
        if values is not None:
            _distinct(buffer, like=buffer).copy_(_distinct(values, like=buffer))


def own_memory(module: nn.Module) -> None:
    """Give every buffer of `module` memory for each of its values, to be written into."""
    for owner, name, buffer in _expanded_buffers(module):
        owner._buffers[name] = buffer.contiguous()


class ModuleState:
    """A module as an entry of the state table."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def state_dict(self) -> StateDict:
        """torch's own state dict."""
        return dict(self._module.state_dict())

    def load_state_dict(self, state: StateDict) -> None:
        """Load the state; raises what torch raises for one that does not fit."""
        load_state(self._module, state)


def _expanded_buffers(module: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Each buffer whose values share memory, with the module that has it and its name there."""
    return [
        (owner, name, buffer)
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None and _is_expanded(buffer)
    ]


def _is_expanded(tensor: Tensor) -> bool:
    if tensor.layout is not torch.strided:
        return False
    return any(
        step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
    )


def _distinct(tensor: Tensor, *, like: Tensor) -> Tensor:
    """`tensor` cut to its first index along each axis on which `like` is expanded."""
    for axis, step in enumerate(like.stride()):
        if step == 0 and tensor.shape[axis] > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor
