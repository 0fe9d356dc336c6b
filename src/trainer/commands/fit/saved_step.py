"""The checkpoint that a command starts from: described, verified and read once, then compared.

Describing and comparing need no torch; what loads the weights imports it where it is called.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import __version__
from trainer.checkpoint.file import CheckpointFile, read_file
from trainer.checkpoint.header import Description, parse_description
from trainer.config import FitConfig, to_plain
from trainer.config.schema import affects, flatten
from trainer.errors import CheckpointError, DataError, EnvironmentFault, UsageError
from trainer.files import read_json
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    RECORD_FILE,
    STATE_FILE,
    model_file_of,
    step_folders,
    step_of,
)
from trainer.run.record import RunStatus, writer_of
from trainer.state_checks import StateDict
from trainer.tracking.records import ResumePoint

if TYPE_CHECKING:
    from trainer.commands.fit.components import Components
    from trainer.data.load import Data
    from trainer.engine.progress import Progress
    from trainer.tracking.console import Terminal


@dataclass(slots=True, kw_only=True)
class SavedStep:
    """A step folder (for eval also a bare model file), and what it says of itself.

    With `in_place`, training continues in its run folder, whose lock is held. `changes` are the
    keys that the config of the command sets to another value, as (saved, now).
    """

    folder: Path
    description: Description
    in_place: bool = False
    changes: dict[str, tuple[object, object]] = field(default_factory=dict)
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
        return model_file_of(self.folder)

    @property
    def progress(self) -> Progress:
        """How far the run had come."""
        from trainer.engine.progress import Progress

        return Progress(**self.description.progress)

    def weights(self) -> StateDict:
        """Its weights, every byte verified; raises CheckpointError or EnvironmentFault.

        Of a person's own model they may hold extra state beside tensors.
        """
        from trainer.checkpoint.load import state_of

        return state_of(self._model or read_file(self.model_file), self.description)

    def compare(self, config: FitConfig) -> None:
        """Fill `changes`; raises UsageError or CheckpointError for what a resume cannot change."""
        # An experiment may name a folder, too. Only ever to false: in place needs the lock.
        self.in_place = self.in_place and config.run.dir is None
        if self.in_place:
            _check_newest(self.folder)
        self.changes = _changes(self.description.config, config)
        # Its state has the numbers of another algorithm, such as momenta that this one lacks.
        if "optimizer.name" in self.changes:
            saved, now = self.changes["optimizer.name"]
            raise CheckpointError(
                f"optimizer={now}, but {self.folder} holds the state of {saved}.",
                hint=f"Continue with optimizer={saved}, or start anew.",
            )
        at = self.description.progress
        # Within an epoch `batch` counts batches of an order that the change would make anew.
        moved = [key for key in self.changes if affects(key) in ("order", "samples")]
        if moved and at.get("batch"):
            raise UsageError(
                f"{moved[0]} can change between two epochs only; {self.folder.name} is at batch "
                f"{at['batch']} of epoch {at.get('epoch', 0) + 1}.",
                hint="Continue without the change, or from a step that ends an epoch, into a new "
                "folder (run.dir=…).",
            )

    def check(self, config: FitConfig, data: Data, terminal: Terminal) -> None:
        """Raise CheckpointError unless its weights fit the model of `config`; makes no model.

        Raises DataError for data that was changed since, before that.
        """
        from trainer.commands.build import check_checkpoint_fits

        self._check_data(data, terminal)
        check_checkpoint_fits(
            config,
            self.weights(),
            input_shape=data.input_shape,
            num_outputs=data.num_outputs,
            source=self.folder,
        )

    def _check_data(self, data: Data, terminal: Terminal) -> None:
        """Raise DataError when the data was changed since, unless a branch begins an epoch.

        That is a warning. Data that the command names anew is not compared.
        """
        from trainer.data.fingerprint import differences

        # `data.kwargs.path` is as its table.
        named = {".".join(key.split(".")[:2]) for key in self.changes}
        if named & {"data.name", "data.target", "data.kwargs", "data.task", "data.num_classes"}:
            return
        then = {
            name: value
            for name, value in self.description.checksums.items()
            if not (name.startswith("test ") and "data.test_kwargs" in named)
        }
        changed = differences(then, data.checksums, reread=data.reread)
        if not changed:
            return
        what = f"The data is not what {self.folder} was trained on: {', '.join(changed)}."
        if self.in_place or self.description.progress.get("batch"):
            raise DataError(
                what,
                hint="Restore the data as it was. Other data can only begin with an epoch, in a "
                "new folder: run.dir=…",
            )
        terminal.warn(f"{what} The branch continues with the changed data.")

    def load(self, components: Components, terminal: Terminal) -> None:
        """Bring `components` to this step and print what has changed; raises CheckpointError.

        The files are let go afterwards: they would take memory for as long as the run trains.
        """
        from trainer.checkpoint.load import load_into, restore_from

        assert self._model is not None and self._state is not None, "a step to resume was read"
        load_into(components.evaluated, self.weights(), source=self.folder)
        restore_from(self._state, components.table, model_seal=self._model.header.seal)
        self._model = self._state = None
        self._check_not_complete(components)
        self._check_place(components)
        components.place_schedule()
        self._print_changes(components, terminal)

    def point(self, components: Components) -> ResumePoint | None:
        """Where its records end; None in a new folder, which has none yet."""
        if not self.in_place:
            return None
        step = components.state.progress.step
        return ResumePoint(step=step, splits=components.state.loop_state.splits_at(step))

    def _print_changes(self, components: Components, terminal: Terminal) -> None:
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
        writer = writer_of(self.run, step=self.progress.step)
        if writer not in (None, __version__):
            terminal.warn(
                f"It was trained by trainer {writer} so far, and this is {__version__}: results "
                "may differ. run.json keeps who trained which part."
            )
        for difference in components.machine.differences:
            terminal.warn(f"{difference}; results will not be bit-identical.")

    def _check_place(self, components: Components) -> None:
        """Check that both files are at the same place, and that training can continue there."""
        # A batch behind the end of the epoch would never be reached: training would never end.
        done = components.state.progress
        is_in_epoch = done.batch < components.data.train.num_batches
        if done.counters() != self.progress.counters() or not is_in_epoch:
            raise CheckpointError(
                f"{self.folder}: its progress does not fit this run: epoch {done.epoch}, batch "
                f"{done.batch}, step {done.step}.",
                hint="Nothing was changed. Resume from another step.",
            )

    def _check_not_complete(self, components: Components) -> None:
        from trainer.commands.fit.summary import longer

        done = self.progress
        limits = components.state.limits
        # A branch has no best yet, and its patience starts again.
        monitor = components.state.monitor if self.in_place else None
        is_done = read_json(self.run / RECORD_FILE).get("status") == RunStatus.DONE
        words = longer(limits, done, monitor)
        # A run that was killed between its last step and its test can still be resumed, in place.
        if not words or not (is_done or not self.in_place):
            return
        what = (
            f"{self.folder} is complete: epoch {done.epoch} of {limits.epochs}, step {done.step}."
        )
        if not limits.are_reached(done):
            stale = components.state.monitor
            what = (
                f"{self.folder} is complete: it stopped early, {stale.metric} had not improved for "
                f"{stale.num_stale} evaluations."
            )
        *others, last = words
        where = f"Several limits are reached: {' '.join(others)} is needed too." if others else None
        raise UsageError(what, where=where, hint=f"To train longer, add {last}")


def read_step(folder: Path) -> SavedStep | None:
    """Read both files of a step folder; None when it is damaged or was renamed.

    Raises CheckpointError for a step that is intact but has wrong values, EnvironmentFault for one
    that may not be read: a resume from an older step would lose it.
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


def _check_newest(step_folder: Path) -> None:
    """Refuse to continue in place from an older step: the later ones would be of another past."""
    if step_folder.parent.name != CHECKPOINTS:
        raise UsageError(
            f"{step_folder} is not in the checkpoints of a run.",
            hint="Name a folder for the run: add run.dir=…",
        )
    # A later step that is damaged does not count: the resume skips it, too.
    steps = step_folders(step_folder.parent.parent)
    place = [step.name for step in steps].index(step_folder.name)
    for newer in reversed(steps[place + 1 :]):
        if read_step(newer) is not None:
            raise UsageError(
                f"{step_folder} is not the newest step of its run, which is {newer.name}.",
                hint="To branch off from it, name a new folder: add run.dir=…",
            )


def _changes(saved: FitConfig, now: FitConfig) -> dict[str, tuple[object, object]]:
    """Every key whose value differs, as (saved, now), but for those that say where results go."""
    before, after = (flatten(to_plain(config)) for config in (saved, now))
    return {
        key: (before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) != after.get(key) and affects(key) != "command"
    }


def _text(value: object) -> str:
    return "null" if value is None else str(value)
