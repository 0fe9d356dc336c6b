"""Fixtures that run real commands in this process, each test in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import SMALL, Fit, Outcome, Run, Trainer

from trainer.cli import main


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Trainer:
    """`trainer("fit", …)` runs the command in `tmp_path` and says how it ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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
    """`fit("optimizer=adam", …)` trains a small model with these overrides, which must work, and gives its run."""
    count = 0

    def run(*overrides: str, base: tuple[str, ...] = SMALL) -> Run:
        nonlocal count
        count += 1
        folder = tmp_path / f"run{count}"
        outcome = trainer("fit", *base, f"run.dir={folder}", *overrides)
        assert outcome.code == 0, outcome.err
        return Run(folder)

    return run
