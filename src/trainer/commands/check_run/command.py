"""`trainer check-run`: verify what a run left on the disk. Nothing is changed, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.commands.check_run.checkpoints import (
    DAMAGED,
    OK,
    UNREADABLE,
    Finding,
    RunFiles,
    check_leftovers,
    check_link,
    check_record,
    check_steps,
    read_record,
)
from trainer.commands.check_run.events import check_tensorboard
from trainer.commands.check_run.metrics import check_metrics
from trainer.config import to_plain
from trainer.config.overrides import eval_words, override, own_words
from trainer.errors import (
    EnvironmentFault,
    InputError,
    TrainerError,
    command_line,
    printable,
)
from trainer.files import as_table
from trainer.run.find import find_path, not_a_run
from trainer.run.folder import is_run_folder
from trainer.run.lock import is_locked
from trainer.tracking.console import Terminal
from trainer.tracking.table import Narrow, write_table

_STYLES = {OK: "green", DAMAGED: "bold red", UNREADABLE: "bold red"}


def run(reference: str, *, root: Path, terminal: Terminal) -> None:
    """Check the run that `reference` names and print what was found.

    Raises UsageError when there is no such run, InputError when something in it is damaged,
    EnvironmentFault when something cannot be read.
    """
    folder = _find(reference, root)
    findings, files = check(folder)
    # A resume that began meanwhile has moved files, which would look like damage.
    if not files.is_locked and is_locked(folder):
        findings, files = check(folder)
    terminal.line(printable(folder), style="bold")
    write_table(
        ("what", "state", "detail"),
        [(finding.what, finding.state, finding.detail) for finding in findings],
        terminal=terminal,
        narrow=Narrow(fold="detail"),
        styles={finding.state: _STYLES.get(finding.state, "yellow") for finding in findings},
        is_ruled=True,
    )
    # Damage first: what cannot be read may be whole, and has another exit code.
    for state in (DAMAGED, UNREADABLE):
        wrong = [finding for finding in findings if finding.state == state]
        if wrong:
            raise _error_of(wrong, files)
    terminal.line("Nothing is damaged.")


def check(folder: Path) -> tuple[list[Finding], RunFiles]:
    """The findings on a run folder, in the order of the table, and what they compare with."""
    # Before the files are read: a process that ends meanwhile has completed them.
    was_locked = is_locked(folder)
    record = read_record(folder)
    files = RunFiles(
        run=folder,
        record=as_table(record),
        steps=check_steps(folder),
        is_locked=was_locked,
    )
    metrics, rows = check_metrics(files)
    findings = [
        record if isinstance(record, Finding) else check_record(files),
        *(step.finding for step in files.steps),
        check_link("last", files),
        check_link("best", files),
        check_leftovers(files),
        metrics,
        check_tensorboard(files, rows),
    ]
    return [finding for finding in findings if finding is not None], files


def _find(reference: str, root: Path) -> Path:
    """The run folder that `reference` names; raises UsageError, InputError for the last of none."""
    folder = find_path(reference, root=root)
    # A run that lost its run.json is one that needs a check.
    if not is_run_folder(folder):
        raise not_a_run(folder, command=("check-run",))
    return folder


def _error_of(wrong: Sequence[Finding], files: RunFiles) -> TrainerError:
    """The error that names the first wrong finding, what is intact, and what to do now."""
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more, above)" if len(wrong) > 1 else ""
    what = f"{first.what} of {files.run} is {first.state}: {first.detail.rstrip('.')}{more}."
    if first.state == UNREADABLE:
        return EnvironmentFault(
            what,
            hint="It need not be damaged. Correct what keeps it from being read, and check again.",
        )
    where, hint = _advice(files)
    return InputError(what, where=where, hint=hint)


def _advice(files: RunFiles) -> tuple[str, str]:
    """What is intact, and what to do with it."""
    if files.is_locked:
        return "A process trains in it.", "Let it end, or stop it, and check again."
    # A resume in place takes the newest intact step by itself, so the run is named, not the step.
    newest = files.newest
    if newest is None:
        return "No step is intact.", "Take it from another copy, or train again."
    assert newest.description is not None, "it is intact"
    config = to_plain(newest.description.config)
    resume = command_line("fit", override("resume", str(files.run)), *own_words(config))
    if newest != files.steps[-1]:
        return f"Newest intact step: {newest.folder.name}.", f"To continue from it: {resume}"
    where = f"The newest step, {newest.folder.name}, is intact."
    if not files.is_done:
        return where, f"To continue from it: {resume}"
    # A resume would refuse a run that is complete.
    evaluate = command_line("eval", override("ckpt", str(newest.folder)), *eval_words(config))
    return where, f"To use it: {evaluate}"
