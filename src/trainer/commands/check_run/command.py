"""`trainer check-run`: verify what a run left on the disk, and say it in a table. Nothing is
changed, no torch.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from trainer.commands.check_run.checkpoints import (
    DAMAGED,
    OK,
    UNREADABLE,
    Finding,
    Standing,
    check_leftovers,
    check_link,
    check_record,
    look_at_steps,
    read_record,
)
from trainer.commands.check_run.events import check_tensorboard
from trainer.commands.check_run.metrics import check_metrics
from trainer.config.overrides import override
from trainer.errors import (
    EnvironmentFault,
    InputError,
    TrainerError,
    UsageError,
    printable,
)
from trainer.run.find import find_path, not_a_run
from trainer.run.folder import is_run_folder
from trainer.run.lock import is_locked
from trainer.tracking.console import Terminal

_STYLES = {OK: "green", DAMAGED: "bold red", UNREADABLE: "bold red"}


def run(reference: str, *, root: Path, terminal: Terminal) -> None:
    """Check the run that `reference` means and print what was found.

    Raises UsageError when there is no such run, InputError when something in it is damaged,
    EnvironmentFault when something cannot be read.
    """
    folder = _find(reference, root)
    findings, standing = check(folder)
    if not standing.is_locked and is_locked(
        folder
    ):  # a resume that began meanwhile has moved things
        findings, standing = check(folder)
    terminal.line(printable(folder), style="bold")
    terminal.table(_table(findings))
    for state in (DAMAGED, UNREADABLE):
        wrong = [finding for finding in findings if finding.state == state]
        if wrong:
            raise _told(wrong, standing)
    terminal.line("Nothing is damaged.")


def check(folder: Path) -> tuple[list[Finding], Standing]:
    """What was found in the run folder, in the order of the table, and how the run stands."""
    held, record = is_locked(folder), read_record(folder)
    content = record if isinstance(record, dict) else {}
    standing = Standing(run=folder, record=content, steps=look_at_steps(folder), is_locked=held)
    metrics, rows = check_metrics(standing)
    findings = [
        record if isinstance(record, Finding) else check_record(standing),
        *(step.finding for step in standing.steps),
        check_link("last", standing),
        check_link("best", standing),
        check_leftovers(standing),
        metrics,
        check_tensorboard(standing, rows),
    ]
    return [finding for finding in findings if finding is not None], standing


def _find(reference: str, root: Path) -> Path:
    """The run folder that `reference` names; raises UsageError."""
    try:
        folder = find_path(reference, root=root)
    except InputError as error:  # the last of none
        raise UsageError(error.what, hint=error.hint) from None
    # A run that lost its run.json is one that needs a check.
    if not is_run_folder(folder):
        raise not_a_run(folder, command=("trainer", "check-run"))
    return folder


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("what", "state", "detail"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        # Text, not str: rich would read markup in a name from outside.
        style = _STYLES.get(finding.state, "yellow")
        table.add_row(
            finding.what, Text(finding.state, style=style), Text(printable(finding.detail))
        )
    return table


def _told(wrong: list[Finding], standing: Standing) -> TrainerError:
    """The first thing that is wrong, what is intact, and what to do now."""
    first, more = wrong[0], f" (and {len(wrong) - 1} more, above)" if len(wrong) > 1 else ""
    what = f"{first.what} of {standing.run} is {first.state}: {first.detail.rstrip('.')}{more}."
    where, hint = _what_to_do(standing)
    if first.state == UNREADABLE:
        return EnvironmentFault(
            what, hint="Nothing says that it is damaged. Put that right, and check again."
        )
    return InputError(what, where=where, hint=hint)


def _what_to_do(standing: Standing) -> tuple[str, str]:
    if standing.is_locked:
        return "A process trains in it.", "Let it end, or stop it, and check again."
    newest = standing.newest
    if newest is None:
        return "No step is intact.", "Take it from another copy, or train again."
    resume = shlex.join(["trainer", "fit", override("resume", str(standing.run))])
    if newest != standing.steps[-1]:
        return f"Newest intact step: {newest.folder.name}.", f"To go on from it: {resume}"
    where = f"The newest step, {newest.folder.name}, is intact."
    if standing.is_done:
        return (
            where,
            f"To use it: {shlex.join(['trainer', 'eval', override('ckpt', str(newest.folder))])}",
        )
    return where, f"To go on from it: {resume}"
