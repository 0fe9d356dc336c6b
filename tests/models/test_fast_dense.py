"""Linear layers through oneDNN: the same function as torch's, wherever they are used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from trainer.models import fast_layers as dense
from trainer.models.fast_layers import Linear


@pytest.fixture(autouse=True)
def anywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """On any CPU that has oneDNN; the list tells of each multiplication there."""
    if not torch._C._has_mkldnn:
        pytest.skip("torch has no oneDNN here")
    multiply, calls = dense._multiply, []

    def counted(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        calls.append(len(inputs))
        return multiply(inputs, weight, bias)

    monkeypatch.setattr(dense, "_multiply", counted)
    monkeypatch.setattr(dense, "onednn_is_faster", lambda: True)
    yield calls


def both(num_in: int, num_out: int, *, bias: bool = True) -> tuple[Linear, nn.Linear]:
    ours, theirs = Linear(num_in, num_out, bias=bias), nn.Linear(num_in, num_out, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("num", "num_in", "num_out"), [(64, 784, 512), (1, 512, 512), (33, 3136, 128), (1000, 784, 200)]
)
def test_outputs_and_gradients_are_those_of_torch(
    anywhere: list[int], num: int, num_in: int, num_out: int, bias: bool
) -> None:
    ours, theirs = both(num_in, num_out, bias=bias)
    inputs, gradient = torch.randn(num, num_in), torch.randn(num, num_out)
    results = []
    for layer in (ours, theirs):
        own = inputs.clone().requires_grad_()
        outputs = layer(own)
        outputs.backward(gradient)
        results.append([outputs, own.grad, *(parameter.grad for parameter in layer.parameters())])
    assert len(anywhere) == 3, "forward, and the gradients of inputs and weights"
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-4)


def test_what_needs_no_gradient_gets_none(anywhere: list[int]) -> None:
    layer, _ = both(784, 512)
    layer.weight.requires_grad_(False)
    layer(torch.randn(4, 784)).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is not None
    assert len(anywhere) == 1


@pytest.mark.parametrize(
    "inputs",
    [
        torch.randn(4, 3, 784),
        torch.randn(784),
        torch.randn(0, 784),
        torch.randn(4, 784, dtype=torch.float64),
    ],
)
def test_other_inputs_go_the_usual_way(anywhere: list[int], inputs: Tensor) -> None:
    ours, theirs = (layer.to(inputs.dtype) for layer in both(784, 512))
    assert torch.equal(ours(inputs), theirs(inputs)) and anywhere == []


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_small_layers_autocast_and_tracing_go_the_usual_way(anywhere: list[int]) -> None:
    both(20, 10)[0](torch.randn(64, 20))
    ours, _ = both(784, 512)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(torch.randn(4, 784)).dtype == torch.bfloat16
    torch.jit.trace(ours, torch.randn(4, 784), check_trace=False)  # type: ignore[no-untyped-call]
    assert anywhere == []


def test_evaluation_and_training_compute_the_same(anywhere: list[int]) -> None:
    layer, inputs = both(784, 512)[0], torch.randn(64, 784)
    trained = layer(inputs)
    with torch.inference_mode():
        assert torch.equal(layer(inputs), trained)
    assert len(anywhere) == 2
