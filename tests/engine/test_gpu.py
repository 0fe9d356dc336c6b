"""On a GPU: the same results as on the CPU, and no question asked of the device in a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.commands.fit.components import build_components
from trainer.data.image_sets.download import QuietReport

SMALL = ("data=dirichlet", "model=mlp", "data.train_size=700", "data.val_size=150")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_does_not_wait_for_the_device(compose: Any, precision: str) -> None:
    components = build_components(
        compose(*SMALL, "trainer.device=cuda", f"trainer.precision={precision}"), QuietReport()
    )
    batches = list(components.data.train.epoch(0))
    components.state.step(*batches[0], is_update=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:4]:
            components.state.step(*batch, is_update=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert components.state.step.is_finite


@pytest.mark.gpu
def test_the_gpu_trains_like_the_cpu(compose: Any) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        components = build_components(compose(*SMALL, f"trainer.device={device}"), QuietReport())
        for batch in components.data.train.epoch(0):
            components.state.step(*batch, is_update=True)
        loss, _, samples = components.state.step.read_sums()
        losses.append(loss / samples)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
