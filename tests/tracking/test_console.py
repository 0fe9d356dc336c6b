"""On a real (pseudo) terminal: a progress bar while it trains, the same lines when it is done."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from waiting import HANG_S

from trainer.tracking.console import Terminal


def on_a_terminal(command: list[str], *, cwd: Path) -> str:
    """What `command` writes to a terminal of 140 columns."""
    parent, child = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140"}
    process = subprocess.Popen(command, cwd=cwd, stdout=child, stderr=child, stdin=child, env=env)
    os.close(child)
    output = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(parent)
    assert process.wait(timeout=HANG_S) == 0, output.decode()
    return output.decode()


def test_a_bar_shows_loss_accuracy_rate_and_time_left(tmp_path: Path) -> None:
    words = ["data=dirichlet", "data.train_size=5000", "model=mlp", "trainer.epochs=3"]
    words += ["logger=none", "logger.log_every=10"]
    output = on_a_terminal([sys.executable, "-m", "trainer", "fit", *words], cwd=tmp_path)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output).replace("\r", "\n")
    bars = [line for line in plain.splitlines() if line.startswith("training")]
    assert any(
        re.search(r"\d+%.*loss \d\.\d+  acc \d+\.\d+%  [\d,]+ samples/s.*\d:\d\d", bar)
        for bar in bars
    ), bars
    assert len(re.findall(r"^epoch \d/3 .*val acc", plain, flags=re.M)) == 3
    assert "Warning" not in plain and "Traceback" not in plain


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "text", ["[/b]", "[bold]x[/bold]", ":smile:", "[link=https://a.b]c[/link]", "a\\[b]"]
)
@pytest.mark.parametrize("way", ["line", "facts", "warn", "note", "table", "progress"])
def test_text_from_outside_is_printed_as_it_is(
    text: str, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(text, way, capsys).count(text) == 1


@pytest.mark.fault("N")
@pytest.mark.parametrize("way", ["line", "facts", "warn", "note"])
def test_text_from_outside_does_not_drive_the_terminal(
    way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed("red \x1b[31m and a bell \a.", way, capsys).count("red ?[31m and a bell ?.") == 1


def printed(text: str, way: str, capsys: pytest.CaptureFixture[str]) -> str:
    terminal = Terminal()
    match way:
        case "facts":
            terminal.facts("", [("run", text)])
        case "table":
            table = Table("class")
            table.add_row(text)
            terminal.table(table)
        case "progress":
            with terminal.progress(text, total=3) as advance:
                advance(3)
        case _:
            getattr(terminal, way)(text)
    return "".join(capsys.readouterr())
