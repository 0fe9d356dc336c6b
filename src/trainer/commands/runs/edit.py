"""What is kept of runs: `trainer runs rm`, `tag`, `untag` and `note`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.errors import EnvironmentFault, TrainerError, UsageError, printable
from trainer.files import remove
from trainer.run.folder import retired_path
from trainer.run.index import Entry, Notes, read_notes, write_notes
from trainer.run.lock import check_free, locked
from trainer.tracking.console import Terminal
from trainer.tracking.table import ago, size_text, write_table

_TAG = re.compile(r"\w[\w.:/-]{0,39}")


def rm(entries: Sequence[Entry], *, root: Path, is_agreed: bool, terminal: Terminal) -> None:
    """Remove runs, after showing what goes and asking on a terminal; those that a process trains in
    are kept.

    Raises UsageError when one was kept, or nobody can be asked and `is_agreed` is not said;
    EnvironmentFault when the disk refuses. The others are gone all the same.
    """
    going: list[Entry] = []
    errors: list[TrainerError] = []
    for entry in entries:
        try:
            check_free(entry.path)
            going.append(entry)
        except UsageError as error:
            errors.append(UsageError(error.what, hint="It was kept. Wait for it, or stop it."))
    sizes = {entry.path: _size(entry.path) for entry in going}
    if going:
        cells = [
            [entry.id, ago(entry.started), str(entry.path), size_text(sizes[entry.path])]
            for entry in going
        ]
        write_table(("ID", "STARTED", "RUN", "SIZE"), cells, terminal=terminal)
        if is_agreed or _agrees(len(going), sum(sizes.values())):
            errors += [fault for entry in going if (fault := _remove(entry.path, root)) is not None]
            terminal.line(f"Removed {_counted(len(entries) - len(errors))}.")
        else:
            terminal.line("Nothing was removed.")
    for further in errors[1:]:
        terminal.warn(f"{further.what} It was kept.")
    if errors:
        raise errors[0]


def tag(entry: Entry, words: Sequence[str], *, terminal: Terminal, removes: bool = False) -> None:
    """Give a run tags, or take away those after a minus (with `removes`, all); without words,
    show them.
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
    """Keep a note on a run, in place of the one before; an empty text removes it; without words,
    show it.
    """
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
            f"Could not write to {entry.path}: {error.strerror or error}.",
            hint="Put that right and try again.",
        ) from error


def _agrees(number: int, num_bytes: int) -> bool:
    """Ask on the terminal; raises UsageError where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "Nothing was removed: nobody can be asked, for this is not a terminal.",
            hint="Say that you are sure: trainer runs rm … --yes",
        )
    sys.stdout.write(f"Remove {_counted(number)}, {size_text(num_bytes)}? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _counted(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _size(run: Path) -> int:
    """The bytes of the files in a run; links are not followed."""
    total = 0
    for folder, _, names in os.walk(run) if not run.is_symlink() else ():
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(folder, name)).st_size
    return total


def _remove(run: Path, root: Path) -> TrainerError | None:
    """Take a run away: out of sight at once, then its files, then folders that are empty now; or
    why it was kept.

    Links are not followed: of one, the link goes.
    """
    run = run.absolute()  # not resolved, for that reason
    aside = retired_path(run)
    try:
        if run.is_symlink():
            run.unlink()
        else:
            remove(aside)  # of a removal that was killed
            with locked(run):
                run.rename(aside)
                remove(aside)
            if aside.exists():
                return EnvironmentFault(
                    f"Some of {run} could not be removed.", hint=f"What is left is in {aside}."
                )
    except OSError as error:
        return EnvironmentFault(f"{run} could not be removed: {error.strerror or error}.")
    except TrainerError as error:  # a process has begun to train in it
        return error
    # The folders of the sweep and of the day.
    above = root.absolute()
    for folder in run.parents:
        if above not in folder.parents:
            break
        with contextlib.suppress(OSError):  # something is left in it
            folder.rmdir()
    return None
