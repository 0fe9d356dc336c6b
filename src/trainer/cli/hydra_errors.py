"""What Hydra and OmegaConf say when a command line does not compose, in a sentence with the
nearest valid names.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from trainer.cli.arguments import configs_folder
from trainer.config import CHOICES, SECTIONS
from trainer.config.run import EvalOptions
from trainer.errors import ConfigError, TrainerError, UsageError, suggestion

_TOP_LEVEL = ("seed", "resume", "experiment")


def explain(error: Exception, *, verb: str, argv: Sequence[str]) -> Exception:
    """`error` as an error of ours; the original where it is not about the command line."""
    cause: BaseException | None = error
    while cause is not None:
        # One of ours may come from inside a resolver, wrapped in OmegaConf's own.
        if isinstance(cause, TrainerError):
            return cause
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if type(error).__name__ == "MissingConfigException":
        return _missing_choice(error, text)
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return UsageError(
            f"{match[1]} has several values.",
            hint="Sweep over them with -m, or quote them: 'key=\"a,b\"'.",
        )
    if match := re.search(r"You must specify '([\w/]+)'", text):
        return ConfigError(
            f"{match[1]} is not chosen.", hint=suggestion("", CHOICES.get(match[1], ()))
        )
    if match := re.search(r"Multiple values for ([\w/]+)", text):
        group = match[1]
        in_yaml = f"In your YAML write `override /{group}: …` in the defaults list."
        is_added = any(word.startswith(f"+{group}=") for word in argv)
        return UsageError(
            f"{group} has a choice already.",
            hint=f"Leave out the +: {group}=…" if is_added else in_yaml,
        )
    if match := re.search(r"An item is already at '([^']+)'", text):
        return UsageError(f"{match[1]} exists already.", hint=f"Leave out the +: {match[1]}=…")
    if match := re.search(r"Could not (?:override|delete|append)[^']*'([^']+)'", text):
        return _unknown_key(match[1], verb, argv)
    if type(error).__name__ == "OverrideParseException":
        wrong = getattr(error, "override", "")
        return UsageError(
            f"{wrong} cannot be read as an override.",
            hint="Quote what has spaces or signs: 'key=\"a b\"'.",
        )
    if isinstance(error, yaml.YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.name}, line {mark.line + 1}" if mark else None
        return ConfigError(
            f"A YAML file cannot be read: {getattr(error, 'problem', text)}.", where=where
        )
    if isinstance(error, UnicodeDecodeError):
        return ConfigError(
            "A YAML file cannot be read: it is not UTF-8 text.", where=_not_utf8(argv)
        )
    if match := re.search(r"Additional config directory '([^']+)' not found", text):
        return UsageError(f"--config-dir {match[1]} is not a folder.")
    if type(error).__module__.split(".")[0] in ("hydra", "omegaconf"):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return ConfigError(
            lines[0], where="; ".join(lines[1:3]) or None, hint=f"See trainer {verb} --help."
        )
    return error


def _missing_choice(error: Exception, text: str) -> UsageError:
    wanted = getattr(error, "missing_cfg_file", None) or ""
    group, _, choice = str(wanted).rpartition("/")
    if not group:
        return ConfigError(text.strip().splitlines()[0])
    options = [str(option) for option in getattr(error, "options", None) or ()]
    if not options:
        return UsageError(f"{group}={choice}: there is no such {group}.")
    return ConfigError(
        f"{group}={choice}: there is no such {group}.", hint=suggestion(choice, options)
    )


def _unknown_key(key: str, verb: str, argv: Sequence[str]) -> UsageError:
    head, _, rest = key.partition(".")
    of_eval = ("eval", "ckpt")
    known_heads = (*CHOICES, *SECTIONS, *_TOP_LEVEL, *(of_eval if verb == "eval" else ()))
    if head in of_eval and verb != "eval":
        return UsageError(
            f"{key} belongs to trainer eval.",
            hint="To go on with a run: trainer fit resume=runs/<run>",
        )
    if head not in known_heads:
        return ConfigError(
            f"{key}: there is no key {head}.", hint=suggestion(head, known_heads, label="Keys")
        )
    if not rest:
        return ConfigError(f"{key} cannot be set here.", hint="See trainer fit --help.")
    label, fields = _fields(head, argv)
    leaf = rest.split(".")[0]
    if leaf in fields:
        return ConfigError(
            f"{key}: {head}.{leaf} has no such part.", hint=f"Set it as a whole: {head}.{leaf}=…"
        )
    return ConfigError(
        f"{key}: {label} has no key {leaf}.", hint=suggestion(leaf, fields, label="Keys")
    )


def _fields(group: str, argv: Sequence[str]) -> tuple[str, list[str]]:
    """How the chosen member of a group is called, and the keys it has."""
    if group in CHOICES:
        chosen = [word.partition("=")[2] for word in argv if word.startswith(f"{group}=")]
        choice = chosen[-1] if chosen else _default(group)
        schema = CHOICES[group].get(choice)
        label = f"{group}={choice}"
    else:
        schema, label = (EvalOptions if group == "eval" else SECTIONS.get(group)), group
    names = [field.name for field in dataclasses.fields(schema)] if schema else []
    return label, [name for name in names if name != "name" or group not in CHOICES]


def _default(group: str) -> str:
    content = yaml.safe_load((configs_folder() / "fit.yaml").read_text(encoding="utf-8"))
    return next(
        (
            str(entry[group])
            for entry in content["defaults"]
            if isinstance(entry, dict) and group in entry
        ),
        "",
    )


def _not_utf8(argv: Sequence[str]) -> str | None:
    """The file in the person's own folder of YAML that is not text, if it is there."""
    folders = [after for word, after in itertools.pairwise(argv) if word in ("-cd", "--config-dir")]
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.yaml")):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(path)
        except OSError:
            continue
    return None
