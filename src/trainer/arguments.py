"""Reading the words after the verb, before Hydra does: flags, overrides, and what is wrong with their form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainer.config import SCHEMAS, FitConfig
from trainer.errors import UsageError, suggestion

# Hydra's flags that fit a tool with verbs, and which of them take a value. `--experimental-rerun` reads a pickle.
_SWITCHES = ("-m", "--multirun", "--resolve", "--hydra-help", "-h", "--help", "-r", "--run")
_WITH_VALUE = ("-c", "--cfg", "-p", "--package", "-cd", "--config-dir", "-i", "--info")
_SHOWING = ("-c", "--cfg", "-i", "--info", "--hydra-help")


def configs_folder() -> Path:
    """The YAML that ships with trainer: inside the package when installed from a wheel, at the top of a checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The words after a verb. `values` are the overrides by key, as text; `given` is everything, for Hydra."""

    verb: str
    given: list[str]
    flags: dict[str, str | None] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, verb: str, words: list[str]) -> Arguments:
        """Read `words`; raises UsageError for an unknown flag or a word that is no override."""
        flags: dict[str, str | None] = {}
        values: dict[str, str] = {}
        given: list[str] = []
        rest = iter(words)
        for word in rest:
            if word == "--json" and verb == "eval":
                given.append("eval.json=true")
            elif word.startswith("-") and len(word) > 1:
                flag, has_value, value = word.partition("=")
                _check_flag(flag)
                given.append(word)
                if flag in _WITH_VALUE and not has_value:
                    value = next(rest, "")
                    given.append(value)
                    if not value:
                        raise UsageError(f"{flag} needs a value.", hint=_flag_hint(flag))
                flags[flag] = value
            else:
                key, equals, value = word.lstrip("+").partition("=")
                if not equals and not key.startswith("~"):
                    raise _not_an_override(word, verb)
                values[key.lstrip("~")] = _plain(value)
                given.append(word)
        return cls(verb=verb, given=given, flags=flags, values=values)

    @property
    def asks_for_help(self) -> bool:
        """Whether -h or --help is among the words."""
        return "-h" in self.flags or "--help" in self.flags

    @property
    def is_multirun(self) -> bool:
        """Whether this is a sweep."""
        return ("-m" in self.flags or "--multirun" in self.flags) and not self.only_shows

    @property
    def only_shows(self) -> bool:
        """Whether Hydra shows something instead of running the command."""
        return any(flag in self.flags for flag in _SHOWING)

    @property
    def config_dir(self) -> str | None:
        """The person's own folder of YAML."""
        return self.flags.get("-cd") or self.flags.get("--config-dir")

    def choices_of(self, saved: FitConfig) -> list[str]:
        """The group choices of a saved config that the words leave as they were, as overrides."""
        if "experiment" in self.values:
            return []
        return [f"{group}={getattr(saved, group).name}" for group in SCHEMAS if group not in self.values]


def _check_flag(flag: str) -> None:
    known = (*_SWITCHES, *_WITH_VALUE)
    if flag not in known:
        listed = [name for name in known if name.startswith("--")]
        raise UsageError(f"There is no flag {flag}.", hint=suggestion(flag, listed, label="Flags"))


def _flag_hint(flag: str) -> str:
    hints = {"--cfg": "Write --cfg job, --cfg hydra or --cfg all.", "--config-dir": "Write --config-dir DIR."}
    return hints.get(flag, "See trainer fit --help.")


def _not_an_override(word: str, verb: str) -> UsageError:
    folder = configs_folder()
    groups = [path.parent.name for path in sorted(folder.glob(f"*/{word}.yaml"))] if word.isidentifier() else []
    if groups:
        return UsageError(f"{word} is not an override.", hint=f"Did you mean {groups[0]}={word}?")
    if verb == "eval":
        return UsageError(f"{word} is not an override.", hint=f"Did you mean ckpt={word}?")
    return UsageError(f"{word} is not an override.", hint="Write key=value, such as model=cnn or optimizer.lr=0.1.")


def _plain(value: str) -> str:
    """A value without the quotes and escapes of Hydra's grammar: enough to read a path."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        quote = value[0]
        return value[1:-1].replace(f"\\{quote}", quote)
    return value.replace("\\=", "=").replace("\\ ", " ").replace("\\,", ",")
