"""Where the command begins; `python -m trainer` is the same as `trainer`."""

from __future__ import annotations

import os
import sys

# By `python -m` the working folder is first in the path: a file of a person's, random.py say, would
# be run in the place of Python's own.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
    sys.path.append(sys.path.pop(0))

from typing import NoReturn

from trainer.signals import ignore_signals, set_signals


def main() -> NoReturn:
    """Run the command line; a Ctrl-C counts from before its modules are loaded."""
    set_signals()
    from trainer.cli import main as cli

    try:
        cli.main()
    finally:
        ignore_signals()


if __name__ == "__main__":
    main()
