"""The checkpoint that a command starts from: found, verified, described and read once.

Finding and comparing need no torch, so that a wrong command is answered before torch is loaded.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.checkpoint.file import CheckpointFile, read_file, read_header
from trainer.checkpoint.header import Description, parse_description, read_description
from trainer.config import FitConfig, comparable, to_plain
from trainer.errors import (
    CheckpointError,
    EnvironmentFault,
    InputError,
    TrainerError,
    UsageError,
)
from trainer.files import read_json
from trainer.run.find import find_checkpoint
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    RECORD_FILE,
    STATE_FILE,
    remove_outputs,
    repair_checkpoints,
    step_folders,
    step_of,
)
from trainer.run.index import read_index
from trainer.run.lock import check_free, is_locked, locked
from trainer.run.record import RunStatus, has_saved_nothing, status_of
from trainer.tracking.records import ResumePoint

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.commands.fit.components import Parts
    from trainer.data.load import Data
    from trainer.engine.progress import Progress
    from trainer.tracking.console import Terminal

# What a place within an epoch depends on: with any of these changed, it would be a place in another
# epoch.
_PLACE = ("seed", "trainer.accumulate", "data.")
_NOT_PLACE = (
    "data.root",
    "data.eval_batch_size",
    "data.eval_limit",
    "data.num_workers",
    "data.test_kwargs",
)


@dataclass(slots=True, kw_only=True)
class SavedStep:
    """A step folder (for eval also a bare model file), and what it says of itself.

    With `in_place`, training continues in its run folder, whose lock is held. `changes` are the
    keys that the config of the command sets to another value, as (saved, now).
    """

    folder: Path
    description: Description
    in_place: bool = False
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    # The files as they were verified: kept until they are loaded, so that each is read once.
    _model: CheckpointFile | None = None
    _state: CheckpointFile | None = None

    @property
    def run(self) -> Path:
        """The run folder it belongs to."""
        return self.folder.parent.parent

    @property
    def model_file(self) -> Path:
        """The file with the weights."""
        return self.folder / MODEL_FILE if self.folder.is_dir() else self.folder

    @property
    def progress(self) -> Progress:
        """How far the run had come."""
        from trainer.engine.progress import Progress

        return Progress(**self.description.progress)

    def weights(self) -> dict[str, Tensor]:
        """Its weights, every byte verified; raises CheckpointError or EnvironmentFault."""
        from trainer.checkpoint.load import load_weights, weights_of

        if self._model is None:
            return load_weights(self.folder, self.description.aliases)
        return weights_of(self._model, self.description.aliases)

    def compare(self, config: FitConfig) -> None:
        """Fill `changes`; raises UsageError or CheckpointError for what a resume cannot change."""
        self.folder = self.folder.resolve()  # run.json and messages name it from anywhere
        self.in_place = config.run.dir is None
        if self.in_place:
            _check_newest(self.folder)
        self.changes = _changes(to_plain(self.description.config), to_plain(config))
        if "optimizer.name" in self.changes:
            saved, now = self.changes["optimizer.name"]
            raise CheckpointError(
                f"optimizer={now}, but {self.folder} holds the state of {saved}.",
                hint=f"Continue with optimizer={saved}, or start anew.",
            )
        at = self.description.progress
        moved = [key for key in self.changes if _moves_place(key)]
        if moved and at.get("batch"):
            raise UsageError(
                f"{moved[0]} can change between two epochs only; {self.folder.name} is at batch "
                f"{at['batch']} of epoch {at.get('epoch', 0) + 1}.",
                hint="Continue without the change, or from a step that ends an epoch, into a new "
                "folder (run.dir=…).",
            )

    def check_model(self, config: FitConfig, data: Data) -> None:
        """Raise CheckpointError unless its weights fit the model of `config`; makes no model."""
        from trainer.commands.build import check_checkpoint_fits

        check_checkpoint_fits(
            config,
            self.weights(),
            input_shape=data.input_shape,
            num_outputs=data.num_outputs,
            source=self.folder,
        )

    def load(self, parts: Parts, terminal: Terminal) -> None:
        """Bring `parts` to this step and print what has changed; raises CheckpointError.

        The files are let go afterwards: they would take memory for as long as the run trains.
        """
        from trainer.checkpoint.load import load_into, restore_from

        assert self._model is not None and self._state is not None, "a step to resume was read"
        self._check_not_complete(parts)
        load_into(parts.evaluated, self.weights(), source=self.folder)
        restore_from(self._state, parts.table, model_seal=self._model.header.seal)
        self._model = self._state = None
        self._check_place(parts)
        self._print_changes(parts, terminal)

    def point(self, parts: Parts) -> ResumePoint | None:
        """Where its records end; None in a new folder, which has none yet."""
        if not self.in_place:
            return None
        step = parts.progress.step
        return ResumePoint(step=step, splits=parts.standing.splits_at(step))

    def _print_changes(self, parts: Parts, terminal: Terminal) -> None:
        if self.changes:
            # Another logger has other keys: its name alone says it.
            has_other_logger = "logger.name" in self.changes
            words = [
                f"{key} {_text(old)} -> {_text(new)}"
                for key, (old, new) in self.changes.items()
                if key == "logger.name" or not (has_other_logger and key.startswith("logger."))
            ]
            terminal.line(f"Changed since it was saved: {', '.join(words)}.")
        record = self.run / RECORD_FILE
        if self.in_place and record.exists() and not read_json(record):
            terminal.warn(
                f"{record} is damaged and is written anew: when the run began, and its changes, "
                "are lost."
            )
        for difference in parts.machine.differences:
            terminal.warn(f"{difference}; results will not be bit-identical.")

    def _check_place(self, parts: Parts) -> None:
        """Check that both files are at the same place, and that training can continue there."""
        done = parts.progress
        is_in_epoch = done.batch < parts.data.train.num_batches
        if done.counters() != self.progress.counters() or not is_in_epoch:
            raise CheckpointError(
                f"{self.folder}: its progress does not fit this run: epoch {done.epoch}, batch "
                f"{done.batch}, step {done.step}.",
                hint="Nothing was changed. Resume from another step.",
            )

    def _check_not_complete(self, parts: Parts) -> None:
        from trainer.commands.fit.summary import longer

        done = self.progress
        is_done = read_json(self.run / RECORD_FILE).get("status") == RunStatus.DONE
        if parts.limits.are_reached(done) and (is_done or not self.in_place):
            raise UsageError(
                f"{self.folder} is complete: epoch {done.epoch} of {parts.limits.epochs}, step "
                f"{done.step}.",
                hint=f"To train longer, add {longer(parts.limits, done)}",
            )


def find_saved(reference: str, *, root: Path) -> SavedStep:
    """The checkpoint that `reference` names, for reading only: of a run, its best.

    Only the header is read. Raises InputError or EnvironmentFault.
    """
    folder = find_checkpoint(reference, root=root)
    model_file = folder / MODEL_FILE if folder.is_dir() else folder
    return SavedStep(folder=folder, description=read_description(model_file))


@contextlib.contextmanager
def open_saved(reference: str, *, root: Path, in_place: bool) -> Iterator[SavedStep]:
    """The newest intact step of the run that `reference` names; a step named itself must be intact.

    With `in_place` the lock of its run is held as long as the context is open, and what a killed
    process left among its checkpoints is repaired. Prints which damaged steps are skipped. Raises
    UsageError when the run is in use, CheckpointError when nothing in it is intact.
    """
    folder = _find_folder(reference, root, in_place=in_place)
    run = folder.parent.parent
    is_in_run = folder.parent.name == CHECKPOINTS
    with contextlib.ExitStack() as stack:
        if in_place and is_in_run:
            stack.enter_context(locked(run))
            repair_checkpoints(run)
        is_choice = is_in_run and not _names_step(Path(reference), folder)
        candidates = step_folders(run)[::-1] if is_choice else [folder]
        saved = next(filter(None, map(_read_step, candidates)), None)
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
    """The newest intact step of an interrupted run in the folder `run`; None where nothing is saved.

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
            raise UsageError(
                f"{run} is complete.", hint=f"To see how it is: trainer eval ckpt={run}"
            )
        saved = stack.enter_context(open_folder(run))
        if saved is not None and comparable(saved.description.config) != trains_as:
            raise UsageError(
                f"{run} holds a run of another config.",
                hint=f"To change it on purpose: trainer fit resume={run}; else name another "
                "run.dir.",
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
        if comparable(saved.description.config) == trains_as:
            return saved
        stack.close()
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
    except InputError:
        if in_place:
            check_free(Path(reference))  # a run in use may not have saved yet
        raise
    if not folder.is_dir():
        read_header(folder)
        raise CheckpointError(
            f"{folder} holds weights only, and a resume needs the optimizer's state beside them.",
            hint="Give a run folder or a step folder: resume=runs/<run>",
        )
    return folder


def _names_step(reference: Path, folder: Path) -> bool:
    """Whether a person named that very step: by its folder, a file in it, or a link to it."""
    here = Path(os.path.realpath(reference))
    return Path(os.path.realpath(folder)) in (here, here.parent)


def _read_step(folder: Path) -> SavedStep | None:
    """Read both files of a step folder; None when it is damaged or was renamed.

    Raises CheckpointError for a step that is intact and not to be believed, EnvironmentFault for
    one that may not be read: to continue from an older one would lose it.
    """
    try:
        model, state = read_file(folder / MODEL_FILE), read_file(folder / STATE_FILE)
    except CheckpointError:
        return None
    except EnvironmentFault:
        if all(_is_readable(folder / name) for name in (MODEL_FILE, STATE_FILE)):
            return None  # a file is missing, or the disk cannot give it
        raise
    description = parse_description(model.header.description, source=model.path)
    if step_of(folder) not in (None, description.progress.get("step")):
        return None  # renamed: it would hide later steps
    return SavedStep(folder=folder, description=description, _model=model, _state=state)


def _is_readable(path: Path) -> bool:
    return not path.exists() or os.access(path, os.R_OK)


def _no_intact_step(newest: Path) -> CheckpointError:
    for name in (MODEL_FILE, STATE_FILE):
        read_file(newest / name)  # raises, saying what is wrong with it
    return CheckpointError(
        f"{newest} holds another step than its name says: it was renamed.",
        hint="Give it its own name back, or continue from it in a new folder under another name: "
        "run.dir=…",
    )


def _check_newest(step_folder: Path) -> None:
    """Refuse to continue in place from an older step: the later ones would be of another past."""
    if step_folder.parent.name != CHECKPOINTS:
        raise UsageError(
            f"{step_folder} is not in the checkpoints of a run.",
            hint="Name a folder for the run: add run.dir=…",
        )
    steps = step_folders(step_folder.parent.parent)
    for newer in reversed(steps[steps.index(step_folder) + 1 :]):
        if _read_step(newer) is not None:
            raise UsageError(
                f"{step_folder} is not the newest step of its run, which is {newer.name}.",
                hint="To branch off from it, name a new folder: add run.dir=…",
            )


def _moves_place(key: str) -> bool:
    return key.startswith(_PLACE) and not key.startswith(_NOT_PLACE)


def _changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Every key whose value differs, as (saved, now), but for where results go."""
    before, after = _flat(saved), _flat(now)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return {
        key: (before.get(key), after.get(key))
        for key in keys
        if key != "resume" and not key.startswith("run.")
    }


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
