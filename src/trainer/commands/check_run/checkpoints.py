"""What `trainer check-run` finds in run.json and among the checkpoints of a run.

Nothing in these files is trusted: each value from them is checked or cut before it is used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from trainer.checkpoint.file import Header, examine
from trainer.checkpoint.header import Description, check_version, parse, read_description
from trainer.errors import (
    CheckpointError,
    EnvironmentFault,
    TrainerError,
    listing,
    printable,
    reason_of,
)
from trainer.files import JsonObject, as_table
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    RECORD_FILE,
    STATE_FILE,
    retired_path,
    step_of,
)
from trainer.run.record import RunStatus, status_of
from trainer.tracking.records import ResumePoint

OK = "ok"
DAMAGED = "damaged"
UNREADABLE = "unreadable"
# A record has some kilobytes; a file of that name may be anything. Read no further, it is no JSON.
_MAX_RECORD_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of the table: what was checked, the state it is in, and the rest in a phrase."""

    what: str
    state: str
    _: KW_ONLY
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedStep:
    """A step folder, the finding on it, and its description if it is intact.

    `splits` are those that had their record at this step when it was saved.
    """

    folder: Path
    finding: Finding
    description: Description | None = None
    splits: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What the other files of a run are compared with: its record, its steps, and its lock."""

    run: Path
    record: JsonObject
    steps: tuple[CheckedStep, ...]
    is_locked: bool

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come: what is short then is damage."""
        return self.record.get("status") == RunStatus.DONE and not self.is_locked

    @property
    def unfinished_state(self) -> RunStatus:
        """The state of a part that a run which is not done has not completed."""
        return RunStatus.RUNNING if self.is_locked else RunStatus.INTERRUPTED

    @property
    def outlook(self) -> str:
        """What will become of a part that is not completed."""
        if self.is_locked:
            return "it is being written"
        if self.newest is None:
            return "nothing was saved to resume from"
        return "a resume drops that and makes it again"

    @property
    def newest(self) -> CheckedStep | None:
        """The newest intact step, from which a resume continues."""
        return next((step for step in reversed(self.steps) if step.description is not None), None)

    @property
    def point(self) -> ResumePoint | None:
        """What a resume keeps of the records; None when there is no step to continue from."""
        if self.newest is None or (number := step_of(self.newest.folder)) is None:
            return None
        return ResumePoint(step=number, splits=self.newest.splits)


def absence(path: Path) -> str:
    """Why `path` is not a regular file that can be opened, in a phrase; empty when it is one."""
    # Before anything opens it: to open a named pipe would wait for its writer.
    if path.is_file():
        return ""
    return "it is not a regular file" if os.path.lexists(path) else "it is missing"


def read_record(run: Path) -> JsonObject | Finding:
    """The content of run.json, or the finding when it is damaged."""
    path = run / RECORD_FILE
    if why := absence(path):
        return Finding(RECORD_FILE, DAMAGED, detail=why)
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_RECORD_BYTES))
    except (ValueError, RecursionError):
        return Finding(RECORD_FILE, DAMAGED, detail="it is not JSON")
    except OSError as error:
        return Finding(RECORD_FILE, UNREADABLE, detail=reason_of(error))
    if not isinstance(content, dict):
        return Finding(RECORD_FILE, DAMAGED, detail="it is not a table")
    if status_of(run, content) is RunStatus.DAMAGED:
        return Finding(RECORD_FILE, DAMAGED, detail="it has no status that trainer knows")
    return content


def check_record(files: RunFiles) -> Finding:
    """The status in run.json, and whether it agrees with the lock and the checkpoints."""
    record = files.record
    # The lock comes first: it is the system's, and run.json may be older.
    if files.is_locked:
        process = printable(record.get("process"))[:20]
        host = printable(record.get("host"))[:60]
        detail = (
            f"process {process} on {host} trains in it; what it writes meanwhile is not checked"
        )
        return Finding(RECORD_FILE, RunStatus.RUNNING, detail=detail)
    status = RunStatus(record["status"])
    if status is RunStatus.RUNNING:
        detail = "says running, but no process trains in it: it was killed"
        return Finding(RECORD_FILE, RunStatus.INTERRUPTED, detail=detail)
    ended = f"ended {printable(record.get('ended'))[:40]}"
    if status is not RunStatus.DONE:
        error = f": {printable(record['error'])[:100]}" if record.get("error") else ""
        return Finding(RECORD_FILE, status, detail=ended + error)
    if damage := _checkpoint_damage(files):
        return Finding(RECORD_FILE, DAMAGED, detail=damage)
    return Finding(RECORD_FILE, OK, detail=f"done, {ended}")


def _checkpoint_damage(files: RunFiles) -> str:
    """How the steps of a run that is done differ from those that its run.json names."""
    names = as_table(files.record.get("checkpoints"))
    there = [step.folder.name for step in files.steps]
    for which in ("last", "best"):
        name = names.get(which)
        # A run without evaluations has no best.
        if name not in there and (which == "last" or name is not None):
            return f"is done, but its {which} checkpoint ({printable(name)[:40]}) is not there"
    newest = files.newest
    if newest is not None and there.index(newest.folder.name) > there.index(names["last"]):
        return (
            f"is done with {names['last']} as the last checkpoint, but {newest.folder.name} "
            "is there"
        )
    return ""


def check_steps(run: Path) -> tuple[CheckedStep, ...]:
    """Every step folder of a run, the lowest step first, without those removed meanwhile."""
    # Not by `step_folders`: that passes over a folder without its model file, which is damage here.
    folders = [path for path in (run / CHECKPOINTS).glob("step-*") if step_of(path) is not None]
    folders.sort(key=lambda folder: step_of(folder) or 0)
    checked = [_check_step(folder) for folder in folders]
    # A run that trains removes older steps while they are read: that is no damage.
    return tuple(step for step in checked if os.path.lexists(step.folder))


