"""Finding the run, the sweep or the checkpoint that a word on the command line names.

The word is a path, `last` (the newest run below the root), the id of a run, a part of its name, or
the name of a sweep's folder. A path that exists wins over an id and a name, a run over a sweep.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainer.errors import (
    InputError,
    TrainerError,
    UsageError,
    command_line,
    listing,
    nearest,
    program,
)
from trainer.files import as_table, read_json
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    RECORD_FILE,
    STATE_FILE,
    is_sweep_folder,
    step_folders,
    step_of,
)
from trainer.run.index import Entry, entry_of, read_index

LAST = "last"
# Fewer digits are taken for a part of a name.
MIN_DIGITS = 4
_ID = re.compile(f"[0-9a-f]{{{MIN_DIGITS},64}}")
# What `fit resume=` reads itself, before a run is looked for.
_KEYWORDS = ("", LAST, "auto", "null")
_MAX_NAMED = 5
_MAX_LENGTH = 200
_EXPECTED_CHECKPOINT = (
    "Give a run folder, a step folder in its checkpoints/, a model.safetensors, or the word last."
)


def find_run(reference: str, *, root: Path, index: Sequence[Entry] | None = None) -> Entry:
    """The run that `reference` names, as `find_runs` does for one."""
    return find_runs([reference], root=root, index=index)[0]


def find_runs(
    references: Iterable[str], *, root: Path, index: Sequence[Entry] | None = None
) -> list[Entry]:
    """The runs that `references` name, each once; one outside `index` has a short id.

    `index` are the runs below `root`. Raises UsageError when no run or several have a name,
    InputError for the last of none.
    """
    # Read once: each look-up would read the run.json of every run below the root anew.
    if index is None:
        index = read_index(root)
    # By their real paths: a person may name a run through a link, or from another folder.
    known = {os.path.realpath(entry.path): entry for entry in index}
    found: dict[Path, Entry] = {}
    for reference in references:
        path = find_path(reference, root=root, index=index)
        if not os.path.lexists(path / RECORD_FILE):
            raise not_a_run(path)
        entry = known.get(os.path.realpath(path)) or entry_of(path)
        found[entry.path] = entry
    return list(found.values())


def find_path(
    reference: str,
    *,
    root: Path,
    index: Sequence[Entry] | None = None,
    error: type[TrainerError] = UsageError,
    expected: str = "",
    takes_sweeps: bool = False,
) -> Path:
    """The path that `reference` names, of a run or not; `index` are the runs below `root`.

    With `takes_sweeps` a part of a sweep's name is enough, as it is of a run's.

    Raises `error` when nothing is there, with the hint `expected` where no name is near, UsageError
    when several runs have that name, InputError for the last of none.
    """
    if reference == LAST:
        return newest_run(root, index=index).path
    path = Path(resolve_reference(reference, root=root, index=index, takes_sweeps=takes_sweeps))
    # An empty text is an unset variable of a shell; as a path it is the working directory.
    if not reference or not os.path.lexists(path):
        raise _missing(reference, root, error, expected=expected)
    return path


def newest_run(root: Path, *, index: Sequence[Entry] | None = None) -> Entry:
    """The run below `root` that was started last; raises InputError when there is none."""
    if index is None:
        index = read_index(root)
    if not index:
        raise no_run(root)
    return index[0]


def find_checkpoint(reference: str, *, root: Path, prefer: str = "best") -> Path:
    """The step folder, or the model file outside of one, that `reference` names.

    For a run it is the `prefer` checkpoint, `best` or `last`. Besides what names a run, a word may
    name a step folder, `checkpoints/best`, `checkpoints/last` or a model.safetensors. Raises
    InputError when there is no checkpoint, UsageError when several runs have that name.
    """
    if reference == LAST:
        return _newest_checkpoint(root, prefer)
    path = Path(resolve_reference(reference, root=root))
    run = path
    if path.name == CHECKPOINTS:
        run = path.parent
    elif path.parent.name == CHECKPOINTS and path.name in ("best", "last"):
        run = path.parent.parent
        prefer = path.name
    if not os.path.lexists(run):
        raise _missing(reference, root, InputError, expected=_EXPECTED_CHECKPOINT)
    if path.is_file():
        return _checkpoint_of_file(path)
    if (path / MODEL_FILE).is_file():
        return path.resolve()  # not the link: a run that trains moves it
    steps = step_folders(run)
    if not steps:
        raise InputError(f"{reference} holds no checkpoint.", hint=_EXPECTED_CHECKPOINT)
    return _chosen_step(run, steps, prefer)


def resolve_reference(
    reference: str,
    *,
    root: Path,
    index: Sequence[Entry] | None = None,
    takes_sweeps: bool = False,
) -> str:
    """The path of the run or sweep that `reference` names, or else `reference` as it is.

    Of a run, the id or a part of the name is enough; of a sweep, a part with `takes_sweeps`.
    Raises UsageError, which lists them, when it may mean several.
    """
    if reference in _KEYWORDS or os.sep in reference or "=" in reference:
        return reference
    if os.path.lexists(reference):
        return reference
    if index is None:
        index = read_index(root)
    found = _matches(reference, index)
    if len(found) == 1:
        return str(found[0].path)
    # To most commands several runs of a sweep are what is named, and not the sweep.
    sweeps = _sweeps(reference, index, by_part=takes_sweeps) if takes_sweeps or not found else []
    return _only_sweep(sweeps, found) or _no_match(reference, sweeps, found)


def _only_sweep(sweeps: Sequence[Path], runs: Sequence[Entry]) -> str | None:
    """The sweep that a word names, unless it may as well name runs elsewhere."""
    # The jobs of a sweep may have its name in theirs.
    is_only = len(sweeps) == 1 and all(entry.path.parent in sweeps for entry in runs)
    return str(sweeps[0]) if is_only else None


def _no_match(reference: str, sweeps: Sequence[Path], runs: Sequence[Entry]) -> str:
    """`reference` as it is where it names nothing; raises UsageError where it is ambiguous."""
    listed = [*map(str, sweeps), *(f"{entry.id} ({entry.path})" for entry in runs)]
    if not listed:
        return reference
    kind = " and ".join(kind for kind, has in (("runs", runs), ("sweeps", sweeps)) if has)
    raise UsageError(
        f"{reference} may mean {len(listed)} {kind}.",
        where=f"{listing(listed, most=_MAX_NAMED)}.",
        hint="Name one of them.",
    )


def not_a_run(
    path: Path, *, command: Sequence[str] = (), error: type[TrainerError] = UsageError
) -> TrainerError:
    """The error for a `path` that is no run, with the run that it belongs to or one that is in it.

    The hint repeats `command` before the path of that run.
    """
    hint = _expected()
    # With the absolute ones: `config.yaml` may be typed inside a step folder.
    parts = (path, *path.parents, *path.absolute().parents)
    run = next((part.parent for part in parts if part.name == CHECKPOINTS), None)
    if run is not None:
        hint = f"Name the run itself: {_repeated(command, run)}"
    elif inside := read_index(path):
        hint = f"There are runs in it. Name one: {_repeated(command, inside[0].path)}"
    return error(f"{path} is not a run folder.", hint=hint)


def _repeated(command: Sequence[str], run: Path) -> str:
    return command_line(*command, str(run)) if command else shlex.quote(str(run))


def no_run(root: Path) -> InputError:
    """The error for a `root` below which there is no run."""
    near = None if root.exists() else _near_path(root)
    return InputError(f"There is no run in {root}.", hint=near or f"Start one: {program()} fit")


def _matches(word: str, index: Sequence[Entry]) -> list[Entry]:
    """The runs with this id; or else with this name; or else with a name that contains it."""
    digits = word.lower()
    if _ID.fullmatch(digits):
        by_id = [entry for entry in index if entry.digest.startswith(digits)]
        if by_id:
            return by_id
    by_name = [entry for entry in index if entry.name == word]
    return by_name or [entry for entry in index if word in entry.name]


def _sweeps(word: str, index: Sequence[Entry], *, by_part: bool) -> list[Path]:
    """The folders of sweeps with this name; or else, `by_part`, with a name that contains it."""
    found = sweep_folders(index)
    named = [folder for folder in found if folder.name == word]
    return named or [folder for folder in found if by_part and word in folder.name]


def sweep_folders(index: Iterable[Entry]) -> list[Path]:
    """The folders of the sweeps that runs of `index` belong to, those of the newest run first."""
    folders = dict.fromkeys(entry.path.parent for entry in index)
    return [folder for folder in folders if is_sweep_folder(folder)]


def _newest_checkpoint(root: Path, prefer: str) -> Path:
    index = read_index(root)
    newest = newest_run(root, index=index).path
    steps = step_folders(newest)
    if steps:
        return _chosen_step(newest, steps, prefer)
    saved = next((entry.path for entry in index if step_folders(entry.path)), None)
    raise InputError(
        f"The newest run, {newest}, has no checkpoint.",
        hint=f"The newest run that has one: {saved}" if saved else f"Start one: {program()} fit",
    )


def _checkpoint_of_file(path: Path) -> Path:
    if path.name == STATE_FILE:
        raise InputError(
            f"{path} holds the optimizer's state, not a model.",
            hint=f"Use {path.parent / MODEL_FILE}",
        )
    is_of_step = path.name == MODEL_FILE and step_of(path.parent.resolve()) is not None
    return path.parent if is_of_step else path


def _chosen_step(run: Path, steps: Sequence[Path], which: str) -> Path:
    """The `best` or the `last` of the step folders of a run."""
    # By step: a run that was killed between a folder and its link has an older link.
    if which == "last":
        return steps[-1]
    # A copy may have lost the links: the run's own record names the step too.
    names = as_table(read_json(run / RECORD_FILE).get("checkpoints"))
    recorded = str(names.get(which, ""))
    real = [os.path.realpath(step) for step in steps]
    for name in (which, recorded):
        # Path.resolve raises where links go round.
        target = os.path.realpath(run / CHECKPOINTS / name)
        if target in real:
            return Path(target)
    return steps[-1]


def _missing(
    reference: str, root: Path, error: type[TrainerError], *, expected: str = ""
) -> TrainerError:
    """The error for a `reference` that names nothing, with what is near."""
    path = Path(reference)
    label = reference[:_MAX_LENGTH] or "A run without a name"
    what = f"{label} does not exist."
    if os.sep not in reference:
        what = f"{label} does not exist, and no run in {root} has that name or id."
    if step_of(path) is not None and path.parent.name == CHECKPOINTS:
        others = ", ".join(step.name for step in step_folders(path.parent.parent)[-3:])
        if others:
            return error(
                what,
                hint="It was removed meanwhile, as older steps are, or was never saved. "
                f"There is: {others}.",
            )
    names = [] if os.sep in reference else _known_names(root)
    return error(what, hint=_near_path(path, besides=names) or expected or _expected())


def _known_names(root: Path) -> list[str]:
    index = read_index(root)
    sweeps = [folder.name for folder in sweep_folders(index)]
    return [*(entry.name for entry in index), *sweeps, LAST]


def _expected() -> str:
    return (
        "Give a run folder, the id of a run, a part of its name, or the word last; "
        f"{command_line('runs')} lists them."
    )


def _near_path(path: Path, *, besides: Sequence[str] = ()) -> str | None:
    """`Did you mean …?` with the nearest name: one of `besides`, or one in the folder of `path`."""
    names: list[str] = []
    # ValueError for a NUL in the path, OSError for one that is too long, too.
    with contextlib.suppress(OSError, ValueError):
        names = [name.name for name in path.parent.iterdir() if not name.name.startswith(".")]
    near = nearest(path.name, [*besides, *names])
    if near is None:
        return None
    return f"Did you mean {near if near in besides else path.parent / near}?"
