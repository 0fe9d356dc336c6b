"""The fast layers compute what torch's do: dense ones by oneDNN, pooling by rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.models import fast_layers
from trainer.models.fast_layers import AvgPool2d, Linear, _ByRows


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Large dense layers go through oneDNN on any CPU; the list has each multiplication there."""
    if not torch._C._has_mkldnn:
        pytest.skip("torch has no oneDNN here")
    multiply = fast_layers._multiply
    calls: list[int] = []

    def counted(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        calls.append(len(inputs))
        return multiply(inputs, weight, bias)

    monkeypatch.setattr(fast_layers, "_multiply", counted)
    monkeypatch.setattr(fast_layers, "onednn_is_faster", lambda: True)
    yield calls


def dense_pair(num_in: int, num_out: int, *, bias: bool = True) -> tuple[Linear, nn.Linear]:
    ours, theirs = Linear(num_in, num_out, bias=bias), nn.Linear(num_in, num_out, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("num", "num_in", "num_out"), [(64, 784, 512), (1, 512, 512), (33, 3136, 128), (1000, 784, 200)]
)
def test_a_dense_layer_is_that_of_torch(
    products: list[int], num: int, num_in: int, num_out: int, bias: bool
) -> None:
    ours, theirs = dense_pair(num_in, num_out, bias=bias)
    inputs, gradient = torch.randn(num, num_in), torch.randn(num, num_out)
    results = []
    for layer in (ours, theirs):
        own = inputs.clone().requires_grad_()
        outputs = layer(own)
        outputs.backward(gradient)
        results.append([outputs, own.grad, *(parameter.grad for parameter in layer.parameters())])
    assert len(products) == 3, "forward, and the gradients of inputs and weights"
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-4)


def test_what_needs_no_gradient_gets_none(products: list[int]) -> None:
    layer, _ = dense_pair(784, 512)
    layer.weight.requires_grad_(False)
    layer(torch.randn(4, 784)).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is not None
    assert len(products) == 1


@pytest.mark.parametrize(
    "inputs",
    [
        torch.randn(4, 3, 784),
        torch.randn(784),
        torch.randn(0, 784),
        torch.randn(4, 784, dtype=torch.float64),
    ],
)
def test_other_inputs_of_dense_layers_go_the_usual_way(products: list[int], inputs: Tensor) -> None:
    ours, theirs = (layer.to(inputs.dtype) for layer in dense_pair(784, 512))
    assert torch.equal(ours(inputs), theirs(inputs)) and products == []


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_small_layers_autocast_and_tracing_go_the_usual_way(products: list[int]) -> None:
    dense_pair(20, 10)[0](torch.randn(64, 20))
    ours, _ = dense_pair(784, 512)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(torch.randn(4, 784)).dtype == torch.bfloat16
    torch.jit.trace(ours, torch.randn(4, 784), check_trace=False)  # type: ignore[no-untyped-call]
    assert products == []


def test_evaluation_and_training_compute_the_same(products: list[int]) -> None:
    layer, inputs = dense_pair(784, 512)[0], torch.randn(64, 784)
    trained = layer(inputs)
    with torch.inference_mode():
        assert torch.equal(layer(inputs), trained)
    assert len(products) == 2


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the way by rows was taken."""
    taken: list[int] = []
    apply = _ByRows.apply

    def counted(inputs: Tensor) -> Tensor:
        taken.append(1)
        outputs: Tensor = apply(inputs)
        return outputs

    monkeypatch.setattr(_ByRows, "apply", counted)
    return taken


def pooled(inputs: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs and gradients of ours and of torch's."""
    found: list[Tensor] = []
    for layer in (AvgPool2d(*options), nn.AvgPool2d(*options)):
        own = inputs.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        outputs = layer(own)
        weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)).to(
            outputs.dtype
        )
        (outputs * weights).sum().backward()
        assert own.grad is not None
        found += [outputs.detach(), own.grad]
    return found[0], found[2], found[1], found[3]


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (64, 6, 28, 28), (1, 16, 10, 10), (3, 5, 2, 2)])
def test_pooling_is_that_of_torch(shape: tuple[int, ...], rows: list[int]) -> None:
    inputs = torch.randn(shape).to(memory_format=torch.channels_last)
    outputs, expected, gradients, expected_gradients = pooled(inputs, 2)
    assert rows == [1]
    torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=0)
    assert (
        outputs.stride() == expected.stride() and gradients.stride() == expected_gradients.stride()
    )


@pytest.mark.parametrize(
    ("shape", "options", "dtype", "layout"),
    [
        ((2, 3, 5, 6), (2,), torch.float32, torch.channels_last),
        ((2, 3, 6, 6), (3,), torch.float32, torch.channels_last),
        ((2, 3, 6, 6), (2, 1), torch.float32, torch.channels_last),
        ((2, 3, 6, 6), (2, 2, 1), torch.float32, torch.channels_last),
        ((2, 3, 6, 6), (2,), torch.float64, torch.channels_last),
        ((2, 3, 6, 6), (2,), torch.float32, torch.contiguous_format),
    ],
)
def test_other_pooling_goes_the_usual_way(
    shape: tuple[int, ...],
    options: tuple[Any, ...],
    dtype: torch.dtype,
    layout: torch.memory_format,
    rows: list[int],
) -> None:
    inputs = torch.randn(shape).to(dtype, memory_format=layout)
    outputs, expected, gradients, expected_gradients = pooled(inputs, *options)
    assert (
        rows == [] and torch.equal(outputs, expected) and torch.equal(gradients, expected_gradients)
    )
