"""On a real (pseudo) terminal: a progress bar while it trains, the same lines when it is done."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANG_S

from trainer.run.record import RunStatus
from trainer.tracking.console import ConsoleTracker, Terminal
from trainer.tracking.records import EpochRecord, EvalRecord
from trainer.tracking.table import write_table


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
            write_table(["class"], [[text]], terminal=terminal)
        case "progress":
            with terminal.progress(text, total=3) as advance:
                advance(3)
        case _:
            getattr(terminal, way)(text)
    return "".join(capsys.readouterr())


class Epochs:
    """A run of so many epochs of ten updates, whose validation accuracies are given."""

    def __init__(
        self, num_epochs: int, *, loss: float = 0.5, monitor: str = "val/accuracy"
    ) -> None:
        self.best_step = 0
        self.best = 0.0
        self.loss = loss
        self.tracker = ConsoleTracker(
            Terminal(),
            num_epochs=num_epochs,
            num_samples=100,
            num_samples_done=0,
            monitor=monitor,
            best_step=lambda: self.best_step,
        )

    def train(self, *accuracies: float, learning_rates: tuple[float, ...] = (0.05,)) -> None:
        for epoch, accuracy in enumerate(accuracies, 1):
            step = 10 * epoch
            self.tracker.record(
                EvalRecord(
                    split="val",
                    epoch=epoch,
                    step=step,
                    samples=step,
                    seconds=1.0,
                    loss=0.6,
                    accuracy=accuracy,
                    count=10,
                    mse=0.25,
                    mae=0.125,
                )
            )
            if accuracy > self.best:
                self.best = accuracy
                self.best_step = step
            self.tracker.record(
                EpochRecord(
                    loss=self.loss,
                    accuracy=0.25,
                    learning_rate=learning_rates[epoch % len(learning_rates)],
                    duration=1.0,
                    samples_per_second=1e5,
                    epoch=epoch,
                    step=step,
                    samples=step,
                    seconds=1.0,
                )
            )


def epochs_in(out: str) -> list[int]:
    return [int(line.split("/")[0].removeprefix("epoch")) for line in out.splitlines()]


@pytest.mark.fault("N")
def test_of_many_epochs_the_best_and_the_last_have_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Failed before: of 100 epochs every fifth had a line, whichever was the best or the last."""
    run = Epochs(100)
    run.train(*(0.5 + number / 1000 for number in range(37)), *[0.1] * 61)
    assert epochs_in(capsys.readouterr().out) == [1, *range(5, 40, 5), 37, *range(40, 100, 5)]
    run.tracker.close(RunStatus.DONE, None)
    assert epochs_in(capsys.readouterr().out) == [98]


@pytest.mark.fault("N")
def test_the_best_epoch_has_a_line_even_where_no_further_one_is_due(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Epochs(100)
    run.train(0.1, 0.2, 0.3, 0.25)
    run.tracker.close(RunStatus.INTERRUPTED, None)
    assert epochs_in(capsys.readouterr().out) == [1, 3, 4]


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("columns", "shown", "left_out"),
    [
        ("120", ("samples/s", "lr 0.05", "1.0 s", "loss 0.5000", "val acc 50.00%"), ()),
        ("90", ("lr 0.05", "1.0 s", "acc 25.00%"), ("samples/s",)),
        ("80", ("1.0 s", "acc 25.00%", "val loss 0.6000", "val acc 50.00%"), ("lr ", "samples/s")),
        ("60", ("loss 0.5000", "val loss 0.6000", "val acc 50.00%"), ("1.0 s", " acc 25")),
        ("20", ("epoch 1/5",), ("loss",)),
        ("3", ("epoch 1/5",), ("loss",)),
    ],
)
def test_an_epoch_is_one_line_of_any_terminal(
    columns: str,
    shown: tuple[str, ...],
    left_out: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Failed before: 102 characters, which wrapped."""
    monkeypatch.setenv("COLUMNS", columns)
    Epochs(5).train(0.5)
    [line] = capsys.readouterr().out.splitlines()
    assert len(line) <= max(20, int(columns))
    assert all(part in line for part in shown) and not any(part in line for part in left_out)


def test_what_one_line_leaves_out_the_next_ones_do_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "86")
    Epochs(5).train(0.5, 0.5, learning_rates=(0.1, 1.23e-05))
    assert [("lr" in line) for line in capsys.readouterr().out.splitlines()] == [False, False]


@pytest.mark.fault("N")
@pytest.mark.parametrize(("monitor", "shown"), [("val/mse", "val mse 0.2500"), ("val/loss", "")])
def test_an_error_of_values_is_in_a_line_where_it_is_monitored(
    monitor: str,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = Epochs(5, monitor=monitor)
    run.train(0.5)
    [line] = capsys.readouterr().out.splitlines()
    assert len(line) <= 80 and shown in line and "mae" not in line
    assert ("mse" in line) == bool(shown)


@pytest.mark.fault("N")
@pytest.mark.parametrize("columns", ["0", "00", "", "-5", "\u00b2", "9" * 5000, "wide", "1"])
@pytest.mark.parametrize("name", ["COLUMNS", "LINES"])
def test_a_size_that_is_none_hides_nothing(
    name: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failed before: with COLUMNS=0 nothing was printed, and COLUMNS=² was a traceback."""
    monkeypatch.setenv(name, columns)
    terminal = Terminal()
    terminal.line("a line")
    terminal.facts("title", [("name", "value")])
    terminal.warn("a warning")
    Epochs(5).train(0.5)
    out, err = capsys.readouterr()
    assert out.splitlines()[:3] == ["a line", "title", "  name  value"]
    assert "epoch 1/5" in out and err == "Warning: a warning\n"


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (5698197442929029545984.0, "loss 5.698e+21"),
        (0.0, "loss 0.0000"),
        (-1.5, "loss -1.5000"),
        (1e-5, "loss 1.000e-05"),
        (float("inf"), "loss inf"),
    ],
)
def test_a_loss_of_any_size_is_short(
    loss: float, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Epochs(5, loss=loss).train(0.5)
    assert f"  {text}  " in capsys.readouterr().out


def test_prose_goes_on_below_and_a_command_stays_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    rows = [("words", "some words " * 5), ("command", "trainer fit " * 5)]
    Terminal().facts("", rows, prose=("words",))
    *prose, command = capsys.readouterr().out.splitlines()
    assert prose[0] == "  words    some words some"
    assert len(prose) > 2 and all(line.startswith(" " * 11) for line in prose[1:])
    assert all(len(line) <= 30 for line in prose)
    assert command == "  command  " + "trainer fit " * 5
