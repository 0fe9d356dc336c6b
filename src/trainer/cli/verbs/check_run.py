"""`trainer check-run`: verify what is in a run folder."""

from __future__ import annotations

from trainer.cli.arguments import Arguments, Verb
from trainer.cli.verbs.shared import ROOT

PAGE = """\
It changes nothing and loads no weights.

<run> may be
  last                     the newest run below run.root
  runs/<date>/<run>        a run folder

What it checks
  run.json                 it can be read, and agrees with the checkpoints
  every step folder        both files are there, their checksums hold, and they
                           belong together
  last, best               they point at steps that are there, last at the
                           newest
  metrics.jsonl            every row is whole, and the steps of each split go up
  TensorBoard              its event files hold the values of metrics.jsonl,
                           each once, no others

Keys
{keys}

Exit code 0: nothing is damaged. 3: something is; the table lists it.

Examples
  trainer check-run last
  trainer check-run last run.root=results
"""


def run(arguments: Arguments) -> int:
    """`trainer check-run`."""
    from trainer.commands.check_run import command as check_run
    from trainer.tracking.console import Terminal

    check_run.run(arguments.words[0], root=arguments.root, terminal=Terminal())
    return 0


VERB = Verb(
    "check-run",
    "verify what is in a run folder",
    usage="<run>",
    run=run,
    page=PAGE,
    group="Look after",
    words="run",
    least=1,
    most=1,
    keys=(ROOT,),
)
