"""Warnings of libraries and of people's own code: a line each, and each once."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable

import pytest

from trainer.errors import shown_plainly


def by_python() -> None:
    warnings.warn("the driver\n  is too old", stacklevel=1)


def by_logging() -> None:
    logger = logging.getLogger("some_library")
    logger.propagate = False  # to pytest's handler
    logger.warning("created a temporary %s", "cache")


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state outside of pytest: each warning is shown."""
    monkeypatch.setattr(warnings, "filters", [("always", None, Warning, None, 0)])
    # pytest's own catching goes around showwarning.
    monkeypatch.setattr(warnings, "_showwarnmsg_impl", lambda _: None)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("give", "line"),
    [
        (by_python, "Warning: the driver is too old (UserWarning, test_library_warnings.py:16)\n"),
        (by_logging, "Warning: created a temporary cache (some_library)\n"),
    ],
)
@pytest.mark.usefixtures("unhandled")
def test_a_warning_is_one_line_and_comes_once(
    give: Callable[[], None], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failed before: raw, with a line of code, and three times for a model."""
    before = warnings.showwarning, logging.lastResort
    with shown_plainly():
        for _ in range(3):
            give()
    assert capsys.readouterr().err == line
    assert (warnings.showwarning, logging.lastResort) == before


@pytest.mark.usefixtures("unhandled")
def test_a_long_warning_is_short_and_cannot_drive_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with shown_plainly():
        warnings.warn("\x1b[2J" + "words " * 1000, stacklevel=1)
    err = capsys.readouterr().err
    assert err.startswith("Warning: ?[2Jwords words") and len(err) < 500 and "\x1b" not in err


@pytest.mark.usefixtures("unhandled")
def test_a_warning_for_a_file_goes_there_and_debugging_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with shown_plainly():
        warnings.showwarning("text", UserWarning, "a.py", 1, file=sys.stdout)
    assert capsys.readouterr() == ("a.py:1: UserWarning: text\n", "")
    monkeypatch.setenv("TRAINER_DEBUG", "1")
    before = warnings.showwarning
    with shown_plainly():
        assert warnings.showwarning is before
