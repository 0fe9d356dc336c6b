"""Checkpoints of another version of trainer: evaluated and resumed where that can be, else refused
by naming both versions; run.json keeps who trained which part.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from forging import Forged, forge_model, forge_state
from running import SMALL, Fit, Outcome, Run, Trainer

from trainer import __version__
from trainer.config.keys import Key
from trainer.config.trainer import TrainerConfig

MORE = "trainer.epochs=2"
BASE = (*SMALL, "logger=none", "scheduler=constant")


def call_it(run: Run, version: str) -> None:
    """As if that version of trainer had trained the run."""
    record = run.record
    record["versions"]["trainer"] = version
    record["trained_by"] = [{**part, "trainer": version} for part in record["trained_by"]]
    (run.folder / "run.json").write_text(json.dumps(record))


def age(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there had been no key trainer.l1 yet."""

    def forget(file: Forged) -> None:
        del file.description["config"]["trainer"]["l1"]

    for step in run.folder.glob("checkpoints/step-*"):
        forge_model(step, forget)
    (field,) = (each for each in dataclasses.fields(TrainerConfig) if each.name == "l1")
    known: Key = field.metadata["key"]
    younger = dataclasses.replace(known, before=0.0)
    monkeypatch.setattr(field, "metadata", {"key": younger})


@pytest.mark.fault("N")
def test_an_older_checkpoint_is_evaluated_and_resumed(
    fit: Fit, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit("trainer.epochs=1", base=BASE)
    whole = fit("trainer.epochs=2", base=BASE)
    age(run, monkeypatch)
    assert trainer("eval", f"ckpt={run.folder}").code == 0
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=2")
    assert outcome.code == 0, outcome.err
    assert run.digest() == whole.digest()


@pytest.mark.fault("N")
def test_who_trained_which_part(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    run = fit("trainer.epochs=1", base=BASE)
    (first,) = run.record["trained_by"]
    assert (first["from"], first["trainer"]) == (0, __version__) and first["torch"]
    call_it(run, "0.0.7")
    branch = Run(tmp_path / "branch")
    for words in ((f"run.dir={branch.folder}",), ()):
        outcome = trainer("fit", f"resume={run.folder}", *words, MORE)
        assert "trained by trainer 0.0.7 so far, and this is" in outcome.err
    again = trainer("fit", f"resume={run.folder}", "trainer.epochs=3")
    assert again.code == 0 and "trained by trainer" not in again.err
    for each in (run, branch):
        parts = [(part["from"], part["trainer"]) for part in each.record["trained_by"]]
        assert parts == [(0, "0.0.7"), (9, __version__)]
        assert each.record["versions"]["trainer"] == __version__


def newer_key(step: Path) -> None:
    forge_model(step, lambda file: file.description["config"]["trainer"].update(swing=1))


def newer_group(step: Path) -> None:
    forge_model(step, lambda file: file.description["config"].update(init={"name": "none"}))


def newer_format(step: Path) -> None:
    forge_model(step, lambda file: file.description.update(version=3))


def newer_field(step: Path) -> None:
    forge_model(step, lambda file: file.description.update(colour="red"))


def newer_state(step: Path) -> None:
    forge_state(step, lambda table: table.update(swing={}))


def other_state(step: Path) -> None:
    forge_state(step, lambda table: table["monitor"].update(swing=1))


@pytest.mark.fault("N")
@pytest.mark.parametrize("change", [newer_key, newer_group, newer_format, newer_field])
@pytest.mark.parametrize("words", [("eval", "ckpt={}"), ("fit", "resume={}")])
def test_both_versions_are_named(fit: Fit, trainer: Trainer, change: Any, words: Any) -> None:
    verb, reference = words
    run = fit("trainer.epochs=1", base=BASE)
    change(run.folder / "checkpoints/step-000009")
    call_it(run, "7.1.0")
    assert_names(trainer(verb, reference.format(run.folder)), "7.1.0")


@pytest.mark.fault("N")
@pytest.mark.parametrize("change", [newer_state, other_state])
def test_both_versions_are_named_for_a_state_too(fit: Fit, trainer: Trainer, change: Any) -> None:
    run = fit("trainer.epochs=1", base=BASE)
    change(run.folder / "checkpoints/step-000009")
    call_it(run, "7.1.0")
    assert_names(trainer("fit", f"resume={run.folder}", MORE), "7.1.0")


def assert_names(outcome: Outcome, writer: str) -> None:
    assert outcome.code == 3, outcome.err
    expected = f"Use the version of trainer that wrote it, {writer}: this is {__version__}."
    assert expected in outcome.err and len(outcome.err.splitlines()) <= 3
