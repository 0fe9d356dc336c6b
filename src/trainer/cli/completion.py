"""Completion for bash, zsh and fish, from the table of verbs, the YAML and the schemas.

Hydra's own knows no verbs, offers keys of Hydra and prints its usage into the prompt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from trainer.cli.arguments import GROUPS, Verb
from trainer.cli.configs import (
    choices,
    comments,
    configs_folder,
    default_choice,
    last_value,
    own_folders,
)
from trainer.cli.verbs import VERBS, find_verb
from trainer.config import CHOICES, SECTIONS, find_key
from trainer.config.keys import Key, Section, keys_of
from trainer.config.run import EvalOptions
from trainer.errors import UsageError, command_line
from trainer.run.find import sweep_folders
from trainer.run.folder import RECORD_FILE
from trainer.run.index import Entry, read_index

# More ids than a person reads are not offered at once.
_MAX_IDS = 20
# The script that each shell installs. A candidate that ends in one of = . / , is not finished, so
# no space follows it. Errors go to /dev/null: printed, they would spoil the line that is typed.
_SCRIPTS = {
    "bash": """\
_trainer_completion() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" typed
    typed="${line##*[[:space:]]}"
    COMPREPLY=($(COMP_LINE="$line" "$1" --shell-completion query=bash 2>/dev/null))
    # Bash replaces only what follows the last = or : of the word.
    COMPREPLY=("${COMPREPLY[@]#"${typed%"$2"}"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./,] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _trainer_completion trainer
""",
    "zsh": """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_trainer_completion() {
    local candidate line="${(j. .)words[1,CURRENT-1]} $PREFIX"
    local -a open open_shown closed closed_shown
    for candidate in \\
        ${(f)"$(COMP_LINE="$line" ${words[1]} --shell-completion query=zsh 2>/dev/null)"}; do
        local name="${candidate%%$'\\t'*}" shown="${candidate/$'\\t'/  }"
        if [[ $name == *[=./,] ]]; then open+=("$name"); open_shown+=("$shown")
        else closed+=("$name"); closed_shown+=("$shown"); fi
    done
    (( $#open )) && compadd -Q -S '' -l -d open_shown -a open
    (( $#closed )) && compadd -Q -l -d closed_shown -a closed
}
compdef _trainer_completion trainer
""",
    "fish": """\
function __trainer_completion
    set -l words (commandline -opc)
    COMP_LINE=(commandline -cp) $words[1] --shell-completion query=fish 2>/dev/null
end
complete -c trainer -f -a '(__trainer_completion)'
""",
}
_UNINSTALL = {
    "bash": "complete -r trainer; unset -f _trainer_completion\n",
    "zsh": "compdef -d trainer; unfunction _trainer_completion\n",
    "fish": "complete -e -c trainer; functions -e __trainer_completion\n",
}


def run(argv: list[str]) -> None:
    """Answer `--shell-completion install=…`, `uninstall=…` and `query=…`; raises UsageError.

    The installed script puts the line up to the cursor into COMP_LINE, and reads a candidate a
    line.
    """
    action, _, shell = argv[-1].partition("=") if len(argv) == 2 else ("", "", "")
    if action not in ("install", "uninstall", "query") or shell not in _SCRIPTS:
        raise UsageError(
            "--shell-completion needs an action and a shell.",
            hint=f"Write: {command_line('--shell-completion', 'install=bash')} (or zsh, fish); see "
            "the README for the whole line.",
        )
    if action == "query":
        found = candidates(os.environ.get("COMP_LINE", ""))
        with_text = shell != "bash"  # bash would insert the text as well
        lines = (f"{name}\t{text}" if text and with_text else name for name, text in found.items())
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    else:
        sys.stdout.write((_SCRIPTS if action == "install" else _UNINSTALL)[shell])


def candidates(line: str) -> dict[str, str]:
    """What may replace the last word of `line`, each with a phrase or an empty text."""
    # The NUL keeps an empty last word, which split drops: after a space any word may begin. An open
    # quote belongs to the shell.
    *words, started = [word.lstrip("'\"") for word in (line + "\0").split()]
    started = started.rstrip("\0")
    found = _candidates(_after_program(words), started)
    return {name: text for name, text in found.items() if name.startswith(started)}


def _after_program(words: list[str]) -> list[str]:
    # It may follow others, as in `sudo .venv/bin/trainer`. Without that name it is an alias.
    for index, word in enumerate(words):
        if Path(word).name == "trainer":
            return words[index + 1 :]
    return words[1:]


def _candidates(words: list[str], started: str) -> dict[str, str]:
    if not words:
        verbs = {name: verb.summary for name, verb in VERBS.items()}
        return verbs | dict.fromkeys(("--help", "--version", "--shell-completion"), "")
    if words == ["--shell-completion"]:
        return {f"install={shell}": "" for shell in _SCRIPTS}
    if words[0] not in VERBS:
        return {}
    try:
        verb, rest = find_verb(words)
    except UsageError:
        return {}  # nothing continues a wrong line
    found = _after_verb(verb, rest, started)
    # `trainer runs ` is `trainer runs ls ` as well: its verbs, and the filters of ls.
    if len(words) == 1:
        found = {inner.name.split()[-1]: inner.summary for inner in VERBS[words[0]].verbs} | found
    return found


def _after_verb(verb: Verb, words: list[str], started: str) -> dict[str, str]:
    """A flag or its value, a key or its value, a run."""
    flag = verb.flag(words[-1]) if words else None
    if flag is not None and flag.value:
        return _paths(started) if flag.value == "DIR" else dict.fromkeys(flag.values, "")
    if started.startswith("-"):
        return {known.name: known.text for known in verb.all_flags}
    place = _Place(verb, words)
    if "=" in started:
        return place.values(started)
    if verb.words in ("tags", "text") and place.runs:
        return {}  # a text
    return {**place.words(started), **place.keys(started)}


class _Place:
    """What may follow `words` after a verb."""

    def __init__(self, verb: Verb, words: list[str]) -> None:
        self._verb = verb
        self._words = words
        self._given = [word.partition("=")[0] for word in words]
        known = [key.name for key in (*verb.keys, *verb.filters)]
        self.runs = [word for word, key in zip(words, self._given, strict=True) if key not in known]

    def words(self, started: str) -> dict[str, str]:
        """The runs that are not named yet, or what else the next word may be."""
        verb = self._verb
        found = {} if self.runs else dict.fromkeys(verb.first_words(), "")
        is_full = verb.most is not None and len(self.runs) >= verb.most
        # Where a verb filters, a word is a part of a name, and an id would match nothing.
        if verb.filters or is_full or not verb.words:
            return found
        folders = [name for name in _paths(started) if name.endswith("/")]
        # A run folder is a whole word; a folder on the way to one ends in a slash.
        paths = [
            path.rstrip("/") if Path(path, RECORD_FILE).is_file() else path for path in folders
        ]
        found |= {"last": "the newest run", **self._ids(started), **dict.fromkeys(paths, "")}
        found |= self._sweeps(started)
        return {name: text for name, text in found.items() if name not in self._words}

    def _ids(self, started: str) -> dict[str, str]:
        """The short ids of the newest runs, each with its name, or of all that begin so."""
        # A path is no id: this saves reading every run.json below the root.
        if started and not started.isalnum():
            return {}
        found = [entry for entry in self._index() if entry.id.startswith(started)]
        return {entry.id: entry.name for entry in found[: None if started else _MAX_IDS]}

    def _sweeps(self, started: str) -> dict[str, str]:
        """The names of the newest sweeps, or of all that begin so."""
        if not self._verb.takes_sweeps or "/" in started:
            return {}
        found = [
            path.name for path in sweep_folders(self._index()) if path.name.startswith(started)
        ]
        return dict.fromkeys(found[: None if started else _MAX_IDS], "a sweep")

    def _index(self) -> list[Entry]:
        root = last_value(self._words, "run.root") or "runs"
        return read_index(Path(root))

    def keys(self, started: str) -> dict[str, str]:
        """The keys and groups that are not given yet."""
        verb = self._verb
        found = {f"{key.name}=": key.text for key in (*verb.keys, *verb.filters)}
        group, dot, _ = started.partition(".")
        if not dot:
            found |= _heads(verb)
        elif group in verb.heads or f"{group}." in verb.heads:
            found |= self._keys_of(group)
        given = {f"{key}=" for key in self._given}
        return {name: text for name, text in found.items() if name not in given}

    def values(self, started: str) -> dict[str, str]:
        """What may follow the key and the `=` in `started`."""
        key, _, value = started.partition("=")
        done = ""
        known = {own.name: own for own in (*self._verb.keys, *self._verb.filters)}.get(key)
        # In a sweep a comma starts the next value too.
        if self._verb.config or (known is not None and known.is_list):
            done, comma, value = value.rpartition(",")
            done += comma
        if self._verb.config:
            found = self._config_values(key, value)
        else:
            found = {} if known is None else dict.fromkeys(known.values(), "")
            found |= _paths(value) if known is not None and known.is_path else {}
        return {f"{key}={done}{name}": text for name, text in found.items()}

    def _config_values(self, key: str, started: str) -> dict[str, str]:
        """The choices of a group, or the values of a key of the config."""
        if key in GROUPS:
            found = choices(key, self._folders())
            return {name: comments(path)[""][1] for name, path in found.items()}
        known = self._config_keys(key.partition(".")[0]).get(key) or find_key(key)
        if known is None:
            return {}
        values = dict.fromkeys(known.choices, "")
        if not known.is_path:
            return values
        # A key that takes `last` takes a run, so its id too.
        ids = self._ids(started) if started and "last" in values else {}
        return values | ids | _paths(started)

    def _keys_of(self, group: str) -> dict[str, str]:
        """The keys of a group, as the words chose it, with their comments in the YAML."""
        texts = comments(self._schema(group)[1])
        return {
            f"{key}=": texts.get(key.rpartition(".")[2], ("", ""))[1]
            for key in self._config_keys(group)
            if key != f"{group}.name" or group not in CHOICES
        }

    def _config_keys(self, group: str) -> dict[str, Key]:
        """The keys of a group by their dotted names, as the words chose it."""
        schema, _ = self._schema(group)
        return {schema.dotted(name): key for name, key in keys_of(schema).items()} if schema else {}

    def _schema(self, group: str) -> tuple[type[Section] | None, Path]:
        """The schema of a group as the words chose it, and the file with its values."""
        if group == "run":
            return SECTIONS["run"], configs_folder() / "fit.yaml"
        # The group eval is not in fit.yaml; its only file is default.yaml.
        choice = last_value(self._words, group) or default_choice(group) or "default"
        path = choices(group, self._folders()).get(choice)
        if path is None:
            return None, configs_folder() / "fit.yaml"
        if group == "eval":
            return EvalOptions, path
        return SECTIONS.get(group) or CHOICES.get(group, {}).get(_name_in(path)), path

    def _folders(self) -> list[Path]:
        """The folders of YAML: ours, and a person's own."""
        return [configs_folder(), *own_folders(self._words)]


def _heads(verb: Verb) -> dict[str, str]:
    """How a word of Hydra may begin."""
    groups = [head for head in verb.heads if head in GROUPS]
    others = [head for head in verb.heads if head not in GROUPS]
    choices_of = [f"{group}=" for group in groups]
    keys_of = [f"{group}." for group in groups if group != "experiment"]
    return dict.fromkeys((*choices_of, *keys_of, *others), "")


def _name_in(path: Path) -> str:
    """Which choice of ours a YAML file sets values for: a person's own may have any file name."""
    # Read, not composed: Hydra would run the callbacks that a folder of YAML may name.
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return str(content.get("name")) if isinstance(content, dict) else ""


def _paths(started: str) -> dict[str, str]:
    """Files and folders whose path starts so, those with a dot only where one is typed."""
    folder, slash, name = started.rpartition("/")
    try:
        entries = sorted(Path(folder + slash or ".").expanduser().iterdir())
    except OSError:
        return {}
    found = [path for path in entries if path.name.startswith(name)]
    return {
        f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}": ""
        for path in found
        if name or not path.name.startswith(".")
    }
