"""Average pooling by rows, against torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.models.fast_layers import AvgPool2d, _ByRows


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


def both(inputs: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
def test_it_is_that_of_torch(shape: tuple[int, ...], rows: list[int]) -> None:
    inputs = torch.randn(shape).to(memory_format=torch.channels_last)
    outputs, expected, gradients, expected_gradients = both(inputs, 2)
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
def test_all_else_goes_the_usual_way(
    shape: tuple[int, ...],
    options: tuple[Any, ...],
    dtype: torch.dtype,
    layout: torch.memory_format,
    rows: list[int],
) -> None:
    inputs = torch.randn(shape).to(dtype, memory_format=layout)
    outputs, expected, gradients, expected_gradients = both(inputs, *options)
    assert (
        rows == [] and torch.equal(outputs, expected) and torch.equal(gradients, expected_gradients)
    )
