"""Reading the words after the verb, before Hydra does: flags, overrides, and what is wrong with
their form.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.config import CHOICES, COMMAND_SCHEMAS, SCHEMAS, SECTIONS, FitConfig
from trainer.errors import UsageError, suggestion

# The commands, each in a phrase.
VERBS = {
    "fit": "train a model",
    "eval": "evaluate a checkpoint",
    "check-run": "verify a run folder",
    "tb": "look at runs in TensorBoard",
    "runs": "list, compare and tidy up runs",
    "reproduce": "train a run again and compare, bit for bit",
}
# The keys of the commands that take a run. Of reproduce: where things are and what it runs on; the
# rest is the run's.
RUN_KEYS = {
    "check-run": ("run.root",),
    "tb": ("port", "run.root"),
    "reproduce": (
        "run.root",
        "run.name",
        "run.dir",
        "data.root",
        "data.num_workers",
        "trainer.device",
    ),
}
PORT = 6006
# Hydra's flags that fit a tool with verbs, and which of them take a value. `--experimental-rerun`
# reads a pickle.
SWITCHES = ("-m", "--multirun", "--resolve", "--hydra-help", "-h", "--help", "-r", "--run")
WITH_VALUE = ("-c", "--cfg", "-p", "--package", "-cd", "--config-dir", "-i", "--info")
_SHOWING = ("--cfg", "--info", "--hydra-help")
# What a command may be asked to do; only one of them at a time.
_DOING = ("--multirun", "--run", *_SHOWING)
_SHOWN = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_LONG = {
    "-c": "--cfg",
    "-p": "--package",
    "-cd": "--config-dir",
    "-i": "--info",
    "-m": "--multirun",
    "-h": "--help",
    "-r": "--run",
}


def configs_folder() -> Path:
    """The YAML that ships with trainer: inside the package when installed from a wheel, at the
    top of a checkout.
    """
    packaged = Path(__file__).parents[1] / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The words after a verb: flags and overrides as typed, and `values`, the overrides by key, as
    text.

    `flags` has the flags by their long names, each with its value or None.
    """

    verb: str
    flag_words: list[str]
    overrides: list[str]
    flags: dict[str, str | None] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, verb: str, words: list[str]) -> Arguments:
        """Read `words`; raises UsageError for an unknown flag or a word that is no override."""
        flags: dict[str, str | None] = {}
        values: dict[str, str] = {}
        flag_words: list[str] = []
        overrides: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--json" and verb == "eval":
                overrides.append("eval.json=true")
            elif word.startswith("-") and len(word) > 1:
                flag, value = _read_flag(word, rest, verb)
                flags[flag] = value
                flag_words += [flag] if value is None else [flag, value]
            else:
                key, value = _read_override(word, verb)
                if key in values and key in (*CHOICES, "trainer", "experiment"):
                    raise UsageError(
                        f"{key} is given more than once.", hint=f"Give it once: {key}={value}"
                    )
                values[key] = value
                overrides.append(word)
        _check_together(flags, verb)
        return cls(
            verb=verb, flag_words=flag_words, overrides=overrides, flags=flags, values=values
        )

    @property
    def given(self) -> list[str]:
        """All words, the flags first: Hydra does not take overrides on both sides of a flag."""
        return [*self.flag_words, *self.overrides]

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
        return any(flag in self.flags for flag in _SHOWING)

    @property
    def config_dir(self) -> str | None:
        """The person's own folder of YAML."""
        return self.flags.get("--config-dir")

    def about_a_sweep(self) -> str | None:
        """The first word that only a sweep knows, if any."""
        return next(
            (
                word
                for word in self.overrides
                if word.lstrip("+").split("=")[0].split(".")[0] in COMMAND_SCHEMAS
            ),
            None,
        )

    def choices_of(self, saved: FitConfig) -> list[str]:
        """The group choices of a saved config that the words leave as they were, as overrides."""
        if "experiment" in self.values:
            return []
        return [
            f"{group}={getattr(saved, group).name}" for group in SCHEMAS if group not in self.values
        ]


def read_run_words(words: list[str]) -> tuple[str, Path]:
    """The run that `trainer check-run` is to look at, and `run.root`; raises UsageError. Hydra
    is not asked.
    """
    runs, values = _read_words("check-run", words)
    if not any(runs):
        raise UsageError(
            "The run is missing.",
            hint="Say what to check: trainer check-run last, or runs/<date>/<run>",
        )
    if len(runs) > 1:
        raise UsageError(
            f"check-run takes one run; {runs[1]} is one too many.",
            hint=f"Check one at a time: {shlex.join(['trainer', 'check-run', runs[0]])}",
        )
    return runs[0], Path(values.get("run.root") or "runs")


def read_tb_words(words: list[str]) -> tuple[list[str], Path, int]:
    """What `trainer tb` is to show (nothing means all runs), `run.root` and `port`; raises UsageError."""
    runs, values = _read_words("tb", words)
    if "" in runs:
        raise UsageError(
            "The name of a run is empty.", hint="Name one: trainer tb last, or runs/<date>/<run>"
        )
    port = values.get("port", str(PORT))
    # The system has no other numbers. Of more than five digits Python may not make a number at all.
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise UsageError(
            f"port={port}: a whole number from 1 to 65535 is expected.",
            hint=f"Leave it out for {PORT}, or: port=6007",
        )
    return runs, Path(values.get("run.root") or "runs"), int(port)


