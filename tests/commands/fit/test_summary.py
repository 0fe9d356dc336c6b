"""The commands that a run prints to go on with: whole, and ready to be copied."""

from __future__ import annotations

from pathlib import Path

import pytest
from composing import config_of

from trainer.commands.fit.summary import NextCommands

CUSTOM = ("model=custom", "model.target=my_package.MyModel")


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_words_that_name_a_persons_own_class_are_repeated_however_they_were_given(
    sign: str,
) -> None:
    given = (*CUSTOM, f"{sign}model.kwargs.width=3", f"{sign}trainer.epochs=2")
    commands = NextCommands(Path("runs/a"), config_of(*CUSTOM), given=["trainer", "fit", *given])
    words = f"model=custom model.target=my_package.MyModel {sign}model.kwargs.width=3"
    assert commands.evaluate() == f"trainer eval ckpt=runs/a {words}"
    assert (
        commands.resume("trainer.epochs=4") == f"trainer fit resume=runs/a {words} trainer.epochs=4"
    )


def test_all_else_is_in_the_checkpoint() -> None:
    commands = NextCommands(
        Path("runs/a"), config_of("model=mlp"), given=["trainer", "fit", "model=mlp", "+model.x=1"]
    )
    assert commands.resume() == "trainer fit resume=runs/a"
