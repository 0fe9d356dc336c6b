"""The tree of errors that a person can cause or meet, each with its exit code; not our own bugs.

TrainerError
├── TrainingError      1   training failed: the loss is not finite, a sweep job failed
├── UsageError         2   wrong command
│   └── ConfigError    2   wrong value in a config
├── InputError         3   damaged, incompatible or unsafe input
│   ├── DataError      3   a data file
│   └── CheckpointError 3  a checkpoint
├── EnvironmentFault   4   disk, rights, network, device
├── CustomCodeError    1   the person's own class raised: their traceback is printed
└── Stopped  129/130/143   by SIGHUP, SIGINT or SIGTERM
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

# C0 and C1 control characters, with which a hostile name would drive the terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_debugging() -> bool:
    """Whether the tracebacks of handled errors are printed too (TRAINER_DEBUG=1)."""
    return os.environ.get("TRAINER_DEBUG") == "1"


def printable(text: object) -> str:
    """`text` without control characters: a name from outside must not drive the terminal."""
    return _CONTROL.sub("?", str(text))


# What torch puts around an error of a worker of a DataLoader, up to the error itself.
_WORKER = re.compile(
    r"\w+: Caught \w+ in \w+ worker process \d+\.\s+Original Traceback.*\n(?=\w)", re.DOTALL
)
_MAX_LINE = 400


def one_line(text: str) -> str:
    """`text` as one line of a length that can be read, without the traceback of a worker."""
    line = printable(" ".join(_WORKER.sub("", text).split()))
    line = re.sub(r" \.$", ".", line)
    return line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}…"


class TrainerError(Exception):
    """What happened, where, and what to do now: at most three lines.

    `what` is a full sentence; `where` names the key or file, if `what` does not.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        # The one way to the terminal for a name out of a file, whoever raises.
        return "\n".join(printable(line) for line in (self.what, self.where, self.hint) if line)


class TrainingError(TrainerError):
    """Training failed."""


class UsageError(TrainerError):
    """The command line is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A value in the config is wrong."""


class InputError(TrainerError):
    """A file from outside is damaged, incompatible or unsafe."""

    exit_code = 3


class DataError(InputError):
    """A data file is damaged or is not what its name says."""


class CheckpointError(InputError):
    """A checkpoint is damaged, incompatible or unsafe."""


@contextlib.contextmanager
def pointing_to(page: str) -> Iterator[None]:
    """Add to the hint of a ConfigError the page that says how it is done."""
    try:
        yield
    except ConfigError as error:
        if page not in str(error):
            error.hint = f"{error.hint or ''} See {page}.".strip()
        raise


class EnvironmentFault(TrainerError):
    """The machine refused: disk, rights, network, device."""

    exit_code = 4


class CustomCodeError(TrainerError):
    """The person's own class raised; `__cause__` is their error.

    Its message may have any length, and the traceback of another process in it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(one_line(what), where=where, hint=hint)


class Stopped(TrainerError):
    """Stopped by a signal after the work was saved."""

    def __init__(self, what: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = 128 + signal_number  # as a shell reports it


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the machine, or its GPU, has no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def out_of_memory(doing: str) -> EnvironmentFault:
    """The fault for memory that ran out while `doing`."""
    return EnvironmentFault(
        f"Memory ran out while {doing}.",
        hint="Try a smaller data.batch_size, fewer data.num_workers or a smaller model.",
    )


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` is most likely a typing error of, or None when none is near."""
    # In small letters: difflib sees nothing in common between SGD and sgd.
    known = list(choices)
    by_lower = {choice.lower(): choice for choice in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.55)
    return by_lower[found[0]] if found else None


def print_traceback(error: BaseException) -> None:
    """Print the traceback of `error` when debugging, else only that of the person's own code."""
    if is_debugging():
        traceback.print_exception(error)
    elif isinstance(error, CustomCodeError) and error.__cause__ is not None:
        traceback.print_exception(error.__cause__)


def suggestion(name: str, choices: Iterable[str], *, label: str = "Choices") -> str:
    """A hint for a wrong `name`: the nearest choice, then all of them."""
    known = sorted(choices)
    near = nearest(name, known)
    all_of_them = f"{label}: {', '.join(known)}."
    return f"Did you mean {near}? {all_of_them}" if near else all_of_them


def reason_of(error: OSError) -> str:
    """What the system says of the error, without its number: `No space left on device`."""
    return error.strerror or str(error)


def listing(names: Sequence[str], *, most: int) -> str:
    """The first `most` of the names, and how many more there are: `a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def program() -> str:
    """How the person called trainer, for commands to copy: quoted for a shell."""
    typed = Path(sys.argv[0])
    # What Python itself puts there for `-m`.
    if typed.parts[-2:] == ("trainer", "__main__.py"):
        return "python -m trainer"
    # Another program calls us: a test, a worker of Ray or Slurm.
    if typed.name != "trainer" or len(typed.parts) == 1:
        return "trainer"
    import shutil  # takes a while to load, and most commands print none

    found = shutil.which("trainer")
    is_on_path = found is not None and Path(found).resolve() == typed.resolve()
    return "trainer" if is_on_path else shlex.quote(sys.argv[0])


def command_line(*words: str) -> str:
    """A command to copy: `words` after the program, quoted for a shell."""
    return " ".join([program(), *map(shlex.quote, words)])


def as_called(command: str) -> str:
    """A command that was recorded as `trainer …`, to copy now."""
    name, space, rest = command.partition(" ")
    return f"{program()}{space}{rest}" if name == "trainer" else command


@contextlib.contextmanager
def shown_plainly() -> Iterator[None]:
    """Print warnings as lines of trainer's own while this is open; with TRAINER_DEBUG=1 as usual.

    Python prints a warning with the line of code that gave it, and again whenever the filters
    change, as they do in a trial pass; what a library logs comes without its name.
    """
    if is_debugging():
        yield
        return
    import logging  # not at the top: of no use to most commands

    printed: set[str] = set()

    def write(text: str) -> None:
        if text not in printed and sys.stderr is not None:
            printed.add(text)
            # Looked up now: a progress bar puts its own in its place.
            sys.stderr.write(f"Warning: {text}\n")

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None:
            write(f"{one_line(str(message))} ({category.__name__}, {_place(filename)}:{lineno})")
        else:
            file.write(warnings.formatwarning(message, category, filename, lineno, line))

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with contextlib.suppress(Exception):
                write(f"{one_line(record.getMessage())} ({record.name})")

    shows_before = warnings.showwarning
    logs_before = logging.lastResort
    warnings.showwarning = show
    # Used where a library logs a warning and no handler is set.
    logging.lastResort = Handler(logging.WARNING)
    try:
        yield
    finally:
        warnings.showwarning = shows_before
        logging.lastResort = logs_before


def _place(filename: str) -> str:
    """The file as a package has it: `torch/cuda/__init__.py`, or a person's own by its name."""
    parts = Path(filename).parts
    if "site-packages" in parts:
        return "/".join(parts[parts.index("site-packages") + 1 :])
    return parts[-1] if parts else filename
