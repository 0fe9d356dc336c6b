"""One pass through a model, written down call by call: what made each tensor, and out of what.
No picture, no table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]
Source = tuple[int, int]  # the number of a call, and which of its outputs

# Modules of torch that are built of others, and are shown as these.
_BUILT = (
    nn.Sequential,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)
_OPERATORS = {
    "add",
    "sub",
    "mul",
    "div",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
}
_LONGEST_DETAIL = 200


@dataclass(kw_only=True, slots=True)
class Call:
    """One use of a layer or a function; or a tensor that is there from the start.

    `label` is its place, with slashes; other calls may have the same. `path` is its name in the
    model, where it has one. `is_needed` says that it is shown even if nothing comes of it. A size
    of -1 is that of the batch.
    """

    label: str
    op: str
    path: str | None = None
    is_needed: bool = False
    is_of_batch: bool = False
    sources: list[Source] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    details: dict[str, str | int] = field(default_factory=dict)


Taken = list[tuple[Tensor, int]]  # what a call is given, and how often each had been written


@dataclass(kw_only=True, slots=True)
class _Frame:
    """A module that is running; `label` is where its inside is shown."""

    path: str
    label: str
    call: Call
    taken: Taken


class Recorder(TorchFunctionMode):
    """Watches one pass; `calls` holds what happened, in order, the input first and the output last."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._model, self._inputs = model, inputs
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._shown = shown_paths(model)
        self._states = {
            id(tensor): (path, kind)
            for kind, named in (
                ("Parameter", model.named_parameters()),
                ("Buffer", model.named_buffers()),
            )
            for path, tensor in named
        }
        # Tensors are known by identity. They are held, so that none gets the place in memory of
        # another.
        self._known: dict[int, Tensor] = {}
        self._made_by: dict[int, Source] = {}
        self._running: list[_Frame] = []
        self._labels: set[str] = set()
        # Above zero in a layer whose inside is not shown, and in what is done here.
        self._hidden = 0

    def run(self) -> None:
        """Make the pass. No hook is left, and what the model raises passes through."""
        self._finish(
            Call(label="input", op="Input", is_needed=True, is_of_batch=True), [], self._inputs
        )
        with contextlib.ExitStack() as hooks:
            for module in self._model.modules():
                # Hooks of others change what goes in and out: theirs run outside of these.
                entry = module.register_forward_pre_hook(
                    self._enter, prepend=True, with_kwargs=True
                )
                hooks.callback(entry.remove)
                # A model may go on after a layer raised.
                leave = module.register_forward_hook(
                    self._leave, prepend=True, with_kwargs=True, always_call=True
                )
                hooks.callback(leave.remove)
            with self:
                outputs = self._model(self._inputs)
        call = Call(label="output", op="Output", is_needed=True)
        self._start(call, outputs)
        if not call.sources:
            raise ValueError("it returns nothing that was made of its input")
        self.calls.append(call)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch.overrides. Called for every function of torch, but for those within functions."""
        kwargs = kwargs or {}
        if self._hidden:
            return func(*args, **kwargs)
        op = _name_of(func)
        place = self._running[-1].label if self._running else ""
        call = Call(label=_join(place, op), op=op, details=_arguments(args, kwargs))
        taken = self._start(call, (args, kwargs))
        return self._finish(call, taken, func(*args, **kwargs))

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._hidden += 1
        if self._hidden > 1:
            return
        path = self._paths[id(module)]
        is_layer = _is_layer(module, is_whole=not path)
        label = self._label(path) or (type(module).__name__ if is_layer else "")
        call = Call(
            label=label, op=type(module).__name__, path=path, is_needed=True, details=_about(module)
        )
        self._running.append(
            _Frame(path=path, label=label, call=call, taken=self._start(call, (args, kwargs)))
        )
        if not is_layer:
            self._running[-1].label = self._unused(label)
            self._hidden -= 1

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
        if self._hidden > 1:
            self._hidden -= 1
            return result
        is_layer, self._hidden = self._hidden == 1, 1
        frame = self._running.pop()
        if is_layer:
            result = self._finish(frame.call, frame.taken, result)
        elif unknown := [tensor for tensor in tensors_in(result) if not self._is_known(tensor)]:
            # Made out of sight, as by a module that runs without Python.
            frame.call.label = _join(frame.label, frame.call.op)
            self._finish(frame.call, frame.taken, unknown)
        self._hidden = 0
        return result

    def _label(self, path: str) -> str:
        """The place of a module: in that use of a module above it that is running, and else by
        its own path.
        """
        for frame in reversed(self._running):
            if frame.path and path.startswith(frame.path + "."):
                return frame.label + self._shown[path].removeprefix(self._shown[frame.path])
        return self._shown[path]

    def _unused(self, label: str) -> str:
        """`label`, with a number from the second use on: the inside of each use is shown by itself."""
        found, number = label, 0
        while found in self._labels or (number and found in self._shown.values()):
            number += 1
            found = f"{label}_{number}"
        self._labels.add(found)
        return found

    def _start(self, call: Call, values: Any) -> Taken:
        taken = [(tensor, _times_written(tensor)) for tensor in tensors_in(values)]
        for tensor, _ in taken:
            if id(tensor) not in self._made_by and id(tensor) in self._states:
                self._add_state(tensor)
        found = (self._made_by.get(id(tensor)) for tensor, _ in taken)
        call.sources = list(dict.fromkeys(source for source in found if source is not None))
        call.is_of_batch = call.is_of_batch or any(
            self.calls[number].is_of_batch for number, _ in call.sources
        )
        return taken

    def _add_state(self, tensor: Tensor) -> None:
        """A parameter or buffer that is used outside of a layer."""
        path, kind = self._states[id(tensor)]
        module, _, name = path.rpartition(".")
        details: dict[str, str | int] = (
            {"parameters": tensor.numel()} if kind == "Parameter" else {}
        )
        self._finish(
            Call(label=_join(self._shown[module], name), op=kind, path=path, details=details),
            [],
            tensor,
        )

    def _finish(self, call: Call, taken: Taken, result: Any) -> Any:
        """Note down a call that made or wrote tensors; returns what the model is to get, which
        is `result` itself or, where that is what went in, another tensor on the same memory:
        else the two could not be told apart.
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
        """What changes with a tensor that is written: what it is a view of, or all views of it."""
        if tensor._base is not None:
            return [tensor._base]
        return [other for other in self._known.values() if other._base is tensor]

    def _is_known(self, tensor: Tensor) -> bool:
        return id(tensor) in self._made_by or id(tensor) in self._states

    def _shape(self, tensor: Tensor, *, is_of_batch: bool) -> Shape:
        shape = tuple(tensor.shape)
        return (-1, *shape[1:]) if is_of_batch and shape[:1] == self._inputs.shape[:1] else shape


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples, dictionaries and data classes, in order."""
    if isinstance(value, Tensor):
        yield value
        return
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, item.name, None) for item in dataclasses.fields(value)]
    for item in inner:
        yield from tensors_in(item)


def _is_layer(module: nn.Module, *, is_whole: bool) -> bool:
    """Whether a module is shown as one node. A whole model is not, unless it is a layer of torch
    by itself.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if next(module.children(), None) is not None:
        return type(module).__module__.startswith("torch.nn.") and not isinstance(module, _BUILT)
    kinds = [kind for kind in type(module).__mro__ if kind is not nn.Module]
    return not is_whole or any(kind.__module__.startswith("torch.nn.") for kind in kinds)


