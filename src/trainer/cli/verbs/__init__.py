"""The verbs of the command line: parser, help pages and completion read this table.

A new verb is a module in `commands/` that does the work, a module here with its page, its grammar
and what runs it, and its name in `_MODULES`. Nothing here imports torch; a verb's command does,
inside the function that runs it.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.cli.arguments import Verb
from trainer.cli.verbs import check_run, eval, fit, reproduce, runs, tb
from trainer.errors import UsageError, command_line, suggestion

# The headings of the overview, in their order.
HEADINGS = ("Train", "Look before", "Look after", "Use")
# In the order of the overview.
_MODULES = (fit, reproduce, eval, tb, runs, check_run)

# What other tools call them.
_INSTEAD = {
    "train": "fit", "run": "fit", "start": "fit", "train.py": "fit", "learn": "fit",
    "sweep": "fit -m", "multirun": "fit -m", "tune": "fit -m", "search": "fit -m sweep=optuna",
    "resume": "fit resume=last", "continue": "fit resume=last",
    "test": "eval ckpt=last", "validate": "eval ckpt=last eval.split=val",
    "val": "eval ckpt=last eval.split=val", "score": "eval ckpt=last",
    "tensorboard": "tb", "board": "tb", "logs": "tb", "plot": "tb",
    "list": "runs", "ls": "runs", "show": "runs show", "best": "runs best",
    "compare": "runs compare", "diff": "runs diff", "rm": "runs rm", "delete": "runs rm",
    "remove": "runs rm", "tag": "runs tag", "note": "runs note",
    "verify": "check-run", "fsck": "check-run", "repeat": "reproduce", "rerun": "reproduce",
    "config": "fit --cfg job", "configs": "fit --help", "models": "fit --help",
    "version": "--version",
}  # fmt: skip

VERBS = {module.VERB.name: module.VERB for module in _MODULES}


def find_verb(words: Sequence[str]) -> tuple[Verb, list[str]]:
    """The verb at the beginning of `words` and the words after it; raises UsageError."""
    name, *rest = words
    if name not in VERBS:
        raise _no_verb(name)
    verb = VERBS[name]
    if not verb.verbs:
        return verb, rest
    # A filter or a flag without a verb belongs to the first one.
    if not rest or rest[0].startswith("-") or "=" in rest[0]:
        return verb.verbs[0], rest
    known = {inner.name.split()[-1]: inner for inner in verb.verbs}
    if rest[0] in known:
        return known[rest[0]], rest[1:]
    hint = suggestion(rest[0], known, label="Verbs")
    if rest[0] in verb.instead:
        hint = f"Did you mean {verb.instead[rest[0]]}? {hint[hint.index('Verbs') :]}"
    raise UsageError(f"trainer {name} has no verb {rest[0]}.", hint=hint)


def _no_verb(word: str) -> UsageError:
    """What is wrong with a first word that is no verb."""
    flag = word.partition("=")[0]
    # A flag of fit means that only the verb is missing, as in `trainer -m model=mlp,cnn`.
    if word.startswith("-") and VERBS["fit"].flag(flag) is None:
        known = ("--help", "--version", "--shell-completion")
        return UsageError(
            f"There is no flag {flag}.",
            hint=suggestion(flag, known, label="Flags without a command"),
        )
    if word.startswith("-") or "=" in word:
        return UsageError(
            f"The command is missing before {word}.", hint=f"Write: {command_line('fit', word)}"
        )
    hint = suggestion(word, VERBS, label="Commands")
    if word in _INSTEAD:
        hint = f"Did you mean {_INSTEAD[word]}? {suggestion('', VERBS, label='Commands')}"
    return UsageError(f"There is no command {word}.", hint=hint)
