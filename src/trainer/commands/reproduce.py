"""`trainer reproduce`: train a run again from the config in its checkpoint, and have what comes out compared.

What is wrong with the words or the run is found before torch is loaded. How the two compare is in `reproduced`.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import rundir
from trainer.checkpoint.file import read_file
from trainer.checkpoint.header import Description, check_version, parse, read_description
from trainer.commands.overrides import override
from trainer.config import FitConfig
from trainer.config.checks import MAX_THREADS, Cadence
from trainer.errors import CheckpointError, DataError, InputError, UsageError
from trainer.runindex import Entry, find
from trainer.runlock import is_locked
from trainer.state import Count, check
from trainer.tracking.console import Terminal

if TYPE_CHECKING:
    from trainer.data.load import Data

# What a resume may have changed without changing a bit.
_NO_CHANGE = ("data.root", "data.num_workers")
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A run that is done: its entry, its last step folder, what that says of itself, and on what it was saved.

    `machine` has `device`, `threads`, `torch` and `variant` (see device.Machine).
    """

    entry: Entry
    step: Path
    description: Description
    machine: dict[str, Any]

    @property
    def config(self) -> FitConfig:
        """The whole config of the run."""
        return self.description.config


def read_original(reference: str, *, root: Path) -> Original:
    """The run that `reference` means, as `runindex.find` knows it.

    Raises UsageError for one that cannot be reproduced, and why; InputError for one that is damaged.
    """
    entry = find(reference, root=root)
    _check_done(entry)
    _check_resumes(entry)
    step = rundir.find_checkpoint(str(entry.path), root=root, prefer="last")
    description = read_description(step / rundir.MODEL_FILE)
    said = entry.record.get("checkpoints")
    last = said.get("last", step.name) if isinstance(said, dict) else step.name
    if not step.name == last == rundir.step_folder_name(description.progress.get("step", 0)):
        raise CheckpointError(
            f"{step} is not the last checkpoint of the run, which is {str(last)[:60]}.",
            hint=f"See what is there: {shlex.join(['trainer', 'check-run', str(entry.path)])}",
        )
    return Original(entry=entry, step=step, description=description, machine=read_machine(step))


def read_machine(step: Path) -> dict[str, Any]:
    """On what the state in a step folder was saved, every field checked; raises CheckpointError."""
    path = step / rundir.STATE_FILE
    content = parse(read_file(path)[0].description, source=path)
    check_version(content, source=path)
    table = content.get("table")
    machine = table.get("machine") if isinstance(table, dict) else None
    try:
        check(machine, device=str, threads=Count, torch=str, variant=str)  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(f"{path}: what it says of its machine makes no sense: {error}.") from error
    assert isinstance(machine, dict), "it has been checked"
    if not 1 <= machine["threads"] <= MAX_THREADS:
        raise CheckpointError(f"{path}: a run cannot have had {machine['threads']} threads.")
    return machine


def run(config: FitConfig, original: Original, *, command: Sequence[str], terminal: Terminal) -> int:
    """Train as `config`, that of `original`, says, and compare; returns 0 when both are equal bit for bit, else 1.

    Raises DataError when the data is another, and what fit raises.
    """
    from trainer.checkpoint.load import load_weights
    from trainer.commands import fit
    from trainer.commands.build import check_checkpoint_fits
    from trainer.commands.reproduced import Outcome, report

    description = original.description
    # Before training: damage is told at once, and should the run be removed meanwhile, it can still be compared.
    weights = load_weights(original.step, description.aliases)

    def check_data(config: FitConfig, data: Data) -> None:
        _check_data(data, original)
        shape, num_outputs = data.input_shape, data.num_outputs
        check_checkpoint_fits(config, weights, input_shape=shape, num_outputs=num_outputs, source=original.step)
        terminal.line(f"Reproducing {original.entry.id}: {original.entry.path}")

    if Cadence.parse("trainer.eval_every", config.trainer.eval_every).unit == "min":
        terminal.warn(
            f"trainer.eval_every={config.trainer.eval_every} goes by the clock: which step is the best, and what "
            "follows from it, may differ."
        )
    result = fit.run(as_then(config, original.machine), command=command, terminal=terminal, check=check_data)
    then = Outcome(
        record=original.entry.record,
        metrics=original.entry.metrics,
        machine=original.machine,
        step=original.step.name,
        weights=weights,
    )
    own = [f"{group}.target" for group in ("model", "data") if getattr(config, group).name == "custom"]
    return report(then, Outcome.of(result.run), own=own, terminal=terminal)


