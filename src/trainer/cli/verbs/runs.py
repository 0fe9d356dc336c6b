"""`trainer runs`: list, compare and tidy up runs."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.cli.arguments import Arguments, Flag, Verb, VerbKey
from trainer.cli.verbs.shared import ROOT

PAGE = """\
It reads files only; a run that trains is not disturbed.

Verbs (ls where none is named)
{verbs}

<run> may be
  3fa9c1                   a short id, or the start of one: four digits or more
  runs/<date>/<run>        a run folder
  lenet5                   the name of a run folder, or a part that only one has
  last                     the newest run below run.root
The other commands take the same names: trainer eval ckpt=3fa9c1. A <sweep> is
its folder or the name of that, for compare a part of the name; compare and rm
take filters too, in place of all runs.

Filters
  status=done              running, done, failed, pruned, interrupted or
                           damaged; several: status=failed,pruned
  tag=good                 runs with the tag
  older=30d, newer=2h      by their start: 90min, 12h, 30d, 4w
  day=2026-01-31           the day of their start; a month, today, yesterday
  sweep=lr                 of a sweep with that in its name
  model=cnn                a choice or a key of the config: optimizer.lr=0.1,
                           seed=0,1
  lenet5, name=lenet5      a part of the name

Keys
{keys}

Flags
{flags}

Examples
  trainer runs
  trainer runs ls model=cnn status=done sort=val/accuracy limit=5
  trainer runs best val/loss
  trainer runs ls sweep=lr columns=optimizer.lr,seed
  trainer runs ls --csv > runs.csv
  trainer runs compare last lenet5
  trainer runs compare 10-15-00-lr
  trainer runs tag last good -draft
  trainer runs note last 'the lr of the paper'
  trainer runs rm older=30d status=failed,interrupted
"""


def _metrics() -> Sequence[str]:
    from trainer.run.index import METRICS

    return METRICS


def _orders() -> Sequence[str]:
    return ("started", "name", "status", *_metrics())


def _statuses() -> Sequence[str]:
    from trainer.run.record import RunStatus

    return tuple(RunStatus)


def _columns() -> Sequence[str]:
    from trainer.config import SCHEMAS, known_keys

    groups = (*SCHEMAS, "trainer")
    keys = [key for key in known_keys() if key.partition(".")[0] in groups]
    return (*SCHEMAS, "seed", *(key for key in keys if not key.endswith(".name")))


_JSON = Flag("--json", "for programs")
_CSV = Flag("--csv", "a row a run with all metrics, for a spreadsheet")
_QUIET = Flag("--quiet", "ids only", short="-q")
_YES = Flag("--yes", "do not ask; needed where there is no terminal", short="-y")
_EXIT_CODE = Flag("--exit-code", "end with 1 where the two differ")

_SORT = VerbKey(
    "sort",
    "started, name, status, or a metric such as val/accuracy",
    default="started",
    values=_orders,
    is_closed=True,
)
_LIMIT = VerbKey(
    "limit",
    "at most so many runs; 0 shows all",
    default="20; of compare 8; for programs all",
    between=(0, 999_999),
    example="50",
)
_COLUMNS = VerbKey(
    "columns",
    "keys of the config to list, such as optimizer.lr,model",
    default="those that differ",
    values=_columns,
    is_list=True,
)
_FILTERS = (VerbKey("status", values=_statuses), VerbKey("tag"))


def run(arguments: Arguments) -> int:
    """`trainer runs` with one of its verbs."""
    from trainer.commands.runs import command as runs
    from trainer.tracking.console import Terminal

    verb = arguments.verb.removeprefix("runs ")
    options = {flag.removeprefix("--"): "true" for flag in arguments.flags} | arguments.values
    root = arguments.root
    return runs.run(verb, arguments.words, options, root=root, terminal=Terminal())


# A verb takes a few lines here; the formatter would give each argument a line.
_RUNS = (
    Verb(
        "runs ls", "list runs, the newest first", usage="[filter …]", run=run,
        words="name", keys=(_SORT, _LIMIT, _COLUMNS, ROOT), filters=_FILTERS,
        flags=(_JSON, _CSV, _QUIET),
    ),
    Verb(
        "runs best", "the best run by a metric, and how to evaluate and repeat it",
        usage="[metric] [filter …]", run=run,
        words="name", first_words=_metrics, keys=(ROOT,), filters=_FILTERS, flags=(_JSON, _QUIET),
    ),
    Verb(
        "runs show", "what a run is, its metrics and curves; the last where none is named",
        usage="[run …]", run=run, words="name", keys=(ROOT,), flags=(_JSON,),
    ),
    Verb(
        "runs compare", "runs side by side: what differs, final metrics, curves",
        usage="<run|sweep> …", run=run,
        words="name", takes_sweeps=True, keys=(_LIMIT, ROOT), flags=(_JSON,),
    ),
    Verb(
        "runs diff", "two configs, line by line", usage="<run> <run>", run=run,
        words="name", least=2, most=2, for_more="runs compare", keys=(ROOT,), flags=(_EXIT_CODE,),
    ),
    Verb(
        "runs du", "the disk that runs take, by day and sweep, the largest first",
        usage="[filter …]", run=run,
        words="name", keys=(ROOT,), filters=_FILTERS, flags=(_JSON,),
    ),
    Verb(
        "runs rm", "remove runs: asks on a terminal, else needs --yes; keeps what trains",
        usage="<run|sweep|filter> …", run=run,
        words="name", least=1, takes_sweeps=True, keys=(ROOT,), flags=(_YES,),
    ),
    Verb(
        "runs tag", "give a run tags; a minus takes one away", usage="<run> [good -bad …]",
        run=run, words="tags", least=1, keys=(ROOT,),
    ),
    Verb(
        "runs untag", "take tags away", usage="<run> [good …]",
        run=run, words="tags", least=1, keys=(ROOT,),
    ),
    Verb(
        "runs note", "keep a note on a run; '' removes it", usage="<run> [text]",
        run=run, words="text", least=1, keys=(ROOT,),
    ),
)  # fmt: skip

VERB = Verb(
    "runs",
    "list, compare and tidy up runs",
    usage="[verb] [run …]",
    run=run,
    page=PAGE,
    group="Look after",
    verbs=_RUNS,
    instead={
        "list": "ls", "remove": "rm", "delete": "rm", "inspect": "show", "info": "show",
        "label": "tag", "comment": "note", "size": "du", "sizes": "du",
    },
)  # fmt: skip
