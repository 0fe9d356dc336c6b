"""The run to reproduce: which it is, whether it can be, and on what machine it ran. No torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint.file import read_file
from trainer.checkpoint.header import Description, check_version, parse, read_description
from trainer.config import FitConfig, find_key
from trainer.config.checks import MAX_THREADS
from trainer.config.overrides import override
from trainer.errors import CheckpointError, InputError, UsageError, command_line, listing
from trainer.files import JsonObject, as_table
from trainer.run.find import find_checkpoint, find_run
from trainer.run.folder import MODEL_FILE, STATE_FILE, step_folder_name
from trainer.run.index import Entry
from trainer.run.lock import is_locked
from trainer.run.record import RunStatus
from trainer.state_checks import Count, check

_MAX_LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A run that is done: its entry, its last step folder, and the description in that.

    `machine` is where it was saved: `device`, `threads`, `torch` and `variant` (device.Machine).
    """

    entry: Entry
    step: Path
    description: Description
    machine: JsonObject

    @property
    def config(self) -> FitConfig:
        """The whole config of the run."""
        return self.description.config


def read_original(reference: str, *, root: Path) -> Original:
    """The run that `reference` names.

    Raises UsageError for one that cannot be reproduced, InputError for one that is damaged.
    """
    entry = find_run(reference, root=root)
    _check_done(entry)
    _check_resumes(entry)
    step = find_checkpoint(str(entry.path), root=root, prefer="last")
    description = read_description(step / MODEL_FILE)
    # Three must agree: the newest folder, run.json, and the counters in the file. A last checkpoint
    # that was removed or renamed would be compared as an earlier end of the run.
    last = as_table(entry.record.get("checkpoints")).get("last", step.name)
    if not step.name == last == step_folder_name(description.progress.get("step", 0)):
        raise CheckpointError(
            f"{step} is not the last checkpoint of the run, which is {str(last)[:60]}.",
            hint=f"See what is there: {command_line('check-run', str(entry.path))}",
        )
    return Original(entry=entry, step=step, description=description, machine=read_machine(step))


def read_machine(step: Path) -> JsonObject:
    """The machine on which a step was saved, every field checked; raises CheckpointError."""
    path = step / STATE_FILE
    content = parse(read_file(path).header.description, source=path)
    check_version(content, source=path)
    machine = as_table(content.get("table")).get("machine")
    try:
        check(machine, device=str, threads=Count, torch=str, variant=str)
    except ValueError as error:
        raise CheckpointError(
            f"{path}: its description of the machine is invalid: {error}."
        ) from error
    assert isinstance(machine, dict), "it has been checked"
    # The run is trained with as many: a file from outside must not start thousands.
    if not 1 <= machine["threads"] <= MAX_THREADS:
        raise CheckpointError(f"{path}: a run cannot have had {machine['threads']} threads.")
    return machine


def _check_done(entry: Entry) -> None:
    run = entry.path
    status = entry.status
    # A resume has the lock for a while before run.json says running.
    if status is RunStatus.RUNNING or is_locked(run):
        raise UsageError(
            f"{run} is still running.", hint="Wait for it to end, and reproduce it then."
        )
    if status is RunStatus.DAMAGED:
        raise InputError(
            f"The run.json of {run} is damaged: nothing says how the run ended.",
            hint=f"See what is there: {command_line('check-run', str(run))}",
        )
    if status is not RunStatus.DONE:
        raise UsageError(
            f"{run} is not done ({status}): there is no end of it to compare with.",
            hint=f"Finish it first: {command_line('fit', override('resume', str(run)))}",
        )


def _check_resumes(entry: Entry) -> None:
    """Raise UsageError for a resume from another run, or with another config."""
    resumes = entry.record.get("resumed", [])
    for resume in resumes if isinstance(resumes, list) else [resumes]:
        changes = resume.get("changes") if isinstance(resume, Mapping) else None
        if not isinstance(changes, Mapping):
            raise InputError(
                f"The run.json of {entry.path} is damaged: its resumes cannot be read."
            )
        _check_resume(resume, changes, entry.path)


def _check_resume(resume: Mapping[str, object], changes: Mapping[str, object], run: Path) -> None:
    # By name, not by path: the runs may have been moved since. A link to the run has another name.
    begun = Path(str(resume.get("from"))).parent.parent
    if begun.name not in ("", run.name, Path(os.path.realpath(run)).name):
        raise UsageError(
            f"{run} continued from a step of {begun}, so its config alone does not give it.",
            hint=f"Reproduce that one: {command_line('reproduce', str(begun))} "
            "(or, was this folder renamed, give it its name back).",
        )
    changed = [
        f"{key} {_change_text(values)}" for key, values in changes.items() if _is_change(key)
    ]
    if changed:
        listed = listing(changed, most=_MAX_LISTED)
        raise UsageError(
            f"{run} was changed when it was resumed at step {resume.get('step')}: {listed}.",
            hint="No one config gives that run. What was run when is in its run.json, under "
            "command and resumed.",
        )


def _is_change(key: str) -> bool:
    """Whether a resume that changed this key may have changed a bit."""
    # A key that this version does not know may have changed anything.
    known = find_key(key)
    return known is None or known.changes_bits


def _change_text(values: object) -> str:
    pair = values if isinstance(values, list) and len(values) == 2 else (None, None)
    return " -> ".join("null" if value is None else str(value)[:60] for value in pair)


def with_original_machine(config: FitConfig, machine: JsonObject) -> FitConfig:
    """`config` with the threads and the compilation of the original, where it leaves them open.

    Both decide the last bits of a result.
    """
    from trainer.device import COMPILED  # loads torch

    options = config.trainer
    threads = machine["threads"] if options.threads is None else options.threads
    compiles = options.compile
    # `auto` would measure again, and may find the other way faster today.
    if compiles == "auto":
        compiles = "on" if machine["variant"] == COMPILED else "off"
    return dataclasses.replace(
        config, trainer=dataclasses.replace(options, threads=threads, compile=compiles)
    )
