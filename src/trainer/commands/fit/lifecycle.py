"""A run and its folder: made, and what is written there when the run begins and when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from trainer.commands.fit.compile import Choice
from trainer.commands.fit.components import Components
from trainer.commands.fit.saved_step import SavedStep
from trainer.config import FitConfig, to_plain
from trainer.errors import (
    EnvironmentFault,
    Stopped,
    TrainerError,
    TrainingError,
    one_line,
    reason_of,
)
from trainer.files import remove, write_text
from trainer.run.folder import (
    LOCK_FILE,
    create_dated_folder,
    create_exact_folder,
    remove_outputs,
    step_folders,
)
from trainer.run.lock import check_free
from trainer.run.record import RunRecord, RunStatus
from trainer.signals import Signals
from trainer.tracking.console import Terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has begun: what it trains with, its folder and record, and who started it how.

    `folder` is as a person gave it, for messages; that of `record` is absolute, for writing.
    `saved` is the checkpoint it was resumed from, `varied` the keys that its sweep varies.
    """

    components: Components
    folder: Path
    record: RunRecord
    saved: SavedStep | None
    terminal: Terminal
    signals: Signals
    command: Sequence[str]
    varied: Sequence[str]


def new_folder(config: FitConfig) -> Path:
    """Make the folder of a run; raises UsageError when it is in use, or EnvironmentFault."""
    if config.run.dir is not None:
        # A folder in use is not empty either, but who uses it is the more useful message.
        check_free(Path(config.run.dir))
        return create_exact_folder(Path(config.run.dir))
    return create_dated_folder(Path(config.run.root), config.run_name)


def begin(
    components: Components,
    folder: Path,
    *,
    command: Sequence[str],
    saved: SavedStep | None,
    choice: Choice,
) -> RunRecord:
    """Write run.json and config.yaml; raises EnvironmentFault when they cannot be written."""
    config = components.config
    resumed = None
    if saved is not None:
        resumed = {
            "from": str(saved.folder.resolve()),  # from anywhere
            "step": components.state.progress.step,
            "changes": saved.changes,
        }
    try:
        # run.json first: by it a later command knows a run.
        record = RunRecord(
            folder,
            command=command,
            seed=config.seed,
            checksums=components.data.checksums,
            compiling=choice.as_record(),
            steps=components.num_updates,
            resumed=resumed,
        )
        text = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
        write_text(folder / "config.yaml", text)
        return record
    except BaseException as error:
        # Also after Ctrl-C: a new folder with half a record could never be used again.
        if saved is None or not saved.in_place:
            _remove_new(folder)
        if not isinstance(error, OSError):
            raise
        raise EnvironmentFault(
            f"Could not write to the run folder {folder}: {reason_of(error)}.",
            hint="Correct that and start it again, or choose another place with run.root=… or "
            "run.dir=…",
        ) from error


def _remove_new(folder: Path) -> None:
    """Remove a folder with no results yet: the same command must work once there is space."""
    remove_outputs(folder)
    remove(folder / LOCK_FILE)
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def ending(record: RunRecord, folder: Path) -> Iterator[None]:
    """Write to run.json whatever ends the run early."""
    try:
        yield
    # BrokenPipeError: whoever reads the output has gone, as `head` does. The run can be resumed.
    except (Stopped, KeyboardInterrupt, SystemExit, BrokenPipeError):
        record_end(record, RunStatus.INTERRUPTED)
        raise
    except TrainerError as error:
        status = RunStatus.FAILED
        if isinstance(error, EnvironmentFault):
            # Not the run's fault: it can be resumed once the machine works again.
            status = RunStatus.INTERRUPTED
        if isinstance(error, TrainingError):
            steps = step_folders(folder)
            error.where = "No checkpoint had been saved yet."
            if steps:
                error.where = f"Last good checkpoint: {steps[-1]}."
        record_end(record, status, error.what)
        raise
    except Exception as error:
        record_end(record, RunStatus.FAILED, one_line(f"{type(error).__name__}: {error}"))
        raise


def record_end(record: RunRecord, status: RunStatus, error: str | None = None) -> None:
    """Write down how the run ended, unless it is done: a later error does not undo that."""
    # The disk may be what ended the run: then its own error is the one to report.
    with contextlib.suppress(OSError):
        if not record.is_done:
            record.end(status, error=error)
