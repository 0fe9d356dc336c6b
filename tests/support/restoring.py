"""The state of a run, restored from a step folder as a resume restores it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainer.checkpoint.file import read_file
from trainer.checkpoint.load import restore_from
from trainer.checkpoint.store import Stateful
from trainer.run.folder import MODEL_FILE, STATE_FILE


def restore(folder: Path, table: Mapping[str, Stateful]) -> None:
    """Load every entry of `table`; raises CheckpointError and EnvironmentFault."""
    model = read_file(folder / MODEL_FILE)
    restore_from(read_file(folder / STATE_FILE), table, model_seal=model.header.seal)
