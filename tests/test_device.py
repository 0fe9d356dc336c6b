"""Memory that is kept between steps; devices, and what they can sum in."""

from __future__ import annotations

import platform
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import run_python
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.data.batches import TensorBatches
from trainer.device import RandomState, pick_device, sum_dtype
from trainer.engine.evaluate import evaluate
from trainer.engine.step import Step, UpdateOptions
from trainer.errors import EnvironmentFault
from trainer.losses import make_loss

FAULTS_A_STEP = """
import resource, torch
from trainer.device import disable_malloc_trim

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    layers = [torch.ones(num) for num in (9_000_000, 500_000, 3_000_000)]

def faults_a_step():
    for _ in range(3):
        step()
    before = faults()
    for _ in range(10):
        step()
    return (faults() - before) // 10

print(faults_a_step())
disable_malloc_trim()
print(faults_a_step())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep memory")
def test_freed_memory_is_not_faulted_in_again(tmp_path: Path) -> None:
    """Tensors of 36, 2 and 12 MB: 12,000 pages a step, where they are returned and taken anew."""
    usual, kept = map(int, run_python("-c", FAULTS_A_STEP, cwd=tmp_path).out.split())
    assert kept < 100 < usual


def test_a_gpu_of_apple_that_is_not_there() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("there is one here")
    with pytest.raises(EnvironmentFault, match="sees no Apple GPU"):
        pick_device("mps")


def test_sums_are_wide_where_the_device_has_float64() -> None:
    assert sum_dtype(torch.device("cpu")) == sum_dtype(torch.device("cuda")) == torch.float64
    assert sum_dtype(torch.device("mps")) == torch.float32


class NoFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses every operation that gives a float64, as the device mps does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            is_wide = isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
            assert not is_wide, f"{func} gives a float64"
        return result


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_and_an_evaluation_need_no_float64(
    accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device meta, which has a CPU's operations and a GPU's way through the step."""
    monkeypatch.setattr("trainer.device._NO_FLOAT64", ("meta", "cpu"))
    loss = make_loss("cross_entropy", label_smoothing=0.0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3)).to("meta")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, foreach=True)
    inputs = torch.zeros(8, 4, device="meta")
    targets = torch.zeros(8, dtype=torch.int64, device="meta")
    with NoFloat64():  # type: ignore[no-untyped-call]
        step = Step(
            net,
            loss,
            optimizer=optimizer,
            device=torch.device("meta"),
            counts_correct=True,
            options=UpdateOptions(accumulate=accumulate, clip_norm=1.0),
        )
        for number in range(accumulate):
            step(inputs, targets, is_update=number == accumulate - 1)
        on_cpu = torch.nn.Linear(4, 3)
        batches = TensorBatches(
            torch.zeros(8, 4), torch.zeros(8).long(), batch_size=3, prepare=lambda batch, _: batch
        )
        found = evaluate(on_cpu, batches, loss, device=torch.device("cpu"), num_classes=3)
    assert found.loss > 0


def test_every_global_generator_goes_on_from_its_state() -> None:
    def draw() -> list[float]:
        # A second normal waits in two of them.
        normal = np.random.standard_normal()
        return [random.gauss(0, 1), torch.randn(()).item(), float(normal)]

    draw()
    state = RandomState().state_dict()
    drawn = [draw() for _ in range(400)]
    RandomState().load_state_dict(state)
    assert [draw() for _ in range(400)] == drawn


@pytest.mark.parametrize(
    "wrong",
    [
        {"words": torch.zeros(624)},
        {"words": torch.zeros(623, dtype=torch.int32)},
        {"place": 625},
        {"place": -1},
        {"normal": float("nan")},
        {"more": 1},
    ],
)
def test_a_wrong_state_of_a_generator_is_refused(wrong: dict[str, Any]) -> None:
    state = RandomState().state_dict()
    numpy = state["numpy"]
    assert isinstance(numpy, dict)
    with pytest.raises(ValueError):
        RandomState().load_state_dict({**state, "numpy": numpy | wrong})


def test_a_checkpoint_without_numpys_generator_leaves_it_alone() -> None:
    state = RandomState().state_dict()
    del state["numpy"]
    np.random.seed(3)
    RandomState().load_state_dict(state)
    assert np.random.rand() == np.random.RandomState(3).rand()
