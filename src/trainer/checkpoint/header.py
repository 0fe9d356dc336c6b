"""The description that a checkpoint carries of itself: JSON text in a closed schema. No torch.

It comes from outside: every field is checked before it is used, and nothing in it is resolved or
imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import __version__
from trainer.checkpoint.file import is_name, read_file, read_header
from trainer.config import FitConfig, from_saved
from trainer.errors import CheckpointError
from trainer.files import JsonObject
from trainer.run.folder import step_of
from trainer.run.record import writer_of

VERSION = 2
_COUNTERS = {"epoch", "batch", "step", "samples"}
# Above it a float no longer counts exactly, and a step of 400 digits is no possible folder name.
_MAX_COUNT = 2**53
# Of an axis and of the outputs: layers are made of these sizes.
_MAX_SIZE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What model.safetensors says of itself: enough to build the model and load its data."""

    config: FitConfig
    progress: dict[str, int]
    metrics: dict[str, float | None]
    input_shape: tuple[int, ...]
    num_outputs: int
    checksums: dict[str, str]
    aliases: dict[str, str]
    # What a person's own model saves besides tensors, by name, as `tree.flatten` writes it.
    extra: dict[str, Any] = field(default_factory=dict)


# Closed: other tools passed over an unknown field, and such a field switched off the protection
# against remote code (CVE-2026-4372).
_OPTIONAL = {"extra"}
_FIELDS = {"version", *Description.__dataclass_fields__} - _OPTIONAL


def read_description(path: Path) -> Description:
    """The description of the model file at `path`, every field checked.

    Only the header is read. Raises CheckpointError or EnvironmentFault.
    """
    try:
        return parse_description(read_header(path).description, source=path)
    except CheckpointError:
        read_file(path)  # that the file is damaged is the more useful error
        raise


def parse_description(text: str, *, source: Path) -> Description:
    """The description in `text`, every field checked; raises CheckpointError naming `source`."""
    content = parse(text, source=source)
    # The version first: another one explains every unknown field.
    check_version(content, source=source)
    if set(content) - _OPTIONAL != _FIELDS:
        wrong = min((set(content) - _OPTIONAL) ^ _FIELDS)
        raise _refused(
            source,
            f"unknown or missing field {wrong[:60]} in its description",
            by=name_versions(source),
        )
    _check_shape(content["input_shape"], content["num_outputs"], source)
    _check_progress(content["progress"], source)
    _check_table(content["metrics"], (int, float, type(None)), "metrics", source)
    _check_table(content["checksums"], (str,), "checksums", source)
    _check_table(content["aliases"], (str,), "aliases", source)
    extra = content.get("extra", {})
    names = dict.fromkeys(extra, "") if isinstance(extra, dict) else None
    _check_table(names, (str,), "extra", source)
    if not isinstance(content["config"], dict):
        raise _refused(source, "its config is not a table")
    try:
        config = from_saved(content["config"], source=str(source))
    except CheckpointError as error:
        error.hint = error.hint or name_versions(source, even_unknown=True)
        raise
    return Description(
        config=config,
        progress=content["progress"],
        metrics=content["metrics"],
        input_shape=tuple(content["input_shape"]),
        num_outputs=content["num_outputs"],
        checksums=content["checksums"],
        aliases=content["aliases"],
        extra=extra,
    )


def check_version(content: Mapping[str, object], *, source: Path) -> None:
    """Raise CheckpointError for a description that another version of trainer wrote."""
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{source} has format version {str(content.get('version'))[:20]}; this trainer reads "
            f"version {VERSION}.",
            hint=name_versions(source) or _by(None),
        )


def name_versions(source: Path, *, even_unknown: bool = False) -> str | None:
    """What to do about a checkpoint file that another version of trainer wrote, naming both.

    None where this version wrote it, and where no run.json says which did, unless `even_unknown`.
    """
    writer = None
    step = step_of(source.parent)
    if step is not None:
        writer = writer_of(source.parent.parent.parent, step=step)
    is_known_reason = even_unknown if writer is None else writer != __version__
    return _by(writer) if is_known_reason else None


def _by(writer: str | None) -> str:
    named = "" if writer is None else f", {writer}"
    return f"Use the version of trainer that wrote it{named}: this is {__version__}."


def parse(text: str, *, source: Path) -> JsonObject:
    """JSON text as a table; raises CheckpointError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested some thousand deep
        raise CheckpointError(
            f"{source} is damaged: its description is not JSON.", hint="Nothing was loaded."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{source} is damaged: its description is not a table.", hint="Nothing was loaded."
        )
    return content


def _refused(path: Path, why: str, *, by: str | None = None) -> CheckpointError:
    return CheckpointError(f"{path}: {why}.", hint=by or "Nothing was loaded.")


def _check_shape(shape: object, num_outputs: object, source: Path) -> None:
    sizes = shape if isinstance(shape, list) and 1 <= len(shape) <= 4 else [None]
    if not all(_is_count(size) for size in (*sizes, num_outputs)):
        raise _refused(source, "its input shape or number of outputs is invalid")


def _check_progress(progress: Any, source: Path) -> None:
    _check_table(progress, (int,), "progress", source)
    are_counts = all(0 <= count < _MAX_COUNT for count in progress.values())
    if set(progress) - _COUNTERS or not are_counts:
        raise _refused(source, "its counters make no sense")


def _is_count(value: object) -> bool:
    # By type, not isinstance, here and below: JSON's true is a bool, which is an int.
    return type(value) is int and 1 <= value <= _MAX_SIZE


def _check_table(table: object, types: tuple[type, ...], name: str, path: Path) -> None:
    wrong = _refused(path, f"the field {name} of its description has the wrong type")
    if not isinstance(table, dict):
        raise wrong
    for key, value in table.items():
        if type(value) not in types or not is_name(key):
            raise wrong
