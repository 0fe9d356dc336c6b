"""The errors a person sees: their text, their exit code, the nearest name, and nothing that
could drive a terminal.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import errors
from trainer.errors import (
    CheckpointError,
    ConfigError,
    CustomCodeError,
    DataError,
    EnvironmentFault,
    InputError,
    Stopped,
    TrainerError,
    TrainingError,
    UsageError,
    as_called,
    command_line,
    listing,
    nearest,
    one_line,
    printable,
    program,
    reason_of,
    suggestion,
)

MODELS = ("linear", "mlp", "lenet5", "cnn", "cnn_dropout", "custom")
CODES = {
    TrainerError: 1,
    TrainingError: 1,
    CustomCodeError: 1,
    UsageError: 2,
    ConfigError: 2,
    InputError: 3,
    DataError: 3,
    CheckpointError: 3,
    EnvironmentFault: 4,
}


@pytest.mark.parametrize(
    ("kind", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_every_error_has_its_exit_code(kind: type[TrainerError], code: int) -> None:
    assert kind("It happened.").exit_code == code


def test_every_error_is_in_the_list_at_the_top_of_the_file() -> None:
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, TrainerError)
    }
    assert kinds == {kind.__name__ for kind in CODES} | {"Stopped"}
    page = ast.get_docstring(ast.parse(Path(errors.__file__).read_text(encoding="utf-8"))) or ""
    listed = re.findall(r"(\w+) +([0-9])", page)
    assert (
        dict(listed).items()
        >= {kind.__name__: str(code) for kind, code in CODES.items() if code > 1}.items()
    )


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_a_signal_has_the_code_that_shells_give_it(number: int, code: int) -> None:
    assert Stopped("Stopped.", signal_number=number).exit_code == code


def test_an_error_is_what_where_and_what_to_do() -> None:
    error = UsageError("It is wrong.", where="in this file", hint="Do that.")
    assert str(error) == "It is wrong.\nin this file\nDo that."
    assert str(UsageError("It is wrong.", hint="Do that.")) == "It is wrong.\nDo that."
    assert str(UsageError("It is wrong.")) == "It is wrong."


@given(st.text(), st.text(), st.text())
def test_an_error_is_three_lines_at_most_whatever_it_names(
    what: str, where: str, hint: str
) -> None:
    text = str(TrainerError(what, where=where, hint=hint))
    assert len(re.split("[\n\r\x0b\x0c\x1c-\x1e\x85]", text)) <= 3
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain größe …", "plain größe …"),
        ("\x1b[2Jgone", "?[2Jgone"),
        ("two\nlines\r", "two?lines?"),
        ("c1 \x9b31m", "c1 ?31m"),
        (Path("a/b"), "a/b"),
        (3, "3"),
    ],
)
def test_printable(text: object, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cn", "cnn"),
        ("CNN", "cnn"),
        ("lenet", "lenet5"),
        ("LeNet-5", "lenet5"),
        ("cnn_droput", "cnn_dropout"),
        ("linaer", "linear"),
        ("transformer", None),
        ("", None),
    ],
)
def test_the_nearest_name(name: str, meant: str | None) -> None:
    assert nearest(name, MODELS) == meant


def test_the_nearest_name_keeps_its_own_spelling() -> None:
    assert nearest("linaer", ["Linear", "ReLU"]) == "Linear"


def test_a_suggestion_ends_with_every_choice() -> None:
    choices = "Choices: cnn, cnn_dropout, custom, lenet5, linear, mlp."
    assert suggestion("cn", MODELS) == f"Did you mean cnn? {choices}"
    assert suggestion("transformer", MODELS) == choices
    assert suggestion("x", iter(["b", "a"]), label="Keys") == "Keys: a, b."


@pytest.mark.parametrize(
    ("typed", "begins"),
    [
        ("trainer", "trainer"),
        ("/usr/bin/trainer", "trainer"),
        (".venv/bin/trainer", ".venv/bin/trainer"),
        ("my tools/trainer", "'my tools/trainer'"),
        ("/lib/python3/site-packages/trainer/__main__.py", "python -m trainer"),
        ("/lib/python3/site-packages/pytest/__main__.py", "trainer"),
        ("worker.py", "trainer"),
    ],
)
def test_a_command_to_copy_begins_as_the_persons_own(
    typed: str, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [typed, "fit"])
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert program() == begins
    assert command_line("eval", "ckpt=a b") == f"{begins} eval 'ckpt=a b'"
    assert as_called("trainer fit seed=1") == f"{begins} fit seed=1"
    assert as_called("torchrun x") == "torchrun x"


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")],
)
def test_a_list_of_names_that_is_too_long(names: list[str], text: str) -> None:
    assert listing(names, most=2) == text


def test_the_reason_is_the_systems_or_ours() -> None:
    assert reason_of(OSError(28, "No space left on device", "run.json")) == (
        "No space left on device"
    )
    assert reason_of(OSError("it is truncated")) == "it is truncated"


WORKER = """data.target: loading a batch raised ValueError: Caught ValueError in DataLoader worker \
process 0.
Original Traceback (most recent call last):
  File "worker.py", line 349, in _worker_loop
    data = fetcher.fetch(index)
Sub: not the error
  File "own.py", line 3, in __getitem__
    raise ValueError("sample 17 is broken")
ValueError: sample 17 is broken
."""


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("text", "line"),
    [
        (WORKER, "data.target: loading a batch raised ValueError: sample 17 is broken."),
        ("KeyError: 'a'\n  second\x1b line", "KeyError: 'a' second? line"),
        ("x" * 5000, "x" * 400 + "…"),
    ],
)
def test_an_error_of_other_code_is_one_line_of_some_length(text: str, line: str) -> None:
    """Failed before: an error of a worker was a line of 1,500 characters."""
    assert one_line(text) == line
    assert str(CustomCodeError(text)) == line
