"""Jobs for the tests of launchers: tasks as a sweep hands them over, and waiting for what
becomes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from composing import config_of
from running import SMALL
from waiting import wait_until

from trainer.commands.sweep.launchers import Handle, Launcher
from trainer.commands.sweep.task import JobOutcome, Task
from trainer.config import to_plain

# It would train for days: whoever asks for it stops it.
ENDLESS = ("trainer.epochs=1000000", "logger=none", "trainer.threads=1")

# A model of the person, in the folder of the command.
OWN_MODEL = """
from torch import nn


class Own(nn.Sequential):
    def __init__(self) -> None:
        print("our own model")
        super().__init__(nn.Linear(4, 4))
"""


def task_of(folder: Path, number: int, *overrides: str) -> Task:
    """A small job whose command was given in `folder`; its run folder is there, `<number>`."""
    has_model = any(word.startswith("model=") for word in overrides)
    base = [word for word in SMALL if not (has_model and word.startswith("model"))]
    config = config_of(*base, *overrides)
    config.run.dir = f"sweep/{number:03d}"
    return Task(
        number=number,
        config=to_plain(config),
        command=["trainer", "fit", *base, *overrides],
        varied=[],
        folder=str(folder),
        log=str(folder / "output" / f"{number:03d}.txt"),
    )


def outcomes(launcher: Launcher, handles: Sequence[Handle]) -> list[JobOutcome]:
    """How they ended, all of them."""

    def are_over() -> bool:
        launcher.wait(list(handles), seconds=0.25)
        return all(handle.outcome() is not None for handle in handles)

    wait_until(are_over)
    return [outcome for handle in handles if (outcome := handle.outcome()) is not None]


def has_trained(run: Path) -> bool:
    """Whether a run has written a row: it trains, and has set what signals do."""
    rows = run / "metrics.jsonl"
    return rows.exists() and rows.stat().st_size > 0
