"""Training outlives its terminal: output that cannot be written is a warning, no work is lost."""

from __future__ import annotations

import errno
import io
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import quiet_environment
from running import SMALL, Run, Trainer
from waiting import HANG_S

from trainer.tracking.console import Terminal

WORDS = ("fit", *SMALL, "logger=none", "scheduler=constant", "run.dir=run")


class Failing(io.StringIO):
    """A stream that fails from the n-th line on, until its descriptor is replaced."""

    def __init__(self, lines: int, number: int) -> None:
        super().__init__()
        self.left = float(lines)
        self.number = number

    def reconfigure(self, **_: object) -> None:
        """As a standard stream."""

    def flush(self) -> None:
        if self.getvalue().count("\n") > self.left:
            raise OSError(self.number, os.strerror(self.number))

    def fileno(self) -> int:
        self.left = math.inf
        with Path(os.devnull).open("wb") as file:
            return os.dup(file.fileno())


@pytest.mark.fault("N")
@pytest.mark.parametrize("lines", [0, 1, 6, 7, 8, 12])
@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_run_goes_to_its_end(
    trainer: Trainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: int,
    number: int,
) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(lines, number))
    outcome = trainer(*WORDS)
    assert outcome.code == 0, outcome.err
    reason = f"Standard output failed ({os.strerror(number)})"
    assert outcome.err.count(reason) == 1
    run = Run(tmp_path / "run")
    assert run.record["status"] == "done" and reason in run.record["output_lost"]
    assert run.steps[-1] == "step-000018"
    assert [row["split"] for row in run.rows].count("test") == 1


@pytest.mark.fault("N")
def test_the_exit_code_is_that_of_the_training(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(1, errno.EPIPE))
    outcome = trainer(*WORDS, "optimizer.lr=1e30")
    assert outcome.code == 1 and "became" in outcome.err


@pytest.mark.fault("N")
@pytest.mark.parametrize("redirect", ["", "2>&1"])
def test_head_reads_one_line(tmp_path: Path, redirect: str) -> None:
    command = f'"$0" -m trainer "$@" {redirect} | head -1; echo "code ${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, *WORDS],
        cwd=tmp_path,
        env=quiet_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.stdout == "trainer 0.1.0\ncode 0\n", done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == (0 if redirect else 1), done.stderr
    run = Run(tmp_path / "run")
    assert run.record["status"] == "done" and "Broken pipe" in run.record["output_lost"]


def test_a_run_whose_output_is_read_has_no_such_field(trainer: Trainer, tmp_path: Path) -> None:
    assert trainer(*WORDS).code == 0
    assert "output_lost" not in Run(tmp_path / "run").record


def test_other_commands_end_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(0, errno.EPIPE))
    terminal = Terminal()
    with pytest.raises(BrokenPipeError):
        terminal.line("a")
