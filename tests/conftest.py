"""Fixtures for all tests: the shipped YAML as a config, the real image data, real commands run
in this process.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from commandline import DATASETS
from composing import config_of
from disks import Disk, small_disk
from faultplan import FaultTable
from running import PLAIN, SMALL, Fit, Outcome, Run, Trainer
from starting import starts_process
from syncing import wait_for_no_disk

from trainer.cli.main import main
from trainer.config import FitConfig

# A parent that uses readline, as pytest-xdist's may, leaves the size of a terminal behind.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

wait_for_no_disk()

Compose = Callable[..., FitConfig]
# Fixtures that run whole commands: a test that needs one takes long.
COMMANDS = {"trainer", "fit", "trained"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what test_golden.py compares with; `--faults` is what `make
    torture` runs.
    """
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")
    parser.addoption(
        "--faults", action="store_true", help="run only the plan of faults, and print its table"
    )


def pytest_configure(config: pytest.Config) -> None:
    """`--faults` chooses the marked tests and counts them."""
    if config.getoption("--faults"):
        config.option.markexpr = "fault"
        config.pluginmanager.register(FaultTable())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a process or run whole commands; skip those that need a GPU.

    First of all the plugins, so that `-m "not process"` sees the mark.
    """
    has_gpu = torch.cuda.is_available()
    for item in items:
        if starts_process(item):
            item.add_marker("process")
        if COMMANDS & set(getattr(item, "fixturenames", ())):
            item.add_marker("long")
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what is loaded by now: each full pass over torch and
    all tests takes a quarter of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Unpacked data goes to a cache of this test session, never to the person's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def compose() -> Compose:
    """`compose("model=mlp", …)` gives the shipped config with these overrides, checked."""
    return config_of


@pytest.fixture
def datasets_root() -> Path:
    """The folder of the real image data; skips where it is missing."""
    if not DATASETS.is_dir():
        pytest.skip(f"the image data is not in {DATASETS}")
    return DATASETS


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of two megabytes at `tmp_path`/disk."""
    yield from small_disk(tmp_path / "disk")


@pytest.fixture
def trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Trainer:
    """`trainer("fit", …)` runs the command in `tmp_path` and says how it ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(argv)
        out, err = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def fit(trainer: Trainer, tmp_path: Path) -> Fit:
    """`fit("optimizer=adam", …)` trains a small model with these overrides, which must work, and
    gives its run.
    """
    count = 0

    def run(*overrides: str, base: tuple[str, ...] | None = None) -> Run:
        nonlocal count
        count += 1
        folder = tmp_path / f"run{count}"
        if base is None:
            has_logger = any(word.startswith("logger=") for word in overrides)
            base = SMALL if has_logger else PLAIN
        outcome = trainer("fit", *base, f"run.dir={folder}", *overrides)
        assert outcome.code == 0, outcome.err
        return Run(folder)

    return run
