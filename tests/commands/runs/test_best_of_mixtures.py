"""`trainer runs best` and `ls sort=` where a metric measures different things: they say so."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from commandline import Ran, trainer_main
from runfolders import make_run

DRAWN = ("data=dirichlet", "model=mlp")
LINE = ("data=line", "model=linear", "loss=mse", "data.val_size=1")


def runs(folder: Path, *words: str) -> Ran:
    return trainer_main("runs", *words, cwd=folder)


def make_runs(folder: Path, metric: str, *words: Sequence[str]) -> None:
    """A run for the words of each, the first with the best value of the metric."""
    for number, each in enumerate(words):
        value = 0.9 - number / 10 if "accuracy" in metric else 0.1 + number / 10
        make_run(folder / f"runs/day/run-{number}", *each, minutes=number, metrics={metric: value})


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("metric", "one", "other", "reason", "narrow"),
    [
        (
            "val/accuracy", ("data=mnist",), ("data=fashion_mnist",),
            "the data sets differ", "data=mnist",
        ),
        (
            "test/loss", (*DRAWN, "data.alpha=0.5"), (*DRAWN, "data.alpha=2"),
            "data.alpha differs", "data.alpha=0.5",
        ),
        ("val/loss", LINE, (*LINE, "loss=l1"), "the losses differ", "loss=mse"),
        (
            "val/loss", (*LINE, "loss=huber", "loss.delta=0.1"),
            (*LINE, "loss=huber", "loss.delta=2.0"), "loss.delta differs", "loss.delta=0.1",
        ),
        (
            "val/loss", (), ("loss.label_smoothing=0.1",),
            "loss.label_smoothing differs", "loss.label_smoothing=0.0",
        ),
        (
            "val/loss", (), ("data.val_size=100",),
            "data.val_size differs", "data.val_size=5000",
        ),
        (
            "train/loss", ("data.transforms=[random_horizontal_flip]",), (),
            "data.transforms differs", "'data.transforms=[{name: random_horizontal_flip, p: 0.5}]'",
        ),
    ],
)  # fmt: skip
def test_a_mixture_is_named_with_the_filter_that_narrows(
    metric: str, one: tuple[str, ...], other: tuple[str, ...], reason: str, narrow: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Failed before: the best of both was named without a word."""
    make_runs(tmp_path, metric, one, other, one)
    command = f"trainer runs best {metric} {narrow}"
    line = f"Warning: {metric} does not rank these 3 runs: {reason}. Narrow: {command}\n"
    for flags in ((), ("-q",)):
        ran = runs(tmp_path, "best", metric, *flags)
        assert (ran.code, ran.err) == (0, line)
    best = json.loads(runs(tmp_path, "best", metric, "--json").out)
    [keep] = best["incomparable"].pop("filters")
    assert shlex.quote(keep) == narrow
    assert best["incomparable"] == {"reason": reason, "keys": [keep.partition("=")[0]]}
    # The command is right, and the runs that it keeps are those of the best one's kind.
    ran = runs(tmp_path, *shlex.split(command)[2:])
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Best of 2 runs by {metric}\n") and best["id"] in ran.out
    assert json.loads(runs(tmp_path, *shlex.split(command)[2:], "--json").out)[
        "incomparable"
    ] is None  # fmt: skip
    listed = f"trainer runs ls {narrow} sort={metric}"
    line = f"Warning: {metric} does not rank these 3 runs: {reason}. Narrow: {listed}\n"
    for flags in ((), ("--json",), ("--csv",), ("-q",)):
        ran = runs(tmp_path, "ls", f"sort={metric}", *flags)
        assert ran.code == 0 and ran.err.endswith(line) and len(ran.out.splitlines()) >= 3
    ran = runs(tmp_path, *shlex.split(listed)[2:], "-q")
    assert (ran.code, ran.err, len(ran.out.split())) == (0, "", 2)


@pytest.mark.fault("N")
def test_the_first_of_a_mixture_are_not_listed_as_the_best(tmp_path: Path) -> None:
    """Failed before: only the listed ones were compared, which may be alike."""
    make_runs(tmp_path, "val/loss", LINE, LINE, (*LINE, "loss=l1"))
    ran = runs(tmp_path, "ls", "sort=val/loss", "limit=2")
    assert "does not rank these 3 runs: the losses differ" in ran.err
    ran = runs(tmp_path, "ls", "sort=val/loss", "limit=2", "loss=mse")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.fault("N")
def test_the_command_that_narrows_narrows_enough(tmp_path: Path) -> None:
    """Failed before: of several kinds of difference it left the second one."""
    huber = (*LINE, "loss=huber")
    deltas = [(*huber, f"loss.delta={delta}") for delta in (0.1, 5)]
    make_runs(tmp_path, "val/loss", *deltas, LINE, deltas[0])
    ran = runs(tmp_path, "best", "val/loss")
    command = ran.err.strip().partition("Narrow: trainer runs ")[2]
    assert command == "best val/loss loss=huber loss.delta=0.1"
    ran = runs(tmp_path, *command.split())
    assert ran.err == "" and ran.out.startswith("Best of 2 runs by val/loss\n")


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("val/loss", ("optimizer.lr=0.2", "model=mlp", "seed=7", "trainer.epochs=9")),
        ("val/loss", ("data.root=elsewhere", "data.batch_size=8", "logger=none")),
        ("val/accuracy", ("loss.label_smoothing=0.1",)),
        ("test/accuracy", ("data.val_size=100",)),
        ("val/loss", ("data.transforms=[random_horizontal_flip]",)),
    ],
)
def test_what_can_be_ranked_needs_no_word(
    metric: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    make_runs(tmp_path, metric, (), words)
    for verb in (("best", metric), ("ls", f"sort={metric}", "columns=model")):
        ran = runs(tmp_path, *verb)
        assert (ran.code, ran.err) == (0, "")
    assert json.loads(runs(tmp_path, "best", metric, "--json").out)["incomparable"] is None


def test_runs_without_the_metric_are_not_ranked_with_the_others(tmp_path: Path) -> None:
    make_runs(tmp_path, "val/accuracy", ("data=mnist",), ("data=mnist",))
    make_run(tmp_path / "runs/day/line", *LINE, minutes=9, metrics={"val/loss": 0.5})
    make_run(tmp_path / "runs/day/bare", "data=fashion_mnist", minutes=9, status="failed")
    ran = runs(tmp_path, "best", "val/accuracy")
    assert (ran.code, ran.err) == (0, "") and "Best of 2 runs" in ran.out
    assert runs(tmp_path, "ls", "sort=val/accuracy", "columns=model").err == ""
    ran = runs(tmp_path, "ls", "sort=name", "columns=model")
    assert ran.err == "", "an order by another word ranks nothing"


def test_the_command_that_narrows_keeps_the_words_of_the_first(tmp_path: Path) -> None:
    make_runs(tmp_path, "val/accuracy", ("data=mnist",), ("data=fashion_mnist",))
    (tmp_path / "runs").rename(tmp_path / "results")
    ran = runs(tmp_path, "best", "val/accuracy", "status=done", "run.root=results")
    assert ran.err.endswith("trainer runs best val/accuracy status=done data=mnist "
                            "run.root=results\n")  # fmt: skip
    ran = runs(tmp_path, "ls", "status=done", "sort=val/accuracy", "run.root=results", "-q")
    assert ran.err.endswith("trainer runs ls status=done data=mnist sort=val/accuracy "
                            "run.root=results\n")  # fmt: skip
