"""The command line: which verb runs, and its errors as sentences and exit codes.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trainer import __version__
from trainer.cli.arguments import Arguments, Verb
from trainer.cli.verbs import find_verb
from trainer.errors import (
    EnvironmentFault,
    TrainerError,
    is_out_of_memory,
    print_traceback,
    printable,
    reason_of,
    shown_plainly,
)
from trainer.signals import pass_signals_over, set_signals

# A full disk or quota, a file that may not grow, a device that is gone.
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code (see trainer.errors)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the caller
            # With LANG=C a name that the terminal cannot write would raise UnicodeEncodeError.
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    set_signals()
    try:
        code = _run_to_exit_code(argv)
    except KeyboardInterrupt:
        code = 130
        sys.stderr.write("Stopped.\n")
    pass_signals_over()
    sys.exit(code)


def _run_to_exit_code(argv: list[str]) -> int:
    """Run a command line; an error becomes a sentence on stderr and an exit code."""
    try:
        code = _run(argv)
        # Here, where a closed pipe is handled: at its end Python would report it as ignored.
        if sys.stdout is not None:
            sys.stdout.flush()
    except TrainerError as error:
        return _report(error)
    except BrokenPipeError:
        # The reader of our output has ended (`trainer … | head`). Python flushes once more at its
        # end, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE, as for any program
    except Exception as error:
        return _report_unexpected(error)
    return code


def _run(argv: list[str]) -> int:
    """Run the command that the words name; returns its exit code."""
    first = argv[0] if argv else "--help"
    if first in ("--help", "-h", "help"):
        return _print_page(None)
    if first == "--version":
        sys.stdout.write(f"trainer {__version__}\n")
        return 0
    if first in ("--shell-completion", "-sc"):
        from trainer.cli import completion

        completion.run(argv)
        return 0
    verb, words = find_verb(argv)
    arguments = Arguments.parse(verb, words)
    if arguments.asks_for_help:
        return _print_page(verb, arguments)
    # Not around a help page or a completion, which run no library: it loads `logging`.
    with shown_plainly():
        if arguments.only_shows:
            from trainer.cli.compose import show

            show(arguments)
            return 0
        _check_working_folder()
        return verb.run(arguments)


def _check_working_folder() -> None:
    """Raise EnvironmentFault where the folder was removed: nothing could be found or written."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise EnvironmentFault(
            "The working folder no longer exists.",
            hint="Change to a folder that does (cd), and give the command again.",
        ) from error


def _print_page(verb: Verb | None, arguments: Arguments | None = None) -> int:
    from trainer.cli import help as pages

    if verb is None or arguments is None:
        sys.stdout.write(pages.overview())
        return 0
    from trainer.cli.chosen import chosen_keys

    folder = arguments.config_dir
    sys.stdout.write(pages.page(verb, config_dir=folder))
    if verb.config:
        sys.stdout.write(chosen_keys(arguments.values, config_dir=folder))
    return 0


def _report(error: TrainerError) -> int:
    print_traceback(error)
    sys.stderr.write(("" if error.exit_code > 128 else "Error: ") + f"{error}\n")
    return error.exit_code


def _output_that_failed(error: Exception) -> str | None:
    """Why the standard output cannot be written, with its file, if that is what failed."""
    # Every file of a run is written where an error names it; only the output has no name.
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    if error.filename is not None or sys.stdout is None:
        return None
    number = sys.stdout.fileno()
    name = "Standard output"
    # Only Linux knows the file behind a number.
    with contextlib.suppress(OSError):
        name = f"Standard output ({printable(Path(f'/proc/self/fd/{number}').readlink())})"
    # Python flushes once more at its end, which must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return f"{name} cannot be written: {reason_of(error)}"


def _report_unexpected(error: Exception) -> int:
    """A fault of ours or of the machine, in a sentence too."""
    print_traceback(error)
    output = _output_that_failed(error)
    if output is not None:
        sys.stderr.write(f"Error: {output}.\n")
        return 4
    has_no_memory = is_out_of_memory(error)
    is_environment = isinstance(error, OSError) or has_no_memory
    lines = str(error).strip().splitlines() or ["no message"]
    sys.stderr.write(f"Error: {type(error).__name__}: {printable(lines[0])}\n")
    if has_no_memory:
        sys.stderr.write("Not enough memory: try a smaller data.batch_size or a smaller model.\n")
    elif not is_environment:
        sys.stderr.write(
            "This is a fault of trainer, not yours. TRAINER_DEBUG=1 shows where; please report "
            "it.\n"
        )
    return 4 if is_environment else 1
