"""Whole commands on a person's own data: refused before anything is written, or named when it
fails. Group N of the plan of faults.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commandline import Ran, trainer_main
from own_sets import Listed, own_sets, points
from PIL import Image

from trainer.data.seeding import split_indices

ONE_EPOCH = ("model=linear", "trainer.epochs=1", "logger=none", "run.dir=run")
VALUES = ("data.task=regression", "loss=mse")


def fit(train: object, *words: str, cwd: Path, val: object = None, test: object = None) -> Ran:
    with own_sets(train, val=val, test=test) as own:
        return trainer_main("fit", *own, *ONE_EPOCH, *words, cwd=cwd)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "train",
    [
        Listed([{"x": torch.zeros(6), "y": 0}] * 30),
        points(input_of=lambda _: torch.arange(6)),
        points(target_of=lambda _: torch.eye(3)[0]),
        points(classes=()),
    ],
    ids=["dict", "int64", "one-hot", "no classes"],
)
def test_a_refusal_has_code_2_and_leaves_nothing(train: Listed, tmp_path: Path) -> None:
    outcome = fit(train, cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Error: data.target=") and len(outcome.err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def spoiled(at: int) -> Listed:
    own = points(target_of=float)
    own.samples[at] = (torch.full((6,), float("nan")), 0.0)  # type: ignore[index]
    return own


@pytest.mark.fault("N")
def test_a_training_sample_that_is_not_finite_is_named(tmp_path: Path) -> None:
    outcome = fit(spoiled(at=17), *VALUES, "data.batch_size=4", cwd=tmp_path)
    assert outcome.code == 1
    assert "In the training set the input of sample 17 has a value that is not" in outcome.err
    assert "optimizer.lr" not in outcome.err


@pytest.mark.fault("N")
def test_finite_samples_are_not_blamed(tmp_path: Path) -> None:
    words = (*VALUES, "data.batch_size=4", "optimizer.lr=1e30", "trainer.epochs=9")
    outcome = fit(points(target_of=float), *words, cwd=tmp_path)
    assert outcome.code == 1 and "Try a smaller optimizer.lr" in outcome.err


@pytest.mark.fault("N")
def test_a_sample_of_validation_or_test_that_is_not_finite_is_named(tmp_path: Path) -> None:
    held_out = int(split_indices(30, 9, seed=0)[1][4])
    val = spoiled(at=held_out)
    outcome = fit(points(target_of=float), *VALUES, val=val, test=spoiled(at=3), cwd=tmp_path)
    assert outcome.code == 0
    assert "test/loss is nan: the input of sample 3 has a value that is not" in outcome.err
    text = f"val/loss is nan at step 1: the input of sample {held_out} has a value that is not fin"
    assert text in outcome.err


def write_pictures(folder: Path, *, names: str, size: tuple[int, int] = (8, 8)) -> None:
    for index, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("RGB", size, color=(60 * index, 20 * number, 0))
            picture.save(folder / name / f"{number}.png")


IMAGE_FOLDER = (
    *("data=custom", "data.target=torchvision.datasets.ImageFolder"),
    *("data.kwargs={root: train}", "data.test_kwargs={root: test}"),
)


@pytest.mark.fault("N")
def test_an_image_folder_of_torchvision_trains(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_pictures(tmp_path / split, names="abc")
    words = ("fit", *IMAGE_FOLDER, *ONE_EPOCH, "data.num_workers=1")
    outcome = trainer_main(*words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert "12 train, 12 test, 3x8x8 -> 3 classes" in outcome.out


@pytest.mark.fault("N")
def test_an_image_folder_that_lacks_a_class_is_refused_and_the_hint_works(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", names="abc")
    write_pictures(tmp_path / "test", names="ac")
    outcome = trainer_main("fit", *IMAGE_FOLDER, *ONE_EPOCH, cwd=tmp_path)
    assert outcome.code == 2 and "it lacks b." in outcome.err
    (tmp_path / "test" / "b").mkdir()
    words = (*IMAGE_FOLDER, "data.kwargs={root: train, allow_empty: true}", *ONE_EPOCH)
    outcome = trainer_main("fit", *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err


@pytest.mark.fault("N")
def test_pictures_of_different_sizes_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", names="ab")
    write_pictures(tmp_path / "test", names="ab", size=(9, 7))
    outcome = trainer_main("fit", *IMAGE_FOLDER, *ONE_EPOCH, cwd=tmp_path)
    assert outcome.code == 2 and "Resize" in outcome.err
    assert "sample 0 has shape (3, 7, 9), not (3, 8, 8)" in outcome.err


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "name", ["[/b]", "[bold]x", ":smile:", "\x1b[31mred", "a\nb", "$x^2", "[link=a]b[/link]"]
)
def test_a_class_is_printed_as_it_is_called(name: str, tmp_path: Path) -> None:
    classes = (name, "bee", "cat")
    with own_sets(points(classes=classes), test=points(classes=classes)) as own:
        outcome = trainer_main("fit", *own, *ONE_EPOCH, cwd=tmp_path)
        assert outcome.code == 0, outcome.err
        outcome = trainer_main("eval", *own, "ckpt=run", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    printed = name.replace("\x1b", "?").replace("\n", "?")
    (row,) = (line for line in outcome.out.splitlines() if line.lstrip().startswith(printed))
    assert row.split()[-1] == "10"
