"""What changes runs: `trainer runs rm`, `tag`, `untag` and `note`."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.commands.runs.tidy import ToRemove, size_of
from trainer.errors import (
    EnvironmentFault,
    TrainerError,
    UsageError,
    counted,
    printable,
    program,
    reason_of,
)
from trainer.files import remove
from trainer.run.folder import is_sweep_folder, remove_sweep, retired_path
from trainer.run.index import Entry, Notes, read_index, read_notes, write_notes
from trainer.run.lock import check_free, locked
from trainer.tracking.console import Terminal
from trainer.tracking.table import Narrow, ago, size_text, write_table

# No comma and no equals sign: `runs ls tag=a,b` separates tags by the one and keys by the other.
_TAG = re.compile(r"\w[\w.:/-]{0,39}")


def rm(chosen: ToRemove, *, root: Path, is_agreed: bool, terminal: Terminal) -> None:
    """Remove runs, after printing them and a question; those that a process trains in are kept.

    What a sweep wrote goes with its last run. Raises UsageError when one was kept, or when no one
    can answer and `is_agreed` is false; EnvironmentFault when the disk refuses. The others are
    removed all the same.
    """
    free, errors = _split_free(chosen.entries)
    if not chosen.entries and not chosen.sweeps:
        terminal.note(f"There is no run in {root} that passes.")
    if free or chosen.sweeps:
        num_bytes = _print_removal(free, chosen.sweeps, terminal=terminal)
        # The table comes first, so that the question is about something that was seen.
        if is_agreed or _agrees(counted(len(free), "run"), num_bytes):
            errors += _remove_all(free, chosen.sweeps, root=root, terminal=terminal)
        else:
            terminal.line("Nothing was removed.")
    for further in errors[1:]:
        terminal.warn(f"{further.what} It was kept.")
    if errors:
        raise errors[0]


def _print_removal(entries: Sequence[Entry], sweeps: Sequence[Path], *, terminal: Terminal) -> int:
    """Print a table of what is to be removed; returns its bytes."""
    sizes = [size_of(path) for path in (*(entry.path for entry in entries), *sweeps)]
    names = [[entry.id, ago(entry.started), str(entry.path)] for entry in entries]
    names += [["-", "-", f"{path} (a sweep without runs)"] for path in sweeps]
    cells = [[*name, size_text(size)] for name, size in zip(names, sizes, strict=True)]
    titles = ("ID", "STARTED", "RUN", "SIZE")
    write_table(titles, cells, terminal=terminal, narrow=Narrow(leave_out=("STARTED",)))
    return sum(sizes)


def _remove_all(
    entries: Sequence[Entry], sweeps: Sequence[Path], *, root: Path, terminal: Terminal
) -> list[TrainerError]:
    """Remove runs and sweeps without runs; returns why some were kept."""
    # One that cannot be removed keeps none of the others: the errors follow at the end.
    kept: list[TrainerError] = []
    emptied: list[Path] = []
    for entry in entries:
        if fault := _remove(entry.path):
            kept.append(fault)
        else:
            emptied.append(entry.path.absolute().parent)
    # Once a folder, not once a run: it reads the run.json of each run that is still there.
    for place in dict.fromkeys([*emptied, *sweeps]):
        _remove_empty(place, root.absolute())
    number = len(entries) - len(kept)
    left = sum(map(is_sweep_folder, sweeps))
    removed = counted(number, "run")
    if sweeps:
        removed = f"{removed} and {counted(len(sweeps) - left, 'sweep')}"
    terminal.line(f"Removed {removed}.")
    return kept


def _split_free(entries: Sequence[Entry]) -> tuple[list[Entry], list[TrainerError]]:
    """The runs in which no process trains, and an error for each of the others."""
    free: list[Entry] = []
    errors: list[TrainerError] = []
    for entry in entries:
        try:
            check_free(entry.path)
            free.append(entry)
        except UsageError as error:
            errors.append(UsageError(error.what, hint="It was kept. Wait for it, or stop it."))
    return free, errors


def tag(entry: Entry, words: Sequence[str], *, terminal: Terminal, removes: bool = False) -> None:
    """Add tags to a run, and remove those after a minus, or all with `removes`.

    Without words its tags are printed. Raises UsageError for a word that is no tag.
    """
    before = read_notes(entry.path)
    if not words:
        terminal.line(" ".join(before.tags))
        return
    tags = dict.fromkeys(before.tags)
    for word in words:
        name = word[1:] if word[:1] in ("+", "-") else word
        if not _TAG.fullmatch(name):
            raise UsageError(
                f"{word} is no tag.",
                hint="A tag is a word of letters, digits and . : / - _, of at most 40 signs.",
            )
        if removes or word.startswith("-"):
            tags.pop(name, None)
        else:
            tags[name] = None
    _write(entry, dataclasses.replace(before, tags=tuple(tags)))
    terminal.line(f"{entry.id}: {' '.join(tags) or 'no tags'}")


def note(entry: Entry, words: Sequence[str], *, terminal: Terminal) -> None:
    """Replace the note on a run; an empty text removes it, without words it is printed."""
    before = read_notes(entry.path)
    if not words:
        for line in before.note.splitlines():
            terminal.line(printable(line))
        return
    text = " ".join(words).strip()
    _write(entry, dataclasses.replace(before, note=text))
    terminal.line(f"{entry.id}: {'the note is kept' if text else 'no note'}.")


def _write(entry: Entry, notes: Notes) -> None:
    try:
        write_notes(entry.path, notes)
    except OSError as error:
        raise EnvironmentFault(
            f"Could not write to {entry.path}: {reason_of(error)}.",
            hint="Correct that and try again.",
        ) from error


def _agrees(what: str, num_bytes: int) -> bool:
    """Ask on the terminal; raises UsageError where there is none."""
    # In a script the answer would be read from whatever is on its standard input.
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "Nothing was removed: without a terminal no one can confirm it.",
            hint=f"To remove without a question: {program()} runs rm … --yes",
        )
    sys.stdout.write(f"Remove {what}, {size_text(num_bytes)}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(run: Path) -> TrainerError | None:
    """Remove a run; why it was kept, if it was.

    Links are not followed: of one, the link goes.
    """
    run = run.absolute()  # not resolved, for that reason
    retired = retired_path(run)
    try:
        if run.is_symlink():
            run.unlink()
        else:
            remove(retired)  # of a removal that was killed
            with locked(run):
                # Out of sight at once: the files of a large run take their time.
                run.rename(retired)
                remove(retired)
            if retired.exists():  # `remove` passes over what the rights or the disk refuse
                return EnvironmentFault(
                    f"Some of {run} could not be removed.", hint=f"The rest is in {retired}."
                )
    except OSError as error:
        return EnvironmentFault(f"{run} could not be removed: {reason_of(error)}.")
    except TrainerError as error:  # a process has begun to train in it
        return error
    return None


def _remove_empty(place: Path, root: Path) -> None:
    """Remove the folder of a sweep or of a day, and those above it, where no run is in them."""
    place = place.absolute()
    for folder in (place, *place.parents):
        if is_sweep_folder(folder) and not read_index(folder):
            # Not while the sweep itself runs: it may be about to start a job.
            with contextlib.suppress(TrainerError, OSError), locked(folder):
                remove_sweep(folder)
        # Not the root itself, and nothing above a run that lies elsewhere.
        if root not in folder.parents:
            break
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