def _check_step(folder: Path) -> CheckedStep:
    """A step folder with the finding on both of its files."""
    state = DAMAGED
    try:
        return _read_step(folder)
    except OSError as error:
        state = UNREADABLE
        why = reason_of(error)
    except EnvironmentFault as error:
        state = UNREADABLE
        why = error.what
    except TrainerError as error:
        why = error.what
    # The row begins with the name of the folder: its path would only push the reason away.
    detail = printable(why.replace(f"{folder}{os.sep}", ""))[:200]
    return CheckedStep(folder=folder, finding=Finding(folder.name, state, detail=detail))


def _read_step(folder: Path) -> CheckedStep:
    """Verify both files, byte for byte, and that they belong together; raises what is wrong."""
    # The seals first: what a file with a flipped bit says of itself would lead astray.
    model = _examined(folder / MODEL_FILE)
    state = _examined(folder / STATE_FILE)
    description = read_description(folder / MODEL_FILE)
    content = parse(state.description, source=folder / STATE_FILE)
    check_version(content, source=folder / STATE_FILE)
    size = sum((folder / name).stat().st_size for name in (MODEL_FILE, STATE_FILE))
    if content.get("model") != model.seal:
        raise CheckpointError(
            f"{STATE_FILE} belongs to another {MODEL_FILE} than the one beside it"
        )
    number = step_of(folder)
    saved = description.progress.get("step")
    # A folder that was renamed would hide later steps from a resume, or take their place.
    if number is not None and saved != number:
        raise CheckpointError(f"it holds step {saved}")
    detail = f"both files verified, {size / 1e6:,.2f} MB"
    return CheckedStep(
        folder=folder,
        finding=Finding(folder.name, OK, detail=detail),
        description=description,
        splits=_splits(content, number),
    )


def _examined(path: Path) -> Header:
    found = examine(path)
    if isinstance(found, str):
        raise CheckpointError(f"{path.name}: {found}")
    return found


def _splits(state: Mapping[str, object], number: int | None) -> frozenset[str]:
    """The splits that had their record at step `number`, by the loop state in the state table."""
    # `journal` and its fields are names on the disk; the code calls it the loop state.
    saved = as_table(as_table(state.get("table")).get("journal"))
    if number is None:
        return frozenset()
    keys = {"train": "logged_at", "val": "evaluated_at"}
    splits = {split for split, key in keys.items() if saved.get(key) == number}
    # As in LoopState.splits_at.
    if not as_table(saved.get("epoch")).get("samples"):
        splits.add("train_epoch")
    return frozenset(splits)


def check_link(which: str, files: RunFiles) -> Finding | None:
    """The step that `last` or `best` points at; None where there is neither a link nor a step."""
    link = files.run / CHECKPOINTS / which
    if not os.path.lexists(link):
        return _check_no_link(which, files)
    if not link.is_symlink():  # a copy that followed the links
        found = _check_step(link).finding
        return Finding(which, found.state, detail=f"a folder, not a link: {found.detail}")
    target = link.parent / link.readlink()
    points = f"points at {printable(target.name)[:40]}"
    real = os.path.realpath(link)  # Path.resolve raises where links go round
    step = next((step for step in files.steps if os.path.realpath(step.folder) == real), None)
    if step is None:
        return _check_target(which, target, points, files)
    state = step.finding.state
    if step.description is None:
        return Finding(which, state, detail=f"{points}, which is {state}")
    if which == "last" and files.newest is not None and step.folder != files.newest.folder:
        detail = f"{points}, not at {files.newest.folder.name}, the newest"
        # A kill between the folder and its link leaves an older link; a run that is done has none.
        if files.is_done:
            return Finding(which, DAMAGED, detail=detail)
        return Finding(which, files.unfinished_state, detail=f"{detail}; a resume takes the newest")
    return Finding(which, OK, detail=points)


def _check_no_link(which: str, files: RunFiles) -> Finding | None:
    # A run without evaluations never had a best: of that, no link is missing.
    was_evaluated = any(step.description and step.description.metrics for step in files.steps)
    if not files.steps or (which == "best" and not was_evaluated):
        return None
    detail = "is not there, as in some copies; commands find the step without it"
    return Finding(which, "no link", detail=detail)


def _check_target(which: str, target: Path, points: str, files: RunFiles) -> Finding:
    """The finding on a link whose target is none of the steps that were checked."""
    if step_of(target) is not None:
        if files.is_locked:
            detail = f"{points}, which was saved meanwhile"
            return Finding(which, files.unfinished_state, detail=detail)
        # Killed between the two renames of a step that is saved again: neither has the name.
        if os.path.lexists(retired_path(target)) and not files.is_done:
            detail = f"{points}, which was being replaced; a resume repairs that"
            return Finding(which, files.unfinished_state, detail=detail)
    return Finding(which, DAMAGED, detail=f"{points}, which is no step of this run")


def check_leftovers(files: RunFiles) -> Finding | None:
    """What a killed process left among the checkpoints; None when there is nothing."""
    paths = sorted((files.run / CHECKPOINTS).glob(".step-*"))
    if not paths:
        return None
    names = listing([printable(path.name)[:40] for path in paths], most=1)
    detail = f"{names} was left by an interrupted save; a resume cleans up"
    if files.is_locked:
        detail = f"{names} is being written"
    return Finding("leftovers", files.unfinished_state, detail=detail)
