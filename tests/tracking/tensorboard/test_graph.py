"""The recorded graph: what leads to what, under which names, and that recording changes nothing."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from google.protobuf import text_format
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from trainer.models import make_model
from trainer.tracking.tensorboard.graph import Graph, Node, NotTraceable, trace
from trainer.tracking.tensorboard.graph_tracing import Recorder

OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {"bias": True},
    "mlp": {"hidden": [512, 512], "dropout": 0.1},
    "lenet5": {"channels": [6, 16], "hidden": [120, 84]},
    "cnn": {"channels": [32, 64], "hidden": 128},
    "cnn_dropout": {"channels": [32, 64], "hidden": 128, "conv_dropout": 0.25, "fc_dropout": 0.5},
}
CHAINS = {
    "linear": "input flatten fc output",
    "mlp": "input flatten fc1 relu1 dropout1 fc2 relu2 dropout2 fc3 output",
    "lenet5": "input conv1 relu1 pool1 conv2 relu2 pool2 flatten fc1 relu3 fc2 relu4 fc3 output",
    "cnn": "input conv1 pool1 relu1 conv2 pool2 relu2 flatten fc1 relu3 fc2 output",
    "cnn_dropout": (
        "input conv1 relu1 conv2 relu2 pool dropout1 flatten fc1 relu3 dropout2 fc2 log_softmax "
        "output"
    ),
}


def built_in(name: str) -> nn.Module:
    return make_model(name, input_shape=(1, 28, 28), num_outputs=10, **OPTIONS[name])


class Block(nn.Module):
    """A residual block that works in place where it can, its short cut an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shortcut = nn.Identity()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        short = self.shortcut(inputs)
        outputs = F.relu(self.bn1(self.conv1(inputs)), inplace=True)
        outputs = self.conv2(outputs)
        outputs += short
        return F.relu(outputs)


