"""Reading the words after `trainer runs` (which verb, the runs, filters and keys) and after
`trainer reproduce`.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from trainer.cli.arguments import Arguments
from trainer.errors import UsageError, suggestion
from trainer.run.index import METRICS

# The verbs, each in a phrase.
RUNS_VERBS = {
    "ls": "list runs, the newest first",
    "best": "the run with the best value of a metric",
    "show": "what a run is, and its curves",
    "compare": "runs side by side: what differs, final metrics, curves",
    "diff": "two configs, line by line",
    "rm": "remove runs",
    "tag": "give a run tags",
    "untag": "take tags away",
    "note": "keep a note on a run",
}
SORTS = ("started", "name", "status", *METRICS)
# Keys and flags of each verb, besides run.root and --help.
RUNS_KEYS = {"ls": ("sort", "limit")}
RUNS_FLAGS = {
    "ls": ("--json", "--quiet"),
    "best": ("--json", "--quiet"),
    "show": ("--json",),
    "compare": ("--json",),
    "diff": ("--exit-code",),
    "rm": ("--yes",),
}
_SHORT = {"-q": "--quiet", "-y": "--yes"}
# How many runs each takes, at least.
_LEAST = {"compare": 2, "diff": 2, "rm": 1, "tag": 1, "untag": 1, "note": 1}
_SAYING = ("tag", "untag", "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsArguments:
    """What was asked: `words` are filters, or runs and what is to be said of them; `options` are
    keys and flags.
    """

    verb: str
    words: list[str]
    options: dict[str, str]
    root: Path


def read_runs_words(words: list[str]) -> RunsArguments:
    """What the words after `trainer runs` ask for; raises UsageError. Without a verb it is ls."""
    verb, rest = _verb(words)
    options: dict[str, str] = {}
    given: list[str] = []
    root = "runs"
    for word in rest:
        key, equals, value = word.partition("=")
        if word.startswith("run.root="):
            root = value or root
        elif verb in _SAYING and given:
            given.append(word)  # what is said of the run, whatever it looks like
        elif word.startswith("-"):
            options[_flag(verb, word)] = "true"
        elif equals and key in RUNS_KEYS.get(verb, ()):
            options[key] = value
        else:
            given.append(word)
    _check(verb, given, options)
    return RunsArguments(verb=verb, words=given, options=options, root=Path(root))


def read_reproduce_words(words: list[str]) -> tuple[str, Arguments]:
    """The run that `trainer reproduce` is to train again, and the other words; raises UsageError."""
    runs: list[str] = []
    rest: list[str] = []
    for word in words:
        is_value = bool(rest) and rest[-1] in ("-cd", "--config-dir")
        is_run = (
            not is_value and not word.startswith("-") and ("=" not in word or os.path.lexists(word))
        )
        (runs if is_run else rest).append(word)
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag not in ("-cd", "--config-dir"):
            hint = suggestion(flag, ("--config-dir", "--help"), label="Flags of trainer reproduce")
            raise UsageError(f"reproduce has no flag {flag}.", hint=hint)
    arguments = Arguments.parse("reproduce", rest)
    for key in ("ckpt", "resume", "run"):
        if value := arguments.values.get(key):
            hint = f"Name the run alone: {shlex.join(['trainer', 'reproduce', value])}"
            raise UsageError(f"reproduce has no key {key}.", hint=hint)
    if not any(runs):
        raise UsageError(
            "The run is missing.", hint="Say what to train again: trainer reproduce last, or an id"
        )
    if len(runs) > 1:
        raise UsageError(
            f"reproduce takes one run; {runs[1]} is one too many.",
            hint=f"One at a time: {shlex.join(['trainer', 'reproduce', runs[0]])}",
        )
    return runs[0], arguments


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """The verb and what follows it; a filter or a flag without a verb is one of ls."""
    if not words or words[0].startswith("-") or "=" in words[0]:
        return "ls", words
    if words[0] not in RUNS_VERBS:
        same = {"list": "ls", "remove": "rm", "delete": "rm", "inspect": "show"}.get(words[0])
        listed = suggestion(words[0], RUNS_VERBS, label="Verbs")
        hint = f"Did you mean {same}? {listed[listed.index('Verbs') :]}" if same else listed
        raise UsageError(f"trainer runs has no verb {words[0]}.", hint=hint)
    return words[0], words[1:]


def _flag(verb: str, word: str) -> str:
    known = RUNS_FLAGS.get(verb, ())
    name = _SHORT.get(word, word)
    if name in known:
        return name.removeprefix("--")
    flag = word.partition("=")[0]
    if flag.removeprefix("--") in (*RUNS_KEYS.get(verb, ()), "run.root"):
        hint = f"Keys are written without dashes: {flag.removeprefix('--')}=…"
    elif flag in known:
        hint = f"It takes no value: {flag}"
    else:
        hint = suggestion(flag, [*known, "--help"], label=f"Flags of trainer runs {verb}")
    raise UsageError(
        f"There is no flag {word}." if flag not in known else f"{flag} takes no value.", hint=hint
    )


def _check(verb: str, given: list[str], options: dict[str, str]) -> None:
    if "" in given[:1] or (verb not in _SAYING and "" in given):
        raise UsageError("A word is empty.", hint="Name a run by its id; trainer runs lists them.")
    if len(given) < (least := _LEAST.get(verb, 0)):
        missing = "The run is missing." if not given else "A second run is missing."
        example = " ".join(["last", "<run>"][:least])
        raise UsageError(
            missing, hint=f"Write: trainer runs {verb} {example}; trainer runs lists them."
        )
    if verb == "diff" and len(given) > 2:
        raise UsageError(
            f"diff takes two runs; {given[2]} is one too many.",
            hint=f"For more: {shlex.join(['trainer', 'runs', 'compare', *given])}",
        )
    sort, limit = options.get("sort"), options.get("limit")
    if sort is not None and sort not in SORTS:
        raise UsageError(f"sort={sort}: there is no such order.", hint=suggestion(sort, SORTS))
    if limit is not None and not (limit.isascii() and limit.isdecimal() and len(limit) < 7):
        raise UsageError(f"limit={limit}: a whole number from 0 is expected.", hint="0 shows all.")