def shown_paths(model: nn.Module) -> dict[str, str]:
    """Every module's path with slashes. A bare number, as in an nn.Sequential, is followed by
    the class: 0_Conv2d.
    """
    shown = {"": ""}
    for path, module in model.named_modules():
        above, _, name = path.rpartition(".")
        name = re.sub(
            r"[^\w/.-]", "_", f"{name}_{type(module).__name__}" if name.isdigit() else name
        )
        shown[path] = _join(shown[above], name)
    return shown


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def _name_of(func: Any) -> str:
    """`add` for the methods add_, __add__, __iadd__ and __radd__ as well, `mT` for reading that
    attribute.
    """
    name: str = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(func.__self__, "__name__", name)
    if name.startswith(("__r", "__i")) and name[3:-2] in _OPERATORS:
        name = name[3:-2]
    return re.sub(r"\W", "_", name).strip("_") or "function"


def _arguments(args: Any, kwargs: Any) -> dict[str, str | int]:
    """The settings among the arguments of a function, as text."""
    texts = [repr(value) for value in args if _is_plain(value)]
    texts += [f"{name}={value!r}" for name, value in kwargs.items() if _is_plain(value)]
    return {"arguments": ", ".join(texts)[:_LONGEST_DETAIL]} if texts else {}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(item) for item in value)
    return isinstance(value, (bool, int, float, str, slice, torch.dtype))


def _about(module: nn.Module) -> dict[str, str | int]:
    """The settings of a module as it prints them, and the number of its parameters."""
    parameters = sum(parameter.numel() for parameter in module.parameters())
    settings = module.extra_repr()[:_LONGEST_DETAIL]
    return ({"layer": settings} if settings else {}) | (
        {"parameters": parameters} if parameters else {}
    )


def _is_among(value: Any, tensors: Iterable[Tensor]) -> bool:
    return any(value is tensor for tensor in tensors)  # == would compare their values


def _times_written(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _alias(tensor: Tensor) -> Tensor:
    # Sparse tensors have no views.
    with contextlib.suppress(RuntimeError):
        return tensor.view_as(tensor)
    return tensor
