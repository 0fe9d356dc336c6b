"""The YAML that ships with trainer, and a person's own: groups, choices, defaults and comments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import trainer


def configs_folder() -> Path:
    """The YAML that ships with trainer: in the package of a wheel, at the top of a checkout."""
    package = Path(trainer.__file__).parent
    # The packaged folder first: what lies two folders above an installed package is not ours.
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parents[1] / "configs"


def last_value(words: Sequence[str], key: str) -> str:
    """The value in the last `key=value` of `words`; empty where there is none."""
    values = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return values[-1] if values else ""


def own_folders(words: Sequence[str]) -> list[Path]:
    """The person's own folders of YAML, each behind its flag in `words`."""
    folders = []
    for word, after in itertools.pairwise([*words, ""]):
        flag, equals, folder = word.partition("=")
        if flag in ("-cd", "--config-dir"):
            folders.append(Path(folder if equals else after))
    return folders


def choices(group: str, folders: list[Path]) -> dict[str, Path]:
    """The choices of a group in these folders of YAML, the default first, each with its file."""
    found = {path.stem: path for folder in folders for path in (folder / group).glob("*.yaml")}
    default = default_choice(group)
    return {name: found[name] for name in sorted(found, key=lambda name: (name != default, name))}


def default_choice(group: str) -> str:
    """What fit.yaml chooses for a group; empty where it leaves the group out."""
    for line in (configs_folder() / "fit.yaml").read_text(encoding="utf-8").splitlines():
        name, _, choice = line.strip().removeprefix("- ").partition(": ")
        if name == group and line.strip().startswith("- "):
            return choice.strip()
    return ""


def comments(path: Path) -> dict[str, tuple[str, str]]:
    """The value and the comment of every key of a YAML file, its title under the empty name."""
    # Line by line, because a YAML parser drops the comments. Bytes that are no text in a person's
    # own file must not end a completion.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    title = next((line for line in lines if not line.startswith("# @package")), "")
    found = {"": ("", title.removeprefix("#").strip() if title.startswith("#") else "")}
    for line in lines:
        key, colon, rest = line.strip().partition(":")
        if colon and key.isidentifier():
            value, _, comment = rest.partition(" #")
            found.setdefault(key, (value.strip(), comment.strip()))
    return found
