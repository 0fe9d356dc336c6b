"""`trainer runs`: which of its verbs does what. The runs are found here, the rest is in the
modules beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.commands.runs.compare import compare, diff, show
from trainer.commands.runs.edit import note, rm, tag
from trainer.commands.runs.list import best, ls
from trainer.errors import UsageError
from trainer.run.find import find_run
from trainer.run.index import Entry, read_index
from trainer.tracking.console import Terminal


def run(
    verb: str, words: Sequence[str], options: Mapping[str, str], *, root: Path, terminal: Terminal
) -> int:
    """Do what was asked of the runs below `root`; returns the exit code.

    `words` are filters or runs, with what is to be said of a run behind it. Raises UsageError for
    runs there are not.
    """
    if verb == "ls":
        ls(words, options, root=root, terminal=terminal)
    elif verb == "best":
        best(words, options, root=root, terminal=terminal)
    elif verb in ("tag", "untag", "note"):
        entry = find_run(words[0], root=root)
        if verb == "note":
            note(entry, words[1:], terminal=terminal)
        else:
            tag(entry, words[1:], terminal=terminal, removes=verb == "untag")
    else:
        entries = _found(words or ["last"], root)
        if verb == "show":
            for entry in entries:
                show(entry, terminal=terminal, as_json="json" in options)
        elif verb == "compare":
            compare(entries, terminal=terminal, as_json="json" in options)
        elif verb == "rm":
            rm(entries, root=root, is_agreed="yes" in options, terminal=terminal)
        elif len(entries) != 2:
            raise UsageError(
                "diff compares two runs.",
                hint="Name two different ones: trainer runs diff <run> <run>",
            )
        else:
            return int(diff(*entries, terminal=terminal) and "exit-code" in options)
    return 0


def _found(references: Sequence[str], root: Path) -> list[Entry]:
    """The runs that are meant, each once."""
    index = read_index(root)
    return list(
        {
            entry.path: entry
            for entry in (find_run(word, root=root, index=index) for word in references)
        }.values()
    )
