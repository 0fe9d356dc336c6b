"""What `trainer check-run` finds in run.json and among the checkpoints of a run. Nothing in them
is believed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint.file import examine
from trainer.checkpoint.header import Description, check_version, parse, read_description
from trainer.errors import EnvironmentFault, TrainerError, printable
from trainer.run.folder import CHECKPOINTS, MODEL_FILE, STATE_FILE, retired_path, step_of
from trainer.run.record import RunStatus, status_of
from trainer.tracking.records import ResumePoint

OK, DAMAGED, UNREADABLE = "ok", "damaged", "unreadable"
# Ours has some kilobytes.
_MAX_RECORD_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A row of the table: what was checked, the state it is in, and the rest in a phrase."""

    what: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step folder, what was found in it, and, where it is intact, what it says of itself.

    `splits` are those that had their record at this step when it was saved.
    """

    folder: Path
    finding: Finding
    description: Description | None = None
    splits: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the other files of a run are held against: its record, its steps, and whether a
    process trains in it.
    """

    run: Path
    record: dict[str, Any]
    steps: tuple[Step, ...]
    is_locked: bool

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come: what is short then is damage."""
        return self.record.get("status") == "done" and not self.is_locked

    @property
    def cut(self) -> str:
        """The state of what a run that is not done has not completed."""
        return "running" if self.is_locked else "interrupted"

    @property
    def outlook(self) -> str:
        """What will become of it."""
        if self.is_locked:
            return "it is being written"
        return (
            "a resume drops that and makes it again"
            if self.newest
            else "nothing was saved to go on from"
        )

    @property
    def newest(self) -> Step | None:
        """The newest intact step: a resume goes on from it."""
        return next((step for step in reversed(self.steps) if step.description is not None), None)

    @property
    def point(self) -> ResumePoint | None:
        """What a resume keeps of the records; None when there is nothing to go on from."""
        if self.newest is None or (number := step_of(self.newest.folder)) is None:
            return None
        return ResumePoint(step=number, splits=self.newest.splits)


def absence(path: Path) -> str:
    """Why `path` is not a regular file that can be opened, in a phrase; empty when it is one."""
    if path.is_file():
        return ""
    return "it is not a regular file" if os.path.lexists(path) else "it is missing"


def read_record(run: Path) -> dict[str, Any] | Finding:
    """The content of run.json, or what is wrong with it."""
    path = run / "run.json"
    why = absence(path)
    if not why:
        try:
            with path.open("rb") as file:
                content = json.loads(file.read(_MAX_RECORD_BYTES))
            if not isinstance(content, dict):
                why = "it is not a table"
            elif status_of(run, content) is RunStatus.DAMAGED:
                why = "it has no status that trainer knows"
            else:
                return content
        except (ValueError, RecursionError):
            why = "it is not JSON"
        except OSError as error:
            return Finding(what=path.name, state=UNREADABLE, detail=f"{error.strerror or error}")
    return Finding(what=path.name, state=DAMAGED, detail=why)


def check_record(standing: Standing) -> Finding:
    """How run.json says that the run stands, and whether that agrees with its checkpoints."""
    record, status = standing.record, str(standing.record["status"])
    if standing.is_locked:
        process, host = printable(record.get("process"))[:20], printable(record.get("host"))[:60]
        said = f"process {process} on {host} trains in it; what it writes meanwhile is not checked"
        return Finding(what="run.json", state="running", detail=said)
    if status == "running":
        said = "says running, but no process holds it: it was killed"
        return Finding(what="run.json", state="interrupted", detail=said)
    if status != "done":
        told = f": {printable(record['error'])[:100]}" if record.get("error") else ""
        return Finding(
            what="run.json",
            state=status,
            detail=f"ended {printable(record.get('ended'))[:40]}{told}",
        )
    names, there = record.get("checkpoints"), [step.folder.name for step in standing.steps]
    for which in ("last", "best"):
        name = names.get(which) if isinstance(names, dict) else None
        if (which == "last" or name is not None) and name not in there:
            said = f"is done, but its {which} checkpoint ({printable(name)[:40]}) is not there"
            return Finding(what="run.json", state=DAMAGED, detail=said)
    newest = None if standing.newest is None else standing.newest.folder.name
    if (
        isinstance(names, dict)
        and newest is not None
        and there.index(newest) > there.index(names["last"])
    ):
        said = f"is done with {names['last']} as the last checkpoint, but {newest} is there"
        return Finding(what="run.json", state=DAMAGED, detail=said)
    return Finding(
        what="run.json", state=OK, detail=f"done, ended {printable(record.get('ended'))[:40]}"
    )


def look_at_steps(run: Path) -> tuple[Step, ...]:
    """Every step folder of a run, the lowest step first; one that is removed meanwhile is left out."""
    folders = [path for path in (run / CHECKPOINTS).glob("step-*") if step_of(path) is not None]
    looked_at = [
        _look_at(folder) for folder in sorted(folders, key=lambda folder: step_of(folder) or 0)
    ]
    return tuple(step for step in looked_at if os.path.lexists(step.folder))


def _look_at(folder: Path) -> Step:
    """Both files of a step folder, byte for byte, and whether they belong to it and to one another."""

    def broken(state: str, detail: str) -> Step:
        detail = printable(detail.replace(f"{folder}{os.sep}", ""))[:200]
        return Step(folder=folder, finding=Finding(what=folder.name, state=state, detail=detail))

    try:
        model, state = examine(folder / MODEL_FILE), examine(folder / STATE_FILE)
        for name, found in ((MODEL_FILE, model), (STATE_FILE, state)):
            if isinstance(found, str):
                return broken(DAMAGED, f"{name}: {found}")
        assert not isinstance(model, str) and not isinstance(state, str)
        description = read_description(folder / MODEL_FILE)
        content = parse(state.description, source=folder / STATE_FILE)
        check_version(content, source=folder / STATE_FILE)
        size = sum((folder / name).stat().st_size for name in (MODEL_FILE, STATE_FILE))
    except OSError as error:
        return broken(UNREADABLE, error.strerror or str(error))
    except TrainerError as error:
        return broken(UNREADABLE if isinstance(error, EnvironmentFault) else DAMAGED, error.what)
    if content.get("model") != model.seal:
        return broken(
            DAMAGED, f"{STATE_FILE} belongs to another {MODEL_FILE} than the one beside it"
        )
    number, held = step_of(folder), description.progress.get("step")
    if number is not None and held != number:
        return broken(DAMAGED, f"it holds step {held}")
    finding = Finding(
        what=folder.name, state=OK, detail=f"both files verified, {size / 1e6:,.2f} MB"
    )
    return Step(
        folder=folder, finding=finding, description=description, splits=_splits(content, number)
    )


def _splits(state: dict[str, Any], number: int | None) -> frozenset[str]:
    """The splits that had their record at the step, as the state of the journal says."""
    table = state.get("table")
    journal = table.get("journal") if isinstance(table, dict) else None
    at = journal if isinstance(journal, dict) else {}
    keys = {"train": "logged_at", "val": "evaluated_at"}
    return frozenset(
        split for split, key in keys.items() if number is not None and at.get(key) == number
    )


def check_link(which: str, standing: Standing) -> Finding | None:
    """Where `last` or `best` points; None where there is neither a link nor a step."""
    link = standing.run / CHECKPOINTS / which
    if not os.path.lexists(link):
        if which == "best" and not any(
            step.description and step.description.metrics for step in standing.steps
        ):
            return None  # nothing was evaluated yet
        said = "is not there, as in some copies; commands find the step without it"
        return Finding(what=which, state="no link", detail=said) if standing.steps else None
    if not link.is_symlink():  # a copy that followed the links
        found = _look_at(link).finding
        return Finding(
            what=which, state=found.state, detail=f"a folder of its own, not a link: {found.detail}"
        )
    target = link.parent / link.readlink()
    real = os.path.realpath(link)  # Path.resolve raises where links go round
    step = next((step for step in standing.steps if os.path.realpath(step.folder) == real), None)
    shown = printable(target.name)[:40]
    if step is None:
        if standing.is_locked and step_of(target) is not None:
            return Finding(
                what=which,
                state=standing.cut,
                detail=f"points at {shown}, which was saved meanwhile",
            )
        if (
            step_of(target) is not None
            and os.path.lexists(retired_path(target))
            and not standing.is_done
        ):
            said = f"points at {shown}, which was being replaced; a resume puts that right"
            return Finding(what=which, state=standing.cut, detail=said)
        return Finding(
            what=which, state=DAMAGED, detail=f"points at {shown}, which is no step of this run"
        )
    if step.description is None:
        return Finding(
            what=which,
            state=step.finding.state,
            detail=f"points at {shown}, which is {step.finding.state}",
        )
    if which == "last" and standing.newest is not None and step.folder != standing.newest.folder:
        said = f"points at {shown}, not at {standing.newest.folder.name}, the newest"
        more = "" if standing.is_done else "; a resume takes the newest"
        return Finding(
            what=which, state=DAMAGED if standing.is_done else standing.cut, detail=said + more
        )
    return Finding(what=which, state=OK, detail=f"points at {shown}")


def check_leftovers(standing: Standing) -> Finding | None:
    """What a killed process left among the checkpoints; None when there is nothing."""
    left = sorted(
        printable(path.name)[:40] for path in (standing.run / CHECKPOINTS).glob(".step-*")
    )
    if not left:
        return None
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    said = (
        "is being written"
        if standing.is_locked
        else "was left by a save that was cut short; a resume tidies up"
    )
    return Finding(what="leftovers", state=standing.cut, detail=f"{left[0]}{more} {said}")
