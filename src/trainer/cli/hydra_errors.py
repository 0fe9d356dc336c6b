"""The errors of Hydra and OmegaConf in our words, with the nearest valid names."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

from trainer.cli.configs import default_choice, last_value, own_folders
from trainer.cli.key_hints import chosen_key, chosen_schema, did_you_mean, others_with
from trainer.config.keys import keys_of
from trainer.config.load import in_words
from trainer.config.schema import CHOICES, SECTIONS, TOP_LEVEL, find_key
from trainer.config.synonyms import page_of, suggest
from trainer.errors import (
    ConfigError,
    TrainerError,
    UsageError,
    command_line,
    listing,
    nearest,
    program,
    suggestion,
)

_OF_EVAL = ("eval", "ckpt")
_NUMBERS = ("int", "float", "int | None", "float | None")
# Groups for which a person may have a class of their own.
_HAVE_OWN = ("data", "model", "loss", "optimizer", "scheduler")
FIRST_LINE = "Make this the first line of the experiment's file: # @package _global_"


@dataclass(frozen=True)
class _Command:
    """The command that did not compose."""

    verb: str
    argv: Sequence[str]
    # The overrides as they were typed: of a sweep, `argv` has the values of one job.
    typed: Sequence[str] = ()

    def value_of(self, key: str) -> str:
        """The value of a key as it was typed; empty where there is none."""
        return last_value(self.typed, key) or last_value(self.argv, key)


def explain(
    error: Exception, *, verb: str, argv: Sequence[str], typed: Sequence[str] = ()
) -> Exception:
    """`error` as an error of ours; the original where it is not about the command line.

    `typed` are the overrides as they were typed, where `argv` has the values of one job.
    """
    ours = _error_of_ours(error)
    if ours is not None:
        return ours
    command = _Command(verb, argv, typed)
    kind = type(error)
    if isinstance(error, (yaml.YAMLError, UnicodeDecodeError)):
        return _unreadable_yaml(error, command)
    # By name: only `compose` imports Hydra.
    if kind.__name__ == "MissingConfigException":
        return _missing_choice(error, command)
    for pattern, describe in _DESCRIBED:
        if match := re.search(pattern, str(error)):
            return describe(match[1], command)
    if kind.__name__ == "OverrideParseException":
        return _unreadable(str(getattr(error, "override", "")), command)
    if kind.__module__.split(".")[0] not in ("hydra", "omegaconf"):
        return error
    # An error is three lines at most, and those of Hydra have a dozen.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ConfigError(lines[0], where="; ".join(lines[1:3]) or None, hint=_see_help(verb))


def _unreadable(word: str, command: _Command) -> UsageError:
    key, _, value = word.partition("=")
    known = chosen_key(key, command.argv)
    hint = "Quote what has spaces or signs: 'key=\"a b\"'."
    if known is not None and known.type in _NUMBERS:
        one, two = ("1", "2") if known.type.startswith("int") else ("0.1", "0.2")
        hint = f"Write a number: {key}={one}. Several, with -m: {key}={one},{two}"
    if value.startswith("(") and value.endswith(")"):
        hint = f"A list has brackets: {shlex.quote(f'{key}=[{value[1:-1]}]')}"
    return UsageError(f"{word} cannot be read as an override.", hint=hint)


def _see_help(verb: str) -> str:
    return f"See: {command_line(verb, '--help')}"


def _error_of_ours(error: BaseException) -> TrainerError | None:
    """One of ours that comes from inside a resolver, wrapped in errors of OmegaConf."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TrainerError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _several_values(word: str, command: _Command) -> UsageError:
    key, _, values = word.partition("=")
    known = chosen_key(key, command.argv)
    hint = "Sweep over them with -m, or quote them: 'key=\"a,b\"'."
    if known is not None and "list" in known.type:
        hint = f"A list has brackets: {shlex.quote(f'{key}=[{values}]')}. To sweep over them: -m."
    elif known is not None and known.type in _NUMBERS:
        whole = command_line(command.verb, "-m", *command.argv)
        hint = f"It takes one. To sweep over them: {whole}"
    return UsageError(f"{word} has several values.", hint=hint)


