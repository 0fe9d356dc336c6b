"""The description a checkpoint carries of itself: JSON text in a closed schema. Torch is not
needed.

It comes from outside: every field is checked before anything is believed, and nothing in it is
resolved or imported.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint.file import MAX_NAME, is_intact, read_file, read_header
from trainer.config import FitConfig, from_saved
from trainer.errors import CheckpointError
from trainer.run.folder import MODEL_FILE, step_of

VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What model.safetensors says of itself: enough to build the model, load its data and know
    where it stood.
    """

    config: FitConfig
    progress: dict[str, int]
    metrics: dict[str, float | None]
    input_shape: tuple[int, ...]
    num_outputs: int
    checksums: dict[str, str]
    aliases: dict[str, str]


def read_description(path: Path) -> Description:
    """The description of the model file at `path`, every field checked; raises CheckpointError
    or EnvironmentFault.
    """
    try:
        return _read_description(path)
    except CheckpointError:
        read_file(path)  # of a damaged file, that it is damaged is the thing to tell
        raise


def is_usable(step: Path) -> bool:
    """Whether a step folder is intact and holds the step that its name says; a renamed one would
    hide later ones.

    Raises CheckpointError for one that is intact and not to be believed.
    """
    if not is_intact(step):
        return False
    number = step_of(step)
    return number is None or number == read_description(step / MODEL_FILE).progress.get("step")


def _read_description(path: Path) -> Description:
    content = parse(read_header(path).description, source=path)
    check_version(content, source=path)
    fields = {
        "version",
        "config",
        "progress",
        "metrics",
        "input_shape",
        "num_outputs",
        "checksums",
        "aliases",
    }
    if set(content) != fields:
        wrong = sorted(set(content) ^ fields)
        raise _refused(path, f"unknown or missing field {wrong[0][:60]} in its description")
    shape, num_outputs, progress = (
        content["input_shape"],
        content["num_outputs"],
        content["progress"],
    )
    is_shape = (
        isinstance(shape, list) and 1 <= len(shape) <= 4 and all(_is_count(size) for size in shape)
    )
    if not is_shape or not _is_count(num_outputs):
        raise _refused(path, "its input shape or number of outputs makes no sense")
    _check_table(progress, int, "progress", path)
    counts = progress.values()
    if set(progress) - {"epoch", "batch", "step", "samples"} or not all(
        0 <= count < 2**53 for count in counts
    ):
        raise _refused(path, "its counters make no sense")
    _check_table(content["metrics"], (int, float, type(None)), "metrics", path)
    _check_table(content["checksums"], str, "checksums", path)
    _check_table(content["aliases"], str, "aliases", path)
    if not isinstance(content["config"], dict):
        raise _refused(path, "its config is not a table")
    return Description(
        config=from_saved(content["config"], source=str(path)),
        progress=progress,
        metrics=content["metrics"],
        input_shape=tuple(shape),
        num_outputs=num_outputs,
        checksums=content["checksums"],
        aliases=content["aliases"],
    )


def check_version(content: dict[str, Any], *, source: Path) -> None:
    """Raises CheckpointError for a description that another version of trainer wrote."""
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{source} has format version {str(content.get('version'))[:20]}; this trainer reads "
            f"version {VERSION}.",
            hint="Use the version of trainer that wrote it: its run.json names it.",
        )


def parse(text: str, *, source: Path) -> dict[str, Any]:
    """JSON text as a table; raises CheckpointError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{source} is damaged: its description is not JSON.", hint="Nothing was loaded."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{source} is damaged: its description is not a table.", hint="Nothing was loaded."
        )
    return content


def _refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path}: {why}.", hint="Nothing was loaded.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000


def _check_table(table: object, types: type | tuple[type, ...], name: str, path: Path) -> None:
    is_table = isinstance(table, dict) and all(
        isinstance(value, types)
        and not isinstance(value, bool)
        and key.isprintable()
        and len(key) <= MAX_NAME
        for key, value in table.items()
    )
    if not is_table:
        raise _refused(path, f"the field {name} of its description has the wrong type")
