"""The folder of a run: made, and what is written there when the run begins and however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from trainer.commands.fit.compile import Choice
from trainer.commands.fit.components import Parts
from trainer.commands.fit.resume import SavedStep
from trainer.config import FitConfig, to_plain
from trainer.errors import EnvironmentFault, Stopped, TrainerError, TrainingError
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


def new_folder(config: FitConfig) -> Path:
    """Make the folder of a run; raises UsageError when another is in it, EnvironmentFault where
    none can be made.
    """
    if config.run.dir is not None:
        check_free(Path(config.run.dir))
        return create_exact_folder(Path(config.run.dir))
    return create_dated_folder(Path(config.run.root), config.run_name)


def begin(
    parts: Parts, folder: Path, *, command: Sequence[str], origin: SavedStep | None, choice: Choice
) -> RunRecord:
    """Write down what will run: run.json and config.yaml; raises EnvironmentFault when they
    cannot be written.
    """
    config, resumed = parts.config, None
    if origin is not None:
        resumed = {
            "from": str(origin.folder),
            "step": parts.progress.step,
            "changes": origin.changes,
        }
    try:
        # run.json first: it is what a later command knows a run by.
        record = RunRecord(
            folder,
            command=command,
            seed=config.seed,
            checksums=parts.data.checksums,
            compiling=choice.as_record(),
            steps=parts.limits.num_updates(parts.data.train.num_batches),
            resumed=resumed,
        )
        write_text(
            folder / "config.yaml",
            yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True),
        )
        return record
    except BaseException as error:
        if (
            origin is None or not origin.in_place
        ):  # nothing is in it yet, and the same command must work when there is space
            remove_outputs(folder)
            remove(folder / LOCK_FILE)
            with contextlib.suppress(OSError):
                folder.rmdir()
        if not isinstance(error, OSError):
            raise
        raise EnvironmentFault(
            f"Could not write to the run folder {folder}: {error.strerror or error}.",
            hint="Put that right and start it again, or choose another place with run.root=… or "
            "run.dir=…",
        ) from error


@contextlib.contextmanager
def ending(record: RunRecord, folder: Path) -> Iterator[None]:
    """Whatever ends the run early is written to its run.json."""
    try:
        yield
    except TrainingError as error:
        steps = step_folders(folder)
        error.where = (
            f"Last good checkpoint: {steps[-1]}." if steps else "No checkpoint had been saved yet."
        )
        record_end(record, RunStatus.FAILED, error.what)
        raise
    except (Stopped, KeyboardInterrupt, SystemExit, BrokenPipeError):
        record_end(record, RunStatus.INTERRUPTED, None)
        raise
    except EnvironmentFault as error:
        # Not the run's fault: with the machine put right it can go on.
        record_end(record, RunStatus.INTERRUPTED, error.what)
        raise
    except TrainerError as error:
        record_end(record, RunStatus.FAILED, error.what)
        raise
    except Exception as error:
        record_end(record, RunStatus.FAILED, f"{type(error).__name__}: {error}")
        raise


def record_end(record: RunRecord, status: RunStatus, error: str | None) -> None:
    """Write down how the run ended, unless it is done already."""
    # The disk may be what ended the run: its own error is the one to tell.
    with contextlib.suppress(OSError):
        if not record.is_done:  # what ends the words about it does not undo it
            record.end(status, error=error)
