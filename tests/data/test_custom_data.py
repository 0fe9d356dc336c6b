"""A person's own data set: what repeats in it, epoch by epoch, and what is kept in memory."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import Dataset

from trainer.cli.configs import configs_folder
from trainer.config.data import CustomDataConfig
from trainer.data import cached
from trainer.data.image_sets.download import QuietReport
from trainer.data.load import Data, load_data
from trainer.data.own_generators import own_generators

LENGTH = 37


class Plain(Dataset[Any]):
    """Rows of 3 values and a class, and how often each was read."""

    classes = ("a", "b")
    trainer_cache: Any = False

    def __init__(self) -> None:
        self.rows = torch.arange(3.0 * LENGTH).view(LENGTH, 3)
        self.reads = [0] * LENGTH

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.reads[index] += 1
        return self.rows[index], index % 2


class Fixed(Plain):
    """Says that its samples do not change."""

    trainer_cache = True


class Noisy(Plain):
    """Draws from a global generator."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row, target = super().__getitem__(index)
        return row + torch.rand(3), target


class ByEpoch(Plain):
    """Samples that depend on the epoch, as the hook says it."""

    epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row, target = super().__getitem__(index)
        return row + 1000 * self.epoch, target


class Generators(Plain):
    """Has generators in several places; draws from one."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)
        self.transform = [{"noise": random.Random(0)}, torch.Generator()]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row, target = super().__getitem__(index)
        return row + self.rng.random(), target


class Undrawn(Generators):
    """Has them, and its samples draw from none."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return Plain.__getitem__(self, index)


def load(kind: type[Plain], **changes: Any) -> tuple[Data, QuietReport]:
    """The data of a config that names `kind`."""
    text = (configs_folder() / "data/custom.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    own = {"target": f"{__name__}.{kind.__name__}", "batch_size": 5, "eval_batch_size": 6}
    config = CustomDataConfig(**{**values, **own, **changes})
    report = QuietReport()
    data = load_data(config, seed=3, device=torch.device("cpu"), report=report)
    return data, report


def epochs(data: Data, numbers: range) -> list[list[torch.Tensor]]:
    return [[tensor for batch in data.train.epoch(n) for tensor in batch] for n in numbers]


@pytest.mark.fault("N")
@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.process)])
@pytest.mark.parametrize("changes", [{}, {"drop_last": True}, {"val_size": 7}, {"train_limit": 11}])
def test_what_is_cached_is_what_is_read(changes: dict[str, Any], num_workers: int) -> None:
    read, _ = load(Plain, **changes)
    kept, report = load(Plain, **changes, cache=True, num_workers=num_workers)
    for ours, theirs in zip(epochs(kept, range(4)), epochs(read, range(4)), strict=True):
        assert len(ours) == len(theirs)
        assert all(map(torch.equal, ours, theirs))
    rest = [list(data.train.epoch(5, start=1)) for data in (kept, read)]
    assert all(
        torch.equal(*tensors)
        for pair in zip(*rest, strict=True)
        for tensors in zip(*pair, strict=True)
    )
    assert report.warnings == []


def num_reads(data: Data) -> int:
    streamed = data.train._streamed  # type: ignore[attr-defined]
    found: Plain = streamed.hook.dataset
    return sum(found.reads)


@pytest.mark.fault("N")
@pytest.mark.parametrize(("kind", "cache"), [(Plain, True), (Fixed, None), (Fixed, True)])
def test_after_one_pass_nothing_is_read(kind: type[Plain], cache: bool | None) -> None:
    data, _ = load(kind, cache=cache, batch_size=LENGTH)
    list(data.train.epoch(0))
    before = num_reads(data)
    list(data.train.epoch(1))
    list(data.train_unshuffled.epoch(0))
    data.train.first(3)
    assert num_reads(data) == before


@pytest.mark.fault("N")
@pytest.mark.parametrize("cache", [False, None])
def test_it_is_cached_only_where_that_is_wanted(cache: bool | None) -> None:
    kind = Fixed if cache is False else Plain
    data, _ = load(kind, cache=cache)
    assert type(data.train).__name__ == "StreamedBatches"


@pytest.mark.fault("N")
@pytest.mark.parametrize("kind", [Noisy, ByEpoch, Generators])
def test_samples_that_change_are_not_cached(kind: type[Plain]) -> None:
    read, _ = load(kind)
    kept, report = load(kind, cache=True)
    assert len(epochs(kept, range(3))) == 3
    assert any("sample 0 is another one" in text for text in report.warnings)
    if kind is not Generators:
        for ours, theirs in zip(epochs(kept, range(3)), epochs(read, range(3)), strict=True):
            assert all(map(torch.equal, ours, theirs))


@pytest.mark.fault("N")
def test_what_does_not_fit_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    # 37 samples of 3 floats and a class of 8 bytes need 740 bytes: more than half of it.
    monkeypatch.setattr(cached, "_free_bytes", lambda _: 1400)
    kept, report = load(Plain, cache=True)
    read, _ = load(Plain)
    for ours, theirs in zip(epochs(kept, range(2)), epochs(read, range(2)), strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert len(report.warnings) == 1 and "37 samples need" in report.warnings[0]


@pytest.mark.fault("N")
@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.process)])
def test_the_epoch_is_set_before_its_samples_are_read(num_workers: int) -> None:
    data, _ = load(ByEpoch, num_workers=num_workers, val_size=7)
    assert data.val is not None
    offsets = []
    batches = data.train.epoch(4)
    for inputs, _ in batches:
        offsets.append(inputs.max())
        # In the middle of the epoch the same object is read for the validation, as of epoch 0.
        assert next(iter(data.val.epoch(0)))[0].max() < 3 * LENGTH
    assert len(offsets) == 6 and all(4000 <= offset < 4000 + 3 * LENGTH for offset in offsets)


def test_a_data_set_without_the_hook_needs_none() -> None:
    data, _ = load(Plain)
    assert torch.equal(data.train_unshuffled.first(2)[0], torch.arange(6.0).view(2, 3))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("kind", "num_workers", "words"),
    [
        (Generators, 0, r"\(rng\): a resumed run"),
        (Generators, 2, r"\(rng, transform.0.noise, transform.1\): each of the 2 workers"),
        (Undrawn, 2, "each of the 2 workers"),
        (Undrawn, 0, None),
        (Noisy, 2, None),
    ],
)
def test_a_generator_of_its_own_is_warned_of(
    kind: type[Plain], num_workers: int, words: str | None
) -> None:
    _, report = load(kind, num_workers=num_workers)
    assert len(report.warnings) == (words is not None)
    assert words is None or re.search(words, report.warnings[0])


def test_generators_are_found_in_a_loop_of_objects() -> None:
    data = Generators()
    data.me = data  # type: ignore[attr-defined]
    assert sorted(own_generators(data)) == ["rng", "transform.0.noise", "transform.1"]
