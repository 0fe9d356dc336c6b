"""A model as TensorBoard's graph and as a table of its layers, out of one recorded pass. Neither
is written here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.versions_pb2 import VersionDef
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainer.tracking.preserve import preserve_state
from trainer.tracking.tensorboard.graph_tracing import Call, Recorder, Shape, shown_paths

_LONGEST_REASON = 200
# Of the format; torch's own writer says the same.
_PRODUCER = 22
_FOLDED = 5


class NotTraceable(Exception):
    """The model's graph cannot be made; the text says why, in a phrase."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A use of a layer or a function. `inputs` are names of nodes, with `:1` where it is the second
    output of one.

    In `shapes`, one for each output, -1 is the size of the batch.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    details: Mapping[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A line of the table: a layer, or a parameter that is used outside of one. No shapes: it was
    not used.

    A parameter that several share is counted in the first.
    """

    name: str
    kind: str
    shapes: tuple[Shape, ...]
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What one pass showed, in the order of the pass."""

    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    num_parameters: int
    num_trained: int

    def as_graph_def(self) -> GraphDef:
        """For the field `graph_def` of an event, serialized; TensorBoard needs nothing beside it."""
        nodes = [
            NodeDef(
                name=node.name,
                op=node.op,
                input=node.inputs,
                attr=_attributes(node.shapes, node.details),
            )
            for node in self.nodes
        ]
        return GraphDef(node=nodes, versions=VersionDef(producer=_PRODUCER))

    def as_table(self) -> str:
        """Markdown: a line for each layer, with the output's shape without the batch, and one for the sum."""
        lines = ["| layer | type | output | parameters |", "|:---|:---|:---|---:|"]
        for layer in self.layers:
            name = layer.name.replace("|", r"\|")
            number = f"{layer.num_parameters:,}" if layer.num_parameters else ""
            lines.append(f"| `{name}` | {layer.kind} | {_text_of(layer.shapes)} | {number} |")
        is_all = self.num_trained == self.num_parameters
        trained = "all trained" if is_all else f"{self.num_trained:,} of them trained"
        return "\n".join(
            [*lines, f"| **total** | | | **{self.num_parameters:,}**, {trained} |", ""]
        )


def trace(model: nn.Module, inputs: Tensor) -> Graph:
    """Run `model` once as for evaluation on `inputs` (N, …), on its device, and tell what happened.

    Nothing of the pass is left in the model, its hooks, `inputs` or the random generators. N is
    best 2 or a number that is no other size: the first size of a tensor that equals it is taken for
    the batch's. Raises NotTraceable when the model raises, or has lazy layers that have not seen a
    batch yet.
    """
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise NotTraceable("it has lazy layers that have not seen a batch")
    try:
        with preserve_state(model), torch.inference_mode(False), torch.no_grad():
            recorder = Recorder(model.eval(), inputs.detach().clone())
            recorder.run()
        return _graph_of(model, recorder.calls)
    except Exception as error:  # whatever a person's own code raises
        raise NotTraceable(_reason(error)) from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])[:_LONGEST_REASON]


def _graph_of(model: nn.Module, calls: Sequence[Call]) -> Graph:
    used = _used(calls)
    names = _names(calls, used, places=set(shown_paths(model).values()))
    nodes = [
        Node(
            name=names[number],
            op=calls[number].op,
            inputs=tuple(
                names[source] + (f":{port}" if port else "")
                for source, port in calls[number].sources
            ),
            shapes=tuple(calls[number].shapes),
            details=calls[number].details,
        )
        for number in used
    ]
    parameters = list(model.parameters())
    return Graph(
        nodes=tuple(nodes),
        layers=tuple(_layers(model, [calls[number] for number in used])),
        num_parameters=sum(parameter.numel() for parameter in parameters),
        num_trained=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )


def _used(calls: Sequence[Call]) -> list[int]:
    """The numbers of the calls to show: layers, and the functions of which something comes,
    unlike those of a check.
    """
    used = {number for number, call in enumerate(calls) if call.is_needed}
    for number in reversed(range(len(calls))):
        if number in used:
            used.update(source for source, _ in calls[number].sources)
    return sorted(used)


def _names(calls: Sequence[Call], used: Sequence[int], *, places: set[str]) -> dict[int, str]:
    """A name for each call: its label, with a number where that is taken. What is in the model
    comes first.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    for number in sorted(used, key=lambda number: (calls[number].path is None, number)):
        if calls[number].path is None:
            taken |= places
        label = calls[number].label
        choices = itertools.chain([label], (f"{label}_{count}" for count in itertools.count(1)))
        names[number] = next(choice for choice in choices if choice not in taken)
        taken.add(names[number])
    return names | _kept_apart({number: (names[number], calls[number].op) for number in used})


def _kept_apart(named: Mapping[int, tuple[str, str]]) -> dict[int, str]:
    """Other names, `fc1.` for `fc1`, where TensorBoard would fold many of a kind into one node,
    loops and all.

    It does so with five and more of one type in one place whose names end in a number.
    """
    alike: dict[tuple[str, str], list[int]] = {}
    for number, (name, op) in named.items():
        if match := re.fullmatch(r"(.*/)?(\D*)\d+", name):
            alike.setdefault((op, f"{match[1]}{match[2]}"), []).append(number)
    folded = itertools.chain(*(numbers for numbers in alike.values() if len(numbers) >= _FOLDED))
    return {number: f"{named[number][0]}." for number in folded}


def _layers(model: nn.Module, calls: Sequence[Call]) -> Iterator[Layer]:
    """The lines of the table: what was used in the order of its first use, then what was not and
    has parameters.
    """
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    counted: set[Tensor] = set()

    def count(own: Iterable[Tensor]) -> int:
        new = set(own) - counted
        counted.update(new)
        return sum(parameter.numel() for parameter in new)

    told: set[str] = set()
    for call in calls:
        if call.path is None or call.path in told or call.op == "Buffer":
            continue
        told.add(call.path)
        own = (
            [parameters[call.path]] if call.path in parameters else modules[call.path].parameters()
        )
        yield Layer(
            name=call.path or call.op,
            kind=call.op,
            shapes=tuple(call.shapes),
            num_parameters=count(own),
        )
    for path, module in modules.items():
        if number := count(module.parameters(recurse=False)):
            kind = type(module).__name__
            yield Layer(name=path or kind, kind=kind, shapes=(), num_parameters=number)


def _attributes(shapes: Sequence[Shape], details: Mapping[str, str | int]) -> dict[str, AttrValue]:
    attributes = {
        name: AttrValue(i=value) if isinstance(value, int) else AttrValue(s=value.encode())
        for name, value in details.items()
    }
    if shapes:
        protos = [
            TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
            for shape in shapes
        ]
        attributes["_output_shapes"] = AttrValue(list=AttrValue.ListValue(shape=protos))
    return attributes


def _text_of(shapes: Sequence[Shape]) -> str:
    """The sizes without the batch's, `32 × 28 × 28`, of each output."""
    sizes = [shape[1:] if shape[:1] == (-1,) else shape for shape in shapes]
    return ", ".join(" × ".join(map(str, shape)) or "one value" for shape in sizes) or "not used"
