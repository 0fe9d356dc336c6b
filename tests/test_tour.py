"""The tour of the README, given in its order, from the top, in one folder."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import DATASETS, ROOT, needs_datasets, quiet_environment, run_trainer
from waiting import HANG_S

# Of the image sets only: what a resume and an evaluation read is in the checkpoint.
SMALL = (f"data.root={DATASETS}", "data.train_limit=96", "data.eval_limit=64")


def tour() -> list[list[str]]:
    """The commands of the tour, each as the words after `trainer`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## A tour in")[2].partition("\n## ")[0]
    lines = re.findall(r"^    trainer (.*)$", section.partition("The commands by")[0], re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_the_title_counts_the_commands() -> None:
    numbers = {10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"## A tour in {numbers[len(tour())]} commands" in readme


@needs_datasets
@pytest.mark.slow
def test_the_tour_in_its_order(tmp_path: Path) -> None:
    resumed = 0
    for words in tour():
        if words[0] == "tb":
            start_and_stop(tmp_path)
            continue
        images = words[0] == "fit" and not {"--help", "--cfg", "resume=last"} & {*words}
        more = SMALL if images and "experiment=line" not in words else ()
        ran = run_trainer(*words, *more, cwd=tmp_path)
        assert ran.code == 0, f"trainer {shlex.join(words)}\n{ran.err}"
        assert "Traceback" not in ran.out + ran.err
        if "resume=last" in words:
            resumed += 1
            assert "Resumed at step" in ran.out
            assert re.search(r"epoch +10/10", ran.out), "it trains to the end"
        if "experiment=line" in words:
            assert re.search(r"weight.*2\.0|2\.0.* x", ran.out)
    assert resumed == 1
    sound = run_trainer("check-run", "last", cwd=tmp_path)
    assert sound.code == 0, sound.err
    # Eight single runs and jobs of the sweep: 1, 4, 5, the four of the sweep, the line.
    records = [*tmp_path.glob("runs/*/*/run.json"), *tmp_path.glob("runs/*/*/*/run.json")]
    assert len(records) == 8


def start_and_stop(folder: Path) -> None:
    """`trainer tb`, until it serves, and then Ctrl-C."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", "tb", f"port={port}"],
        cwd=folder,
        env=quiet_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "to stop" in line:
                process.send_signal(signal.SIGINT)
                break
        _, err = process.communicate(timeout=HANG_S)
        assert process.returncode in (0, 130), err
    finally:
        process.kill()
        process.communicate()
