"""The help of what a command chooses: the keys of `model=mlp`, with their values and comments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from trainer.cli.arguments import GROUPS
from trainer.cli.configs import choices, comments, configs_folder
from trainer.errors import suggestion

_WIDTH = 80
_NAME = 26
# An experiment sets keys of other groups: its own lines are no keys.
_NO_KEYS = ("experiment",)


def chosen_keys(values: Mapping[str, str], *, config_dir: str | None) -> str:
    """The keys of each choice among the words of a command; empty where there is none."""
    folders = [configs_folder(), *([Path(config_dir)] if config_dir else [])]
    lines: list[str] = []
    for group in GROUPS:
        if group in values and group not in _NO_KEYS:
            lines += ["", *_keys(group, values[group], choices(group, folders))]
    return "\n".join([*lines, ""]) if lines else ""


def _keys(group: str, name: str, files: Mapping[str, Path]) -> list[str]:
    if name not in files:
        hint = suggestion(name, files)
        return [f"There is no {group}={name}.", *_wrapped(hint, indent=2)]
    found = _with_defaults(files[name], files)
    title = found.pop("")[1]
    lines = [f"Keys of {group}={name}", *_wrapped(title, indent=2)]
    for key, (value, comment) in found.items():
        if key in ("name", "defaults"):
            continue
        label = f"{group}.{key}"
        text = f"{comment} [{value}]" if comment else f"[{value}]"
        first, *rest = textwrap.wrap(text, _WIDTH - 2 - _NAME) or [""]
        # A longer name has a line of its own.
        if len(label) >= _NAME:
            lines.append(f"  {label}")
            label = ""
        lines.append(f"  {label:<{_NAME}}{first}")
        lines += [f"{'':<{2 + _NAME}}{line}" for line in rest]
    return lines


def _with_defaults(file: Path, files: Mapping[str, Path]) -> dict[str, tuple[str, str]]:
    """The keys of a file of YAML, those of the choices in its defaults list first."""
    own = comments(file)
    merged: dict[str, tuple[str, str]] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        base = line.strip().removeprefix("- ").strip()
        if line.strip().startswith("- ") and base in files and files[base] != file:
            merged |= comments(files[base])
    for key, (value, comment) in own.items():
        # The comment of the file it is based on says what the key is.
        merged[key] = (value, comment or merged.get(key, ("", ""))[1])
    return merged


def _wrapped(text: str, *, indent: int) -> list[str]:
    pad = " " * indent
    return textwrap.wrap(text, _WIDTH, initial_indent=pad, subsequent_indent=pad)
