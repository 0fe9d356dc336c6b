"""The help of what a command chooses: the keys of `model=mlp`, with their values and comments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from trainer.cli.arguments import GROUPS
from trainer.cli.configs import choices, comments, configs_folder
from trainer.cli.help import WIDTH, line
from trainer.errors import suggestion

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
        return [f"There is no {group}={name}.", *_wrapped(hint)]
    found = _with_defaults(files[name], files)
    title = found.pop("")[1]
    lines = [f"Keys of {group}={name}", *_wrapped(title)]
    for key, (value, comment) in found.items():
        if key in ("name", "defaults"):
            continue
        text = f"{comment} [{value}]" if comment else f"[{value}]"
        lines.append(line(f"{group}.{key}", text))
    return lines


def _with_defaults(file: Path, files: Mapping[str, Path]) -> dict[str, tuple[str, str]]:
    """The keys of a file of YAML, those of the choices in its defaults list first."""
    own = comments(file)
    merged: dict[str, tuple[str, str]] = {}
    for row in file.read_text(encoding="utf-8", errors="replace").splitlines():
        base = row.strip().removeprefix("- ").strip()
        if row.strip().startswith("- ") and base in files and files[base] != file:
            merged |= comments(files[base])
    for key, (value, comment) in own.items():
        # The comment of the file it is based on says what the key is.
        merged[key] = (value, comment or merged.get(key, ("", ""))[1])
    return merged


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