def _not_chosen(group: str, _: _Command) -> UsageError:
    return ConfigError(f"{group} is not chosen.", hint=suggestion("", CHOICES.get(group, ())))


def _chosen_twice(group: str, command: _Command) -> UsageError:
    hint = f"In your YAML write `override /{group}: …` in the defaults list."
    if any(word.startswith(f"+{group}=") for word in command.argv):
        hint = f"Leave out the +: {group}=…"
    return UsageError(f"{group} has a choice already.", hint=hint)


def _exists(key: str, _: _Command) -> UsageError:
    return UsageError(f"{key} exists already.", hint=f"Leave out the +: {key}=…")


def _no_folder(folder: str, _: _Command) -> UsageError:
    return UsageError(f"--config-dir {folder} is not a folder.")


def _too_many_digits(limit: str, _: _Command) -> UsageError:
    return UsageError(f"A number has more than {limit} digits.")


def _unreadable_yaml(error: yaml.YAMLError | UnicodeDecodeError, command: _Command) -> UsageError:
    if isinstance(error, UnicodeDecodeError):
        return ConfigError(
            "A YAML file cannot be read: it is not UTF-8 text.", where=_not_utf8(command.argv)
        )
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}" if mark else None
    problem = getattr(error, "problem", error)
    return ConfigError(f"A YAML file cannot be read: {problem}.", where=where)


def _no_search_path(folder: str, _: _Command) -> UsageError:
    return UsageError(f"hydra.searchpath: {folder} is not a folder.")


def _missing_choice(error: Exception, command: _Command) -> UsageError:
    wanted = getattr(error, "missing_cfg_file", None) or ""
    group, _, choice = str(wanted).rpartition("/")
    if not group:
        return ConfigError(str(error).strip().splitlines()[0])
    options = [str(option) for option in getattr(error, "options", None) or ()]
    if not options:
        return UsageError(f"{group}={choice}: there is no such {group}.")
    hint = suggest(group, choice, options)
    # With the page on own classes, but not for a typing error.
    if group in _HAVE_OWN and ("custom?" in hint or not hint.startswith("Did you mean")):
        hint += f" {page_of(group, options)}"
    return ConfigError(
        f"{group}={choice}: there is no such {group}.",
        where=_misplaced(group, choice, command.argv),
        hint=hint,
    )


def _misplaced(group: str, choice: str, argv: Sequence[str]) -> str | None:
    """Where the file of a choice should be, if the person has it under another name or folder."""
    # Another ending (.yml), no folder of the group, or another name of it (experiments/).
    name = glob.escape(choice)
    for folder in own_folders(argv):
        near = (f"{group}/{name}.yml", f"{name}.y*ml", f"{group}s/{name}.y*ml")
        for path in (path for pattern in near for path in sorted(folder.glob(pattern))):
            return f"{path} is not where Hydra looks: move it to {folder / group / choice}.yaml"
    return None


def _unknown_key(key: str, command: _Command) -> UsageError:
    """A key that no YAML has: which part of it is wrong, and the nearest one."""
    head, _, rest = key.partition(".")
    if "@experiment" in head:
        return ConfigError(
            f"The experiment's override of {head.partition('@')[0]} finds nothing to override.",
            hint=FIRST_LINE,
        )
    known = [*CHOICES, *SECTIONS, *TOP_LEVEL, "experiment"]
    if command.verb == "eval":
        known += _OF_EVAL
    elif head in _OF_EVAL:
        return UsageError(
            f"{key} belongs to trainer eval.",
            hint=f"To resume a run: {program()} fit resume=runs/<run>",
        )
    value = command.value_of(key)
    if head not in known:
        near = nearest(head, [*CHOICES, *SECTIONS]) if rest else None
        guess = did_you_mean(key.rpartition(".")[2], value)
        # optimizr.lr is optimizer.lr; but optimizr.x is no x of another group.
        if near is not None:
            whole = f"{near}.{rest}"
            guess = f"Did you mean {whole}={value or '…'}?" if find_key(whole) else None
        return ConfigError(
            f"{key}: there is no key {head}.", hint=guess or suggestion(head, known, label="Keys")
        )
    if not rest:
        return ConfigError(f"{key} cannot be set here.", hint=_see_help("fit"))
    if head == "experiment":
        return ConfigError(
            f"{key}: experiment has no keys.", hint="It takes the name of a file: experiment=line"
        )
    return _unknown_leaf(key, value, command)


