"""Data sets by name: how they are divided, ordered, limited and normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.commands.build import build_data
from trainer.data.batches import TensorBatches
from trainer.data.image_sets.download import QuietReport
from trainer.data.load import Data
from trainer.data.seeding import epoch_order, split_indices
from trainer.data.synthetic import dirichlet, line
from trainer.errors import ConfigError

CPU = torch.device("cpu")


def load(compose: Any, *overrides: str) -> Data:
    return build_data(compose(*overrides), device=CPU, report=QuietReport())


def all_of(batches: Any, epoch: int = 0, start: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = list(batches.epoch(epoch, start=start))
    return torch.cat([inputs for inputs, _ in pairs]), torch.cat([targets for _, targets in pairs])


@pytest.mark.parametrize("val_size", [0, 1, 37])
def test_a_split_is_seeded_and_loses_nothing(val_size: int) -> None:
    kept, held_out = split_indices(100, val_size, seed=3)
    assert len(held_out) == val_size
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(100))
    again = split_indices(100, val_size, seed=3)
    assert torch.equal(kept, again[0]) and torch.equal(held_out, again[1])
    if val_size > 1:
        assert not torch.equal(held_out, split_indices(100, val_size, seed=4)[1])


def test_the_order_of_an_epoch_is_a_pure_function_of_seed_and_epoch() -> None:
    orders = {
        (seed, epoch): epoch_order(50, seed=seed, epoch=epoch).tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    torch.manual_seed(99)
    assert epoch_order(50, seed=1, epoch=1).tolist() == orders[1, 1]
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == list(range(50)) for order in orders.values())


def test_an_epoch_can_be_entered_at_any_batch(compose: Any) -> None:
    train = load(
        compose, "data=dirichlet", "model=mlp", "data.train_size=300", "data.val_size=10"
    ).train
    whole = [inputs for inputs, _ in train.epoch(2)]
    for start in range(len(whole)):
        rest = [inputs for inputs, _ in train.epoch(2, start=start)]
        assert len(rest) == len(whole) - start
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[start:], strict=True))


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [(4, False, [4, 4, 2]), (4, True, [4, 4]), (10, True, [10])],
)
def test_uneven_last_batches(batch_size: int, drop_last: bool, sizes: list[int]) -> None:
    data = torch.arange(10.0)
    batches = TensorBatches(
        data,
        data,
        batch_size=batch_size,
        drop_last=drop_last,
        shuffle_seed=0,
        prepare=lambda batch, own: batch,
    )
    assert [len(inputs) for inputs, _ in batches.epoch(0)] == sizes
    assert (batches.num_batches, batches.num_samples) == (len(sizes), sum(sizes))


def test_dirichlet_samples_are_distributions_labelled_by_their_largest_value() -> None:
    inputs, labels = dirichlet(4000, features=5, alpha=0.7, seed=0, part="train")
    torch.testing.assert_close(inputs.sum(1), torch.ones(4000))
    assert (inputs >= 0).all() and torch.equal(labels, inputs.argmax(1))
    # Of a symmetric Dirichlet: mean 1/k, variance (k - 1) / (k^2 (k alpha + 1)).
    torch.testing.assert_close(inputs.mean(0), torch.full((5,), 0.2), atol=0.01, rtol=0)
    torch.testing.assert_close(inputs.var(0), torch.full((5,), 4 / (25 * 4.5)), atol=0.004, rtol=0)
    other, _ = dirichlet(4000, features=5, alpha=0.7, seed=0, part="test")
    assert not torch.equal(inputs, other)


def test_a_tiny_alpha_still_gives_distributions() -> None:
    inputs, _ = dirichlet(500, features=3, alpha=1e-3, seed=0, part="train")
    torch.testing.assert_close(inputs.sum(1), torch.ones(500))


def test_a_line_and_its_noise() -> None:
    inputs, targets = line([1, 2, 3], a=2, b=1, noise=0.0, seed=0)
    assert inputs.tolist() == [[1], [2], [3]] and targets.tolist() == [[3], [5], [7]]
    _, noisy = line(list(range(2000)), a=0, b=0, noise=0.5, seed=0)
    assert noisy.std().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_images_are_normalised_with_the_statistics_of_their_training_set(
    compose: Any, datasets_root: Path, name: str
) -> None:
    data = load(compose, f"data={name}", f"data.root={datasets_root}", "data.val_size=0")
    inputs, targets = all_of(data.train_unshuffled)
    assert inputs.shape == (60000, 1, 28, 28) and inputs.dtype == torch.float32
    assert inputs.mean().item() == pytest.approx(0, abs=1e-3)
    assert inputs.std().item() == pytest.approx(1, abs=1e-3)
    assert set(targets.tolist()) == set(range(10)) == set(range(data.num_outputs))
    assert len(data.checksums) == 4


def test_image_limits_and_splits(compose: Any, datasets_root: Path) -> None:
    words = [
        "data=mnist",
        f"data.root={datasets_root}",
        "data.val_size=100",
        "data.train_limit=256",
        "data.eval_limit=50",
    ]
    data = load(compose, *words)
    assert data.val is not None and data.test is not None
    sizes = (data.train.num_samples, data.val.num_samples, data.test.num_samples)
    assert sizes == (256, 50, 50)


def test_augmentation_is_for_training_and_depends_on_seed_epoch_and_batch(
    compose: Any, datasets_root: Path
) -> None:
    words = [
        "data=mnist",
        f"data.root={datasets_root}",
        "data.train_limit=128",
        "data.transforms=[random_crop]",
    ]
    data = load(compose, *words)
    torch.manual_seed(1)
    first, _ = all_of(data.train, epoch=1)
    torch.manual_seed(2)
    again, _ = all_of(load(compose, *words).train, epoch=1)
    assert torch.equal(first, again)
    from_second_batch, _ = all_of(data.train, epoch=1, start=1)
    assert torch.equal(from_second_batch, first[64:])
    order = epoch_order(128, seed=0, epoch=1)
    plain, _ = all_of(data.train_unshuffled)
    assert not torch.equal(first, plain[order])
    untouched, _ = all_of(load(compose, *words[:-1]).train, epoch=1)
    assert torch.equal(untouched, plain[order])


def test_a_fixed_crop_is_for_evaluation_too(compose: Any, datasets_root: Path) -> None:
    crop = "data.transforms=[{name: crop, top: 5, left: 5, height: 18, width: 18}]"
    data = load(compose, "data=mnist", f"data.root={datasets_root}", "data.train_limit=64", crop)
    whole = load(compose, "data=mnist", f"data.root={datasets_root}", "data.train_limit=64")
    assert data.input_shape == (1, 18, 18)
    assert data.test is not None and whole.test is not None
    assert torch.equal(all_of(data.test)[0], all_of(whole.test)[0][:, :, 5:23, 5:23])


@pytest.mark.parametrize(
    "words",
    [
        ["data.drop_last=true", "data.batch_size=1000"],
        ["data.drop_last=true", "data.train_limit=9"],
    ],
    ids=str,
)
def test_sizes_that_leave_no_batch_are_refused(compose: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError, match="leaves no batch"):
        load(
            compose, "data=dirichlet", "model=mlp", "data.train_size=300", "data.val_size=0", *words
        )


def _everything(data: Data) -> list[torch.Tensor]:
    """All samples in the order of the data set: of training, validation and test."""
    parts = [data.train_unshuffled, data.val, data.test]
    return [tensor for part in parts if part is not None for tensor in part.first(10**6)]


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "words",
    [
        (
            "data=dirichlet",
            "model=mlp",
            "data.train_size=40",
            "data.test_size=20",
            "data.val_size=8",
        ),
        ("experiment=line", "data.noise=0.5", "data.val_size=2"),
    ],
)
def test_the_seed_of_the_data_keeps_them_and_not_their_order(
    compose: Any, words: tuple[str, ...]
) -> None:
    zero, one = (load(compose, *words, f"seed={seed}") for seed in (0, 1))
    kept = [load(compose, *words, f"seed={seed}", "data.seed=0") for seed in (0, 1)]
    assert not all(map(torch.equal, _everything(zero), _everything(one)))
    for data in kept:
        assert all(map(torch.equal, _everything(data), _everything(zero)))
    orders = [torch.cat([inputs for inputs, _ in data.train.epoch(0)]) for data in kept]
    assert not torch.equal(*orders)
    # Null follows `seed`: the same bits as with a number that equals it.
    for ours, theirs in zip(zero.train.epoch(1), kept[0].train.epoch(1), strict=True):
        assert all(map(torch.equal, ours, theirs))
