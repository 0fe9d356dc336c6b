"""People's own data sets: what has one meaning is converted, the rest is refused in words, before
anything is written. Group N of the plan of faults.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from composing import config_of
from own_sets import NAMES, Listed, own_sets, points
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms.functional import to_tensor

from trainer.commands.build import build_data
from trainer.data.batches import find_not_finite
from trainer.data.image_sets.download import QuietReport
from trainer.data.load import Data
from trainer.errors import ConfigError, CustomCodeError, DataError, TrainerError

CPU = torch.device("cpu")
VALUES = ("data.task=regression", "loss=mse")
LINEAR = ("model=linear",)
OWN_MODEL = ("model=custom", "model.target=a.B")


def load(
    train: Any,
    *words: str,
    model: tuple[str, ...] = LINEAR,
    val: Any = None,
    test: Any = None,
) -> Data:
    with own_sets(train, val=val, test=test) as own:
        config = config_of(*own, *model, *words)
        return build_data(config, device=CPU, report=QuietReport())


def all_of(batches: Any) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*batches.epoch(0), strict=True)
    return torch.cat(inputs), torch.cat(targets)


def refusal(error: type[TrainerError], load_it: Callable[[], Any]) -> str:
    with pytest.raises(error) as raised:
        load_it()
    assert len(str(raised.value).splitlines()) <= 3
    return str(raised.value)


def with_label(label: Any, *, at: int = 7) -> Listed:
    return points(target_of=lambda index: label if index == at else index % 3)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "label",
    [0.5, torch.tensor(0.5), np.float32(1.5), torch.tensor([1.25]), float("nan"), float("inf")],
    ids=repr,
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_label_that_is_not_whole_is_refused_by_value_and_sample(label: Any, workers: int) -> None:
    data = load(with_label(label), f"data.num_workers={workers}")
    for read in (lambda: all_of(data.train_unshuffled), lambda: data.train.first(9)):
        text = refusal(DataError, read)
        assert f"the target of sample 7 is {float(label):g}, not a class" in text


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "label_of",
    [
        float,
        torch.tensor,
        lambda label: torch.tensor(label, dtype=torch.uint8),
        lambda label: torch.tensor([label]),
        lambda label: torch.tensor([float(label)]),
        lambda label: np.array(label),
        lambda label: np.array([label], dtype=">i2"),
        np.float64,
        np.uint16,
        lambda label: [label],
    ],
)
def test_a_label_of_one_meaning_is_that_class(label_of: Callable[[int], Any]) -> None:
    data = load(points(target_of=lambda index: label_of(index % 3)))
    _, targets = all_of(data.train_unshuffled)
    assert targets.dtype == torch.int64
    assert targets.tolist() == [index % 3 for index in range(30)]


@pytest.mark.fault("N")
@pytest.mark.parametrize("kind", [bool, torch.tensor, np.bool_])
def test_a_truth_is_one_of_two_classes(kind: Callable[[bool], Any]) -> None:
    data = load(points(target_of=lambda index: kind(index % 2 == 1), classes=("no", "yes")))
    assert all_of(data.train_unshuffled)[1].tolist() == [index % 2 for index in range(30)]


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("label", "said"),
    [
        (torch.tensor([0.0, 1.0, 0.0]), "shape (3,), and a class is one whole number"),
        (np.array([0.2, 0.7, 0.1]), "int(target.argmax())"),
        ([0, 1, 0], "shape (3,)"),
        ("bee", "self.classes.index(label)"),
        (None, "is None, not a tensor or a number"),
        (datetime.date(2024, 1, 1), "is a date, not"),
        (1 + 2j, "is 1+2j, not a class"),
        (np.array(["bee"]), "ndarray of <U3, not"),
    ],
    ids=repr,
)
def test_a_target_that_is_no_class_is_refused(label: Any, said: str) -> None:
    assert said in refusal(ConfigError, lambda: load(with_label(label, at=0)))


@pytest.mark.fault("N")
def test_the_hints_for_one_hot_and_soft_labels_train() -> None:
    one_hot = torch.eye(3)
    data = load(points(target_of=lambda index: int(one_hot[index % 3].argmax())))
    assert all_of(data.train_unshuffled)[1][:3].tolist() == [0, 1, 2]
    data = load(points(target_of=lambda index: one_hot[index % 3]), *VALUES)
    assert (data.num_outputs, data.classes) == (3, None)
    assert torch.equal(all_of(data.train_unshuffled)[1][:3], one_hot)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("7", "is the text '7', not a tensor or a number"),
        (torch.tensor([1j, 2]), "is complex"),
        (torch.zeros(0), "is empty"),
    ],
    ids=repr,
)
def test_values_that_are_no_numbers_are_refused(target: Any, said: str) -> None:
    data = points(target_of=lambda _: target)
    assert said in refusal(ConfigError, lambda: load(data, *VALUES))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        ([1, 2, 3], "where your labels count from 1, return label - 1"),
        ([0, 1, 2, 3], "If there are more classes"),
        ([10, 20, 30], "Number the classes from 0 on without gaps"),
        ([0, 1, -1], "no loss here skips them"),
    ],
    ids=str,
)
def test_a_class_out_of_range_gets_the_hint_that_fits(labels: list[int], hint: str) -> None:
    def read() -> None:
        own = points(target_of=lambda index: labels[index % len(labels)])
        all_of(load(own).train_unshuffled)

    text = refusal(TrainerError, read)
    assert hint in text and "there are 3 classes, 0 to 2" in text
    assert ("data.num_classes" in text) == (labels == [0, 1, 2, 3])


class Raising:
    """Classes, or a length, that raise."""

    def __init__(self, *, at: str) -> None:
        self.at = at

    @property
    def classes(self) -> tuple[str, ...]:
        if self.at == "classes":
            raise ValueError("not read yet")
        return NAMES

    def __len__(self) -> int:
        if self.at == "length":
            raise ValueError("not read yet")
        return 30

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(6), index % 3


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ((), "list no class"),
        (("only",), "list only 'only'"),
        (("ant", 7, "cat"), "classes[1] is 7, not text"),
        ([None, "a"], "classes[0] is None, not text"),
        ([("ant", "Formica"), ("bee",)], "classes[0] is ('ant', 'Formica'), not text"),
        (torch.arange(3), "classes[0] is tensor(0), not text"),
        (range(3), "classes[0] is 0, not text"),
        (3, "its `classes` are 3, not a list"),
        ("abc", "its `classes` are 'abc', not a list"),
        ({"ant": 0, "bee": 1}, "not a list"),
        ({"ant"}, "not a list"),
        (None, "does not say how many classes it has"),
    ],
    ids=repr,
)
def test_classes_that_are_no_two_names_are_refused(classes: Any, said: str) -> None:
    assert said in refusal(ConfigError, lambda: load(points(classes=classes)))


@pytest.mark.fault("N")
@pytest.mark.parametrize("classes", [3, (), ("only",), range(3), None], ids=repr)
def test_with_num_classes_the_names_do_not_matter(classes: Any) -> None:
    data = load(points(classes=classes), "data.num_classes=3")
    assert (data.num_outputs, data.classes) == (3, ("0", "1", "2"))


@pytest.mark.fault("N")
@pytest.mark.parametrize("classes", [list(NAMES), np.array(NAMES)], ids=str)
def test_any_list_of_names_will_do(classes: Any) -> None:
    assert load(points(classes=classes)).classes == NAMES


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("length", "said"),
    [
        (30.0, "its __len__ returns 30.0, not a whole number"),
        ("30", "its __len__ returns '30', not a whole number"),
        (None, "returns None"),
        (-1, "its __len__ returns -1"),
        (0, "is empty"),
    ],
    ids=repr,
)
def test_a_length_that_is_no_whole_number_is_refused(length: Any, said: str) -> None:
    own = points()
    type_of_own = type("Odd", (Listed,), {"__len__": lambda _: length})
    odd = type_of_own(own.samples)
    assert said in refusal(ConfigError, lambda: load(odd))


@pytest.mark.fault("N")
def test_a_length_of_numpy_is_a_number() -> None:
    assert load(points(length=np.int64(30))).train.num_samples == 30


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("at", "said"), [("length", "__len__ raised ValueError"), ("classes", "`classes` raised Val")]
)
def test_a_length_or_classes_that_raise_are_a_sentence(at: str, said: str) -> None:
    assert said in refusal(CustomCodeError, lambda: load(Raising(at=at)))


class Stream(IterableDataset[Any]):
    classes = NAMES

    def __iter__(self) -> Iterator[Any]:
        return iter(points())

    def __len__(self) -> int:
        return 30


class NoItems(Dataset[Any]):
    def __len__(self) -> int:
        return 30


@pytest.mark.fault("N")
@pytest.mark.parametrize("kind", [Stream, NoItems, set], ids=lambda kind: kind.__name__)
def test_what_is_not_map_style_is_refused(kind: type) -> None:
    assert "is not a map-style Dataset" in refusal(ConfigError, lambda: load(kind()))


@pytest.mark.fault("N")
def test_a_length_beyond_the_samples_is_found_at_once() -> None:
    own = points(length=31)
    assert "IndexError for sample 30" in refusal(CustomCodeError, lambda: load(own))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("ant", "cat"), "it lacks bee"),
        (("ant", "bee", "cat", "dog"), "it has besides dog"),
        (("ant", "cow"), "it lacks bee, cat and has besides cow"),
        (("bee", "ant", "cat"), "it lists them as bee, ant, cat"),
    ],
    ids=str,
)
@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("words", [(), ("data.num_classes=4",)], ids=str)
def test_a_split_with_other_classes_is_refused(
    classes: tuple[str, ...], said: str, split: str, words: tuple[str, ...]
) -> None:
    other = {split: points(target_of=lambda _: 0, classes=classes)}
    text = refusal(ConfigError, lambda: load(points(), *words, **other))  # type: ignore[arg-type]
    assert said in text and f"with data.{split}_kwargs has other classes" in text


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("test", "words", "said"),
    [
        (points(shape=(5,)), (), "has shape (5,), not (6,)"),
        (points(shape=(6, 1)), (), "has shape (6, 1), not (6,)"),
        (points(target_of=lambda _: [1.0]), VALUES, "has 1 value, and that of sample 0"),
        (points(target_of=float), VALUES, "has 1 value, and that of sample 0"),
        (points(target_of=lambda _: [1.0] * 4), VALUES, "has 4 values, and that of sample 0"),
    ],
    ids=["narrower", "another rank", "one value", "a number", "too many values"],
)
def test_a_split_of_another_shape_is_refused(
    test: Listed, words: tuple[str, ...], said: str
) -> None:
    train = points(target_of=lambda index: [1.0, 2.0, 3.0] if words else index % 3)
    text = refusal(ConfigError, lambda: load(train, *words, test=test))
    assert said in text and "with data.test_kwargs" in text


@pytest.mark.fault("N")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_of_another_shape_is_named(workers: int) -> None:
    own = points()
    own.samples[9] = (torch.zeros(5), 0)  # type: ignore[index]
    data = load(own, f"data.num_workers={workers}", "data.batch_size=4", "data.val_size=3")
    text = refusal(DataError, lambda: [all_of(data.train), all_of(data.val)])
    assert "the input of sample 9 has shape (5,), not (6,)" in text


def picture(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def as_pictures(image: Any) -> Listed:
    return points(input_of=lambda _: image)


@pytest.mark.fault("N")
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "RGBA"])
def test_a_picture_of_pil_is_as_torchvision_makes_it(mode: str) -> None:
    data = load(as_pictures(picture(mode)), "data.batch_size=4")
    inputs, _ = all_of(data.train_unshuffled)
    expected = to_tensor(picture(mode))
    assert data.input_shape == tuple(expected.shape)
    torch.testing.assert_close(inputs[0], expected, rtol=0, atol=0)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "given",
    [
        np.asarray(picture()),
        np.asarray(picture()).transpose(2, 0, 1),
        torch.from_numpy(np.array(picture())),
        torch.from_numpy(np.array(picture())).permute(2, 0, 1),
        tv_tensors.Image(torch.from_numpy(np.array(picture())).permute(2, 0, 1)),
    ],
    ids=["array HWC", "array CHW", "tensor HWC", "tensor CHW", "tv_tensor"],
)
def test_bytes_of_a_picture_are_scaled_with_the_channels_first(given: Any) -> None:
    data = load(as_pictures(given))
    expected = to_tensor(picture())
    inputs, _ = all_of(data.train_unshuffled)
    assert inputs.dtype == torch.float32 and type(inputs) is Tensor
    torch.testing.assert_close(inputs[3], expected, rtol=0, atol=0)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "given",
    [
        np.arange(6.0),
        np.arange(6, dtype=">f4"),
        np.arange(6.0)[::-1].copy()[::-1],
        np.arange(6, dtype=np.float16),
        np.arange(6, dtype=np.longdouble),
        torch.arange(6, dtype=torch.float64),
        torch.arange(6, dtype=torch.bfloat16),
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
    ],
    ids=lambda given: str(getattr(given, "dtype", "list")),
)
def test_numbers_of_one_meaning_become_float32(given: Any) -> None:
    inputs, _ = all_of(load(points(input_of=lambda _: given)).train_unshuffled)
    assert inputs.dtype == torch.float32
    assert inputs[0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("given", "shape"), [(1.5, (1,)), (np.float64(1.5), (1,)), (torch.tensor([True, False]), (2,))]
)
def test_a_number_and_truths_are_float32_too(given: Any, shape: tuple[int, ...]) -> None:
    data = load(points(input_of=lambda _: given))
    inputs, _ = all_of(data.train_unshuffled)
    assert (data.input_shape, inputs.dtype) == (shape, torch.float32)
    assert inputs[0].tolist() == torch.as_tensor(given).float().reshape(-1).tolist()


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("given", "words", "said"),
    [
        (torch.arange(6), LINEAR, "is int64, and the built-in models take float32"),
        (3, LINEAR, "is int64"),
        (torch.zeros(6, dtype=torch.uint8), LINEAR, "not clearly a picture"),
        (torch.zeros(8, 10, dtype=torch.uint8), LINEAR, "not clearly a picture"),
        (np.zeros((3, 8, 3), np.uint8), LINEAR, "not clearly a picture"),
        (torch.zeros(6, dtype=torch.complex64), LINEAR, "is complex"),
        (torch.zeros(6).to_sparse(), LINEAR, "is sparse"),
        ("six", LINEAR, "is the text 'six', not a tensor"),
        (None, LINEAR, "is None, not a tensor"),
        (np.array([None]), LINEAR, "not a tensor"),
        ({"a": torch.zeros(6)}, LINEAR, "is a dict, not a tensor"),
        (picture("P"), LINEAR, "picture.convert('RGB')"),
        (torch.rand(28, 28), ("model=cnn",), "Return input[None]"),
        (torch.rand(28, 28, 3), ("model=cnn",), "looks like (H, W, C)"),
        (torch.rand(28, 28, 1), ("model=lenet5",), "permute(2, 0, 1)"),
    ],
    ids=lambda given: str(getattr(given, "shape", ""))[:20] or None,
)
def test_an_input_of_two_meanings_is_refused(given: Any, words: tuple[str, ...], said: str) -> None:
    own = points(input_of=lambda _: given)
    text = refusal(ConfigError, lambda: load(own, model=words))
    assert said in text and "sample 0" in text


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("mended", "words"),
    [
        (torch.as_tensor(torch.arange(6), dtype=torch.float32), LINEAR),
        (torch.as_tensor(np.zeros((8, 10), np.uint8), dtype=torch.float32), LINEAR),
        (picture("P").convert("RGB"), LINEAR),
        (torch.rand(28, 28)[None], ("model=cnn",)),
        (torch.as_tensor(torch.rand(28, 28, 3)).permute(2, 0, 1), ("model=cnn",)),
        (torch.view_as_real(torch.zeros(6, dtype=torch.complex64)), LINEAR),
    ],
    ids=lambda given: str(getattr(given, "shape", ""))[:20] or None,
)
def test_the_hints_work(mended: Any, words: tuple[str, ...]) -> None:
    inputs, _ = all_of(load(points(input_of=lambda _: mended), model=words).train_unshuffled)
    assert len(inputs) == 30 and inputs.dtype == torch.float32


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"image": torch.zeros(6), "label": 0}, "such as (sample['image'], sample['label'])"),
        ((torch.zeros(6), 0, "path"), "is a tuple of 3, not a pair"),
        ((torch.zeros(6),), "is a tuple of 1, not a pair"),
        (torch.zeros(6), "is a Tensor, not a pair"),
        (None, "is a NoneType, not a pair"),
    ],
    ids=lambda sample: type(sample).__name__,
)
def test_a_sample_that_is_no_pair_is_refused(sample: Any, said: str) -> None:
    assert said in refusal(ConfigError, lambda: load(Listed([sample] * 30)))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "given",
    [torch.arange(6), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.tensor(4), torch.rand(6) > 0],
    ids=lambda given: f"{given.dtype}",
)
def test_a_model_of_ones_own_gets_tensors_as_a_plain_loader_gives_them(given: Tensor) -> None:
    data = load(points(input_of=lambda _: given), model=OWN_MODEL)
    inputs, _ = all_of(data.train_unshuffled)
    assert inputs.dtype == given.dtype and torch.equal(inputs[0], given)


@pytest.mark.fault("N")
def test_a_model_of_ones_own_may_take_pictures_of_other_sizes_in_another_split() -> None:
    data = load(points(shape=(3, 8, 8)), model=OWN_MODEL, test=points(shape=(3, 9, 9)))
    assert all_of(data.test)[0].shape == (30, 3, 9, 9)
    own = Listed([(torch.rand(3, 8, 5 + index % 4), index % 3) for index in range(30)])
    words = ("data.batch_size=1", "data.eval_batch_size=1")
    widths = {inputs.shape[-1] for inputs, _ in load(own, *words, model=OWN_MODEL).train.epoch(0)}
    assert widths == {5, 6, 7, 8}


@pytest.mark.fault("N")
def test_a_list_of_tensors_will_do_as_well() -> None:
    own = TensorDataset(torch.rand(30, 6), torch.arange(30) % 3)
    inputs, targets = all_of(load(own, "data.num_classes=3").train_unshuffled)
    assert torch.equal(inputs, own.tensors[0]) and torch.equal(targets, own.tensors[1])


@pytest.mark.fault("N")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("what", ["input", "target"])
def test_the_first_sample_that_is_not_finite_is_named(value: float, what: str) -> None:
    own = points(target_of=float)
    values = torch.full((6,), value) if what == "input" else torch.zeros(6)
    own.samples[11] = (values, value if what == "target" else 0.0)  # type: ignore[index]
    data = load(own, *VALUES, "data.batch_size=4", "data.val_size=12", "data.eval_batch_size=5")
    assert data.val is not None
    found = [
        find_not_finite(batches, epoch)
        for batches, epoch in ((data.train, 3), (data.train_unshuffled, 0), (data.val, 0))
    ]
    assert set(found) == {None, f"the {what} of sample 11"}
    assert found[0] == found[1] != found[2]


class Noisy(Dataset[Any]):
    """Adds noise to a sample, unless it is switched off."""

    classes = NAMES

    def __init__(self, *, noise: float = 1.0) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((6,), float(index)) + self.noise * torch.rand(6), index % 3


@pytest.mark.fault("N")
def test_the_held_out_part_can_have_arguments_of_its_own() -> None:
    """The same samples are held out, and they come as `val_kwargs` makes them."""
    data = load(Noisy(), val=Noisy(noise=0.0))
    augmented = load(Noisy(), "data.val_size=9")
    clean, labels = all_of(data.val)
    noisy, same_labels = all_of(augmented.val)
    assert torch.equal(labels, same_labels) and torch.equal(clean, noisy.floor())
    assert not torch.equal(clean, noisy)
    assert not torch.equal(all_of(data.train)[0], all_of(data.train)[0].floor())
    held_out = {int(value) for value in clean[:, 0]}
    trained = {int(value) for value in all_of(data.train)[0][:, 0]}
    assert len(held_out) == 9 and held_out | trained == set(range(30))


@pytest.mark.fault("N")
def test_val_kwargs_need_samples_to_hold_out_from_the_same_set() -> None:
    text = refusal(
        ConfigError, lambda: load(points(), "data.val_kwargs={split: train}", "data.val_size=0")
    )
    assert "data.val_size=0" in text
    text = refusal(ConfigError, lambda: load(points(), val=points(num=20)))
    assert "has 20 samples, and the training set has 30" in text
