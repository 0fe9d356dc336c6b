"""How the words after a verb are read: flags, `key=value` and runs, and what is wrong with them.

The verbs are declared in `verbs/`; `compose.py` composes a config from the words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.errors import UsageError, command_line, program, suggestion

if TYPE_CHECKING:
    from trainer.config import FitConfig

# The groups of which one choice is made, in the order of the help page. By hand, though the schema
# has them: the config and OmegaConf take 90 ms, and most verbs' words need neither.
GROUPS = (
    "data", "model", "loss", "optimizer", "scheduler", "trainer", "logger", "experiment", "sweep",
    "launcher",
)  # fmt: skip
# Hydra answers these itself, from the config that it composes.
_SHOWS = ("--cfg", "--info", "--hydra-help")
_EXCLUSIVE = ("--multirun", "--run", *_SHOWS)  # a command takes one of these
# Keys that people know from other verbs, where the run is a word alone.
_RUN_KEYS = ("ckpt", "resume", "run", "run.dir")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of a verb and the text of its help page, which leaves out one without a text."""

    name: str
    text: str = ""
    _: KW_ONLY
    short: str = ""
    value: str = ""  # the name of its value on the help page; a switch has none
    values: tuple[str, ...] = ()  # those it takes
    override: str = ""  # the `key=value` that it is short for


@dataclass(frozen=True, slots=True)
class VerbKey:
    """A key that is no key of the config, and the text of its help page.

    `values` are what completion offers; with `is_closed` there are no others. `between` bounds a
    whole number.
    """

    name: str
    text: str = ""
    _: KW_ONLY
    default: str = ""
    values: Callable[[], Sequence[str]] = tuple
    is_closed: bool = False
    is_path: bool = False
    is_list: bool = False  # of values with commas between them
    between: tuple[int, int] | None = None
    example: str = ""  # of a number, for the hint of a wrong one

    def check(self, value: str) -> None:
        """Raises UsageError for a value that it does not take."""
        if self.is_closed and value not in self.values():
            hint = suggestion(value, self.values())
            raise UsageError(f"{self.name}={value}: there is no such {self.name}.", hint=hint)
        if self.between is None:
            return
        low, high = self.between
        # isdecimal accepts the digits of every script. The length first: int() raises ValueError
        # for more than 4,300 digits.
        is_number = value.isascii() and value.isdecimal() and len(value) <= len(str(high))
        if not is_number or not low <= int(value) <= high:
            raise UsageError(
                f"{self.name}={value}: a whole number from {low} to {high} is expected.",
                hint=f"Leave it out ({self.default}), or: {self.name}={self.example}",
            )


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: how the words after it are read, what its help page says and what runs it.

    `words` says what a word may be that is no `key=value`: nothing (""), a run's path or id, a run
    or filter whose name may have a `=` ("name"), a run with tags or with a text behind it.
    """

    name: str
    summary: str
    _: KW_ONLY
    usage: str
    run: Callable[[Arguments], int]
    page: str = ""
    group: str = ""  # its heading in the overview
    verbs: tuple[Verb, ...] = ()
    config: str = ""  # the file in configs/ that Hydra composes; without one it takes `keys` only
    heads: tuple[str, ...] = ()  # how a word of Hydra may begin: the groups, then single keys
    keys: tuple[VerbKey, ...] = ()
    filters: tuple[VerbKey, ...] = ()
    flags: tuple[Flag, ...] = ()
    words: Literal["", "run", "name", "tags", "text"] = ""
    first_words: Callable[[], Sequence[str]] = tuple  # what the first word may be but a run
    takes_sweeps: bool = False  # whether a word may be the name of a sweep
    least: int = 0
    most: int | None = None
    for_more: str = ""  # the verb that takes more runs than `most`
    # What to write instead of a word of other tools; {program} is how trainer was called.
    instead: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_flags(self) -> tuple[Flag, ...]:
        """Its flags, and --help."""
        return (*self.flags, HELP)

    def key(self, name: str) -> VerbKey | None:
        """The key of that name, if it has one."""
        return next((key for key in self.keys if key.name == name), None)

    def flag(self, name: str) -> Flag | None:
        """The flag of that long or short name, if it has one."""
        flags = self.all_flags
        return next((flag for flag in flags if name and name in (flag.name, flag.short)), None)


HELP = Flag("--help", short="-h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The words after a verb: `flags` by their long names, `words` that are no `key=value`.

    `overrides` are the `key=value` as typed, `values` the same by key and without quotes.
    """

    verb: str
    config: str  # the file in configs/ that Hydra composes
    typed: Sequence[str]
    words: list[str] = field(default_factory=list)
    flags: dict[str, str | None] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, verb: Verb, words: Sequence[str]) -> Arguments:
        """Read `words`; raises UsageError for a word that the verb does not take."""
        found = cls(verb=verb.name, config=verb.config, typed=words)
        rest = iter(words)
        for word in rest:
            # Text first: behind its run, -draft is a tag to remove and lr=0.1 a word of a note.
            if _is_text(word, verb, found.words):
                found.words.append(word)
            elif word.startswith("-") and len(word) > 1:
                found._add_flag(word, rest, verb)
            elif _is_override(word, verb):
                found._add_override(word, verb)
            else:
                found.words.append(word)
        # `trainer runs diff --help` names no run.
        if not found.asks_for_help:
            _check_flags(found.flags, verb)
            _check_count(found.words, verb)
        return found

    def _add_flag(self, word: str, rest: Iterator[str], verb: Verb) -> None:
        flag, value = _read_flag(word, rest, verb)
        if flag.override:
            self.overrides.append(flag.override)
        else:
            self.flags[flag.name] = value

    def _add_override(self, word: str, verb: Verb) -> None:
        before = self.overrides[-1] if self.overrides else ""
        key, value = _read_override(word, verb, before=before)
        # Hydra silently takes the last of two choices, and the keys of the first would fail.
        if key in self.values and key in GROUPS:
            raise UsageError(f"{key} is given more than once.", hint=f"Give it once: {key}={value}")
        self.values[key] = value
        self.overrides.append(word)

    @property
    def flag_words(self) -> list[str]:
        """The flags by their long names, each with its value behind it."""
        pairs = self.flags.items()
        return [word for flag, value in pairs for word in (flag, value) if word is not None]

    @property
    def given(self) -> list[str]:
        """All words, the flags first: Hydra does not take overrides on both sides of a flag."""
        return [*self.flag_words, *self.overrides]

    @property
    def root(self) -> Path:
        """`run.root`, below which runs are looked for."""
        # From the words, not from the config: a run is found before its config is composed.
        return Path(self.values.get("run.root") or "runs")

    @property
    def asks_for_help(self) -> bool:
        """Whether -h or --help is among the words."""
        return "--help" in self.flags

    @property
    def is_multirun(self) -> bool:
        """Whether this is a sweep."""
        return "--multirun" in self.flags

    @property
    def only_shows(self) -> bool:
        """Whether Hydra shows something instead of running the command."""
        return any(flag in self.flags for flag in _SHOWS)

    @property
    def config_dir(self) -> str | None:
        """The person's own folder of YAML."""
        return self.flags.get("--config-dir")

    def word_of_a_sweep(self) -> str | None:
        """The first word that only a sweep knows, if any."""
        from trainer.config import COMMAND_SCHEMAS

        for word in self.overrides:
            head = word.lstrip("+").partition("=")[0].partition(".")[0]
            if head in COMMAND_SCHEMAS:
                return word
        return None

    def choices_of(self, saved: FitConfig) -> list[str]:
        """The group choices of a saved config that the words leave as they were, as overrides."""
        from trainer.config import SCHEMAS

        # An experiment makes choices too, and Hydra lets an override beat them.
        if "experiment" in self.values:
            return []
        return [
            f"{group}={getattr(saved, group).name}" for group in SCHEMAS if group not in self.values
        ]


