"""Where the YAML is: that of trainer, and a person's own folders beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import ROOT

import trainer
from trainer.cli.arguments import GROUPS, Arguments
from trainer.cli.compose import compose
from trainer.cli.configs import configs_folder, own_folders
from trainer.cli.verbs import VERBS
from trainer.config import CHOICES


def test_the_yaml_is_in_the_package_or_at_the_top_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configs_folder() == ROOT / "configs"
    package = tmp_path / "site-packages" / "trainer"
    (package / "configs").mkdir(parents=True)
    monkeypatch.setattr(trainer, "__file__", str(package / "__init__.py"))
    assert configs_folder() == package / "configs"


def test_the_groups_are_those_of_the_schema() -> None:
    assert sorted(GROUPS) == sorted([*CHOICES, "trainer", "experiment"])


def test_a_folder_of_yaml_with_a_quote_beside_one_of_hydras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("it's mine", "other"):
        (tmp_path / folder / "model").mkdir(parents=True)
    (tmp_path / "it's mine/model/one.yaml").write_text("name: mlp\nhidden: [1]\ndropout: 0.0\n")
    (tmp_path / "other/model/two.yaml").write_text("name: mlp\nhidden: [2]\ndropout: 0.0\n")
    for choice, hidden in (("one", [1]), ("two", [2])):
        words = ["--config-dir", "it's mine", "hydra.searchpath=[other]", f"model={choice}"]
        assert compose(Arguments.parse(VERBS["fit"], words)).model.hidden == hidden


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["--config-dir", "a"], ["a"]),
        (["--config-dir=a", "model=mlp"], ["a"]),
        (["-cd", "a", "--config-dir=b=c"], ["a", "b=c"]),
        (["model=mlp"], []),
    ],
)
def test_a_persons_folders_are_found_behind_their_flags(
    words: list[str], folders: list[str]
) -> None:
    assert own_folders(words) == [Path(folder) for folder in folders]
