"""One job of a sweep, as it is handed to a process of its own, on this machine or another, and
how it ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.sweep.task import Outcome, Task
from trainer.config import from_saved
from trainer.errors import CustomCodeError, Stopped, TrainerError, printable
from trainer.files import finite_or_null, read_json
from trainer.run.lock import is_locked
from trainer.signals import set_signals

if TYPE_CHECKING:
    from trainer.commands.fit.saved_step import SavedStep
    from trainer.tracking.console import Terminal

# What a job of a killed sweep still needs to save and leave, before the same command takes its run
# over; seconds.
_TIME_TO_LEAVE = 60.0


def run_task(task: Task) -> Outcome:
    """Run a job in this process, which must be its main thread, to its end; raises nothing."""
    outcome = None
    try:
        os.chdir(task.folder)
        set_signals()
        with _output_to(task.log):
            outcome = _run(task)
    except OSError as error:  # a full disk: what it says cannot be written
        failed = Outcome(
            status="failed", error=f"{error.filename or task.log}: {error.strerror or error}."
        )
        outcome = outcome or failed
    return outcome


def _run(task: Task) -> Outcome:
    from trainer.tracking.console import Terminal

    terminal = Terminal()
    try:
        return _fit(task, terminal)
    except Stopped as stop:
        sys.stderr.write(f"{stop.what}\n")  # how to go on is the sweep's business
        return Outcome(status="interrupted", error=stop.what, warnings=terminal.warnings)
    except (KeyboardInterrupt, SystemExit):
        return Outcome(
            status="interrupted",
            error="Stopped before anything was saved.",
            warnings=terminal.warnings,
        )
    except Exception as problem:
        return Outcome(status="failed", error=_told(problem), warnings=terminal.warnings)


def _fit(task: Task, terminal: Terminal) -> Outcome:
    from trainer.commands.fit import run as fit
    from trainer.commands.fit.resume import open_folder
    from trainer.commands.sweep.pruning import judge_of

    config = from_saved(task.config, source="this job")
    assert config.run.dir is not None, "the sweep names the folder of each job"
    run = Path(config.run.dir)
    _await_lock(run)
    if (outcome := _ended_outcome(run)) is not None:
        return outcome
    with open_folder(run) as saved:
        if saved is not None:
            config.resume, config.run.dir = str(saved.folder), None
        judge = judge_of(task.trial, warn=terminal.warn, start=_num_evaluations(run, saved))
        result = fit.run(
            config,
            command=task.command,
            terminal=terminal,
            saved=saved,
            varied=task.varied,
            should_prune=judge,
        )
    metrics = {name: finite_or_null(value) for name, value in result.metrics.items()}
    status = "pruned" if result.is_pruned else "done"
    return Outcome(status=status, metrics=metrics, warnings=terminal.warnings)


def _await_lock(run: Path) -> None:
    """Wait for a job of a killed sweep to save and leave; raises Stopped when it does not: it
    may yet end well.
    """
    deadline = time.monotonic() + _TIME_TO_LEAVE
    while is_locked(run):
        if time.monotonic() > deadline:
            raise Stopped(
                f"{run} is still in use by a job of an earlier command.",
                signal_number=signal.SIGTERM,
            )
        time.sleep(0.1)


def _ended_outcome(run: Path) -> Outcome | None:
    """The outcome of a run that came to its end since the sweep looked at it."""
    record = read_json(run / "run.json")
    status, metrics = record.get("status"), record.get("metrics")
    if status not in ("done", "pruned"):
        return None
    return Outcome(status=status, metrics=metrics if isinstance(metrics, dict) else {})


def _num_evaluations(run: Path, saved: SavedStep | None) -> int:
    """How many evaluations a run had made at the step from which it continues."""
    from trainer.tracking.metrics_file import read_rows

    if saved is None:
        return 0
    progress = saved.description.progress
    evaluated = [
        row for row in read_rows(run) if row["split"] == "val" and row["step"] <= progress["step"]
    ]
    # Without a validation set there are no rows; it is once an epoch then, by default.
    return len(evaluated) or progress["epoch"]


def _told(problem: Exception) -> str:
    """Say what went wrong where the job's words go, and give it in a sentence for the report."""
    if os.environ.get("TRAINER_DEBUG") == "1":
        traceback.print_exception(problem)
    elif isinstance(problem, CustomCodeError) and problem.__cause__ is not None:
        traceback.print_exception(problem.__cause__)
    if isinstance(problem, TrainerError):
        sys.stderr.write(f"Error: {problem}\n")
        return printable(problem.what)
    said = f"{type(problem).__name__}: {printable(problem)}"
    sys.stderr.write(f"Error: {said}\n")
    return said


@contextlib.contextmanager
def _output_to(log: str | None) -> Iterator[None]:
    """Let all that is said go to the file `log`, what C code says too."""
    if log is None:
        yield
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(
        log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    before = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        with (
            os.fdopen(handle, "w", encoding="utf-8", errors="replace", buffering=1) as file,
            contextlib.redirect_stdout(file),
            contextlib.redirect_stderr(file),
        ):
            for descriptor in (1, 2):
                os.dup2(handle, descriptor)
            yield
    finally:
        for descriptor, former in zip((1, 2), before, strict=True):
            os.dup2(former, descriptor)
            os.close(former)