def _is_text(word: str, verb: Verb, runs: Sequence[str]) -> bool:
    """Whether `word` is a tag or a part of a note, even one that begins with a dash."""
    # run.root= is the one key of these verbs; without it no run outside of runs/ could get a note.
    if verb.words not in ("tags", "text") or not runs or word.startswith("run.root="):
        return False
    return verb.words == "text" or word not in ("-h", "--help")


def _is_override(word: str, verb: Verb) -> bool:
    """Whether `word` is to be read as `key=value`: every word of a verb that takes no runs is."""
    if not verb.words:
        return True
    key, equals, _ = word.partition("=")
    if not equals:
        return False
    if verb.key(key) is not None:
        return True
    # The name of a run folder may have a `=`. With lexists, as a broken link is a path too.
    return verb.words == "run" and not os.path.lexists(word)


def _read_flag(word: str, rest: Iterator[str], verb: Verb) -> tuple[Flag, str | None]:
    """A flag and its value, which may be the next word; raises UsageError."""
    name, has_value, value = word.partition("=")
    flag = verb.flag(name)
    if flag is None:
        raise _unknown_flag(name, verb)
    if not flag.value:
        if has_value:
            raise UsageError(f"{name} takes no value.", hint=f"Write {name} alone.")
        return flag, None
    value = value if has_value else next(rest, "")
    # `--cfg --resolve` lacks a value; without this check it would take the next flag for one.
    if not value or value.startswith("-"):
        written = [f"{flag.name} {known}" for known in flag.values or (flag.value,)]
        hint = f"Write one of: {', '.join(written)}." if flag.values else f"Write {written[0]}."
        raise UsageError(f"{name} needs a value.", hint=hint)
    if flag.values and value not in flag.values:
        raise UsageError(
            f"{name} {value}: there is nothing of that name to show.",
            hint=suggestion(value, flag.values),
        )
    return flag, value


