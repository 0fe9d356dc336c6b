"""Completion for bash, zsh and fish: what may follow the words typed so far, read from the YAML
files and the schemas.

Hydra has completion too, but it knows no verbs, offers its own keys and prints its usage into the
prompt.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from pathlib import Path

import yaml

from trainer.cli.arguments import PORT, RUN_KEYS, SWITCHES, VERBS, WITH_VALUE, configs_folder
from trainer.cli.help import GROUPS, choices, comments, default_choice
from trainer.cli.run_arguments import RUNS_FLAGS, RUNS_KEYS, RUNS_VERBS, SORTS
from trainer.config import CHOICES, SECTIONS
from trainer.config.run import EvalOptions
from trainer.errors import UsageError
from trainer.run.index import METRICS, read_index
from trainer.run.record import RunStatus

_FIRST = {**VERBS, "--help": "", "--version": "", "--shell-completion": ""}
_SECTIONS: dict[str, type] = {**SECTIONS, "eval": EvalOptions}
_PATHS = ("ckpt", "resume", "data.root", "run.root", "run.dir")
_VALUES = {
    "ckpt": ("last",),
    "resume": ("last",),
    "eval.split": ("test", "val", "train"),
    "trainer.device": ("auto", "cpu", "cuda"),
    "trainer.precision": ("fp32", "bf16", "fp16"),
    "trainer.compile": ("off", "on"),
}
# More ids than a person reads are not offered at once.
_MAX_IDS = 20
# What may follow the command itself. Candidates that end in one of = . / , are not finished: no
# space after them.
_SCRIPTS = {
    "bash": """\
