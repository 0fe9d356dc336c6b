"""Which tests are found to start a process: by what they call, how far away it may be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from commandline import ROOT, run_python, trainer_main
from runfolders import held
from starting import starts_process


def directly() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def by_way_of_another() -> None:
    directly()


def inside_another() -> Callable[[], None]:
    def inner() -> None:
        directly()

    return inner


def by_a_module_of_the_tests(cwd: Path) -> None:
    processes.run("fit", cwd=cwd)


def by_a_function_of_the_tests(cwd: Path) -> None:
    run_python("-c", "", cwd=cwd)


def by_a_class(cwd: Path) -> None:
    _Starter().start()


def by_a_context_manager(cwd: Path) -> None:
    with held(cwd):
        pass


def in_this_process(cwd: Path) -> None:
    """`subprocess` is a word of this text only."""
    trainer_main("--version", cwd=cwd)
    assert ROOT


class _Starter:
    def start(self) -> None:
        directly()


@pytest.fixture
def started() -> None:
    directly()


@pytest.fixture
def around(started: None) -> None:
    """A fixture that needs one that starts a process."""


def with_a_fixture(around: None) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (directly, True),
        (by_way_of_another, True),
        (inside_another, True),
        (by_a_module_of_the_tests, True),
        (by_a_function_of_the_tests, True),
        (by_a_class, True),
        (by_a_context_manager, True),
        (with_a_fixture, True),
        (in_this_process, False),
    ],
)
def test_a_process_is_found(
    function: Callable[..., object], expected: bool, request: pytest.FixtureRequest
) -> None:
    item = pytest.Function.from_parent(request.node.parent, name="made", callobj=function)
    assert starts_process(item) == expected