def _read_words(verb: str, words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The runs and the values by key; raises UsageError."""
    runs: list[str] = []
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            raise _no_run_flag(verb, key)
        if key in RUN_KEYS[verb] and equals:
            values[key] = _plain(value)
        elif equals and not os.path.lexists(word):
            raise _no_run_key(verb, key, value)
        else:
            runs.append(word)
    return runs, values


def _no_run_flag(verb: str, flag: str) -> UsageError:
    name = flag.lstrip("-")
    hint = suggestion(flag, ["--help"], label=f"Flags of trainer {verb}")
    if name in RUN_KEYS[verb]:
        hint = f"Keys are written without dashes: {name}=…"
    elif verb == "tb" and name == "logdir":
        hint = "Name the folder alone: trainer tb runs"
    return UsageError(f"There is no flag {flag}.", hint=hint)


def _no_run_key(verb: str, key: str, value: str) -> UsageError:
    if key in ("ckpt", "resume", "run", "run.dir") and value:
        hint = f"Name the run alone: {shlex.join(['trainer', verb, value])}"
    else:
        hint = suggestion(key, RUN_KEYS[verb], label=f"Keys of {verb}")
    return UsageError(f"{verb} has no key {key}.", hint=hint)


def _read_flag(word: str, rest: Iterator[str], verb: str) -> tuple[str, str | None]:
    """A flag by its long name and its value, which may be the next word; raises UsageError."""
    flag, has_value, value = word.partition("=")
    name = _LONG.get(flag, flag)
    if flag in SWITCHES:
        if has_value:
            raise UsageError(f"{flag} takes no value.", hint=f"Write {flag} alone.")
        return name, None
    if flag not in WITH_VALUE:
        raise _unknown_flag(flag, verb)
    value = value if has_value else next(rest, "")
    if not value or value.startswith("-"):
        raise UsageError(f"{flag} needs a value.", hint=_flag_hint(name))
    if value not in _SHOWN.get(name, (value,)):
        raise UsageError(
            f"{flag} {value}: there is nothing of that name to show.",
            hint=suggestion(value, _SHOWN[name]),
        )
    return name, value


def _check_together(flags: dict[str, str | None], verb: str) -> None:
    """Refuse flags that contradict one another."""
    doing = [flag for flag in flags if flag in _DOING]
    if len(doing) > 1:
        raise UsageError(
            f"{doing[0]} and {doing[1]} do not go together.", hint="Leave one of them out."
        )
    for flag in ("--resolve", "--package"):
        if flag in flags and "--cfg" not in flags:
            raise UsageError(
                f"{flag} goes with --cfg only.", hint=f"Write: trainer {verb} --cfg job {flag} …"
            )


def _unknown_flag(flag: str, verb: str) -> UsageError:
    name = flag.lstrip("-").replace("-", "_")
    if name in CHOICES or name in SECTIONS:
        return UsageError(
            f"There is no flag {flag}.", hint=f"Groups are written without dashes: {name}=…"
        )
    schemas = [
        *SECTIONS.items(),
        *((group, kind) for group, kinds in CHOICES.items() for kind in kinds.values()),
    ]
    for group, schema in schemas:
        if name in {known.name for known in dataclasses.fields(schema)} - {"name"}:
            return UsageError(
                f"There is no flag {flag}.",
                hint=f"Keys are written without dashes: {group}.{name}=…",
            )
    listed = [known for known in (*SWITCHES, *WITH_VALUE) if known.startswith("--")]
    return UsageError(
        f"There is no flag {flag}.",
        hint=suggestion(flag, [*listed, "--json"] if verb == "eval" else listed, label="Flags"),
    )


def _flag_hint(flag: str) -> str:
    if flag in _SHOWN:
        return f"Write one of: {', '.join(f'{flag} {shown}' for shown in _SHOWN[flag])}."
    return "Write --config-dir DIR." if flag == "--config-dir" else "See trainer fit --help."


def _read_override(word: str, verb: str) -> tuple[str, str]:
    """The key of an override and its value as text; raises UsageError."""
    key, equals, value = word.lstrip("+").partition("=")
    key, value = key.lstrip("~"), _plain(value)
    if not key or (not equals and not word.startswith("~")):
        raise _not_an_override(word, verb)
    group, _, rest = key.partition(".")
    if rest == "name" and group in CHOICES:
        raise UsageError(
            f"{key} cannot be set: it follows the choice.",
            hint=f"Choose another {group} with {group}={value}",
        )
    return key, value


def _not_an_override(word: str, verb: str) -> UsageError:
    folder = configs_folder()
    groups = (
        [path.parent.name for path in sorted(folder.glob(f"*/{word}.yaml"))]
        if word.isidentifier()
        else []
    )
    if groups:
        return UsageError(f"{word} is not an override.", hint=f"Did you mean {groups[0]}={word}?")
    if verb == "eval":
        return UsageError(f"{word} is not an override.", hint=f"Did you mean ckpt={word}?")
    return UsageError(
        f"{word} is not an override.",
        hint="Write key=value, such as model=cnn or optimizer.lr=0.1.",
    )


def _plain(value: str) -> str:
    """A value without the quotes and escapes of Hydra's grammar: enough to read a path."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        quote = value[0]
        return value[1:-1].replace(f"\\{quote}", quote)
    return value.replace("\\=", "=").replace("\\ ", " ").replace("\\,", ",")
