"""The description a checkpoint carries of itself: JSON text in the header of a safetensors file. Torch is not needed.

Headers come from outside: they are bounded, and their shape is checked before anything is believed.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import FitConfig, from_saved
from trainer.errors import CheckpointError, EnvironmentFault

FORMAT_KEY, DIGEST_KEY = "trainer", "sha256"
VERSION = 1
# Ours are a few kilobytes; a stranger's may try to fill the memory.
_MAX_HEADER_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What model.safetensors says of itself: enough to build the model, load its data and know where it stood."""

    config: FitConfig
    progress: dict[str, int]
    metrics: dict[str, float | None]
    input_shape: tuple[int, ...]
    num_outputs: int
    checksums: dict[str, str]
    aliases: dict[str, str]


def read_text(path: Path) -> str:
    """The description of the checkpoint file at `path` as JSON text; raises CheckpointError or EnvironmentFault."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
                raise CheckpointError(
                    f"{path} is not a safetensors file, or it is damaged.", hint="Nothing was loaded."
                )
            header = json.loads(file.read(length))
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is not JSON.", hint="Nothing was loaded.") from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    text = metadata.get(FORMAT_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise CheckpointError(
            f"{path} is a safetensors file, but not one that trainer wrote: it does not describe itself.",
            hint="Give a checkpoint that `trainer fit` saved.",
        )
    return text


def read_description(path: Path) -> Description:
    """The description of the model file at `path`, every field checked; raises CheckpointError or EnvironmentFault."""
    content = parse(read_text(path), source=path)
    fields = {"version", "config", "progress", "metrics", "input_shape", "num_outputs", "checksums", "aliases"}
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {content.get('version')}, and this trainer reads version {VERSION}.",
            hint="Use the version of trainer that wrote it: its run.json names it.",
        )
    if set(content) != fields:
        wrong = sorted(set(content) ^ fields)
        raise CheckpointError(
            f"{path}: unknown or missing field {wrong[0]} in its description.", hint="Nothing was loaded."
        )
    shape, num_outputs = content["input_shape"], content["num_outputs"]
    is_shape = isinstance(shape, list) and 1 <= len(shape) <= 4 and all(_is_count(size) for size in shape)
    if not is_shape or not _is_count(num_outputs):
        raise CheckpointError(
            f"{path}: its input shape or number of outputs makes no sense.", hint="Nothing was loaded."
        )
    _check_table(content["progress"], int, "progress", path)
    if (
        set(content["progress"]) - {"epoch", "batch", "step", "samples"}
        or min(content["progress"].values(), default=0) < 0
    ):
        raise CheckpointError(f"{path}: its counters make no sense.", hint="Nothing was loaded.")
    _check_table(content["metrics"], (int, float, type(None)), "metrics", path)
    _check_table(content["checksums"], str, "checksums", path)
    _check_table(content["aliases"], str, "aliases", path)
    if not isinstance(content["config"], dict):
        raise CheckpointError(f"{path}: its config is not a table.", hint="Nothing was loaded.")
    return Description(
        config=from_saved(content["config"], source=str(path)),
        progress=content["progress"],
        metrics=content["metrics"],
        input_shape=tuple(shape),
        num_outputs=num_outputs,
        checksums=content["checksums"],
        aliases=content["aliases"],
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
        raise CheckpointError(f"{source} is damaged: its description is not a table.", hint="Nothing was loaded.")
    return content


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_000_000


def _check_table(table: object, types: type | tuple[type, ...], name: str, path: Path) -> None:
    if not isinstance(table, dict) or not all(isinstance(value, types) for value in table.values()):
        raise CheckpointError(
            f"{path}: the field {name} of its description has the wrong type.", hint="Nothing was loaded."
        )
