"""Which keys make a metric incomparable. The sets are written by hand, from what is measured."""

from __future__ import annotations

import pytest
from composing import config_of

from trainer.config import flatten, known_keys, to_plain
from trainer.config.comparison import Difference, is_maximized, redefines, what_differs

LINE = ("data=line", "model=linear", "data.val_size=2", "loss=mse")
LOSS_KEYS = {"loss.name", "loss.label_smoothing", "loss.margin", "loss.p", "loss.delta"}
# Which samples there are, and what their targets are.
SETS = {
    "data.name", "data.target", "data.kwargs", "data.task", "data.features", "data.alpha",
    "data.a", "data.b", "data.x",
}  # fmt: skip
# The part that is held out, and what it is held out from.
PARTS = {"data.val_size", "data.train_size", "data.noise"}
VALIDATION = {"data.eval_limit", "data.val_kwargs"}
TEST = {"data.eval_limit", "data.test_size", "data.test_kwargs"}
# In training only: samples left out or changed, and values set to zero.
TRAINING = {
    "data.train_limit", "data.transforms", "model.dropout", "model.conv_dropout",
    "model.fc_dropout",
}  # fmt: skip


def config(*words: str) -> dict[str, object]:
    return flatten(to_plain(config_of(*words)), levels=2)


def own(argument: str, *more: str) -> dict[str, object]:
    """The config of a person's own data set with this argument."""
    words = ("data=custom", "data.target=mine.Set", "data.val_size=9", f"+data.kwargs.{argument}")
    return config(*words, *more)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("val/loss", SETS | PARTS | VALIDATION | LOSS_KEYS),
        ("val/accuracy", SETS | PARTS | VALIDATION),
        ("val/mse", SETS | PARTS | VALIDATION),
        ("test/loss", SETS | TEST | LOSS_KEYS),
        ("test/mae", SETS | TEST),
        ("train/loss", SETS | PARTS | TRAINING | LOSS_KEYS),
        ("train/accuracy", SETS | PARTS | TRAINING),
    ],
)
def test_the_keys_that_change_what_a_metric_means(metric: str, expected: set[str]) -> None:
    assert {key for key in known_keys() if redefines(key, metric)} == expected


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("metric", "configs", "reason"),
    [
        ("val/loss", [("loss=mse",), ("loss=l1",), ("loss=huber",)], "the losses differ"),
        ("val/loss", [("loss=huber",), ("loss=huber", "loss.delta=9")], "loss.delta differs"),
        ("val/mse", [("loss=mse",), ("loss=huber", "loss.delta=9")], None),
        ("val/loss", [("optimizer.lr=0.1",), ("optimizer.lr=0.2", "seed=3")], None),
        ("val/loss", [("loss=mse",)] * 3, None),
        ("val/loss", [], None),
        ("val/mse", [("data.a=1",), ("data.a=2", "data.b=2")], "data.a and data.b differ"),
        ("val/mse", [("data.val_size=1",), ("data.val_size=3",)], "data.val_size differs"),
        ("test/mse", [("data.val_size=1",), ("data.val_size=3",)], None),
        ("val/mse", [("data.seed=1",), ("seed=2",)], None),
        ("train/loss", [("data.noise=0",), ("data.noise=1",)], "data.noise differs"),
    ],
)
def test_why_runs_cannot_be_compared(
    metric: str, configs: list[tuple[str, ...]], reason: str | None
) -> None:
    found = what_differs(metric, [config(*LINE, *words) for words in configs])
    assert (None if found is None else found.reason) == reason


