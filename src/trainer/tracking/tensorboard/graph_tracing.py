"""One pass through a model, recorded call by call: what made each tensor, and from what."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]
Source = tuple[int, int]  # the number of a call, and which of its outputs
Taken = list[tuple[Tensor, int]]  # the tensors in a call, and how often each had been written
Details = dict[str, str | int]

# Modules of torch that consist of others, and appear as these.
_COMPOSED = (
    nn.Sequential,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)
_OPERATORS = (
    "add", "sub", "mul", "div", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
)  # fmt: skip
_MAX_DETAIL = 200


@dataclass(kw_only=True, slots=True)
class Call:
    """One use of a layer or a function; or a tensor that is there from the start.

    `label` is its place, with slashes; other calls may have the same. `path` is its name in the
    model, where it has one. `is_needed` says that it appears even if nothing comes of it. A size of
    -1 is that of the batch.
    """

    label: str
    op: str
    path: str | None = None
    is_needed: bool = False
    is_of_batch: bool = False
    sources: list[Source] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    details: Details = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class _Frame:
    """A module that is running; the calls inside it are placed below `label`."""

    path: str
    label: str
    call: Call
    taken: Taken
    is_layer: bool


class Recorder(TorchFunctionMode):
    """Records one pass in `calls`, in order, the input first and the output last."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._model = model
        self._inputs = inputs
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._places = places_of(model)
        self._states = {
            id(tensor): (path, "Parameter") for path, tensor in model.named_parameters()
        }
        for path, tensor in model.named_buffers():
            self._states[id(tensor)] = (path, "Buffer")
        # Tensors are known by identity. All are kept, so that none gets the address of another.
        self._known: dict[int, Tensor] = {}
        self._made_by: dict[int, Source] = {}
        self._running: list[_Frame] = []
        self._labels: set[str] = set()
        # Modules that are running inside a layer, itself included; their calls are not recorded.
        self._hidden = 0

    def run(self) -> None:
        """Make the pass; no hook stays, and an exception of the model is raised."""
        start = Call(label="input", op="Input", is_needed=True, is_of_batch=True)
        self._finish(start, [], self._inputs)
        with contextlib.ExitStack() as hooks:
            for module in self._model.modules():
                # Hooks of others change what goes in and out: theirs run outside of these.
                enter = module.register_forward_pre_hook(
                    self._enter, prepend=True, with_kwargs=True
                )
                # Also after an exception: a model may catch that of a layer.
                leave = module.register_forward_hook(
                    self._leave, prepend=True, with_kwargs=True, always_call=True
                )
                hooks.enter_context(enter)
                hooks.enter_context(leave)
            with self:
                outputs = self._model(self._inputs)
        end = Call(label="output", op="Output", is_needed=True)
        self._start(end, outputs)
        if not end.sources:
            raise ValueError("it returns nothing that was made of its input")
        self.calls.append(end)

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Record a call of a function of torch, but for those inside such functions."""
        kwargs = kwargs or {}
        if self._hidden:
            return func(*args, **kwargs)
        op = _name_of(func)
        place = self._running[-1].label if self._running else ""
        call = Call(label=_join(place, op), op=op, details=_arguments(args, kwargs))
        taken = self._start(call, (args, kwargs))
        return self._finish(call, taken, func(*args, **kwargs))

    def _enter(self, module: nn.Module, args: object, kwargs: object) -> None:
        self._hidden += 1
        if self._hidden > 1:
            return
        path = self._paths[id(module)]
        op = type(module).__name__
        is_layer = _is_layer(module, is_whole=not path)
        # The model itself has no path: its layers are at the top, unless it is a layer.
        label = self._label(path) or (op if is_layer else "")
        call = Call(label=label, op=op, path=path, is_needed=True, details=_about(module))
        taken = self._start(call, (args, kwargs))
        if not is_layer:
            label = self._unused(label)
            self._hidden = 0
        frame = _Frame(path=path, label=label, call=call, taken=taken, is_layer=is_layer)
        self._running.append(frame)

    def _leave(self, _module: nn.Module, _args: object, _kwargs: object, result: object) -> object:
        if self._hidden > 1:
            self._hidden -= 1
            return result
        # What is done here is not recorded.
        self._hidden = 1
        frame = self._running.pop()
        if frame.is_layer:
            result = self._finish(frame.call, frame.taken, result)
        elif unknown := [tensor for tensor in tensors_in(result) if not self._is_known(tensor)]:
            # Made without a call that could be recorded, as by a module that runs without Python.
            frame.call.label = _join(frame.label, frame.call.op)
            self._finish(frame.call, frame.taken, unknown)
        self._hidden = 0
        return result

    def _label(self, path: str) -> str:
        """The place of a module: below the use of a module above it that is running, if any."""
        for frame in reversed(self._running):
            if frame.path and path.startswith(frame.path + "."):
                return frame.label + self._places[path].removeprefix(self._places[frame.path])
        return self._places[path]

    def _unused(self, label: str) -> str:
        """`label`, with a number from the second use on, so that each use has its own inside."""
        found = label
        number = 0
        while found in self._labels or (number and found in self._places.values()):
            number += 1
            found = f"{label}_{number}"
        self._labels.add(found)
        return found

    def _start(self, call: Call, values: object) -> Taken:
        """Note the sources of a call; returns the tensors in its arguments."""
        taken = [(tensor, _times_written(tensor)) for tensor in tensors_in(values)]
        for tensor, _ in taken:
            key = id(tensor)
            if key in self._states and key not in self._made_by:
                self._add_state(tensor)
            source = self._made_by.get(key)
            if source is not None and source not in call.sources:
                call.sources.append(source)
                call.is_of_batch |= self.calls[source[0]].is_of_batch
        return taken

    def _add_state(self, tensor: Tensor) -> None:
        """Note a parameter or buffer that is used outside of a layer."""
        path, kind = self._states[id(tensor)]
        module, _, name = path.rpartition(".")
        call = Call(label=_join(self._places[module], name), op=kind, path=path)
        if kind == "Parameter":
            call.details["parameters"] = tensor.numel()
        self._finish(call, [], tensor)

    def _finish(self, call: Call, taken: Taken, result: Any) -> object:
        """Note a call that made or wrote tensors; returns what the model gets for `result`.

        That is another tensor on the same memory where `result` is what went in: tensors are known
        by identity.
        """
        written = [tensor for tensor, times in taken if _times_written(tensor) != times]
        if _is_among(result, [tensor for tensor, _ in taken]) and not _is_among(result, written):
            result = _alias(result)
        made = list(tensors_in(result)) or written
        if not made:
            return result
        call.shapes = [self._shape(tensor, is_of_batch=call.is_of_batch) for tensor in made]
        self.calls.append(call)
        for tensor in written:
            for other in (tensor, *self._sharing(tensor)):
                self._own(other, 0)
        for port, tensor in enumerate(made):
            self._own(tensor, port)
        return result

    def _own(self, tensor: Tensor, port: int) -> None:
        self._known[id(tensor)] = tensor
        self._made_by[id(tensor)] = (len(self.calls) - 1, port)

    def _sharing(self, tensor: Tensor) -> list[Tensor]:
        """What changes with a tensor that is written: the base of a view, or all views of it."""
        # A view of a view has the first tensor as its base.
        if tensor._base is not None:
            return [tensor._base]
        return [other for other in self._known.values() if other._base is tensor]

    def _is_known(self, tensor: Tensor) -> bool:
        return id(tensor) in self._made_by or id(tensor) in self._states

    def _shape(self, tensor: Tensor, *, is_of_batch: bool) -> Shape:
        shape = tuple(tensor.shape)
        return (-1, *shape[1:]) if is_of_batch and shape[:1] == self._inputs.shape[:1] else shape


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples, dictionaries and data classes, in order."""
    inner: Iterable[object] = ()
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, item.name, None) for item in dataclasses.fields(value)]
    for item in inner:
        yield from tensors_in(item)


