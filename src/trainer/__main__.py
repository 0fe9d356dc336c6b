"""Where the command begins; `python -m trainer` is the same as `trainer`."""

from __future__ import annotations

import os
import sys

# By `python -m` the working folder is first in the path: a file of a person's, random.py say, would
# be run in the place of Python's own.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
    sys.path.append(sys.path.pop(0))

import signal
from collections.abc import Iterator
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; a Ctrl-C counts from before its modules are loaded."""
    _check_system()
    # Not at the top: where a part of the system is missing, these cannot be imported.
    from trainer.signals import ignore_signals, set_signals

    set_signals()
    from trainer.cli import main as cli

    try:
        cli.main()
    finally:
        ignore_signals()


def _check_system() -> None:
    """End with exit code 4, before anything else is imported, where the system is not POSIX."""
    missing = list(_missing_parts())
    if missing:
        sys.stderr.write(
            f"Error: trainer needs Linux or macOS; this system ({sys.platform}) has no "
            f"{', '.join(missing)}.\n"
            "On Windows use WSL (wsl --install), or use a hosted notebook.\n"
        )
        sys.exit(4)


def _missing_parts() -> Iterator[str]:
    """What trainer needs of a system and this one has not: locks, memory counts, signals."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        yield "fcntl"
    try:
        import resource  # noqa: F401
    except ImportError:
        yield "resource"
    for name in ("SIGHUP", "SIGUSR1", "pthread_sigmask"):
        if not hasattr(signal, name):
            yield name
    if not hasattr(os, "O_NOFOLLOW"):
        yield "O_NOFOLLOW"


if __name__ == "__main__":
    main()