def test_of_another_data_set_only_the_choice_is_named() -> None:
    configs = [config("data=dirichlet", "model=linear"), config(*LINE, "loss=mse")]
    assert what_differs("val/accuracy", configs) == Difference(("data",))
    found = what_differs("val/loss", configs)
    assert found == Difference(("data", "loss"))
    assert found.reason == "the data sets and the losses differ"


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("metric", "others", "differs"),
    [
        ("val/accuracy", ("noise=0", "noise=1"), True),
        ("train/loss", ("noise=0", "noise=1"), True),
        # The held-out part has arguments that are alike, whatever those of training.
        ("val/accuracy", ("noise=0", "noise=1", "data.val_kwargs={noise: 0}"), False),
        ("test/accuracy", ("noise=0", "noise=1", "data.test_kwargs={noise: 0}"), False),
        ("val/accuracy", ("noise=0", "noise=1", "data.test_kwargs={noise: 0}"), True),
        ("val/accuracy", ("size=9", "size=5", "data.val_kwargs={noise: 0}"), True),
    ],
)
def test_the_arguments_of_an_own_data_set_are_those_of_the_split(
    metric: str, others: tuple[str, ...], differs: bool
) -> None:
    configs = [own(kwargs, *others[2:]) for kwargs in others[:2]]
    expected = Difference(("data.kwargs",)) if differs else None
    assert what_differs(metric, configs) == expected


def test_arguments_of_a_split_are_not_compared_where_they_are_on_top_of_the_same() -> None:
    configs = [own("noise=0"), own("noise=1", "data.val_kwargs={noise: 0}")]
    assert what_differs("val/loss", configs) is None
    changed = [own("noise=1"), own("noise=1", "data.val_kwargs={noise: 0}")]
    assert what_differs("val/loss", changed) == Difference(("data.val_kwargs",))
    assert what_differs("test/loss", changed) is what_differs("train/loss", changed) is None


def test_the_arguments_that_differ_are_named() -> None:
    """Failed before: data.kwargs was named, which is the same in both."""
    configs = [own("size=9", f"data.test_kwargs={{part: {part}}}") for part in ("easy", "hard")]
    found = what_differs("test/accuracy", configs)
    assert found == Difference(("data.test_kwargs",))
    assert found.reason == "data.test_kwargs differs"
    both = [own("size=9"), own("size=5", "data.test_kwargs={part: hard}")]
    keys = ("data.kwargs", "data.test_kwargs")
    assert what_differs("test/accuracy", both) == Difference(keys)


def test_values_are_compared_as_they_are() -> None:
    """Failed before: keys of several types ended in a TypeError, and 1 was another than 1.0."""
    names: list[dict[str, object]] = [{"data.kwargs": {"names": {0: "cat", "x": 1}}}] * 2
    assert what_differs("val/loss", names) is None
    others: list[dict[str, object]] = [*names, {"data.kwargs": {"names": {0: "dog", "x": 1}}}]
    assert what_differs("val/loss", others) == Difference(("data.kwargs",))
    numbers: list[dict[str, object]] = [{"data.kwargs": {"noise": value}} for value in (1, 1.0)]
    assert what_differs("val/loss", numbers) is None
    damaged: list[dict[str, object]] = [{"data.kwargs": {}, "data.val_kwargs": "text"}, {}]
    assert what_differs("val/loss", damaged) is None


def test_a_key_that_a_config_lacks_is_not_compared() -> None:
    configs = [config("model=linear"), config("model=mlp", "model.dropout=0.5")]
    assert what_differs("train/loss", configs) is None
    assert what_differs("val/loss", [{}, {"loss.name": "mse"}, {"loss": 3}]) is None


def test_a_group_stands_for_its_choice() -> None:
    assert redefines("loss", "val/loss")
    assert not redefines("model", "val/loss")
    assert not redefines("no.such.key", "val/loss")
    assert redefines("data.kwargs.noise", "test/mse")


def test_of_many_keys_three_are_named() -> None:
    keys = ("data.a", "data.b", "data.noise", "data.x")
    assert Difference(keys).reason == "data.a, data.b and data.noise differ"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_more_of_an_accuracy_is_better_and_less_of_all_else(split: str) -> None:
    found = {name: is_maximized(f"{split}/{name}") for name in ("accuracy", "loss", "mse", "mae")}
    assert found == {"accuracy": True, "loss": False, "mse": False, "mae": False}
