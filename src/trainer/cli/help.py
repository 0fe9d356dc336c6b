"""The help pages, made from the table of verbs, their prose and the comments of the YAML."""

from __future__ import annotations

import textwrap
from pathlib import Path

from trainer.cli.arguments import GROUPS, Verb
from trainer.cli.configs import choices, comments, configs_folder, default_choice
from trainer.cli.verbs import HEADINGS, VERBS

_OVERVIEW = """\
trainer: train a model from YAML configs, and look at it in TensorBoard.

{verbs}

Start here
  trainer fit model=cnn data=fashion_mnist
  trainer eval ckpt=last
  trainer tb
  trainer runs

trainer fit --help lists its groups, keys and examples; so do the other verbs.
trainer --shell-completion install=bash prints the completion script for bash,
or for zsh, fish. trainer --version prints the version.
"""
# Not the width of the terminal: a page is the same everywhere, and a test pins it.
WIDTH = 80
# Where the texts of a page begin.
_INDENT = 27


def overview() -> str:
    """The page of `trainer --help`."""
    return _OVERVIEW.format(verbs=verb_lines())


def verb_lines() -> str:
    """Every verb with its usage and its summary, under the heading of its group."""
    lines: list[str] = []
    for heading in HEADINGS:
        listed = [verb for verb in VERBS.values() if verb.group == heading]
        if listed:
            lines += ["", heading]
            lines += [line(_usage(verb), verb.summary) for verb in listed]
    return "\n".join(lines[1:])


def page(verb: Verb, *, config_dir: str | None = None) -> str:
    """The page of a verb; the choices in `config_dir` are listed too."""
    verb = VERBS[verb.name.split()[0]]  # those of `trainer runs` share a page
    folders = [configs_folder(), *([Path(config_dir)] if config_dir else [])]
    text = verb.page.format(
        groups=_group_lines(folders),
        keys="\n".join([*_config_key_lines(verb), *_key_lines(verb)]),
        flags="\n".join(_flag_lines(verb)),
        verbs="\n".join(
            line(f"{inner.name.split()[-1]} {inner.usage}", inner.summary) for inner in verb.verbs
        ),
    )
    return f"trainer {verb.name}: {verb.summary}.\n\nUsage\n  {_usage(verb)}\n\n{text}"


def _usage(verb: Verb) -> str:
    return f"trainer {verb.name} {verb.usage}"


def line(name: str, text: str) -> str:
    """A name and its text, which begins on the next line where the name is long."""
    indent = " " * _INDENT
    # A flag or a key such as data-set is one word.
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    label = f"  {name:<{_INDENT - 3}} "
    if not lines or len(label) > _INDENT:
        return "\n".join([label.rstrip(), *lines])
    return "\n".join([label + lines[0].strip(), *lines[1:]])


def _key_lines(verb: Verb) -> list[str]:
    """The keys that are no keys of the config, each once."""
    keys = {key.name: key for one in (verb, *verb.verbs) for key in one.keys}
    return [
        line(key.name, f"{key.text} [{key.default}]" if key.default else key.text)
        for key in keys.values()
    ]


def _flag_lines(verb: Verb) -> list[str]:
    """The flags that have a text; of those that not all of several verbs have, which verbs do."""
    flags = {flag.name: flag for one in (verb, *verb.verbs) for flag in one.flags if flag.text}
    lines = []
    for flag in flags.values():
        name = " ".join(word for word in (flag.name, flag.value) if word)
        users = [inner.name.split()[-1] for inner in verb.verbs if flag in inner.flags]
        suffix = f" ({', '.join(users)})" if users else ""
        lines.append(line(f"{flag.short}, {name}" if flag.short else name, flag.text + suffix))
    return lines


def _config_key_lines(verb: Verb) -> list[str]:
    """The keys of the config that people use most, with their comments and defaults."""
    from trainer.config import listed_keys

    lines = []
    for key in listed_keys(verb.name):
        group, _, name = key.rpartition(".")
        value, comment = comments(_file_of(group))[name]
        lines.append(line(key, f"{comment} [{value}]"))
    return lines


def _file_of(group: str) -> Path:
    """The YAML with the keys of a group, of its default choice."""
    if group == "eval":
        return configs_folder() / "eval" / "default.yaml"
    default = default_choice(group)
    return configs_folder() / (f"{group}/{default}.yaml" if default else "fit.yaml")


def _group_lines(folders: list[Path]) -> str:
    """Each group with its choices, wrapped."""
    lines = []
    for group in GROUPS:
        label = f"  {group:<11} "
        names = " ".join(choices(group, folders))
        indent = " " * len(label)
        lines += textwrap.wrap(names, WIDTH, initial_indent=label, subsequent_indent=indent)
    return "\n".join(lines)