def _check_done(entry: Entry) -> None:
    run, status = entry.path, entry.status
    if status == "running" or is_locked(run):
        raise UsageError(f"{run} is still running.", hint="Wait for it to end, and reproduce it then.")
    if status == "damaged":
        raise InputError(
            f"The run.json of {run} is damaged: nothing says how the run ended.",
            hint=f"See what is there: {shlex.join(['trainer', 'check-run', str(run)])}",
        )
    if status != "done":
        raise UsageError(
            f"{run} is not done ({status}): there is no end of it to compare with.",
            hint=f"Finish it first: {shlex.join(['trainer', 'fit', override('resume', str(run))])}",
        )


def _check_resumes(entry: Entry) -> None:
    """A resume goes on bit for bit, but neither from another run nor with another config."""
    resumes = entry.record.get("resumed", [])
    for resume in resumes if isinstance(resumes, list) else [resumes]:
        changes = resume.get("changes") if isinstance(resume, Mapping) else None
        if not isinstance(changes, Mapping):
            raise InputError(f"The run.json of {entry.path} is damaged: its resumes cannot be read.")
        begun = Path(str(resume.get("from"))).parent.parent
        if begun.name not in ("", entry.path.name, Path(os.path.realpath(entry.path)).name):
            raise UsageError(
                f"{entry.path} went on from a step of {begun}, so its config alone does not give it.",
                hint=f"Reproduce that one: {shlex.join(['trainer', 'reproduce', str(begun)])} "
                "(or, was this folder renamed, give it its name back).",
            )
        told = [f"{key} {_change(values)}" for key, values in changes.items() if key not in _NO_CHANGE]
        if told:
            more = f" and {len(told) - _MAX_SHOWN} more" if len(told) > _MAX_SHOWN else ""
            raise UsageError(
                f"{entry.path} was changed when it was resumed at step {resume.get('step')}: "
                f"{', '.join(told[:_MAX_SHOWN])}{more}.",
                hint="No one config gives that run. What was run when is in its run.json, under command and resumed.",
            )


def _change(values: Any) -> str:
    before, after = values if isinstance(values, list) and len(values) == 2 else (None, None)
    return " -> ".join("null" if value is None else str(value)[:60] for value in (before, after))


def as_then(config: FitConfig, machine: Mapping[str, Any]) -> FitConfig:
    """`config` with what was left open when it ran, which decides the last bits: threads, and how the model is run."""
    from trainer.device import COMPILED

    options = config.trainer
    threads = machine["threads"] if options.threads is None else options.threads
    compiles = options.compile
    if compiles == "auto":
        compiles = "on" if machine["variant"] == COMPILED else "off"
    return dataclasses.replace(config, trainer=dataclasses.replace(options, threads=threads, compile=compiles))


def _check_data(data: Data, original: Original) -> None:
    """Raises DataError naming the first file that is not as it was, or what else shows that the data is another."""
    then, now = original.description.checksums, data.checksums
    for name in {**then, **now}:
        if then.get(name) != now.get(name):
            raise DataError(
                f"{name} is not what the run was trained on: SHA-256 {_digits(then, name)} then, "
                f"{_digits(now, name)} now.",
                hint="Nothing was trained. Give the files of then: data.root=…",
            )
    description = original.description
    forms = ((description.input_shape, description.num_outputs), (tuple(data.input_shape), data.num_outputs))
    if forms[0] != forms[1]:
        told = [f"samples {'x'.join(map(str, shape))} and {num} outputs" for shape, num in forms]
        raise DataError(f"The data is another: {told[0]} then, {told[1]} now.", hint="Nothing was trained.")


def _digits(checksums: Mapping[str, str], name: str) -> str:
    return f"{checksums[name][:12]}…" if name in checksums else "none"
