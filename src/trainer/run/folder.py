"""Run folders: what is where in one, and making one that no other run shares.

Nothing here opens a checkpoint, and torch is never imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from trainer.errors import EnvironmentFault, UsageError, reason_of
from trainer.files import part_path, remove

CHECKPOINTS = "checkpoints"
RECORD_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
NOTES_FILE = "notes.json"  # a person's own words about a run
LOCK_FILE = ".lock"
MODEL_FILE = "model.safetensors"
STATE_FILE = "state.safetensors"
# What a run writes besides run.json, the events and its checkpoints.
_OUTPUTS = ("projector", "trace.json", "projector_config.pbtxt", "config.yaml", METRICS_FILE)
# What a sweep writes into its folder, besides the folders of its runs; `sweep.json` says that it
# is one.
SWEEP_FILE = "sweep.json"
SWEEP_OUTPUTS = ("output", "slurm", "sweep.csv", "sweep.md", "study.db", "study.db-journal")
_STEP_FOLDER = re.compile(r"step-([0-9]{6,})")


def is_run_folder(folder: Path) -> bool:
    """Whether `folder` holds anything that only a run writes, even if its run.json is lost."""
    names = (RECORD_FILE, CHECKPOINTS, METRICS_FILE)
    return any(os.path.lexists(folder / name) for name in names)


def is_sweep_folder(folder: Path) -> bool:
    """Whether `folder` is that of a sweep."""
    return os.path.lexists(folder / SWEEP_FILE)


def remove_sweep(folder: Path) -> None:
    """Remove what a sweep wrote, and its folder if nothing else is in it; its lock must be held.

    No run may be in it. sweep.json, which says that it was a sweep, goes last.
    """
    for path in folder.iterdir():
        # Of a job that never began.
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
    for name in (*SWEEP_OUTPUTS, LOCK_FILE, SWEEP_FILE):
        remove(part_path(folder / name))
        remove(folder / name)
    with contextlib.suppress(OSError):  # a file of the person's is in it
        folder.rmdir()


def step_folder_name(step: int) -> str:
    """`step-000938` for step 938."""
    return f"step-{step:06d}"


def step_of(folder: Path) -> int | None:
    """The step of a step folder, or None when `folder` is not one."""
    match = _STEP_FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else None


def model_file_of(checkpoint: Path) -> Path:
    """The file with the weights of a step folder, or the bare model file itself."""
    # By its name too: a run that is training may have pruned the folder by now.
    is_folder = step_of(checkpoint) is not None or checkpoint.is_dir()
    return checkpoint / MODEL_FILE if is_folder else checkpoint


def step_folders(run: Path) -> list[Path]:
    """The complete step folders of a run, the lowest step first: one gets its name when it is."""
    found: list[tuple[int, Path]] = []
    for path in (run / CHECKPOINTS).glob("step-*"):
        step = step_of(path)
        if step is not None and (path / MODEL_FILE).is_file():
            found.append((step, path))
    # By number: as text, step-1000000 comes before step-999999.
    return [path for _, path in sorted(found)]


def retired_path(folder: Path) -> Path:
    """The name of a folder while it is removed or replaced."""
    return folder.with_name(f".{folder.name}.old")


def is_retired(name: str) -> bool:
    """Whether a folder of this name is being removed, or its removal was killed."""
    return name.startswith(".") and name.endswith(".old")


def repair_checkpoints(run: Path) -> None:
    """Repair what a killed process left among the checkpoints of `run`, whose lock is held."""
    for left in (run / CHECKPOINTS).glob(".step-*"):
        final = left.with_name(left.name.removeprefix(".").rpartition(".")[0])
        is_whole = all((left / name).is_file() for name in (MODEL_FILE, STATE_FILE))
        # Killed while a step was being replaced: neither the old nor the new had the name.
        if left == retired_path(final) and not os.path.lexists(final) and is_whole:
            left.rename(final)
        else:
            remove(left)


def remove_outputs(run: Path) -> None:
    """Remove what a run wrote that ended before its first checkpoint, and nothing else.

    Its lock must be held, and stays. run.json, which says that it was a run, goes last: after a
    kill the rest can still be removed.
    """
    # A link, or something in it, is not of that run, which saved nothing.
    with contextlib.suppress(OSError):
        (run / CHECKPOINTS).rmdir()
    for events in run.glob("events.out.tfevents.*"):
        remove(events)
    for name in (*_OUTPUTS, RECORD_FILE):
        remove(part_path(run / name))
        remove(run / name)


def create_dated_folder(root: Path, name: str) -> Path:
    """Make `root`/<date>/<time>-`name`, new and never shared; raises EnvironmentFault."""
    now = datetime.now()
    day = root / f"{now:%Y-%m-%d}"
    _create_day(day)
    return create_numbered_folder(day, f"{now:%H-%M-%S}-{name}")


def _create_day(day: Path) -> None:
    """Make the folder of a day, which all who may write to its root may write to."""
    with _disk_errors(day):
        day.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            day.mkdir()
            # In a root that several people share, the umask of the first one of a day would lock
            # the others out. With the root's sticky bit nobody can remove another's runs.
            mode = stat.S_IMODE(day.parent.stat().st_mode)
            if mode & (stat.S_IWGRP | stat.S_IWOTH):
                with contextlib.suppress(OSError):  # a file system without modes
                    day.chmod(mode)


def create_numbered_folder(parent: Path, name: str) -> Path:
    """Make `parent`/`name`, or `name`-2, -3, … where that exists; raises EnvironmentFault."""
    with _disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / name
        number = 1
        while True:
            # mkdir checks and takes the name at once. Between a check and a mkdir another run may
            # start: twenty that start in one second get twenty folders.
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                folder = parent / f"{name}-{number}"
            else:
                return folder


def create_exact_folder(folder: Path) -> Path:
    """Make `folder`, which must not exist yet, or have nothing of a run in it.

    Raises UsageError when more is there, EnvironmentFault when it cannot be made.
    """
    with _disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            # The first files of a run are no run yet, nor are notes on one that left nothing else.
            begun = (LOCK_FILE, NOTES_FILE, part_path(folder / RECORD_FILE).name)
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
        place = "a place that can be written with run.root=… or run.dir=…"
        hint = f"Choose {place}"
        if isinstance(error, PermissionError) and folder.is_dir():
            with contextlib.suppress(OSError, KeyError):
                owner = folder.owner()
                hint = f"{folder} belongs to {owner}: ask for rights there, or choose {place}"
        raise EnvironmentFault(
            f"Could not make the run folder {folder}: {reason_of(error)}.", hint=hint
        ) from error