_trainer_completion() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" typed
    typed="${line##*[[:space:]]}"
    COMPREPLY=($(COMP_LINE="$line" "$1" --shell-completion query=bash 2>/dev/null))
    # Bash replaces only what follows the last = or : of the word.
    COMPREPLY=("${COMPREPLY[@]#"${typed%"$2"}"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./,] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _trainer_completion trainer
""",
    "zsh": """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_trainer_completion() {
    local candidate line="${(j. .)words[1,CURRENT-1]} $PREFIX"
    local -a open open_shown closed closed_shown
    for candidate in ${(f)"$(COMP_LINE="$line" ${words[1]} --shell-completion query=zsh 2>/dev/null)"}; do
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
    """Answer `--shell-completion install=…`, `uninstall=…` and the `query=…` that the installed
    script asks.

    The script gives the line typed so far, up to the cursor, in COMP_LINE; the answer is a
    candidate a line.
    """
    action, _, shell = argv[-1].partition("=") if len(argv) == 2 else ("", "", "")
    if action not in ("install", "uninstall", "query") or shell not in _SCRIPTS:
        raise UsageError(
            "--shell-completion needs to know what to do.",
            hint="Write --shell-completion install=bash (or zsh, fish); see the README for the "
            "whole line.",
        )
    if action == "query":
        found = candidates(os.environ.get("COMP_LINE", ""))
        with_text = shell != "bash"
        lines = (f"{name}\t{text}" if text and with_text else name for name, text in found.items())
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    else:
        sys.stdout.write((_SCRIPTS if action == "install" else _UNINSTALL)[shell])


def candidates(line: str) -> dict[str, str]:
    """What may stand in place of the last word of `line`, each with a phrase that explains it or
    an empty text.
    """
    *words, started = [word.lstrip("'\"") for word in (line + "\0").split()]
    started = started.rstrip("\0")
    programs = [index for index, word in enumerate(words) if Path(word).name == "trainer"]
    words = words[programs[0] + 1 :] if programs else words[1:]
    if not words:
        found = _FIRST
    elif words[0] in VERBS:
        if words[0] == "runs":
            found = _after_runs(words[1:], started)
        else:
            follow = _after_run_verb if words[0] in RUN_KEYS else _after_verb
            found = follow(words[0], words[1:], started)
    elif words == ["--shell-completion"]:
        found = {f"install={shell}": "" for shell in _SCRIPTS}
    else:
        found = {}
    return {name: text for name, text in found.items() if name.startswith(started)}


def _after_verb(verb: str, words: list[str], started: str) -> dict[str, str]:
    before = words[-1] if words else ""
    if before in ("-cd", "--config-dir"):
        return _paths(started)
    if before in ("-c", "--cfg"):
        return dict.fromkeys(("job", "hydra", "all"), "")
    if started.startswith("-"):
        flags = [flag for flag in (*SWITCHES, *WITH_VALUE) if flag.startswith("--")]
        return dict.fromkeys([*flags, "--json"] if verb == "eval" else flags, "")
    folders = [configs_folder()]
    folders += [
        Path(after) for word, after in itertools.pairwise(words) if word in ("-cd", "--config-dir")
    ]
    if "=" in started:
        key, _, value = started.partition("=")
        # In a sweep a comma starts the next value.
        done, comma, last = value.rpartition(",")
        return {
            f"{key}={done}{comma}{name}": text
            for name, text in _values(key, last, words, folders).items()
        }
    group, dot, _ = started.partition(".")
    found = _keys(group, words, folders) if dot else _heads(verb)
    given = {word.partition("=")[0] for word in words}
    return {
        name: text
        for name, text in found.items()
        if name.rstrip("=") not in given or name.endswith(".")
    }


def _after_run_verb(verb: str, words: list[str], started: str) -> dict[str, str]:
    """A run folder is a word of its own; a folder on the way to one ends in a slash."""
    if verb == "reproduce" and words[-1:] in (["-cd"], ["--config-dir"]):
        return _paths(started)
    if started.startswith("-"):
        return {"--config-dir": "", "--help": ""} if verb == "reproduce" else {"--help": ""}
    if started.startswith("run.root="):
        return {f"run.root={name}": "" for name in _paths(started.removeprefix("run.root="))}
    if started.startswith("port="):
        return {f"port={PORT}": ""} if verb == "tb" else {}
    if verb == "reproduce" and "=" in started:
        key, _, value = started.partition("=")
        return {
            f"{key}={name}": text
            for name, text in _values(key, value, words, [configs_folder()]).items()
        }
    given = [word.partition("=")[0] for word in words]
    found = {f"{key}=": "" for key in RUN_KEYS[verb] if key not in given}
    # check-run and reproduce take one run, tb any number.
    if verb == "tb" or all(key in RUN_KEYS[verb] for key in given):
        found = {**_runs(words, started), **found}
    return found


def _after_runs(words: list[str], started: str) -> dict[str, str]:
    """The verb, then its runs by id or path, its filters, keys and flags."""
    verb = words[0] if words and words[0] in RUNS_VERBS else "ls"
    if started.startswith("-"):
        return dict.fromkeys([*RUNS_FLAGS.get(verb, ()), "--help"], "")
    if started.startswith("run.root="):
        return {f"run.root={name}": "" for name in _paths(started.removeprefix("run.root="))}
    lists = verb in ("ls", "best")
    for key, values in (("sort", SORTS), ("status", tuple(RunStatus))):
        if started.startswith(f"{key}=") and lists:
            return {f"{key}={name}": "" for name in values}
    given = [word.partition("=")[0] for word in words]
    keys = [*RUNS_KEYS.get(verb, ()), *(("status", "tag") if lists else ()), "run.root"]
    found = {f"{key}=": "" for key in keys if key not in given}
    if not words:
        return {**RUNS_VERBS, **found}
    if lists:
        return {**dict.fromkeys(METRICS if words == ["best"] else (), ""), **found}
    if verb in ("tag", "untag", "note") and [word for word in given[1:] if word != "run.root"]:
        return {}  # what is said of a run
    return {**_runs(words, started), **found}


def _runs(words: list[str], started: str) -> dict[str, str]:
    """Runs that are not among the words yet: the newest, by id, or by path; a folder on the way
    ends in a slash.
    """
    folders = [name for name in _paths(started) if name.endswith("/")]
    paths = {name.rstrip("/") if Path(name, "run.json").is_file() else name: "" for name in folders}
    runs = {"last": "the newest run", **_ids(words, started), **paths}
    return {name: text for name, text in runs.items() if name not in words}


def _ids(words: list[str], started: str) -> dict[str, str]:
    """The short ids of the newest runs, each with its name, or of all that begin so."""
    roots = [word.removeprefix("run.root=") for word in words if word.startswith("run.root=")]
    index = (
        read_index(Path(roots[-1] if roots else "runs")) if started.isalnum() or not started else []
    )
    found = [entry for entry in index if entry.id.startswith(started)]
    return {entry.id: entry.name for entry in found[: None if started else _MAX_IDS]}


def _heads(verb: str) -> dict[str, str]:
    """What a word after the verb may begin with."""
    groups = [group for group in GROUPS if verb == "fit" or group in ("data", "trainer")]
    sections = [group for group in groups if group != "experiment"]
    more = ["run.", "ckpt=", "eval."] if verb == "eval" else ["run.", "seed=", "resume="]
    return dict.fromkeys(
        [*(f"{group}=" for group in groups), *(f"{group}." for group in sections), *more], ""
    )


def _schema(group: str, words: list[str], folders: list[Path]) -> tuple[type | None, Path]:
    """The schema of a group as the words chose it, and the file with its values."""
    if group == "run":
        return SECTIONS["run"], configs_folder() / "fit.yaml"
    chosen = [after for word in words for name, _, after in [word.partition("=")] if name == group]
    path = choices(group, folders).get(chosen[-1] if chosen else default_choice(group) or "default")
    if path is None:
        return None, configs_folder()
    return _SECTIONS.get(group) or CHOICES.get(group, {}).get(_name_in(path)), path


def _keys(group: str, words: list[str], folders: list[Path]) -> dict[str, str]:
    """The keys of a group, as the words chose it."""
    schema, path = _schema(group, words, folders)
    if schema is None:
        return {}
    texts = comments(path)
    fields = [
        field.name
        for field in dataclasses.fields(schema)
        if field.name != "name" or group not in CHOICES
    ]
    return {f"{group}.{field}=": texts.get(field, ("", ""))[1] for field in fields}


def _values(key: str, started: str, words: list[str], folders: list[Path]) -> dict[str, str]:
    """What may follow `key=`."""
    if key in GROUPS:
        return {name: comments(path)[""][1] for name, path in choices(key, folders).items()}
    found = dict.fromkeys(_VALUES.get(key, ()), "")
    if key in _PATHS:
        ids = _ids(words, started) if started and "last" in _VALUES.get(key, ()) else {}
        return found | ids | _paths(started)
    group, _, field = key.partition(".")
    schema, _ = _schema(group, words, folders)
    is_switch = schema is not None and any(
        f.name == field and f.type == "bool" for f in dataclasses.fields(schema)
    )
    return found | ({"true": "", "false": ""} if is_switch else {})


def _name_in(path: Path) -> str:
    """Which choice of ours a YAML file sets values for; a person's own file may have any file name."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return str(content.get("name")) if isinstance(content, dict) else ""


def _paths(started: str) -> dict[str, str]:
    """Files and folders whose path starts so."""
    folder, slash, name = started.rpartition("/")
    try:
        entries = sorted(Path(folder + slash or ".").expanduser().iterdir())
    except OSError:
        return {}
    shown = [
        path
        for path in entries
        if path.name.startswith(name) and (name or not path.name.startswith("."))
    ]
    return {f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}": "" for path in shown}
