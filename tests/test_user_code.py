"""A person's own class: found by name, called with their arguments, and told apart from a fault
of trainer.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import ConfigError, CustomCodeError, EnvironmentFault
from trainer.signals import SignalExit
from trainer.user_code import call, import_class, is_fault_of


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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "py",
            r"names a file, not a class in it\.\nWrite model.target=mine.Net or model.target=mine",
        ),
        ("Nett", r"mine has no Nett\.\nDid you mean Net\? Choices: A, Net\."),
        ("Path", None),
    ],
)
def test_the_classes_of_a_file_are_offered_not_what_it_imports(
    folder: Path, name: str, words: str | None
) -> None:
    (folder / "mine.py").write_text("from pathlib import Path\nclass Net: pass\nclass A: pass\n")
    if words is None:
        assert import_class(f"mine.{name}", key="model.target") is Path
        return
    with pytest.raises(ConfigError, match=words):
        import_class(f"mine.{name}", key="model.target")


@pytest.mark.fault("N")
@pytest.mark.parametrize("name", ["random", "json", "trainer", "torch", "numpy", "yaml"])
def test_a_file_with_the_name_of_a_module_that_is_needed_is_told(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text("class Net: pass\n")
    with pytest.raises(ConfigError, match=rf"{name}\.py is not read.*my_{name}"):
        import_class(f"{name}.Net", key="model.target")


@pytest.mark.fault("N")
@pytest.mark.parametrize("name", ["wave", "matplotlib", "optuna", "tensorboard", "sqlalchemy"])
def test_what_is_needed_later_is_not_shadowed(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text("raise EOFError\n")
    (folder / "net_beside_it.py").write_text("class Net: pass\n")
    import_class("net_beside_it.Net", key="model.target")
    sys.modules.pop(name, None)
    spec = importlib.util.find_spec(name)
    assert spec is not None and not str(spec.origin).startswith(str(folder))


@pytest.mark.fault("N")
def test_a_file_of_ones_own_comes_before_a_package_that_is_not_needed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("packages")
    for place, value in ((elsewhere, 1), (folder, 2)):
        (place / "helpers_of_both.py").write_text(f"VALUE = {value}\n")
    (folder / "net_with_helpers.py").write_text(
        "from helpers_of_both import VALUE\nclass Net: value = VALUE\n"
    )
    sys.path.insert(0, str(elsewhere))
    assert import_class("net_with_helpers.Net", key="model.target").value == 2


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("statement", "kind", "words"),
    [
        ("raise MemoryError", EnvironmentFault, "Memory ran out"),
        (
            'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
            EnvironmentFault,
            "Memory",
        ),
        ("import torch; raise torch.OutOfMemoryError('CUDA')", EnvironmentFault, "Memory ran out"),
        ("import errno; raise OSError(errno.ENOMEM, 'no memory')", EnvironmentFault, "Memory"),
        ("raise SystemExit", CustomCodeError, r"called sys.exit\(None\)"),
        ("quit()", CustomCodeError, r"called sys.exit\(None\)"),
        ("raise ValueError('mine')", CustomCodeError, "ValueError: mine"),
        ("import no_such_module", CustomCodeError, "No module named 'no_such_module'"),
        ("raise SignalExit(143)", SignalExit, "143"),
    ],
)
def test_who_is_to_blame(
    folder: Path, statement: str, kind: type[BaseException], words: str
) -> None:
    source = "from trainer.signals import SignalExit\n"
    (folder / "blamed_import.py").write_text(source + statement + "\nclass Net: pass\n")
    with pytest.raises(kind, match=words):
        import_class("blamed_import.Net", key="model.target")
    (folder / "blamed_call.py").write_text(f"{source}def make():\n    {statement}\n")
    with pytest.raises(kind, match=words):
        call(import_class("blamed_call.make", key="model.target"), {}, key="model.target")


@pytest.mark.fault("N")
def test_an_assertion_is_its_writers(folder: Path) -> None:
    """Ours is ours, even where a class of a person's takes part in the run."""
    (folder / "asserting.py").write_text("def theirs():\n    assert False\n")
    ours: dict[str, Any] = {"__name__": "trainer.engine.made_up"}
    exec("def check():\n    assert False\ndef use(value):\n    return value.no_such\n", ours)

    def is_theirs(call: Callable[[], object]) -> bool:
        try:
            call()
        except Exception as error:
            return is_fault_of(error, ["asserting.theirs"])
        raise AssertionError("it raises")

    theirs = import_class("asserting.theirs", key="model.target")
    assert is_theirs(theirs)
    assert not is_theirs(ours["check"])
    # What their class gave us may be the reason.
    assert is_theirs(lambda: ours["use"](None))