def _unknown_leaf(key: str, value: str, command: _Command) -> UsageError:
    """A key that the chosen member of its group does not have, or has without such a part."""
    head, _, rest = key.partition(".")
    label, names = _keys_of(head, command.argv)
    leaf = rest.split(".")[0]
    if leaf in names:
        return _no_part(key, f"{head}.{leaf}", command)
    others = [] if leaf == "name" else others_with(head, leaf)
    hint = suggestion(leaf, names, label="Keys")
    if head in _HAVE_OWN and leaf in ("target", "kwargs", "_target_"):
        hint = page_of(head, CHOICES[head])
    elif others:
        it = f"It belongs to {listing(others, most=3)}."
        hint = f"{it} {suggestion('', names, label='Keys')}" if names else it
    elif guess := did_you_mean(leaf, value, besides=key):
        hint = guess
    return ConfigError(f"{key}: {label} has no key {leaf}.", hint=hint)


def _no_part(key: str, whole: str, command: _Command) -> UsageError:
    """A part of a key that has none, or a removal (`~key=value`) of a value that it has not."""
    removal = next((word for word in command.argv if word.startswith(f"~{key}")), None)
    if removal is not None:
        return ConfigError(
            f"{removal}: {key} has another value, so nothing is removed.",
            hint=f"To switch it off, give it a value: {key}=null, or another.",
        )
    known = chosen_key(whole, command.argv)
    kind = "a single value" if known is None else in_words(known.type).rstrip(",")
    return ConfigError(
        f"{key}: {whole} has no parts, it is {kind}.", hint=f"Set it as a whole: {whole}=…"
    )


# The messages of Hydra and OmegaConf, the key or group in brackets, each with the function that
# makes an error of ours. By text: most have the same class.
_DESCRIBED: tuple[tuple[str, Callable[[str, _Command], UsageError]], ...] = (
    (r"Ambiguous value for argument '([^']+)'", _several_values),
    (r"You must specify '([\w/]+)'", _not_chosen),
    (r"Multiple values for ([\w/]+)", _chosen_twice),
    (r"An item is already at '([^']+)'", _exists),
    (r"Could not (?:override|delete|append)[^']*'([^']+)'", _unknown_key),
    (r"Additional config directory '([^']+)' not found", _no_folder),
    (r"provider=.*, path=(.+) is not available", _no_search_path),
    (r"Exceeds the limit \(([0-9]+) digits\)", _too_many_digits),  # of Python, for int()
)


def _keys_of(group: str, argv: Sequence[str]) -> tuple[str, list[str]]:
    """What the chosen member of a group is called, and the keys it has."""
    schema = chosen_schema(group, argv)
    names = [] if schema is None else list(keys_of(schema))
    if group not in CHOICES:
        return group, names
    choice = last_value(argv, group) or default_choice(group)
    return f"{group}={choice}", [name for name in names if name != "name"]


def _not_utf8(argv: Sequence[str]) -> str | None:
    """The file in the person's own folder of YAML that is not text, if it is there."""
    # UnicodeDecodeError names no file, so all are read again.
    for path in sorted(path for folder in own_folders(argv) for path in folder.rglob("*.yaml")):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(path)
        except OSError:
            continue
    return None
