"""How a key that was typed wrong is written: with its group, by our name, in another choice."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.cli.configs import configs_folder, default_choice, last_value
from trainer.config import CHOICES, find_key, known_keys
from trainer.config.keys import Key, Section, keys_of
from trainer.config.schema import schemas_of
from trainer.config.synonyms import our_key, our_word
from trainer.errors import UsageError
from trainer.run.folder import is_run_folder

_MAX_NAMED = 3


def full_names(name: str) -> list[str]:
    """The dotted keys that end in a bare name, or else the one that has it in other tools."""
    # Every group has a `name`; a key without a group, such as `seed`, needs no other name.
    same = [key for key in known_keys() if key.rpartition(".")[2] == name != "name" and key != name]
    ours = our_key(name)
    return same or ([] if ours is None else [ours])


def did_you_mean(name: str, value: str, *, besides: str = "") -> str | None:
    """`Did you mean data.batch_size=32?` of a bare or misplaced name, if there is such a key."""
    names = [key for key in full_names(name) if key != besides][:_MAX_NAMED]
    if not names:
        return None
    written = [f"{key}={_our_value(key, name, value)}" for key in names]
    return f"Did you mean {' or '.join(written)}?"


def _our_value(dotted: str, name: str, value: str) -> str:
    """A value under our key: `fp16=true` is trainer.precision=fp16; … for one of another type."""
    known = find_key(dotted)
    if known is not None and name in known.one_of:
        return name
    ours = our_word(dotted, name) or our_word(dotted, value)
    if ours is not None:
        return ours
    is_number = re.fullmatch(r"-?[0-9][0-9_]*(,-?[0-9][0-9_]*)*", value)
    if known is not None and known.type.startswith("int") and not is_number:
        return "…"
    return value or "…"


def others_with(group: str, leaf: str) -> list[str]:
    """The choices of a group that have a key of this name, where the chosen one has not."""
    choices = CHOICES.get(group, {})
    return [f"{group}={name}" for name, schema in choices.items() if leaf in keys_of(schema)]


def chosen_schema(group: str, argv: Sequence[str]) -> type[Section] | None:
    """The schema of the choice that the words, or the default, make of a group."""
    if group not in CHOICES:
        return next(iter(schemas_of(group)), None)
    return CHOICES[group].get(last_value(argv, group) or default_choice(group))


def chosen_key(dotted: str, argv: Sequence[str]) -> Key | None:
    """The key of that name, as the chosen member of its group has it."""
    group, _, leaf = dotted.partition(".")
    schema = chosen_schema(group, argv)
    if schema is not None and leaf in keys_of(schema):
        return keys_of(schema)[leaf]
    return find_key(dotted)


def as_flag(name: str) -> str | None:
    """How to write a group or a key of the config that was typed as a flag."""
    groups = {key.rpartition(".")[0] for key in known_keys()}
    if name in groups:
        return f"Groups are written without dashes: {name}=…"
    names = full_names(name)[:_MAX_NAMED]
    if not names:
        return None
    return f"Keys are written without dashes: {' or '.join(f'{key}=…' for key in names)}"


def _is_part_of(override: str, word: str) -> bool:
    """Whether `word` is cut off the `override` before it, as in `optimizer.lr=0.1, 0.2`."""
    return override.endswith(("=", ",")) or (bool(override) and word.startswith(","))


def not_an_override(word: str, *, before: str = "", takes_keys: bool) -> UsageError:
    """What is wrong with a word that is neither a flag nor `key=value`.

    `before` is the override before it, of which it may be a part.
    """
    groups: list[str] = []
    # Only a plain name goes into the pattern: `*` and `..` in a word mean something to glob.
    if word.isidentifier():
        groups = [path.parent.name for path in sorted(configs_folder().glob(f"*/{word}.yaml"))]
    hint = "Write key=value, such as model=cnn or optimizer.lr=0.1."
    if groups:
        hint = f"Did you mean {groups[0]}={word}?"
    elif word.endswith((".yaml", ".yml")):
        hint = (
            "Put it into DIR/experiment/ and write: --config-dir DIR experiment=" + Path(word).stem
        )
    elif word == "last" or is_run_folder(Path(word)):
        hint = f"To continue a run: resume={word}"
    elif _is_part_of(before, word):
        hint = f"Write it without spaces: {shlex.quote(before + word)}"
    elif takes_keys and re.match(r"[^\W\d]\w*\.", word):
        hint = f"It needs a value: {word}=…"
    return UsageError(f"{word} is not an override.", hint=hint)