def _unknown_flag(name: str, verb: Verb) -> UsageError:
    bare = name.lstrip("-")
    hint = verb.instead.get(name, "").format(program=program()) or None
    if verb.key(bare) is not None:
        hint = f"Keys are written without dashes: {bare}=…"
    elif hint is None and verb.config:
        from trainer.cli.key_hints import as_flag

        # Other tools spell it --batch-size 64.
        hint = as_flag(bare.replace("-", "_"))
    known = [flag.name for flag in verb.all_flags]
    return UsageError(
        f"There is no flag {name}.",
        hint=hint or suggestion(name, known, label=f"Flags of trainer {verb.name}"),
    )


def _check_flags(flags: Mapping[str, str | None], verb: Verb) -> None:
    """Raises UsageError for flags that contradict one another."""
    exclusive = [flag for flag in flags if flag in _EXCLUSIVE]
    if len(exclusive) > 1:
        raise UsageError(
            f"{exclusive[0]} and {exclusive[1]} do not go together.", hint="Leave one of them out."
        )
    for flag in ("--resolve", "--package"):
        if flag in flags and "--cfg" not in flags:
            raise UsageError(
                f"{flag} goes with --cfg only.",
                hint=f"Write: {program()} {verb.name} --cfg job {flag} …",
            )


def _check_count(words: Sequence[str], verb: Verb) -> None:
    """Raises UsageError for an empty word, a missing run and one too many."""
    listed = f"{command_line('runs')} lists them."
    # An empty word is mostly an unset variable of a shell. As a text it removes the note.
    if "" in (words[:1] if verb.words == "text" else words):
        raise UsageError("A word is empty.", hint=f"Name a run by its id; {listed}")
    if len(words) < verb.least:
        missing = "A second run is missing." if words else "The run is missing."
        example = " ".join(["last", "<run>"][: verb.least])
        raise UsageError(missing, hint=f"Write: {program()} {verb.name} {example}; {listed}")
    if verb.most is not None and len(words) > verb.most:
        count = "one run" if verb.most == 1 else "two runs"
        hint = f"One at a time: {command_line(*verb.name.split(), words[0])}"
        if verb.for_more:
            hint = f"For more: {command_line(*verb.for_more.split(), *words)}"
        raise UsageError(
            f"{verb.name} takes {count}; {words[verb.most]} is one too many.", hint=hint
        )


def _read_override(word: str, verb: Verb, *, before: str = "") -> tuple[str, str]:
    """The key of an override and its value as text; raises UsageError.

    `before` is the override before it.
    """
    key, equals, text = word.lstrip("+").partition("=")
    # `~trainer.ema` removes a key, so it has no `=`.
    key = key.lstrip("~")
    if not key or (not equals and not word.startswith("~")):
        from trainer.cli.key_hints import not_an_override

        raise not_an_override(word, before=before, takes_keys=bool(verb.config))
    value = _plain(text)
    known = verb.key(key)
    if known is not None:
        known.check(value)
    # reproduce composes a config too, but takes its run as a word: resume= would be a second one.
    elif not verb.config or _names_second_run(verb, key, value):
        raise _no_key(verb, key, value)
    group, _, rest = key.partition(".")
    # model.name=mlp would leave the keys of the chosen model under another model's name.
    if rest == "name" and known is None and group in GROUPS:
        raise UsageError(
            f"{key} cannot be set: it follows the choice.",
            hint=f"Choose another {group} with {group}={value}",
        )
    return key, value


def _names_run(key: str, value: str) -> bool:
    return key in _RUN_KEYS and value != ""


def _names_second_run(verb: Verb, key: str, value: str) -> bool:
    """Whether a key names a run to a verb that takes it as a word alone."""
    heads = (f"{key}=", f"{key.partition('.')[0]}.")
    return bool(verb.words) and _names_run(key, value) and not {*heads} & {*verb.heads}


def _no_key(verb: Verb, key: str, value: str) -> UsageError:
    if _names_run(key, value):
        hint = f"Name the run alone: {command_line(*verb.name.split(), value)}"
    else:
        hint = suggestion(key, [known.name for known in verb.keys], label=f"Keys of {verb.name}")
    return UsageError(f"{verb.name} has no key {key}.", hint=hint)


def _plain(value: str) -> str:
    """A value without the quotes and escapes of Hydra's grammar: enough to read a path."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        quote = value[0]
        return value[1:-1].replace(f"\\{quote}", quote)
    return value.replace("\\=", "=").replace("\\ ", " ").replace("\\,", ",")
