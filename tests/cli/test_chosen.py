"""The help of what was chosen: `trainer fit model=mlp --help` has the keys of the mlp."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commandline import trainer_main
from composing import all_choices

from trainer.cli.chosen import chosen_keys
from trainer.config import CHOICES, SECTIONS
from trainer.config.keys import keys_of


@pytest.mark.parametrize("word", all_choices())
def test_every_key_of_a_choice_is_there_with_its_comment(word: str) -> None:
    group, _, name = word.partition("=")
    text = chosen_keys({group: name}, config_dir=None)
    assert f"Keys of {word}\n" in text
    schema = CHOICES[group][name] if group in CHOICES else SECTIONS[group]
    listed = set(re.findall(rf"^  {group}\.(\w+)", text, flags=re.MULTILINE))
    assert listed == {key for key in keys_of(schema) if key != "name"}
    assert max(map(len, text.splitlines())) <= 80
    for line in re.findall(rf"^  {group}\.\w+ +(.*)$", text, flags=re.MULTILINE):
        assert line and not line.startswith("["), "a comment comes before the value"


def test_the_page_ends_with_what_was_chosen(tmp_path: Path) -> None:
    plain = trainer_main("fit", "--help", cwd=tmp_path).out
    ran = trainer_main("fit", "--help", "model=mlp", "optimizer=adam", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(plain) and ran.out != plain
    assert "model.hidden" in ran.out and "optimizer.betas" in ran.out
    assert "model.hidden" not in plain


def test_a_key_alone_chooses_nothing(tmp_path: Path) -> None:
    plain = trainer_main("fit", "--help", cwd=tmp_path).out
    assert trainer_main("fit", "optimizer.lr=0.1", "--help", cwd=tmp_path).out == plain
    assert trainer_main("fit", "experiment=line", "--help", cwd=tmp_path).out == plain


def test_a_choice_that_there_is_not_has_the_nearest(tmp_path: Path) -> None:
    out = trainer_main("fit", "model=cn", "--help", cwd=tmp_path).out
    assert "There is no model=cn.\n  Did you mean cnn?" in out


def test_a_persons_own_choice_has_the_keys_of_what_it_is_based_on(tmp_path: Path) -> None:
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/small.yaml").write_text(
        "# My small one.\ndefaults:\n  - mlp\nhidden: [4]\n"
    )
    text = chosen_keys({"model": "small"}, config_dir=str(tmp_path / "mine"))
    assert "Keys of model=small\n  My small one.\n" in text
    assert "sizes of the hidden layers [[4]]" in text
    assert "model.dropout" in text
