"""Where a run goes on from: the checkpoint, what has changed since, and what may not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.checkpoint.header import Description, is_usable, read_description
from trainer.checkpoint.load import load_into, load_weights, restore
from trainer.commands.build import check_checkpoint_fits
from trainer.commands.fit import summary as report
from trainer.commands.fit.components import Components
from trainer.config import FitConfig, to_plain
from trainer.data.load import Data
from trainer.engine.progress import Progress
from trainer.errors import CheckpointError, UsageError
from trainer.files import read_json
from trainer.run.folder import CHECKPOINTS, MODEL_FILE, step_folders
from trainer.tracking.console import Terminal
from trainer.tracking.records import ResumePoint

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A step folder to go on from, `in_place` or in a new folder, and the keys that the config
    has changed since.
    """

    step_folder: Path
    in_place: bool
    description: Description
    changes: dict[str, tuple[Any, Any]]

    @property
    def run(self) -> Path:
        """The run folder it belongs to."""
        return self.step_folder.parent.parent

    @property
    def progress(self) -> Progress:
        """Where the run stood."""
        return Progress(**self.description.progress)

    def check_model(self, config: FitConfig, data: Data) -> None:
        """Raises CheckpointError unless its weights fit the model that `config` makes for
        `data`; makes no model.
        """
        shape, num_outputs = data.input_shape, data.num_outputs
        check_checkpoint_fits(
            config,
            self._weights(),
            input_shape=shape,
            num_outputs=num_outputs,
            source=self.step_folder,
        )

    def load(self, components: Components, terminal: Terminal) -> None:
        """Bring `components` to where the checkpoint stood, and say what is not as it was; raises
        CheckpointError.
        """
        self._check_not_complete(components)
        load_into(components.evaluated, self._weights(), source=self.step_folder)
        restore(self.step_folder, components.table)
        self._check_place(components)
        if self.changes:
            told = (
                f"{key} {_shown(old)} -> {_shown(new)}"
                for key, (old, new) in self.changes.items()
                # Another logger has other keys: that it is another one says it.
                if not (
                    key.startswith("logger.")
                    and key != "logger.name"
                    and "logger.name" in self.changes
                )
            )
            terminal.line(f"Changed since it was saved: {', '.join(told)}.")
        record = self.run / "run.json"
        if self.in_place and record.exists() and not read_json(record):
            terminal.warn(
                f"{record} is damaged and is written anew: since when the run is, and its changes, "
                "are lost."
            )
        for difference in components.machine.differences:
            terminal.warn(f"{difference}; results will not be bit-identical.")

    def point(self, components: Components) -> ResumePoint | None:
        """From where its records go on; None in a new folder, which has none yet."""
        step = components.state.progress.step
        return (
            ResumePoint(step=step, splits=components.state.loop_state.splits_at(step))
            if self.in_place
            else None
        )

    def _weights(self) -> dict[str, Tensor]:
        return load_weights(self.step_folder, self.description.aliases)

    def _check_place(self, components: Components) -> None:
        """The two files of a step are at the same place, and it is one that training can go on from."""
        done = components.state.progress
        if (
            done.counters() != self.progress.counters()
            or done.batch >= components.data.train.num_batches
        ):
            raise CheckpointError(
                f"{self.step_folder}: its progress does not fit this run: epoch {done.epoch}, "
                f"batch {done.batch}, "
                f"step {done.step}.",
                hint="Nothing was changed. Resume from another step.",
            )

    def _check_not_complete(self, components: Components) -> None:
        done = self.progress
        is_done = read_json(self.run / "run.json").get("status") == "done"
        if components.state.limits.are_reached(done) and (is_done or not self.in_place):
            raise UsageError(
                f"{self.step_folder} is complete: epoch {done.epoch} of {components.state.limits.epochs}, "
                f"step {done.step}.",
                hint=f"To train longer, add {report.longer(components.state.limits, done)}",
            )


def read_origin(config: FitConfig, step_folder: Path) -> Origin:
    """The origin that `config.resume` means, compared with the config; raises UsageError or
    CheckpointError.

    For a run gone on with in place, its lock must be held.
    """
    in_place = config.run.dir is None
    if in_place:
        _check_newest(step_folder)
    description = read_description(step_folder / MODEL_FILE)
    changes = _changes(to_plain(description.config), to_plain(config))
    origin = Origin(
        step_folder=step_folder, in_place=in_place, description=description, changes=changes
    )
    if "optimizer.name" in changes:
        saved, asked = changes["optimizer.name"]
        raise CheckpointError(
            f"optimizer={asked}, but {step_folder} holds the state of {saved}.",
            hint=f"Go on with optimizer={saved}, or start anew.",
        )
    moved = [key for key in changes if key.startswith(_PLACE) and not key.startswith(_NOT_PLACE)]
    if moved and origin.progress.batch:
        raise UsageError(
            f"{moved[0]} can change between two epochs only; {step_folder.name} is at batch "
            f"{origin.progress.batch}"
            f" of epoch {origin.progress.epoch + 1}.",
            hint="Go on without the change, or from a step that ends an epoch, into a new folder "
            "(run.dir=…).",
        )
    return origin


def _check_newest(step_folder: Path) -> None:
    """Refuse to go on in place from anything but the newest step: the steps after it would be of
    another past.
    """
    if step_folder.parent.name != CHECKPOINTS:
        raise UsageError(
            f"{step_folder} is not in the checkpoints of a run.",
            hint="Name a folder for the run: add run.dir=…",
        )
    steps = step_folders(step_folder.parent.parent)
    newer = [step for step in steps[steps.index(step_folder) + 1 :] if is_usable(step)]
    if newer:
        raise UsageError(
            f"{step_folder} is not the newest step of its run, which is {newer[-1].name}.",
            hint="To branch off from it, name a new folder: add run.dir=…",
        )


def _changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Every key whose value differs, as (saved, now); where results go and what is resumed is
    not compared.
    """
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


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
