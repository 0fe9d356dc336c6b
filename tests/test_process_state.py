"""What a person's code changes for the whole process is put back, or refused."""

from __future__ import annotations

import json
import locale
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Ran, trainer_main

from trainer.errors import ConfigError
from trainer.process_state import ProcessState, pop_changes

CHANGES: dict[str, Callable[[], object]] = {
    "gradients": lambda: torch.set_grad_enabled(False),
    "device": lambda: torch.set_default_device("meta"),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "numpy": lambda: np.seterr(all="raise"),
    "arguments": lambda: sys.argv.append("--mine"),
    "output": lambda: setattr(sys, "stdout", None),
    "hook": lambda: setattr(sys, "excepthook", None),
    "signals": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "warnings": lambda: warnings.simplefilter("error"),
    "level": lambda: logging.root.setLevel(logging.DEBUG),
    "handlers": lambda: logging.root.addHandler(logging.NullHandler()),
    "logging": lambda: logging.disable(logging.CRITICAL),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "folder": lambda: os.chdir("/"),
}


def state() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(),
        torch.get_default_device(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.get_num_threads(),
        np.geterr(),
        list(sys.argv),
        sys.stdout,
        sys.excepthook,
        signal.getsignal(signal.SIGTERM),
        list(warnings.filters),
        (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        locale.setlocale(locale.LC_ALL),
        Path.cwd(),
    )


@pytest.fixture(autouse=True)
def _without_a_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ProcessState, "own_folder", None)
    pop_changes()
    yield
    pop_changes()


@pytest.mark.fault("N")
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_put_back(name: str) -> None:
    before = state()
    with ProcessState.kept("importing it"):
        CHANGES[name]()
    assert state() == before
    is_reported = name in ("gradients", "device", "autocast", "threads")
    assert len(pop_changes()) == is_reported


def test_it_is_put_back_after_an_error_too() -> None:
    before = state()
    with pytest.raises(KeyError), ProcessState.kept("importing it"):
        torch.set_grad_enabled(False)
        raise KeyError
    assert state() == before


@pytest.mark.fault("N")
def test_another_dtype_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="importing it set torch's default dtype to"),
        ProcessState.kept("importing it"),
    ):
        torch.set_default_dtype(torch.float64)
    assert torch.get_default_dtype() is torch.float32


def test_the_generators_are_put_back_after_an_import() -> None:
    before = random.getstate(), torch.get_rng_state().tolist(), repr(np.random.get_state())
    with ProcessState.kept("importing it", with_generators=True):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
    after = random.getstate(), torch.get_rng_state().tolist(), repr(np.random.get_state())
    assert before == after


def test_a_folder_of_its_own_lasts_for_its_code(tmp_path: Path) -> None:
    ours = Path.cwd()
    with ProcessState.kept("importing it"):
        os.chdir(tmp_path)
    assert Path.cwd() == ours
    with ProcessState.kept_by_samples():
        assert Path.cwd() == tmp_path
    assert Path.cwd() == ours
    with ProcessState.kept_by_samples():
        os.chdir(ours)
    with ProcessState.kept_by_samples():
        assert Path.cwd() == ours


OWN = """
import os, sys, signal, warnings, logging, argparse, torch
from torch import nn
from torch.utils.data import Dataset
{imported}
class Data(Dataset):
    classes = ("a", "b", "c")
    def __init__(self):
        self.x = torch.arange(180, dtype=torch.float32).view(30, 6) % 7
        {made}
    def __len__(self):
        return 30
    def __getitem__(self, index):
        {read}
        return self.x[index], index % 3
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        {built}
    def forward(self, x):
        {run}
        return self.layer(x)
"""
WHERE = ("imported", "made", "read", "built", "run")


def fit(folder: Path, module: str, **places: str) -> Ran:
    """An epoch with a model and a data set of a file of its own, in the folder `folder`."""
    source = OWN.format(**(dict.fromkeys(WHERE, "pass") | places))
    (folder / f"{module}.py").write_text(source)
    words = (
        *("fit", "data=custom", f"data.target={module}.Data", "model=custom"),
        *(f"model.target={module}.Net", "data.kwargs={}", "data.batch_size=8", "data.val_size=8"),
        *("trainer.epochs=1", "trainer.save_every=1steps", "logger=none", "run.dir=run"),
    )
    return trainer_main(*words, cwd=folder)


def losses(folder: Path, module: str, **places: str) -> list[float]:
    """The losses of a run of `fit`, which must work without a traceback."""
    folder.mkdir()
    ran = fit(folder, module, **places)
    assert ran.code == 0 and "Traceback" not in ran.err, ran.err
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of the run that changes nothing."""
    return losses(tmp_path_factory.mktemp("usual") / "0", "usual")


@pytest.mark.long
@pytest.mark.fault("N")
@pytest.mark.parametrize("where", WHERE)
def test_a_run_lands_where_it_was_meant_to(tmp_path: Path, where: str) -> None:
    away = tmp_path / "away"
    away.mkdir()
    ran = fit(tmp_path, f"chdir_{where}", **{where: f"os.chdir({str(away)!r})"})
    assert ran.code == 0, ran.err
    assert not list(away.iterdir())
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.yaml", "run.json", "metrics.jsonl", "checkpoints"} <= names
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "done"


@pytest.mark.long
@pytest.mark.fault("N")
def test_files_are_read_relative_to_the_folder_that_it_changed_to(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "there.txt").write_text("1")
    ran = fit(tmp_path, "reads", made=f"os.chdir({str(away)!r})", read="open('there.txt').close()")
    assert ran.code == 0, ran.err


ODD = {
    "gradients off": "torch.set_grad_enabled(False)",
    "arguments": "argparse.ArgumentParser().parse_args()",
    "warnings are errors": "warnings.simplefilter('error')",
    "signals": "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
    "device": "torch.set_default_device('meta')",
    "logging": "logging.basicConfig(level=logging.DEBUG)",
}


@pytest.mark.long
@pytest.mark.fault("N")
@pytest.mark.parametrize("where", ["imported", "made", "built"])
@pytest.mark.parametrize("name", ODD)
def test_training_is_as_without_it(
    tmp_path: Path, usual: list[float], name: str, where: str
) -> None:
    module = f"odd_{list(ODD).index(name)}_{where}"
    assert losses(tmp_path / "odd", module, **{where: ODD[name]}) == usual


@pytest.mark.long
@pytest.mark.fault("N")
@pytest.mark.parametrize("where", ["imported", "made", "read", "built"])
def test_another_default_dtype_is_a_sentence(tmp_path: Path, where: str) -> None:
    ran = fit(tmp_path, f"dtype_{where}", **{where: "torch.set_default_dtype(torch.float64)"})
    assert ran.code == 2, ran.err
    assert "torch.float64, and trainer trains in float32" in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.fault("N")
@pytest.mark.parametrize("where", WHERE)
def test_an_exit_is_a_sentence(tmp_path: Path, where: str) -> None:
    statement = "argparse.ArgumentParser().parse_args(['--no-such'])"
    ran = fit(tmp_path, f"exits_{where}", **{where: statement})
    assert ran.code == 1, ran.err
    assert "called sys.exit(2)" in ran.err


@pytest.mark.long
@pytest.mark.fault("N")
def test_a_seed_at_import_does_not_choose_the_first_weights(
    tmp_path: Path, usual: list[float]
) -> None:
    assert losses(tmp_path / "seeds", "seeds", imported="torch.manual_seed(0)") == usual