def places_of(model: nn.Module) -> dict[str, str]:
    """Every module's path with slashes; a bare number gets the class: 0_Conv2d."""
    places = {"": ""}
    for path, module in model.named_modules():
        above, _, name = path.rpartition(".")
        if name.isdigit():
            name = f"{name}_{type(module).__name__}"
        places[path] = _join(places[above], re.sub(r"[^\w/.-]", "_", name))
    return places


def _is_layer(module: nn.Module, *, is_whole: bool) -> bool:
    """Whether a module is one node; a whole model is only where it is itself a layer of torch."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if next(module.children(), None) is not None:
        return _is_of_torch(type(module)) and not isinstance(module, _COMPOSED)
    return not is_whole or any(
        _is_of_torch(kind) for kind in type(module).__mro__ if kind is not nn.Module
    )


def _is_of_torch(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.")


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def _name_of(func: Any) -> str:
    """`add` for add_, __add__, __iadd__ and __radd__ too, `mT` for reading that attribute."""
    name: str = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(func.__self__, "__name__", name)
    if name.startswith(("__r", "__i")) and name[3:-2] in _OPERATORS:
        name = name[3:-2]
    return re.sub(r"\W", "_", name).strip("_") or "function"


def _arguments(args: Iterable[object], kwargs: Mapping[str, object]) -> Details:
    """The settings among the arguments of a function, as text."""
    texts = [repr(value) for value in args if _is_plain(value)]
    texts += [f"{name}={value!r}" for name, value in kwargs.items() if _is_plain(value)]
    return {"arguments": ", ".join(texts)[:_MAX_DETAIL]} if texts else {}


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(item) for item in value)
    return isinstance(value, (bool, int, float, str, slice, torch.dtype))


def _about(module: nn.Module) -> Details:
    """The settings of a module as it prints them, and the number of its parameters."""
    details: Details = {}
    if settings := module.extra_repr():
        details["layer"] = settings[:_MAX_DETAIL]
    if parameters := sum(parameter.numel() for parameter in module.parameters()):
        details["parameters"] = parameters
    return details


def _is_among(value: object, tensors: Iterable[Tensor]) -> bool:
    return any(value is tensor for tensor in tensors)  # == would compare their values


def _times_written(tensor: Tensor) -> int:
    # torch raises where the version of an inference tensor is read: it has none.
    return 0 if tensor.is_inference() else tensor._version


def _alias(tensor: Tensor) -> Tensor:
    # Sparse tensors have no views.
    with contextlib.suppress(RuntimeError):
        return tensor.view_as(tensor)
    return tensor
