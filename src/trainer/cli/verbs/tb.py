"""`trainer tb`: TensorBoard on chosen runs."""

from __future__ import annotations

from trainer.cli.arguments import Arguments, Verb, VerbKey
from trainer.cli.verbs.shared import ROOT

# TensorBoard's own.
PORT = 6006

_PORT_KEY = VerbKey(
    "port",
    "where it listens: http://localhost:<port>/",
    default=str(PORT),
    values=lambda: (str(PORT),),
    between=(1, 65535),
    example=str(PORT + 1),
)


PAGE = """\
It listens on this machine alone, until Ctrl-C. Without a run it shows all runs
below run.root, also those to come. A run may be
  last                     the newest run below run.root
  runs/<date>/<run>        a run folder
  runs/<date>/<sweep>      the folder of a sweep: its runs, also those to come

It prints two addresses: a plain one, and one that pins Loss/train, Loss/val and
Accuracy/val.

Keys
{keys}

Examples
  trainer tb
  trainer tb last
  trainer tb last port=6007
"""


def run(arguments: Arguments) -> int:
    """`trainer tb`."""
    from trainer.commands import tb
    from trainer.tracking.console import Terminal

    port = int(arguments.values.get("port", PORT))
    return tb.run(arguments.words, root=arguments.root, port=port, terminal=Terminal())


VERB = Verb(
    "tb",
    "look at runs in TensorBoard",
    usage="[run …]",
    run=run,
    page=PAGE,
    group="Look after",
    words="run",
    takes_sweeps=True,
    keys=(_PORT_KEY, ROOT),
    instead={"--logdir": "Name the folder alone: {program} tb runs"},
)
