"""Configs as version 0.1.0 saved them in its checkpoints, before any key was added: each is read.

The file was written once, by that version, and is never written anew: a key that is added since
needs `key(…, before=…)`, else no earlier checkpoint can be evaluated or resumed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from commandline import ROOT

from trainer.config import from_saved, to_plain

PATH = ROOT / "tests" / "golden" / "configs_of_0.1.0.json"
SAVED: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))


@pytest.mark.parametrize("choice", SAVED)
def test_an_earlier_config_is_read_with_all_its_values(choice: str) -> None:
    """Failed before for every data set: data.seed was missing."""
    read = to_plain(from_saved(SAVED[choice], source="a checkpoint"))
    for group, values in SAVED[choice].items():
        if isinstance(values, dict):
            assert {key: read[group][key] for key in values} == values
        else:
            assert read[group] == values


@pytest.mark.parametrize("data", ["mnist", "dirichlet", "line", "custom"])
def test_a_key_that_was_not_there_changes_nothing(data: str) -> None:
    saved = SAVED[f"data={data}"]
    read = to_plain(from_saved(saved, source="a checkpoint"))
    added = {key: value for key, value in read["data"].items() if key not in saved["data"]}
    assert "seed" in added and set(added.values()) == {None}