class Residual(nn.Module):
    """Nested containers, a parameter outside of layers, a check of the input, a layer that is
    not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.shift = nn.Parameter(torch.zeros(4, 1, 1))
        self.head = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)), nn.Linear(8, 3))
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        assert not (inputs * 2).isnan().any()
        hidden = self.stem(inputs) + self.shift
        for block in self.blocks:
            hidden = block(hidden)
        if hidden.shape[2] > 3:
            hidden = F.max_pool2d(hidden, 2)
        outputs: Tensor = self.head(hidden.mean((2, 3)))
        return outputs


class Calls(nn.Module):
    """Any function of its parts and the inputs."""

    def __init__(self, call: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, inputs: Tensor) -> Any:
        return self.call(self, inputs)


def by_name(graph: Graph) -> dict[str, Node]:
    found = {node.name: node for node in graph.nodes}
    assert len(found) == len(graph.nodes), "two nodes have one name"
    for node in graph.nodes:
        for source, _, port in (name.partition(":") for name in node.inputs):
            assert int(port or 0) < len(found[source].shapes)
    return found


def edges(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {name: node.inputs for name, node in by_name(graph).items()}


def traced(call: Any, **parts: nn.Module) -> dict[str, tuple[str, ...]]:
    """What leads to each node, of a model with these parts on two samples of four values."""
    return edges(trace(Calls(call, **parts), torch.ones(2, 4)))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_built_in_model_is_a_chain_of_its_layers(name: str) -> None:
    graph = trace(built_in(name), torch.zeros(2, 1, 28, 28))
    chain = CHAINS[name].split()
    assert list(by_name(graph)) == chain
    assert [node.inputs for node in graph.nodes] == [(), *((source,) for source in chain[:-1])]


def test_nodes_tell_their_type_shape_and_settings() -> None:
    nodes = by_name(trace(built_in("cnn"), torch.zeros(2, 1, 28, 28)))
    assert [
        nodes[name].op for name in ("input", "conv1", "pool1", "relu1", "flatten", "fc1", "output")
    ] == (["Input", "Conv2d", "MaxPool2d", "ReLU", "Flatten", "Linear", "Output"])
    assert nodes["input"].shapes == ((-1, 1, 28, 28),)
    assert nodes["conv1"].shapes == ((-1, 32, 28, 28),)
    assert nodes["fc2"].shapes == ((-1, 10),)
    assert nodes["conv1"].details["parameters"] == 320
    assert "kernel_size=(3, 3)" in str(nodes["conv1"].details["layer"])
    assert "out_features=128" in str(nodes["fc1"].details["layer"])


def test_a_residual_block_keeps_its_two_ways() -> None:
    found = edges(trace(Residual(), torch.zeros(2, 1, 8, 8)))
    first, second = "blocks/0_Block", "blocks/1_Block"
    assert found == {
        "input": (),
        "stem/0_Conv2d": ("input",),
        "stem/1_ReLU": ("stem/0_Conv2d",),
        "shift": (),
        "add": ("stem/1_ReLU", "shift"),
        f"{first}/shortcut": ("add",),
        f"{first}/conv1": ("add",),
        f"{first}/bn1": (f"{first}/conv1",),
        f"{first}/relu": (f"{first}/bn1",),
        f"{first}/conv2": (f"{first}/relu",),
        f"{first}/add": (f"{first}/conv2", f"{first}/shortcut"),
        f"{first}/relu_1": (f"{first}/add",),
        f"{second}/shortcut": (f"{first}/relu_1",),
        f"{second}/conv1": (f"{first}/relu_1",),
        f"{second}/bn1": (f"{second}/conv1",),
        f"{second}/relu": (f"{second}/bn1",),
        f"{second}/conv2": (f"{second}/relu",),
        f"{second}/add": (f"{second}/conv2", f"{second}/shortcut"),
        f"{second}/relu_1": (f"{second}/add",),
        "max_pool2d": (f"{second}/relu_1",),
        "mean": ("max_pool2d",),
        "head/0_Sequential/0_Linear": ("mean",),
        "head/0_Sequential/1_Dropout": ("head/0_Sequential/0_Linear",),
        "head/1_Linear": ("head/0_Sequential/1_Dropout",),
        "output": ("head/1_Linear",),
    }


def test_control_flow_takes_the_way_of_the_inputs() -> None:
    assert "max_pool2d" not in edges(trace(Residual(), torch.zeros(2, 1, 3, 3)))


def test_a_layer_used_twice_is_two_nodes_and_a_block_two_blocks() -> None:
    fc, block = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    found = traced(
        lambda model, x: model.block(model.block(model.fc(model.fc(x)))), fc=fc, block=block
    )
    assert found == {
        "input": (),
        "fc": ("input",),
        "fc_1": ("fc",),
        "block/0_Linear": ("fc_1",),
        "block/1_Tanh": ("block/0_Linear",),
        "block_1/0_Linear": ("block/1_Tanh",),
        "block_1/1_Tanh": ("block_1/0_Linear",),
        "output": ("block_1/1_Tanh",),
    }


def test_layers_keep_their_names_where_ours_would_clash() -> None:
    parts = {"input": nn.Linear(4, 4), "output": nn.Linear(4, 4), "add": nn.Linear(4, 4)}
    found = traced(lambda model, x: model.output(model.add(model.input(x)) + 1), **parts)
    assert found == {
        "input_1": (),
        "input": ("input_1",),
        "add": ("input",),
        "add_1": ("add",),
        "output": ("add_1",),
        "output_1": ("output",),
    }


def test_a_function_and_a_block_of_its_name_differ() -> None:
    found = traced(lambda model, x: model.exp(x).exp(), exp=nn.Sequential(nn.Linear(4, 4)))
    assert list(found) == ["input", "exp/0_Linear", "exp_1", "output"]


def write_to_a_view(_: nn.Module, inputs: Tensor) -> Tensor:
    inputs = inputs * 2
    inputs[:, 0].add_(1)
    return inputs.exp()


def write_below_a_view(_: nn.Module, inputs: Tensor) -> Tensor:
    view = inputs.view(-1)
    inputs.mul_(3)
    return view.exp()


def set_items(_: nn.Module, inputs: Tensor) -> Tensor:
    inputs[:, 0] = inputs[:, 1].exp()
    return inputs


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            write_to_a_view,
            {"mul": ("input",), "getitem": ("mul",), "add": ("getitem",), "exp": ("add",)},
        ),
        (write_below_a_view, {"mul": ("input",), "exp": ("mul",)}),
        (set_items, {"getitem": ("input",), "exp": ("getitem",), "setitem": ("input", "exp")}),
        (
            lambda _, x: torch.exp(x, out=torch.empty(2, 4)),
            {"empty": (), "exp": ("input", "empty")},
        ),
        (lambda _, x: 1 - x.contiguous() + x, {"contiguous": ("input",), "sub": ("contiguous",)}),
        (
            lambda _, x: torch.cat(x.chunk(2, 1)[::-1]),
            {"chunk": ("input",), "cat": ("chunk:1", "chunk")},
        ),
        (lambda _, x: x @ x.mT, {"mT": ("input",), "matmul": ("input", "mT")}),
    ],
)
def test_writing_in_place_and_views(call: Any, expected: dict[str, tuple[str, ...]]) -> None:
    found = traced(call)
    assert found.items() >= expected.items()
    if "contiguous" in found:
        assert found["add"] == ("sub", "input")


@dataclasses.dataclass
class Both:
    logits: Tensor
    hidden: list[Tensor]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda first, second: (first, second),
        lambda first, second: [first, [second]],
        lambda first, second: {"first": first, "rest": {"second": second}, "name": "x"},
        lambda first, second: Both(first, [second]),
    ],
)
def test_outputs_may_be_nested(wrap: Any) -> None:
    found = traced(
        lambda model, x: wrap(model.a(x), model.b(x)), a=nn.Linear(4, 2), b=nn.Linear(4, 3)
    )
    assert found["output"] == ("a", "b")


def test_modules_with_several_outputs_and_other_arguments_than_tensors() -> None:
    def call(model: Any, inputs: Tensor) -> Tensor:
        outputs, (hidden, _) = model.lstm(inputs[:, None])
        scaled: Tensor = model.scale(hidden[0], by={"factor": 2.0}, skip=None)
        total: Tensor = outputs[:, -1] + scaled
        return total

    class Scale(nn.Module):
        def forward(self, inputs: Tensor, *, by: dict[str, float], skip: Tensor | None) -> Tensor:
            return inputs * by["factor"] if skip is None else skip

    found = traced(call, lstm=nn.LSTM(4, 3, batch_first=True), scale=Scale())
    assert found["scale"] == ("getitem_1",)
    assert found["getitem_1"] == ("lstm:1",)
    assert found["add"] == ("getitem_2", "scale")


def test_a_model_that_is_one_layer_or_none() -> None:
    assert edges(trace(nn.Linear(4, 2), torch.ones(2, 4))) == {
        "input": (),
        "Linear": ("input",),
        "output": ("Linear",),
    }
    assert traced(lambda _, x: x.exp()) == {"input": (), "exp": ("input",), "output": ("exp",)}


def test_a_part_that_runs_out_of_sight_is_one_node() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(4, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():
                return inputs.exp()

    found = traced(lambda model, x: model.hidden(x).sin(), hidden=Hidden())
    assert found == {
        "input": (),
        "hidden/Hidden": ("input",),
        "sin": ("hidden/Hidden",),
        "output": ("sin",),
    }


def test_a_model_may_go_on_after_a_layer_raised() -> None:
    def call(model: Any, inputs: Tensor) -> Tensor:
        try:
            outputs: Tensor = model.block(inputs)
        except RuntimeError:
            outputs = model.fc(inputs).exp()
        return outputs

    found = traced(call, block=nn.Sequential(nn.Tanh(), nn.Linear(5, 2)), fc=nn.Linear(4, 2))
    assert found["fc"] == ("input",)
    assert found["output"] == ("exp",)


def test_a_deep_chain_is_not_folded_into_one_node() -> None:
    deep = make_model("mlp", input_shape=(4,), num_outputs=2, hidden=[3] * 6, dropout=0.0)
    names = list(by_name(trace(deep, torch.ones(2, 4))))
    assert names[2:6] == ["fc1.", "relu1.", "fc2.", "relu2."]
    # The pattern by which TensorBoard finds what to fold.
    assert not [name for name in names if re.fullmatch(r"\D*\d+", name)]


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {name: value.numpy().tobytes() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "gradients": [id(parameter.grad) for parameter in model.parameters()],
        "hooks": [
            (
                list(module._forward_hooks.items()),
                list(module._forward_pre_hooks.items()),
                *flags_of(module),
            )
            for module in model.modules()
        ],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "random": (torch.get_rng_state().numpy().tobytes(), random.getstate()),
    }


def flags_of(module: nn.Module) -> list[dict[int, bool]]:
    return [
        dict(module._forward_hooks_with_kwargs),
        dict(module._forward_hooks_always_called),
        dict(module._forward_pre_hooks_with_kwargs),
    ]


def test_recording_changes_nothing() -> None:
    model = Residual().train()
    model.blocks[1].eval()
    model.stem.register_forward_hook(lambda module, args, outputs: outputs * torch.rand(1))
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    inputs = torch.randn(2, 1, 8, 8)
    before, kept = state_of(model), inputs.clone()
    trace(model, inputs)
    assert state_of(model) == before
    assert torch.equal(inputs, kept)


def test_the_recorder_takes_its_hooks_away_itself() -> None:
    model = Residual().eval()
    before = state_of(model)["hooks"]
    Recorder(model, torch.zeros(2, 1, 8, 8)).run()
    assert state_of(model)["hooks"] == before
    with pytest.raises(RuntimeError):
        Recorder(model, torch.zeros(2, 5, 8, 8)).run()
    assert state_of(model)["hooks"] == before


def test_an_input_that_the_first_layer_overwrites_is_kept() -> None:
    inputs = torch.full((2, 3), -1.0)
    trace(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1)), inputs)
    assert torch.equal(inputs, torch.full((2, 3), -1.0))


def test_a_model_that_raises_gives_a_phrase_and_is_left_as_it_was() -> None:
    def call(model: Any, inputs: Tensor) -> Tensor:
        model.norm(inputs)
        model.num_passes = 1
        raise RuntimeError(f"no luck\nand more {torch.rand(1)}" + "!" * 500)

    model = Calls(call, norm=nn.BatchNorm1d(4))
    before = state_of(model)
    with pytest.raises(NotTraceable) as caught:
        trace(model, torch.ones(2, 4))
    assert str(caught.value) == "RuntimeError: no luck"
    assert state_of(model) == before
    assert torch._C._len_torch_function_stack() == 0


@pytest.mark.parametrize(
    ("model", "phrase"),
    [
        (Calls(lambda _, x: 1 / 0), "ZeroDivisionError: division by zero"),
        (Calls(lambda _, x: 3.0), "ValueError: it returns nothing that was made of its input"),
        (Calls(lambda _, x: [][0 * x.ndim]), "IndexError: list index out of range"),
        (nn.ModuleDict({"a name that is long" * 99: nn.Linear(1, 1)}), "NotImplementedError: "),
        (Calls(lambda _, x: dict[str, int]()["long" * 99]), "KeyError: "),
        (nn.Sequential(nn.LazyLinear(3)), "it has lazy layers that have not seen a batch"),
        (nn.Linear(5, 1), "RuntimeError: "),
    ],
)
def test_what_cannot_be_traced_says_why(model: nn.Module, phrase: str) -> None:
    with pytest.raises(NotTraceable, match=re.escape(phrase)) as caught:
        trace(model, torch.ones(2, 4))
    assert len(str(caught.value)) <= 200
    assert "\n" not in str(caught.value)


def test_hooks_of_a_person_run_and_stay() -> None:
    seen: list[Tensor] = []
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[0].register_forward_hook(lambda module, args, outputs: seen.append(outputs.mean()))
    model[1].register_forward_hook(lambda module, args, outputs: outputs * 2)
    before = state_of(model)
    found = edges(trace(model, torch.ones(2, 4)))
    # What a hook looks at is no part of the model; what it exchanges is.
    assert found == {
        "input": (),
        "0_Linear": ("input",),
        "1_ReLU": ("0_Linear",),
        "mul": ("1_ReLU",),
        "output": ("mul",),
    }
    assert len(seen) == 1
    assert state_of(model) == before


def test_it_works_where_gradients_are_off_or_never_were() -> None:
    model = Calls(set_items)
    expected = edges(trace(model, torch.ones(2, 4)))
    assert "setitem" in expected
    with torch.no_grad():
        assert edges(trace(model, torch.ones(2, 4))) == expected
    with torch.inference_mode():
        assert edges(trace(model, torch.ones(2, 4))) == expected


def test_the_table_has_a_line_for_each_layer_and_the_sum() -> None:
    model = Residual()
    model.shift.requires_grad_(False)
    lines = trace(model, torch.zeros(2, 1, 8, 8)).as_table().splitlines()
    assert lines[:2] == ["| layer | type | output | parameters |", "|:---|:---|:---|---:|"]
    assert "| `stem.0` | Conv2d | 4 × 8 × 8 | 40 |" in lines
    assert "| `blocks.1.bn1` | BatchNorm2d | 4 × 8 × 8 | 8 |" in lines
    assert "| `shift` | Parameter | 4 × 1 × 1 | 4 |" in lines
    assert "| `head.1` | Linear | 3 | 27 |" in lines
    assert "| `unused` | Linear | not used | 6 |" in lines
    total = sum(parameter.numel() for parameter in model.parameters())
    assert lines[-1] == f"| **total** | | | **{total:,}**, {total - 4:,} of them trained |"
    numbers = [
        int(line.split("|")[4].replace(",", "") or 0)
        for line in lines[2:-1]
        if line.split("|")[4].strip()
    ]
    assert sum(numbers) == total


def test_shared_parameters_are_counted_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = Calls(lambda model, x: model.b(model.a(model.a(x))), a=first, b=second)
    lines = trace(model, torch.ones(2, 4)).as_table().splitlines()
    assert lines[2:] == [
        "| `a` | Linear | 4 | 20 |",
        "| `b` | Linear | 4 | 4 |",
        "| **total** | | | **24**, all trained |",
    ]


def served(folder: Path, graph: Graph) -> tuple[Any, GraphDef]:
    """What TensorBoard's own plugin answers over HTTP for a run with this graph."""
    # Its server warns of a library in it while it is imported.
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.graph.graphs_plugin import GraphsPlugin
    from werkzeug.test import Client

    writer = SummaryWriter(str(folder))
    event = Event(graph_def=graph.as_graph_def().SerializeToString())
    writer._get_file_writer().add_event(event)  # type: ignore[no-untyped-call]
    writer.close()
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    plugin = GraphsPlugin(TBContext(logdir=str(folder), data_provider=provider))
    routes = plugin.get_plugin_apps()
    info = json.loads(Client(routes["/info"]).get("/").get_data())
    limits = {"run": ".", "limit_attr_size": "1024", "large_attrs_key": "_too_large"}
    text = Client(routes["/graph"]).get("/", query_string=limits).get_data(as_text=True)
    return info, text_format.Parse(text, GraphDef())


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated")
@pytest.mark.parametrize("name", [*OPTIONS, "residual"])
def test_tensorboard_serves_the_graph(tmp_path: Path, name: str) -> None:
    graph = trace(Residual() if name == "residual" else built_in(name), torch.zeros(2, 1, 28, 28))
    info, read = served(tmp_path, graph)
    assert info["."] == {"run": ".", "tags": {}, "run_graph": True}
    assert read.versions.producer > 0
    assert {node.name: (node.op, tuple(node.input)) for node in read.node} == {
        node.name: (node.op, node.inputs) for node in graph.nodes
    }
    shapes = {
        node.name: tuple(
            tuple(dim.size for dim in shape.dim) for shape in node.attr["_output_shapes"].list.shape
        )
        for node in read.node
    }
    assert shapes == {node.name: node.shapes for node in graph.nodes}
    details = {node.name: node.attr["layer"].s.decode() for node in read.node}
    assert details == {node.name: node.details.get("layer", "") for node in graph.nodes}
    numbers = {node.name: node.attr["parameters"].i for node in read.node}
    assert numbers == {node.name: node.details.get("parameters", 0) for node in graph.nodes}
