"""The YAML that ships with trainer, and a person's own: groups, choices, defaults and comments."""

from __future__ import annotations

from pathlib import Path

import trainer


def configs_folder() -> Path:
    """The YAML that ships with trainer: in the package of a wheel, at the top of a checkout."""
    package = Path(trainer.__file__).parent
    packaged = package / "configs"
    return packaged if packaged.is_dir() else package.parents[1] / "configs"


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
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    title = next((line for line in lines if not line.startswith("# @package")), "")
    found = {"": ("", title.removeprefix("#").strip() if title.startswith("#") else "")}
    for line in lines:
        key, colon, rest = line.strip().partition(":")
        if colon and key.isidentifier():
            value, _, comment = rest.partition(" #")
            found.setdefault(key, (value.strip(), comment.strip()))
    return found
