"""Looking names up: the tables of names agree with the YAML, and a wrong name is answered with
the nearest.
"""

from __future__ import annotations

import pytest
from composing import choices_of

from trainer.config import SCHEMAS
from trainer.errors import ConfigError
from trainer.losses import LOSSES
from trainer.models import MODELS
from trainer.registry import look_up

TABLE = {"cnn": 1, "mlp": 2}


def test_a_name_gives_its_entry() -> None:
    assert look_up(TABLE, "mlp", kind="model") == 2


@pytest.mark.parametrize("name", ["cn", "CNN", "cnnn"])
def test_a_wrong_name_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        look_up(TABLE, name, kind="model")
    assert (
        str(caught.value)
        == f"model={name}: there is no such model.\nDid you mean cnn? Choices: cnn, mlp."
    )


def test_a_name_that_is_near_to_none_is_answered_with_all() -> None:
    with pytest.raises(ConfigError, match="Choices: cnn, mlp") as caught:
        look_up(TABLE, "os.system", kind="model")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(("group", "table"), [("model", MODELS), ("loss", LOSSES)])
def test_what_can_be_made_is_what_can_be_chosen(group: str, table: dict[str, object]) -> None:
    assert set(table) == set(SCHEMAS[group]) == set(choices_of(group))
