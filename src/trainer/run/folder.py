"""Run folders: making one that no other run shares, and finding runs and checkpoints by what a
person types.

Nothing here opens a checkpoint; torch is never imported.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.errors import EnvironmentFault, InputError, UsageError, nearest
from trainer.files import aside_of, read_json, remove

CHECKPOINTS = "checkpoints"
LOCK_FILE = ".lock"
NOTES_FILE = "notes.json"  # a person's own words about a run
MODEL_FILE, STATE_FILE = "model.safetensors", "state.safetensors"
_STEP_FOLDER = re.compile(r"step-([0-9]{6,})")
_DATED = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{2})-([0-9]{2})-([0-9]{2})-[^/]*(/[^/]*)?$"
)


def step_folder_name(step: int) -> str:
    """`step-000938` for step 938."""
    return f"step-{step:06d}"


def step_of(folder: Path) -> int | None:
    """The step of a step folder, or None when `folder` is not one."""
    match = _STEP_FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else None


def retired_of(folder: Path) -> Path:
    """What a step folder is called while it is removed or replaced."""
    return folder.with_name(f".{folder.name}.old")


def is_retired(name: str) -> bool:
    """Whether a folder of this name is being removed, or was when that was killed."""
    return name.startswith(".") and name.endswith(".old")


def tidy(run: Path) -> None:
    """Put right what a killed process left among the checkpoints of `run`; only while its lock
    is held.
    """
    for left in (run / CHECKPOINTS).glob(".step-*"):
        final = left.with_name(left.name.removeprefix(".").rpartition(".")[0])
        # Killed while a step was being replaced: neither the old nor the new had the name.
        if (
            left == retired_of(final)
            and not os.path.lexists(final)
            and all((left / name).is_file() for name in (MODEL_FILE, STATE_FILE))
        ):
            left.rename(final)
        else:
            remove(left)


def clear(run: Path) -> None:
    """Take away what a run wrote that was cut before its first checkpoint; nothing else in the
    folder is touched.

    Its lock stays, and must be held. run.json, which says that it was a run, goes last: a kill
    leaves it to be cleared.
    """
    with contextlib.suppress(
        OSError
    ):  # a link, or something in it: not by that run, which saved nothing
        (run / CHECKPOINTS).rmdir()
    for events in run.glob("events.out.tfevents.*"):
        remove(events)
    for name in (
        "projector",
        "trace.json",
        "projector_config.pbtxt",
        "config.yaml",
        "metrics.jsonl",
        "run.json",
    ):
        remove(aside_of(run / name))
        remove(run / name)


def has_saved_nothing(run: Path) -> bool:
    """Whether `run` is a run of trainer that was cut before its first checkpoint."""
    record = read_json(run / "run.json")
    is_cut = (
        record.get("status") in ("running", "interrupted", "failed", "pruned")
        and "data_sha256" in record
    )
    return is_cut and not any((run / CHECKPOINTS).glob("*step-*"))


def create(root: Path, name: str, *, kind: str = "") -> Path:
    """Make `root`/<date>/<time>-`name`, new and never shared; raises EnvironmentFault when it
    cannot be made.
    """
    now = datetime.now()
    return create_numbered(root / f"{now:%Y-%m-%d}", f"{now:%H-%M-%S}-{name}{kind}")


def create_numbered(parent: Path, name: str) -> Path:
    """Make `parent`/`name`, or `name`-2, -3, … where that exists: exclusive, whatever the clock says."""
    with _disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = parent / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder


def create_exactly(folder: Path) -> Path:
    """Make `folder`, which must not exist yet, or hold no more than a lock; raises UsageError
    when more is there.
    """
    with _disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            # The first things a run writes are no run yet, nor is what a person said of one that
            # left nothing else.
            begun = (LOCK_FILE, NOTES_FILE, aside_of(folder / "run.json").name)
            if not folder.is_dir() or any(path.name not in begun for path in folder.iterdir()):
                raise UsageError(
                    f"run.dir={folder} exists and is not empty.",
                    hint="Choose a new folder, or leave run.dir out and let trainer name one.",
                ) from None
        return folder


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"Could not make the run folder {folder}: {error.strerror or error}.",
            hint="Choose a place that can be written with run.root=… or run.dir=…",
        ) from error


def all_runs(root: Path) -> list[Path]:
    """Every run folder below `root`, the oldest start first. Sweeps put theirs one level deeper."""
    found: set[Path] = set()
    for pattern in ("*/run.json", "*/*/run.json", "*/*/*/run.json"):
        found.update(path.parent for path in root.glob(pattern))
    whole = (run for run in found if not is_retired(run.name))
    return sorted(whole, key=lambda run: (started_at(run, read_json(run / "run.json")), str(run)))


def started_at(run: Path, record: dict[str, Any]) -> float:
    """When a run was started, in seconds, whatever the time zone: by its record, else by its
    folder's name, or 0.
    """
    named = _DATED.search(str(run))
    for said in (record.get("started"), named and f"{named[1]} {named[2]}:{named[3]}:{named[4]}"):
        with contextlib.suppress(ValueError, OverflowError):
            return datetime.fromisoformat(str(said)).timestamp()
    return 0.0


def step_folders(run: Path) -> list[Path]:
    """The step folders of a run, the lowest step first. They are renamed into place, so a name
    means complete.
    """
    folder = run / CHECKPOINTS
    found = [
        (step_of(path), path) for path in folder.glob("step-*") if (path / MODEL_FILE).is_file()
    ]
    return [path for step, path in sorted(pair for pair in found if pair[0] is not None)]


def find_run(reference: str, *, root: Path) -> Path:
    """The run folder meant by `reference`: its path, or the word `last`; raises InputError when
    there is none.
    """
    if reference == "last":
        runs = [run for run in all_runs(root) if step_folders(run)]
        if not runs:
            raise InputError(
                f"There is no run with a checkpoint in {root}.", hint="Start one: trainer fit"
            )
        return runs[-1]
    return Path(reference)


def find_checkpoint(reference: str, *, root: Path, prefer: str = "best") -> Path:
    """The step folder, or the bare model.safetensors, meant by what a person typed.

    `reference` may be a model.safetensors, a step folder, …/checkpoints/best or last, a run folder
    or the word `last` (the newest run below `root`). Of a run, `prefer` says whether its best or
    its last checkpoint is meant. Raises InputError when nothing is there.
    """
    path = find_run(reference, root=root)
    try:
        is_file = path.is_file()
    except OSError as error:
        raise InputError(
            f"{reference[:80]} is no path: {error.strerror}.", hint=_what_is_expected()
        ) from error
    if is_file:
        if path.name == STATE_FILE:
            raise InputError(
                f"{path} holds the optimizer's state, not a model.",
                hint=f"Use {path.parent / MODEL_FILE}",
            )
        return (
            path.parent
            if path.name == MODEL_FILE and step_of(path.parent.resolve()) is not None
            else path
        )
    if (path / MODEL_FILE).is_file():
        return path.resolve()
    if path.name in ("best", "last") and path.parent.name == CHECKPOINTS:
        return _of_run(path.parent.parent, path.name, reference)
    if path.name == CHECKPOINTS:
        return _of_run(path.parent, prefer, reference)
    return _of_run(path, prefer, reference)


def _of_run(run: Path, which: str, reference: str) -> Path:
    steps = step_folders(run)
    if steps:
        if (
            which == "last"
        ):  # by step: a run that was killed between a folder and its link has an older link
            return steps[-1]
        link = run / CHECKPOINTS / which
        # A copy may have lost the links: the run's own record, then the highest step, say the same.
        names = read_json(run / "run.json").get("checkpoints")
        recorded = str(names.get(which, "")) if isinstance(names, dict) else ""
        candidates = [_real(link), run / CHECKPOINTS / recorded]
        return next(
            (path for path in candidates if path in steps or _real(path) in map(_real, steps)),
            steps[-1],
        )
    if run.is_dir():
        raise InputError(f"{reference} holds no checkpoint.", hint=_what_is_expected())
    hint = _what_is_expected()
    others = (
        step_folders(run.parent.parent)
        if step_of(run) is not None and run.parent.name == CHECKPOINTS
        else []
    )
    if others:
        there = ", ".join(step.name for step in others[-3:])
        hint = (
            f"It was removed meanwhile, as older steps are, or was never saved. There is: {there}."
        )
    else:
        hint = near_path(run) or hint
    raise InputError(f"{reference} does not exist.", hint=hint)


def near_path(path: Path) -> str | None:
    """`Did you mean …?` with the nearest name beside a `path` that does not exist; None when
    nothing is near.
    """
    if not path.parent.is_dir():
        return None
    near = nearest(
        path.name, [other.name for other in path.parent.iterdir() if not other.name.startswith(".")]
    )
    return None if near is None else f"Did you mean {path.parent / near}?"


def _real(path: Path) -> Path:
    """Where `path` leads; Path.resolve raises where links go round."""
    return Path(os.path.realpath(path))


def _what_is_expected() -> str:
    return "Give a run folder, a step folder in its checkpoints/, a model.safetensors, or the word last."
