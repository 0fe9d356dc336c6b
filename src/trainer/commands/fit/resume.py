"""Finding the checkpoint that a command starts from. No torch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from trainer.checkpoint.file import read_file, read_header
from trainer.checkpoint.header import read_description
from trainer.commands.fit.saved_step import SavedStep, read_step
from trainer.config import FitConfig, comparable, to_plain
from trainer.config.overrides import eval_words, override, own_words
from trainer.errors import CheckpointError, InputError, TrainerError, UsageError, command_line
from trainer.run.find import find_checkpoint
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    RECORD_FILE,
    STATE_FILE,
    model_file_of,
    remove_outputs,
    repair_checkpoints,
    step_folders,
)
from trainer.run.index import read_index
from trainer.run.lock import check_free, is_locked, locked
from trainer.run.record import RunStatus, has_saved_nothing, status_of


def find_saved(reference: str, *, root: Path) -> SavedStep:
    """The checkpoint that `reference` names, for reading only: of a run, its best.

    Only the header is read. Raises InputError or EnvironmentFault.
    """
    folder = _as_referred(find_checkpoint(reference, root=root), reference, root)
    return SavedStep(folder=folder, description=read_description(model_file_of(folder)))


@contextlib.contextmanager
def open_saved(reference: str, *, root: Path, in_place: bool) -> Iterator[SavedStep]:
    """The newest intact step of the run that `reference` names.

    A step that is named itself must be intact. With `in_place` the lock of its run is held as long
    as the context is open, and what a killed process left among its checkpoints is repaired. Prints
    which damaged steps are skipped. Raises UsageError when the run is in use, CheckpointError when
    nothing in it is intact.
    """
    folder = _find_folder(reference, root, in_place=in_place)
    run = folder.parent.parent
    is_in_run = folder.parent.name == CHECKPOINTS
    with contextlib.ExitStack() as stack:
        # The lock first: what looks left behind may be the save of a run that trains.
        if in_place and is_in_run:
            stack.enter_context(locked(run))
            repair_checkpoints(run)
        # A step that a person names is never replaced by another, be it damaged.
        is_choice = is_in_run and not _names_step(Path(reference), folder)
        candidates = step_folders(run)[::-1] if is_choice else [folder]
        saved = next(filter(None, map(read_step, candidates)), None)
        if saved is None:
            raise _no_intact_step(candidates[0])
        skipped = [step.name for step in candidates[: candidates.index(saved.folder)]]
        if skipped:
            sys.stderr.write(
                f"Warning: {', '.join(skipped)} of {run} is damaged; continuing from "
                f"{saved.folder.name}, an intact one.\n"
            )
        saved.in_place = in_place
        yield saved


@contextlib.contextmanager
def open_folder(run: Path) -> Iterator[SavedStep | None]:
    """The newest intact step of an interrupted run in `run`; None where nothing is saved.

    What a run wrote that saved nothing is removed, so that training can begin there. Raises as
    `open_saved`.
    """
    if (run / RECORD_FILE).is_file():
        with locked(run):
            repair_checkpoints(run)
            if has_saved_nothing(run):
                remove_outputs(run)
    if (run / RECORD_FILE).is_file() and step_folders(run):
        with open_saved(str(run), root=run, in_place=True) as saved:
            yield saved
    else:
        yield None


@contextlib.contextmanager
def open_interrupted(config: FitConfig, *, root: Path) -> Iterator[SavedStep | None]:
    """The step from which `resume=auto` continues: of the newest interrupted run of this config.

    None when there is none, and training begins. With `run.dir` only that folder counts. Raises
    UsageError when the run in it is complete, in use or of another config.
    """
    trains_as = comparable(config)
    with contextlib.ExitStack() as stack:
        if config.run.dir is None:
            yield _newest_interrupted(root, trains_as, stack)
            return
        run = Path(config.run.dir)
        if status_of(run) is RunStatus.DONE:
            words = eval_words(to_plain(config))
            evaluate = command_line("eval", override("ckpt", str(run)), *words)
            raise UsageError(f"{run} is complete.", hint=f"To evaluate it: {evaluate}")
        saved = stack.enter_context(open_folder(run))
        if saved is not None and comparable(saved.description.config) != trains_as:
            resume = command_line("fit", override("resume", str(run)), *own_words(to_plain(config)))
            raise UsageError(
                f"{run} is a run of another config.",
                hint=f"To change it on purpose: {resume}; else name another run.dir.",
            )
        yield saved


def _newest_interrupted(
    root: Path, trains_as: dict[str, object], stack: contextlib.ExitStack
) -> SavedStep | None:
    for entry in read_index(root):
        run = entry.path
        if entry.status is not RunStatus.INTERRUPTED or is_locked(run):
            continue
        # A glance at the headers first: a run of another config is not read whole.
        if not any(_is_of(step, trains_as) for step in step_folders(run)):
            continue
        saved = stack.enter_context(open_saved(str(run), root=root, in_place=True))
        # The headers of damaged steps may have promised it; the newest intact one decides.
        if comparable(saved.description.config) == trains_as:
            return saved
        stack.close()  # another run's lock is given back before the next is tried
    return None


def _is_of(step: Path, trains_as: dict[str, object]) -> bool:
    try:
        return comparable(read_description(step / MODEL_FILE).config) == trains_as
    except TrainerError:
        return False


def _find_folder(reference: str, root: Path, *, in_place: bool) -> Path:
    """The newest step folder that `reference` means; raises InputError or UsageError."""
    try:
        folder = find_checkpoint(reference, root=root, prefer="last")
        folder = _as_referred(folder, reference, root)
    except InputError:
        if in_place:
            check_free(Path(reference))  # a run in use may not have saved yet
        raise
    if not folder.is_dir():
        read_header(folder)  # what is no checkpoint at all has another error
        raise CheckpointError(
            f"{folder} holds weights only, and a resume needs the optimizer's state beside them.",
            hint="Give a run folder or a step folder: resume=runs/<run>",
        )
    return folder


def _as_referred(folder: Path, reference: str, root: Path) -> Path:
    """`folder` from the working directory, where a link made it absolute and no word of a person's.

    A run then prints the same paths when it begins and when it is resumed.
    """
    if not folder.is_absolute() or Path(reference).is_absolute() or root.is_absolute():
        return folder
    try:
        return folder.relative_to(Path.cwd().resolve())
    except ValueError:
        return folder


def _names_step(reference: Path, folder: Path) -> bool:
    """Whether a person named that very step: by its folder, a file in it, or a link to it."""
    # Not Path.resolve, which raises where links go round.
    here = Path(os.path.realpath(reference))
    return Path(os.path.realpath(folder)) in (here, here.parent)


def _no_intact_step(newest: Path) -> CheckpointError:
    for name in (MODEL_FILE, STATE_FILE):
        read_file(newest / name)  # raises, saying what is wrong with it
    return CheckpointError(
        f"{newest} holds another step than its name says: it was renamed.",
        hint="Give it its own name back, or continue from it in a new folder under another name: "
        "run.dir=…",
    )
