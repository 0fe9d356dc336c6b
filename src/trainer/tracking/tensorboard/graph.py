"""A model as TensorBoard's graph and as a table of its layers, made from one recorded pass."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.versions_pb2 import VersionDef
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainer.tracking.preserve import preserve_state
from trainer.tracking.tensorboard.graph_tracing import Call, Recorder, Shape, places_of
from trainer.tracking.tensorboard.writer import shape_proto

_MAX_REASON = 200
# The version of the format, which torch's own writer names too.
_PRODUCER = 22
_MIN_FOLDED = 5


class NotTraceable(Exception):
    """The model's graph cannot be made; the text says why, in a phrase."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A use of a layer or a function.

    `inputs` are names of nodes, with `:1` for the second output of one. In `shapes`, one for each
    output, -1 is the size of the batch.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    details: Mapping[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A line of the table: a layer, or a parameter that is used outside of one.

    One without shapes was not used. A parameter that several share is counted in the first.
    """

    name: str
    kind: str
    shapes: tuple[Shape, ...]
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The nodes and layers of one pass, in its order."""

    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    num_parameters: int
    num_trained: int

    def as_graph_def(self) -> GraphDef:
        """The graph as an event has it, serialised, in its field `graph_def`."""
        graph = GraphDef(versions=VersionDef(producer=_PRODUCER))
        for node in self.nodes:
            attributes = _attributes(node.shapes, node.details)
            graph.node.append(
                NodeDef(name=node.name, op=node.op, input=node.inputs, attr=attributes)
            )
        return graph

    def as_table(self) -> str:
        """Markdown: a line a layer, with the output's shape without the batch, and the sum."""
        lines = ["| layer | type | output | parameters |", "|:---|:---|:---|---:|"]
        for layer in self.layers:
            name = layer.name.replace("|", r"\|")
            number = f"{layer.num_parameters:,}" if layer.num_parameters else ""
            lines.append(f"| `{name}` | {layer.kind} | {_text_of(layer.shapes)} | {number} |")
        is_all = self.num_trained == self.num_parameters
        trained = "all trained" if is_all else f"{self.num_trained:,} of them trained"
        lines.append(f"| **total** | | | **{self.num_parameters:,}**, {trained} |")
        return "\n".join(lines) + "\n"


def trace(model: nn.Module, inputs: Tensor) -> Graph:
    """Run `model` once as for evaluation on `inputs` (N, …), on its device, and record the pass.

    The pass leaves no trace in the model, its hooks, `inputs` or the random generators. N is best 2
    or a number that is no other size: the first size of a tensor that equals it is taken for the
    batch's. Raises NotTraceable when the model raises, or has lazy layers that have not seen a
    batch yet.
    """
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise NotTraceable("it has lazy layers that have not seen a batch")
    try:
        # Inference tensors count no writes, by which the recorder sees what a call overwrites.
        with preserve_state(model), torch.inference_mode(False), torch.no_grad():
            model.eval()  # not its result: a class that overrides `train` may return nothing
            recorder = Recorder(model, inputs.detach().clone())
            recorder.run()
        return _graph_of(model, recorder.calls)
    except Exception as error:  # a person's own code may raise anything
        raise NotTraceable(_reason(error)) from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])[:_MAX_REASON]


def _graph_of(model: nn.Module, calls: Sequence[Call]) -> Graph:
    used = _used(calls)
    names = _names(used, places=set(places_of(model).values()))
    nodes = []
    for number, call in used.items():
        inputs = [names[source] + (f":{port}" if port else "") for source, port in call.sources]
        nodes.append(
            Node(
                name=names[number],
                op=call.op,
                inputs=tuple(inputs),
                shapes=tuple(call.shapes),
                details=call.details,
            )
        )
    parameters = list(model.parameters())
    return Graph(
        nodes=tuple(nodes),
        layers=tuple(_layers(model, used.values())),
        num_parameters=sum(parameter.numel() for parameter in parameters),
        num_trained=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )


def _used(calls: Sequence[Call]) -> dict[int, Call]:
    """The calls to show, by number: layers, and functions whose outputs are used.

    Those of a check, for instance, are not.
    """
    used = {number for number, call in enumerate(calls) if call.is_needed}
    # From the last: a call has its sources before it, so one pass finds the sources of sources.
    for number in reversed(range(len(calls))):
        if number in used:
            used.update(source for source, _ in calls[number].sources)
    return {number: calls[number] for number in sorted(used)}


def _names(used: Mapping[int, Call], *, places: set[str]) -> dict[int, str]:
    """A name for each call: its label, with a number where that is taken.

    Calls with a name in the model come first; the others avoid all `places` of it.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    for number in sorted(used, key=lambda number: (used[number].path is None, number)):
        if used[number].path is None:
            taken |= places
        label = used[number].label
        choices = itertools.chain([label], (f"{label}_{count}" for count in itertools.count(1)))
        names[number] = next(choice for choice in choices if choice not in taken)
        taken.add(names[number])
    return names | _unfolded(names, used)


def _unfolded(names: Mapping[int, str], used: Mapping[int, Call]) -> dict[int, str]:
    """Other names, `fc1.` for `fc1`, where TensorBoard would fold many of a kind into one node.

    It does so, loops and all, with five and more of one type in one place whose names end in a
    number.
    """
    alike: dict[tuple[str, str], list[int]] = {}
    for number, name in names.items():
        if match := re.fullmatch(r"((?:.*/)?\D*)\d+", name):
            alike.setdefault((used[number].op, match[1]), []).append(number)
    folded = itertools.chain(*(group for group in alike.values() if len(group) >= _MIN_FOLDED))
    return {number: f"{names[number]}." for number in folded}


def _layers(model: nn.Module, calls: Iterable[Call]) -> Iterator[Layer]:
    """The lines of the table: what was used, in order, then the unused that has parameters."""
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    counted: set[Tensor] = set()

    def count(own: Iterable[Tensor]) -> int:
        new = set(own) - counted
        counted.update(new)
        return sum(parameter.numel() for parameter in new)

    first: dict[str, Call] = {}
    for call in calls:
        if call.path is not None and call.op != "Buffer":
            first.setdefault(call.path, call)
    for path, call in first.items():
        own: Iterable[Tensor] = (
            [parameters[path]] if path in parameters else modules[path].parameters()
        )
        yield Layer(
            name=path or call.op,
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
        found = AttrValue()
        for shape in shapes:
            found.list.shape.append(shape_proto(shape))
        attributes["_output_shapes"] = found
    return attributes


def _text_of(shapes: Sequence[Shape]) -> str:
    """The sizes without the batch's, `32 × 28 × 28`, of each output."""
    sizes = [shape[1:] if shape[:1] == (-1,) else shape for shape in shapes]
    return ", ".join(" × ".join(map(str, shape)) or "one value" for shape in sizes) or "not used"
