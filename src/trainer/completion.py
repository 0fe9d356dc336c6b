"""Completion for bash, zsh and fish: Hydra's own, told of our verbs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from trainer.errors import UsageError

VERBS = ("fit", "eval")
_SHELLS = ("bash", "zsh", "fish")


def run(argv: list[str], *, compose: Callable[..., None]) -> None:
    """Answer `--shell-completion install=…`, `uninstall=…` and the `query=…` that the installed script asks.

    The script asks without a verb, and gives the line typed so far in COMP_LINE: the verb is completed here, and what
    follows it by Hydra, to which the line is passed on without the verb.
    """
    request = argv[-1] if len(argv) > 1 else ""
    action, _, shell = request.partition("=")
    if action not in ("install", "uninstall", "query") or shell not in _SHELLS:
        raise UsageError(
            "--shell-completion needs to know what to do.",
            hint="Write --shell-completion install=bash (or zsh, fish); see the README for the whole line.",
        )
    verb = "fit"
    if action == "query":
        words = os.environ.get("COMP_LINE", "").split(" ")
        if len(words) <= 2:
            started = words[1] if len(words) == 2 else ""
            separator = "\n" if shell == "fish" else " "
            sys.stdout.write(separator.join(name for name in VERBS if name.startswith(started)) + "\n")
            return
        if words[1] not in VERBS:
            return
        verb = words[1]
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    compose(verb, ["-sc", request], task=lambda config: None)
