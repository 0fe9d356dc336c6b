"""The metric that ranks the jobs of a sweep means the same in all of them, or a warning says so."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from commandline import trainer_main
from running import Run
from swept import Swept

from trainer.cli.arguments import Arguments
from trainer.cli.compose import sweep_request
from trainer.cli.verbs import VERBS
from trainer.commands.sweep import plan
from trainer.commands.sweep.monitor import Comparison, choose
from trainer.config.compatibility import monitored_metric
from trainer.config.sweep import SweepRequest
from trainer.data.seeding import split_indices

# Each test composes configs with Hydra, 60 ms a time.
pytestmark = [pytest.mark.long, pytest.mark.fault("N")]

LINE = ("data=line", "model=linear")
VALUES = (*LINE, "data.val_size=2")
HUBER = (*VALUES, "loss=huber")
CLASSES = ("data=dirichlet", "model=mlp", "data.val_size=50")
NO_VAL = ("data=dirichlet", "model=mlp", "data.val_size=0")
SMOOTHING = "loss.label_smoothing=0,0.1"
DELTAS = "loss.delta=0.1,1,10"
OWN = ("data=custom", "data.target=mine.Set", "model=mlp", "data.val_size=9")


@contextmanager
def requested(*words: str) -> Iterator[SweepRequest]:
    with sweep_request(Arguments.parse(VERBS["fit"], ["-m", *words])) as request:
        yield request


def comparison(*words: str, former: str | None = None) -> Comparison:
    """What a sweep of these words is compared by."""
    with requested(*words) as request:
        is_grid = request.sweep.name == "grid"
        jobs = plan.grid(request.axes) if is_grid else []
        return choose(request, plan.check(request, jobs), former=former)


@pytest.mark.parametrize(
    ("words", "metric", "because"),
    [
        ((*HUBER, DELTAS), "val/mse", "loss.delta differs"),
        ((*VALUES, "loss=mse,l1,huber"), "val/mse", "the losses differ"),
        (("experiment=line", "loss=l1,mse", "data.val_size=1"), "val/mse", "the losses differ"),
        ((*HUBER, "optimizer.lr=0.1,0.2", "loss.delta=${optimizer.lr}"), "val/mse", "loss.delta"),
        # The last value is wrong: its job alone fails.
        ((*HUBER, "loss.delta=1,2,-3"), "val/mse", "loss.delta differs"),
        ((*HUBER, "sweep=random", "loss.delta=interval(0.1,10)"), "val/mse", "loss.delta differs"),
        ((*HUBER, "sweep=optuna", "loss.delta=tag(log,interval(0.1,10))"), "val/mse", "loss.delta"),
        ((*VALUES, "sweep=random", "loss=mse,l1"), "val/mse", "the losses differ"),
        # Without a validation set the accuracy of training is what does not depend on the loss.
        ((*NO_VAL, SMOOTHING), "train/accuracy", "loss.label_smoothing differs"),
        ((*NO_VAL, "loss=cross_entropy,hinge"), "train/accuracy", "the losses differ"),
    ],
)
def test_jobs_with_other_losses_are_compared_by_what_no_loss_changes(
    words: tuple[str, ...], metric: str, because: str
) -> None:
    """Failed before: a sweep over loss.delta called the smallest delta the best."""
    found = comparison(*words)
    assert found.metric == metric and because in found.note and not found.warning
    assert found.words == (f"trainer.monitor={metric}",)
    assert found.sentences == [found.note]


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ((*CLASSES, SMOOTHING), "val/accuracy"),
        ((*CLASSES, "loss=cross_entropy,hinge"), "val/accuracy"),
        ((*VALUES, "loss=mse", "optimizer.lr=0.1,0.2"), "val/loss"),
        ((*HUBER, "loss.delta=3", "seed=0,1"), "val/loss"),
        ((*VALUES, "loss=l1", "data.seed=0,1"), "val/loss"),
        ((*VALUES, "loss=mse", "trainer.epochs=1,2"), "val/loss"),
        ((*HUBER, DELTAS, "trainer.monitor=val/mae"), "val/mae"),
        ((*CLASSES, "model.dropout=0,0.5"), "val/accuracy"),
        ((*CLASSES, "data.train_limit=10,20", "data.batch_size=8,9"), "val/accuracy"),
        (("data=mnist", "data.val_size=9", "data.transforms=[],[random_invert]"), "val/accuracy"),
        ((*NO_VAL, "trainer.l1=0,0.1"), "train/loss"),
        (("data=dirichlet", "model=linear,mlp", "data.val_size=0"), "train/loss"),
        ((*OWN, "+data.kwargs.noise=0,1", "data.val_kwargs={noise: 0}"), "val/accuracy"),
    ],
)
def test_where_the_metric_means_the_same_nothing_is_said(
    words: tuple[str, ...], metric: str
) -> None:
    assert comparison(*words) == Comparison(metric=metric)


@pytest.mark.parametrize(
    ("words", "metric", "because", "advice"),
    [
        # What the person chose is kept.
        (
            (*HUBER, DELTAS, "trainer.monitor=val/loss"),
            "val/loss", "loss.delta differs", "Set trainer.monitor=val/mse.",
        ),
        (
            (*CLASSES, SMOOTHING, "trainer.monitor=val/loss"),
            "val/loss", "loss.label_smoothing differs", "Set trainer.monitor=val/accuracy.",
        ),
        (
            (*CLASSES, "model.dropout=0,0.5", "trainer.monitor=train/loss"),
            "train/loss", "model.dropout differs", "Set trainer.monitor=val/accuracy.",
        ),
        # Of values there is no other metric of training.
        ((*LINE, "loss=mse,l1"), "train/loss", "the losses differ", "data.val_size=…"),
        (
            (*NO_VAL, "model.dropout=0,0.5"),
            "train/loss", "model.dropout differs", "data.val_size=…",
        ),
        (
            ("data=mnist", "data.val_size=0", "data.transforms=[],[random_invert]"),
            "train/loss", "data.transforms differs", "data.val_size=…",
        ),
        # Other samples.
        (
            ("data=mnist,fashion_mnist", "data.val_size=9"),
            "val/accuracy", "the data sets differ", "Compare only jobs with the same data.",
        ),
        (
            ("data=dirichlet", "model=mlp", "data.val_size=10,50"),
            "val/accuracy", "data.val_size differs", "the same data.val_size.",
        ),
        (
            (*CLASSES, "data.eval_limit=10,null"),
            "val/accuracy", "data.eval_limit differs", "the same data.eval_limit.",
        ),
        ((*HUBER, "data.noise=0,1"), "val/loss", "data.noise differs", "the same data.noise."),
        (
            (*OWN, "+data.kwargs.noise=0,1"),
            "val/accuracy", "data.kwargs differs", "the same data.kwargs.",
        ),
        (
            (*OWN, "data.val_kwargs={noise: 0},{noise: 1}"),
            "val/accuracy", "data.val_kwargs differs", "the same data.val_kwargs.",
        ),
        (
            (*OWN, "data.val_kwargs={noise: 0},[1]"),
            "val/accuracy", "data.val_kwargs differs", "the same data.val_kwargs.",
        ),
        # Some jobs have no validation set, so that no other metric is there in all of them.
        (
            (*LINE, "loss=mse,l1", "data.val_size=2,0"),
            "val/loss", "data.val_size and the losses differ", "the same data.val_size and loss.",
        ),
    ],
)  # fmt: skip
def test_where_it_does_not_one_warning_says_what_to_do(
    words: tuple[str, ...], metric: str, because: str, advice: str
) -> None:
    found = comparison(*words)
    assert (found.metric, found.words, found.note) == (metric, (), "")
    assert found.warning.startswith(f"Jobs cannot all be compared by {metric}: ")
    assert because in found.warning and found.warning.endswith(advice)
    assert len(found.warning) < 160 and found.sentences == [found.warning]


def test_jobs_that_monitor_other_metrics_are_warned_of() -> None:
    found = comparison("data=dirichlet", "model=linear", "trainer.monitor=val/loss,val/accuracy")
    assert found.metric == "val/loss"
    assert "each chooses its best checkpoint by its own trainer.monitor" in found.warning


def test_another_loss_and_another_data_set_are_a_note_and_a_warning() -> None:
    found = comparison(*HUBER, DELTAS, "data.noise=0,1")
    assert found.metric == "val/mse" and "loss.delta differs" in found.note
    assert "by val/mse: data.noise differs." in found.warning


def test_experiments_with_other_losses_are_seen_in_what_is_composed(tmp_path: Path) -> None:
    experiments = tmp_path / "experiment"
    experiments.mkdir()
    for name, loss in (("first", "mse"), ("second", "l1")):
        (experiments / f"{name}.yaml").write_text(
            "# @package _global_\n"
            "defaults:\n"
            "  - override /data: line\n"
            "  - override /model: linear\n"
            f"  - override /loss: {loss}\n"
            "data:\n"
            "  val_size: 2\n"
        )
    found = comparison("--config-dir", str(tmp_path), "experiment=first,second")
    assert found.metric == "val/mse" and "the losses differ" in found.note


def test_a_loss_that_follows_another_key_is_seen_in_a_file_too(tmp_path: Path) -> None:
    """Failed before: only what is typed was searched for a reference."""
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").write_text("name: huber\ndelta: ${optimizer.lr}\n")
    words = ("--config-dir", str(tmp_path), *VALUES, "loss=mine", "optimizer.lr=0.1,0.2")
    found = comparison(*words)
    assert found.metric == "val/mse" and "loss.delta differs" in found.note


def test_the_jobs_monitor_that_metric_and_their_commands_say_so() -> None:
    words = (*HUBER, DELTAS)
    with requested(*words) as request:
        jobs = plan.grid(request.axes)
        found = choose(request, plan.check(request, jobs), former=None)
    with requested(*words, *found.words) as request:
        command = plan.command_of(request, jobs[1])
        assert command[-2:] == ["trainer.monitor=val/mse", "loss.delta=1"]
        assert monitored_metric(plan.config_of(request, jobs[1])) == "val/mse"


def test_a_sweep_of_an_older_version_keeps_its_metric() -> None:
    """Its jobs that are done monitored the loss: they would all be trained again."""
    found = comparison(*HUBER, DELTAS, former="val/loss")
    assert (found.metric, found.words) == ("val/loss", ())
    assert found.warning.endswith("Set trainer.monitor=val/mse.")
    again = comparison(*HUBER, DELTAS, former="val/mse")
    assert again == comparison(*HUBER, DELTAS)


@pytest.mark.process
def test_such_a_sweep_from_its_first_line_to_its_repetition(tmp_path: Path) -> None:
    """The best has the smallest squared error of the validation set, by NumPy alone."""
    words = (*HUBER, "trainer.epochs=20", "logger=none", "sweep.jobs=1", "run.dir=s")
    first = trainer_main("fit", "-m", *words, "loss.delta=0.01,1,5", cwd=tmp_path)
    assert first.code == 0, first.err
    assert "compared by val/mse instead of val/loss" in first.err and "Warning" not in first.err
    swept = Swept(tmp_path / "s")
    best = swept.record["summary"]["best"]
    errors = [squared_error(run) for run in swept.runs]
    assert best["job"] == int(np.argmin(errors)) != 0, "the smallest delta has the smallest loss"
    assert best["value"] == pytest.approx(min(errors), rel=1e-5)
    report = (swept.folder / "sweep.md").read_text()
    assert "Compared by val/mse, lower is better." in report and "loss.delta differs" in report
    again = trainer_main("fit", "-m", *words, "loss.delta=0.01,1,5", cwd=tmp_path)
    assert again.code == 0 and "3 of 3 jobs are done" in again.err
    command = shlex.split(best["command"])
    assert command[:2] == ["trainer", "fit"] and "trainer.monitor=val/mse" in command
    alone = trainer_main(*command[1:], "run.dir=alone", cwd=tmp_path)
    assert alone.code == 0, alone.err
    repeated = Run(tmp_path / "alone")
    original = swept.runs[best["job"]]
    assert repeated.digest("best") == original.digest("best")
    assert repeated.record["metrics"] == original.record["metrics"]


def squared_error(run: Run) -> float:
    """The error of the best weights at the two points of y = 2 x + 1 that seed 0 holds out."""
    weights = {name: tensor.double().numpy() for name, tensor in run.weights("best").items()}
    _, held_out = split_indices(5, 2, seed=0)
    x = 1.0 + held_out.numpy()
    outputs = weights["fc.weight"].item() * x + weights["fc.bias"].item()
    return float(np.mean((outputs - (2 * x + 1)) ** 2))
