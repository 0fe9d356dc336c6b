"""A person's own class: found by name, called with their arguments, and told apart from a fault
of trainer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import ConfigError, CustomCodeError
from trainer.user_code import call, import_class


def test_a_class_of_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_found.py").write_text(
        "class Net:\n    def __init__(self, width=1): self.width = width\n"
    )
    monkeypatch.chdir(tmp_path)
    assert (
        call(
            import_class("plugin_found.Net", key="model.target"), {"width": 3}, key="model.target"
        ).width
        == 3
    )


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_package.Net", "there is no module no_such_package"),
        ("json.no_such.Net", "there is no module json.no_such"),
        ("json.JSONDecodr", "Did you mean JSONDecoder"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(target: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        import_class(target, key="model.target")


def test_wrong_arguments_are_a_mistake_in_the_command() -> None:
    with pytest.raises(ConfigError, match=r"model\.kwargs does not fit its arguments: .*wdth"):
        call(Path.cwd, {"wdth": 3}, key="model.target")


def test_what_the_class_raises_is_its_own() -> None:
    def broken() -> None:
        raise KeyError("mine")

    with pytest.raises(CustomCodeError, match="KeyError") as caught:
        call(broken, {}, key="model.target")
    assert isinstance(caught.value.__cause__, KeyError)
