"""Keys that did not exist when a config was saved: they get the value of before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from composing import composed, config_of

from trainer.commands.sweep.plan import config_hash
from trainer.config import SCHEMAS, SECTIONS, from_saved, load_fit, overlay, to_plain
from trainer.config.keys import key
from trainer.config.model import LOSS
from trainer.config.trainer import TrainerConfig
from trainer.errors import CheckpointError, ConfigError

MseConfig = LOSS["mse"]


@dataclass(kw_only=True, slots=True)
class YoungerTrainer(TrainerConfig):
    """The group with keys of tomorrow."""

    swing: int | None = key(at_least=1, before=None)
    steps_back: list[int] = key(before=[2, 1])


@dataclass(kw_only=True, slots=True)
class YoungerLoss(MseConfig):  # type: ignore[misc, valid-type]
    """A choice of a group with one."""

    power: float = key(above=0, before=2.0)


LINE = ("experiment=line",)


@pytest.fixture
def saved() -> dict[str, Any]:
    """A config of today, as a checkpoint holds it."""
    return to_plain(config_of(*LINE))


@pytest.fixture
def tomorrow(saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "power" not in saved["loss"]
    monkeypatch.setitem(SECTIONS, "trainer", YoungerTrainer)
    monkeypatch.setitem(SCHEMAS, "loss", {**LOSS, "mse": YoungerLoss})


@pytest.mark.fault("N")
@pytest.mark.usefixtures("tomorrow")
def test_a_saved_config_gets_the_values_of_before(saved: dict[str, Any]) -> None:
    config = to_plain(from_saved(saved, source="x"))
    assert config["trainer"] == {**saved["trainer"], "swing": None, "steps_back": [2, 1]}
    assert config["loss"] == {**saved["loss"], "power": 2.0}
    # Each config has its own list.
    assert to_plain(from_saved(saved, source="x")) == config
    config["trainer"]["steps_back"].append(0)
    assert to_plain(from_saved(saved, source="x"))["trainer"]["steps_back"] == [2, 1]


@pytest.mark.fault("N")
@pytest.mark.usefixtures("tomorrow")
def test_a_saved_value_counts_more(saved: dict[str, Any]) -> None:
    saved["trainer"] |= {"swing": 5, "steps_back": [7]}
    config = to_plain(from_saved(saved, source="x"))
    assert (config["trainer"]["swing"], config["trainer"]["steps_back"]) == (5, [7])


@pytest.mark.fault("N")
def test_a_resume_keeps_what_the_checkpoint_does_not_say(
    saved: dict[str, Any], tomorrow: None
) -> None:
    """A new command has another value from its YAML; a resume has that of before."""
    words = [*LINE, "+loss.power=3", "+trainer.swing=4", "+trainer.steps_back=[]"]
    now = composed(*words)
    assert to_plain(load_fit(now))["loss"]["power"] == 3
    over = load_fit(overlay(now, from_saved(saved, source="x"), ["trainer.epochs"]))
    assert to_plain(over)["loss"]["power"] == 2.0 and to_plain(over)["trainer"]["swing"] is None
    named = load_fit(overlay(now, from_saved(saved, source="x"), ["loss.power"]))
    assert to_plain(named)["loss"]["power"] == 3


@pytest.mark.fault("N")
def test_a_new_command_must_have_every_key(tomorrow: None) -> None:
    with pytest.raises(ConfigError, match="is missing"):
        load_fit(composed(*LINE))


@pytest.mark.fault("N")
def test_a_sweep_knows_its_jobs_of_before(
    saved: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    before = config_hash(from_saved(saved, source="x"))
    request.getfixturevalue("tomorrow")
    assert config_hash(from_saved(saved, source="x")) == before
    saved["loss"]["power"] = 3.0
    assert config_hash(from_saved(saved, source="x")) != before


@pytest.mark.usefixtures("tomorrow")
def test_a_key_that_always_was_may_not_be_missing(saved: dict[str, Any]) -> None:
    del saved["trainer"]["epochs"]
    with pytest.raises(CheckpointError, match=r"trainer\.epochs is missing"):
        from_saved(saved, source="x")
