"""The example of docs/custom.md: the page shows its files, and its commands work."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from test_docs import DOCS, commands_in

from trainer.cli.main import main

PAGE = DOCS / "custom.md"
EXAMPLES = DOCS / "examples"
FILES = sorted(path for suffix in ("py", "yaml") for path in EXAMPLES.rglob(f"*.{suffix}"))
COMMANDS = [shlex.split(command)[1:] for command in commands_in(PAGE)]

Trainer = Callable[[list[str]], int]


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """Runs a command in this process, in a copy of the example; gives its exit code."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    for split in ("train", "test"):
        for number, name in enumerate(("circle", "square")):
            picture = tmp_path / "pictures" / split / name / "1.png"
            picture.parent.mkdir(parents=True)
            Image.new("RGB", (32, 32), color=(200 * number, 0, 0)).save(picture)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.split(".")[0] == "my_pkg"]:
        monkeypatch.delitem(sys.modules, name)

    def run(argv: list[str]) -> int:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        return int(ended.value.code or 0)

    return run


def shortened(argv: list[str]) -> list[str]:
    """One epoch, or on a resume two, in place of the many of the page."""
    epochs = 2 if any(word.startswith("resume=") for word in argv) else 1
    kept = [word for word in argv if not word.startswith("trainer.epochs=")]
    return [*kept, f"trainer.epochs={epochs}"] if argv[0] == "fit" else kept


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_the_page_shows_the_files(path: Path) -> None:
    shown = re.search(
        rf"`{path.relative_to(EXAMPLES)}`:\n\n```\w+\n(.*?)^```",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert shown and shown[1] == path.read_text()


def test_the_page_has_fit_eval_and_resume_by_class_and_by_yaml() -> None:
    kinds = [
        ("--config-dir" in argv, argv[0], any(word.startswith("resume=") for word in argv))
        for argv in COMMANDS
    ]
    for by_yaml in (False, True):
        assert {(by_yaml, "fit", False), (by_yaml, "eval", False), (by_yaml, "fit", True)} <= set(
            kinds
        )


def test_the_commands_of_the_page_work_in_order(trainer: Trainer) -> None:
    for argv in COMMANDS:
        assert trainer(shortened(argv)) == 0, argv


@pytest.mark.slow
def test_the_commands_of_the_page_learn_the_spirals(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = []
    for argv in COMMANDS:
        capsys.readouterr()
        assert trainer([*argv, "--json"] if argv[0] == "eval" else argv) == 0, argv
        if argv[0] == "eval":
            accuracies.append(json.loads(capsys.readouterr().out)["accuracy"])
    assert min(accuracies) > 0.95


def test_a_checkpoint_does_not_name_the_class_by_itself(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trainer(shortened(COMMANDS[0])) == 0
    for name in [name for name in sys.modules if name.split(".")[0] == "my_pkg"]:
        del sys.modules[name]
    assert trainer(["eval", "ckpt=last"]) == 3
    assert "my_pkg.net.SpiralNet" in capsys.readouterr().err
    assert "my_pkg" not in sys.modules
