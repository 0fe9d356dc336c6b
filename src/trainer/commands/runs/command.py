"""`trainer runs`: finds the runs and calls the function of the verb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.commands.runs.best import best
from trainer.commands.runs.compare import compare, diff
from trainer.commands.runs.compared import to_compare
from trainer.commands.runs.edit import note, rm, tag
from trainer.commands.runs.list import ls
from trainer.commands.runs.show import show
from trainer.commands.runs.tidy import du, to_remove
from trainer.errors import UsageError, program
from trainer.run.find import find_run, find_runs
from trainer.run.index import Entry
from trainer.tracking.console import Terminal
from trainer.tracking.table import write_json


def run(
    verb: str, words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal
) -> int:
    """Run a verb on runs below `root`; returns the exit code.

    `words` are filters, or runs, or a run and its new tags or note. Raises UsageError or
    InputError for a run that does not exist.
    """
    if verb == "ls":
        ls(words, options, root=root, terminal=terminal)
    elif verb == "best":
        best(words, options, root=root, terminal=terminal)
    elif verb == "compare":
        _compare(words, options, root=root, terminal=terminal)
    elif verb == "du":
        du(words, as_json="json" in options, root=root, terminal=terminal)
    elif verb == "rm":
        chosen = to_remove(words, root)
        rm(chosen, root=root, is_agreed="yes" in options, terminal=terminal)
    elif verb == "note":
        note(find_run(words[0], root=root), words[1:], terminal=terminal)
    elif verb in ("tag", "untag"):
        entry = find_run(words[0], root=root)
        tag(entry, words[1:], terminal=terminal, removes=verb == "untag")
    else:
        entries = find_runs(words or ["last"], root=root)
        return _run_on_several(verb, entries, options, terminal)
    return 0


def _compare(
    words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal
) -> None:
    found = to_compare(words, root)
    limit = options.get("limit")
    if "json" in options:
        # A program that reads the runs wants all of them.
        num_shown = found.num_shown(limit or "0")
        write_json([row.whole() for row in found.rows[:num_shown]], terminal=terminal)
        return
    num_shown = found.num_shown(limit)
    compare(found.rows, num_shown=num_shown, terminal=terminal)
    if num_shown < len(found.rows):
        terminal.note(found.note(num_shown, root=root))


def _run_on_several(
    verb: str,
    entries: Sequence[Entry],
    options: Mapping[str, str],
    terminal: Terminal,
) -> int:
    if verb == "show":
        for entry in entries:
            show(entry, terminal=terminal, as_json="json" in options)
    elif len(entries) != 2:  # also for one run that two words name
        raise UsageError(
            "diff compares two runs.",
            hint=f"Name two different ones: {program()} runs diff <run> <run>",
        )
    else:
        # As git's: 0 also for a difference, unless the flag makes it the answer to a script.
        differs = diff(*entries, terminal=terminal)
        return int(differs and "exit-code" in options)
    return 0
