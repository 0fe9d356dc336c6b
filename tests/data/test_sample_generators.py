"""Samples are read as if every global generator were seeded for each, whatever they draw from."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, get_worker_info

from trainer.data.dataset import Part, StreamedBatches
from trainer.data.sample_generators import SampleGenerators
from trainer.data.samples import ConvertedDataset, Form
from trainer.data.seeding import derive_seed
from trainer.data.workers import WorkerKilled
from trainer.errors import CustomCodeError

SEED = 5


def _draw_when_odd(index: int) -> float:
    return random.random() if index % 2 else 0.0


def _draw_in_a_fork(_: int) -> float:
    with torch.random.fork_rng():
        return float(torch.rand(()))


def _draw_by_a_seed_of_torch(_: int) -> float:
    return float(np.random.default_rng(torch.initial_seed() % 2**32).random())


SAMPLES: dict[str, Callable[[int], Any]] = {
    "nothing": lambda index: index,
    "python": lambda _: random.random(),
    "normals of python": lambda _: random.gauss(0, 1),
    "torch": lambda _: float(torch.randn(())),
    "numpy": lambda _: np.random.rand(),
    "normals of numpy": lambda _: np.random.randn(),
    "all": lambda _: (random.random(), np.random.rand(), float(torch.rand(()))),
    "python, later": _draw_when_odd,
    "numpy, later": lambda index: np.random.randn() if index == 5 else random.random(),
    "torch, later": lambda index: float(torch.rand(())) if index == 9 else 0.0,
    "a fork": _draw_in_a_fork,
    "a seed": _draw_by_a_seed_of_torch,
    "its own seed": lambda index: torch.manual_seed(index).initial_seed(),
}


def states() -> tuple[Any, ...]:
    """Where the global generators are."""
    return random.getstate(), torch.get_rng_state().tolist(), repr(np.random.get_state())


def seeded_one_by_one(get: Callable[[int], Any], indices: list[int]) -> list[Any]:
    """What `SampleGenerators.read` promises, the slow way."""
    samples = []
    for index in indices:
        seed = derive_seed(SEED, index)
        random.seed(seed)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        samples.append(get(index))
    return samples


@pytest.mark.fault("N")
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_as_if_all_were_seeded_for_each(name: str) -> None:
    get = SAMPLES[name]
    wanted = seeded_one_by_one(get, list(range(12)))
    for seed in (random.seed, torch.manual_seed, np.random.seed):
        seed(7)
    before = states()
    generators = SampleGenerators()
    read: dict[int, Any] = {}
    for batch in ([0, 2, 4, 6], [1, 3, 5, 7], [8, 9], [10, 11]):
        read.update(zip(batch, generators.read(get, batch, seed=SEED), strict=True))
        assert states() == before
    assert [read[index] for index in range(12)] == wanted


def test_a_generator_that_nothing_draws_from_is_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    generators = SampleGenerators()
    generators.read(SAMPLES["torch"], [0], seed=SEED)
    seeded: list[object] = []
    for module in (random, np.random):
        monkeypatch.setattr(module, "seed", seeded.append)
    generators.read(SAMPLES["torch"], [1, 2], seed=SEED)
    assert seeded == []


def test_a_sample_that_fails_leaves_the_generators_alone() -> None:
    def failing(index: int) -> float:
        value = np.random.rand()
        raise ValueError(f"sample {index}: {value}")

    before = states()
    with pytest.raises(ValueError, match="sample 3"):
        SampleGenerators().read(failing, [3], seed=SEED)
    generators = SampleGenerators()
    generators.read(SAMPLES["nothing"], [0], seed=SEED)
    with pytest.raises(ValueError, match="sample 4") as caught:
        generators.read(failing, [4], seed=SEED)
    assert states() == before
    np.random.seed(derive_seed(SEED, 4) % 2**32)
    assert str(caught.value) == f"sample 4: {np.random.rand()}"


def test_a_sample_that_stops_an_iteration_is_an_error() -> None:
    generators = SampleGenerators()
    generators.read(SAMPLES["nothing"], [0], seed=SEED)
    with pytest.raises(StopIteration):
        generators.read(lambda index: next(iter([])) if index == 2 else index, [1, 2, 3], seed=SEED)


class Own(Dataset[Any]):
    """130 samples that draw from all three generators; `ends` what a worker does at sample 40."""

    def __init__(self, ends: Callable[[], None] | None = None) -> None:
        self.ends = ends

    def __len__(self) -> int:
        return 130

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 40 and self.ends is not None and get_worker_info() is not None:
            self.ends()
        drawn = torch.tensor([random.random(), np.random.rand()])
        return torch.cat((drawn, torch.rand(2))).float(), index % 3


def all_of(dataset: Dataset[Any]) -> Part:
    form = Form(num_classes=3, is_float=False, needs_images=False)
    return Part.whole(ConvertedDataset(dataset, name="the data set", form=form))


def batches(num_workers: int, dataset: Dataset[Any] | None = None, **options: Any) -> Any:
    return StreamedBatches(
        all_of(dataset or Own()),
        batch_size=4,
        num_workers=num_workers,
        device=torch.device("cpu"),
        seed=1,
        is_shuffled=True,
        **options,
    )


@pytest.mark.process
@pytest.mark.fault("N")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_give_the_same_batches(num_workers: int) -> None:
    # More batches than a message holds at first, and a last one that is smaller.
    whole = list(batches(0).epoch(3))
    assert [len(targets) for _, targets in whole] == [4] * 32 + [2]
    read = list(batches(num_workers).epoch(3))
    rest = list(batches(num_workers).epoch(3, start=29))
    for got, wanted in ((read, whole), (rest, whole[29:])):
        assert len(got) == len(wanted)
        for ours, theirs in zip(got, wanted, strict=True):
            assert all(map(torch.equal, ours, theirs))


class ByLength(Dataset[Any]):
    """Sequences of which only those of one batch have the same length."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((1 + index // 4,), float(index)), 0


@pytest.mark.process
def test_batches_of_unlike_shapes_come_from_workers_too() -> None:
    streamed = StreamedBatches(
        all_of(ByLength()),
        batch_size=4,
        num_workers=1,
        device=torch.device("cpu"),
        seed=1,
    )
    shapes = [tuple(inputs.shape) for inputs, _ in streamed.epoch(0)]
    assert shapes == [(4, 1 + number) for number in range(16)]


ENDS: dict[str, tuple[Callable[[], None], type[Exception], str]] = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), WorkerKilled, "memory ran out"),
    "crashed": (lambda: os.kill(os.getpid(), signal.SIGSEGV), CustomCodeError, "SIGSEGV"),
    "left": (lambda: os._exit(3), CustomCodeError, "exit code 3"),
}


@pytest.mark.process
@pytest.mark.fault("N")
@pytest.mark.parametrize("end", ENDS)
def test_a_worker_that_dies_is_named_with_its_sample(end: str) -> None:
    ends, kind, words = ENDS[end]
    with pytest.raises(kind, match=f"(?s){words}") as caught:
        list(batches(2, Own(ends)).epoch(0))
    assert "sample 40" in str(caught.value)
