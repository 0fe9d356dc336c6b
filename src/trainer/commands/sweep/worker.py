"""The process of one job of a sweep, on this machine or another: from its task to its outcome."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.sweep.launchers import forget_safe_path
from trainer.commands.sweep.task import JobOutcome, JobStatus, Task, read_outcome
from trainer.config import from_saved
from trainer.errors import (
    Stopped,
    TrainerError,
    one_line,
    print_traceback,
    printable,
    reason_of,
    shown_plainly,
)
from trainer.run.lock import is_locked
from trainer.signals import set_signals

if TYPE_CHECKING:
    from trainer.commands.fit.saved_step import SavedStep
    from trainer.tracking.console import Terminal

# Seconds in which a job of a killed sweep must save and stop, before its run is continued.
_TIME_TO_LEAVE = 60.0


def run_task(task: Task) -> JobOutcome:
    """Run a job to its end in this process, which must be its main thread; raises nothing."""
    outcome = None
    forget_safe_path()
    try:
        # Relative paths begin where the sweep was started; a cluster may start elsewhere.
        os.chdir(task.folder)
        set_signals()
        with _output_to(task.log), shown_plainly():
            outcome = _run(task)
    except OSError as error:  # a full disk: the output cannot be written
        if outcome is None:
            reason = f"{error.filename or task.log}: {reason_of(error)}."
            outcome = JobOutcome(status=JobStatus.FAILED, error=reason)
    return outcome


def _run(task: Task) -> JobOutcome:
    from trainer.tracking.console import Terminal

    terminal = Terminal()
    try:
        outcome = _fit(task, terminal)
    except Stopped as stop:
        sys.stderr.write(f"{stop.what}\n")  # without its hint: the sweep says how to continue
        outcome = JobOutcome(status=JobStatus.INTERRUPTED, error=stop.what)
    except (KeyboardInterrupt, SystemExit):
        outcome = JobOutcome(
            status=JobStatus.INTERRUPTED, error="Stopped before anything was saved."
        )
    except Exception as error:
        outcome = JobOutcome(status=JobStatus.FAILED, error=_print_error(error))
    return dataclasses.replace(outcome, warnings=terminal.warnings)


def _fit(task: Task, terminal: Terminal) -> JobOutcome:
    # Here, in the process of the job: the sweep imports this module too, and never loads torch.
    from trainer.commands.fit import run as fit
    from trainer.commands.fit.resume import open_folder
    from trainer.commands.sweep.pruning import pruner_of

    config = from_saved(task.config, source="this job")
    assert config.run.dir is not None, "the sweep names the folder of each job"
    run = Path(config.run.dir)
    _await_lock(run)
    outcome = read_outcome(run)
    if outcome is not None and outcome.status.is_complete:
        return outcome
    with open_folder(run) as saved:
        if saved is not None:
            config.resume = str(saved.folder)
            config.run.dir = None
        num_evaluations = _num_evaluations(run, saved)
        fit.run(
            config,
            command=task.command,
            terminal=terminal,
            saved=saved,
            varied=task.varied,
            should_prune=pruner_of(task.trial, warn=terminal.warn, start=num_evaluations),
        )
    outcome = read_outcome(run)
    assert outcome is not None, "a run writes its run.json"
    return outcome


def _await_lock(run: Path) -> None:
    """Wait until a job of a killed sweep has saved and stopped; raises Stopped if it does not."""
    deadline = time.monotonic() + _TIME_TO_LEAVE
    while is_locked(run):
        if time.monotonic() > deadline:
            # Not a failure: that job may yet end well.
            raise Stopped(
                f"{run} is still in use by a job of an earlier command.",
                signal_number=signal.SIGTERM,
            )
        time.sleep(0.1)


def _num_evaluations(run: Path, saved: SavedStep | None) -> int:
    """The number of evaluations that a run had at the step from which it continues."""
    from trainer.tracking.metrics_file import read_rows

    if saved is None:
        return 0
    progress = saved.description.progress
    evaluated = [
        row for row in read_rows(run) if row["split"] == "val" and row["step"] <= progress["step"]
    ]
    # Without a validation set there are no rows; it is once an epoch then, by default.
    return len(evaluated) or progress["epoch"]


def _print_error(error: Exception) -> str:
    """Print an error to the output of the job, and return it as a sentence for the report."""
    print_traceback(error)
    if isinstance(error, TrainerError):
        sys.stderr.write(f"Error: {error}\n")
        return printable(error.what)
    sentence = one_line(f"{type(error).__name__}: {error}")
    sys.stderr.write(f"Error: {sentence}\n")
    return sentence


@contextlib.contextmanager
def _output_to(log: str | None) -> Iterator[None]:
    """Send all output to the file `log`, that of C code too; nothing changes where it is None."""
    if log is None:
        yield
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    # Not through a link, which could lead to any other file.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(log, flags, 0o666)
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
