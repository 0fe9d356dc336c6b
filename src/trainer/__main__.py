"""Where the command begins; `python -m trainer` is the same as `trainer`."""

from __future__ import annotations

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
