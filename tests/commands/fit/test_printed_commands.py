"""The commands that a run prints work when they are pasted, and name paths in one way."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import SMALL, Outcome, Run, Trainer

BASE = ("fit", *SMALL, "logger=none", "scheduler=constant", "run.dir=runs/one")
OWN = """
import torch
from torch import nn
from torch.utils.data import Dataset


class Points(Dataset):
    classes = ("a", "b")

    def __init__(self, num=60):
        own = torch.Generator().manual_seed(num)
        self.points = torch.rand(num, 6, generator=own)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return self.points[index], int(self.points[index, 0] > 0.5)


class Net(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2))
"""
DATA = ("data=custom", "data.target=printed_own.Points", "logger=none", "data.batch_size=16")
MODEL = ("model=custom", "model.target=printed_own.Net", "model.kwargs={width: 8}")
EXPERIMENT = """# @package _global_
defaults:
  - override /data: custom
  - override /model: custom
  - override /logger: none
data:
  target: printed_own.Points
model:
  target: printed_own.Net
  kwargs: {width: 3}
trainer:
  epochs: 1
"""


@pytest.fixture(autouse=True)
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "printed_own.py").write_text(OWN)
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine.yaml").write_text(EXPERIMENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("printed_own", None)


def printed(text: str, name: str) -> list[str]:
    """The words of the command that follows `name`."""
    found = re.search(rf"{name}:? +(trainer .*)", text)
    assert found is not None, text
    return shlex.split(found[1])[1:]


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def last_step(folder: Path) -> int:
    return int(Run(folder).steps[-1].removeprefix("step-"))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "words",
    [
        # Never better than at the first evaluation.
        ("trainer.epochs=9", "trainer.patience=2", "optimizer.lr=1e-30"),
        # Its patience and its epochs end together.
        ("trainer.epochs=3", "trainer.patience=2", "optimizer.lr=1e-30"),
        ("trainer.epochs=2", "trainer.max_steps=18"),
        ("trainer.epochs=0", "trainer.max_steps=0", "data.val_size=150"),
        ("trainer.max_steps=5",),
    ],
    ids=["early stopping", "early stopping at the end", "both limits", "nothing", "max_steps"],
)
def test_the_printed_resume_trains(
    trainer: Trainer, tmp_path: Path, words: tuple[str, ...]
) -> None:
    first = done(trainer(*BASE, *words))
    before = last_step(tmp_path / "runs/one")
    done(trainer(*printed(first.out, "resume")))
    assert last_step(tmp_path / "runs/one") > before


@pytest.mark.fault("N")
def test_a_run_that_stopped_early_is_complete(trainer: Trainer) -> None:
    """More epochs alone would train nothing."""
    done(trainer(*BASE, "trainer.epochs=9", "trainer.patience=2", "optimizer.lr=1e-30"))
    outcome = trainer("fit", "resume=runs/one", "trainer.epochs=20")
    assert outcome.code == 2
    assert "it stopped early, val/accuracy had not improved for 2 evaluations" in outcome.err
    assert outcome.err.endswith("To train longer, add trainer.patience=4\n")


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("words", "split"),
    [
        ((*DATA, "model=mlp"), "eval.split=train"),
        ((*DATA, *MODEL), "eval.split=train"),
        ((*DATA, *MODEL, "data.val_size=20"), "eval.split=val"),
        ((*DATA, *MODEL, "+data.test_kwargs.num=30"), None),
        (("data=dirichlet", "model=linear", "data.test_size=0", "logger=none"), "eval.split=val"),
        (("experiment=mine", "--config-dir", "conf"), "eval.split=train"),
        (("experiment=mine", "--config-dir=conf", "data.val_size=10"), "eval.split=val"),
    ],
)
def test_the_printed_commands_work_without_a_test_set_and_with_own_classes(
    trainer: Trainer, words: tuple[str, ...], split: str | None
) -> None:
    first = done(trainer("fit", *words, "trainer.epochs=1", "run.dir=runs/one"))
    evaluate = printed(first.out, "evaluate")
    assert [word for word in evaluate if word.startswith("eval.")] == ([split] if split else [])
    result = done(trainer(*evaluate)).out
    best = done(trainer("runs", "best", "train/loss")).out
    assert done(trainer(*printed(best, "evaluate"))).out == result
    done(trainer(*printed(first.out, "resume")))


@pytest.mark.fault("N")
@pytest.mark.parametrize("reference", ["runs/one", "runs/one/checkpoints/best", "one", "last"])
def test_paths_are_printed_as_they_were_given(trainer: Trainer, reference: str) -> None:
    first = done(trainer(*BASE, "trainer.epochs=1"))
    again = done(trainer("fit", f"resume={reference}", "trainer.epochs=2"))
    assert printed(again.out, "evaluate") == printed(first.out, "evaluate")
    assert "  run       runs/one\n" in again.out
    complete = trainer("fit", "resume=runs/one")
    assert "Error: runs/one/checkpoints/step-" in complete.err
    evaluated = done(trainer("eval", f"ckpt={reference}"))
    assert "checkpoint  runs/one/checkpoints/step-" in evaluated.out


def test_run_json_names_the_step_from_anywhere(trainer: Trainer, tmp_path: Path) -> None:
    done(trainer(*BASE, "trainer.epochs=1"))
    done(trainer("fit", "resume=runs/one", "trainer.epochs=2"))
    (resume,) = Run(tmp_path / "runs/one").record["resumed"]
    assert resume["from"] == str(tmp_path.resolve() / "runs/one/checkpoints/step-000009")
