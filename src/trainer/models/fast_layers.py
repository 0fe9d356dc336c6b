"""Layers with the values of torch's in less time: dense by oneDNN, average pooling by rows."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

# Fewer weights are multiplied in less time than the calls take.
_MIN_WEIGHTS = 100_000


class Linear(nn.Linear):
    """As torch's: (N, in) -> (N, out). Large layers go through oneDNN on AMD CPUs with AVX-512.

    There torch's own choice, MKL, leaves AVX-512 unused: 188 against 383 billion operations a
    second for 64 x 784 x 512, on 2 cores. The results differ by rounding, as between two kinds of
    CPU; they are the same from run to run.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        # In this order: the tracer of graphs warns of a comparison with the number of weights.
        if not _is_for_onednn(inputs) or self.weight.numel() < _MIN_WEIGHTS:
            return super().forward(inputs)
        outputs: Tensor = _OneDnn.apply(inputs, self.weight, self.bias)
        return outputs


def _is_for_onednn(inputs: Tensor) -> bool:
    # The compiler and the tracer of graphs know torch's own layer, and autocast chooses its type.
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or torch._C._is_tracing():
        return False
    is_plain = inputs.device.type == "cpu" and inputs.dtype == torch.float32
    return is_plain and inputs.ndim == 2 and len(inputs) > 0 and onednn_is_faster()


# Once a process: every forward pass of every layer asks.
@functools.cache
def onednn_is_faster() -> bool:
    """Whether MKL leaves AVX-512 of this CPU unused, and torch has its operation for oneDNN."""
    with contextlib.suppress(OSError):
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        # The operation is torch's own affair: a later torch may be without it.
        is_unused = "AuthenticAMD" in about and "avx512f" in about
        return is_unused and torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return False


def _multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """inputs (N, in) times the transpose of weight (out, in), plus bias."""
    outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return outputs


class _OneDnn(torch.autograd.Function):
    """y = x W' + b; dx = dy W, dW = dy' x, db = the sum of dy."""

    # once_differentiable: a gradient of the gradient is an error, where it would be wrong silently.
    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _multiply(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        needs_inputs, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _multiply(gradient, weight.t()) if needs_inputs else None,
            _multiply(gradient.t(), inputs.t()) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


class AvgPool2d(nn.AvgPool2d):
    """As torch's: (N, C, H, W) -> (N, C, H // k, W // k).

    For 2 x 2 in channels-last layout torch adds value by value. Whole rows take half its time: 264
    against 534 us, forward and backward, for 64 x 6 x 28 x 28 on a core, which was a tenth of a
    step of lenet5. The results differ by the order of three additions.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if (self.kernel_size, self.stride, self.padding) != (2, 2, 0) or not _is_for_rows(inputs):
            return super().forward(inputs)
        outputs: Tensor = _ByRows.apply(inputs)
        return outputs


def _is_for_rows(inputs: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32:
        return False
    # An odd row or column has no partner; torch leaves it out.
    if inputs.ndim != 4 or not inputs.numel() or inputs.shape[2] % 2 or inputs.shape[3] % 2:
        return False
    return inputs.is_contiguous(memory_format=torch.channels_last)


class _ByRows(torch.autograd.Function):
    """The mean of each 2 x 2: the sum of two rows, then of two columns, times 1/4."""

    @staticmethod
    def forward(_: object, inputs: Tensor) -> Tensor:
        # In this order of axes channels-last memory is contiguous, and a row is one piece.
        values = inputs.permute(0, 2, 3, 1)
        rows = values[:, 0::2] + values[:, 1::2]
        return (rows[:, :, 0::2] + rows[:, :, 1::2]).mul_(0.25).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(_: object, gradients: Tensor) -> Tensor:
        quarter = gradients.permute(0, 2, 3, 1) * 0.25
        num, height, width, channels = quarter.shape
        # Every value twice in its row, and then every row twice.
        rows = torch.stack((quarter, quarter), 3).view(num, height, 1, 2 * width * channels)
        both = torch.cat((rows, rows), 2).view(num, 2 * height, 2 * width, channels)
        return both.permute(0, 3, 1, 2)
