"""The verbs of the command line, declared once: parser, help pages and completion read this table.

A new verb is a module in `commands/`, a function in `dispatch` that runs it, a page and an entry.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.cli import dispatch, pages
from trainer.cli.arguments import Flag, Verb, VerbKey
from trainer.errors import UsageError, command_line, suggestion

# The headings of the overview, in their order.
HEADINGS = ("Train", "Look before", "Look after", "Use")
GROUPS = (
    "data", "model", "loss", "optimizer", "scheduler", "trainer", "logger", "experiment", "sweep",
    "launcher",
)  # fmt: skip


def _metrics() -> Sequence[str]:
    from trainer.run.index import METRICS

    return METRICS


def _orders() -> Sequence[str]:
    return ("started", "name", "status", *_metrics())


def _statuses() -> Sequence[str]:
    from trainer.run.record import RunStatus

    return tuple(RunStatus)


_JSON = Flag("--json", "for programs")
_QUIET = Flag("--quiet", "ids only", short="-q")
_YES = Flag("--yes", "do not ask; needed where there is no terminal", short="-y")
_EXIT_CODE = Flag("--exit-code", "end with 1 where the two differ")
_CONFIG_DIR = Flag(
    "--config-dir",
    "add your own folder of YAML: DIR/model/mine.yaml becomes model=mine",
    short="-cd",
    value="DIR",
)
_CFG = Flag(
    "--cfg",
    "show the whole config, and do nothing else",
    short="-c",
    value="job",
    values=("job", "hydra", "all"),
)
_INFO = Flag(
    "--info",
    short="-i",
    value="WHAT",
    values=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
)
# Hydra's flags that fit a tool with verbs. `--experimental-rerun` is none: it reads a pickle.
_OF_HYDRA = (
    _CFG,
    _CONFIG_DIR,
    _INFO,
    Flag("--package", short="-p", value="PACKAGE"),
    Flag("--resolve"),
    Flag("--run", short="-r"),
    Flag("--hydra-help"),
)

_ROOT = VerbKey("run.root", "where run folders are", default="runs", is_path=True)
_PORT = VerbKey(
    "port",
    "where it listens: http://localhost:<port>/",
    default=str(dispatch.PORT),
    values=lambda: (str(dispatch.PORT),),
    between=(1, 65535),
)
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
    default="20; with --json or -q 0",
    between=(0, 999_999),
)
_FILTERS = (VerbKey("status", values=_statuses), VerbKey("tag"))

_RUNS = (
    Verb(
        "runs ls", "list runs, the newest first", usage="[filter …]", run=dispatch.run_runs,
        words="name", keys=(_SORT, _LIMIT, _ROOT), filters=_FILTERS, flags=(_JSON, _QUIET),
    ),
    Verb(
        "runs best", "the best run by a metric, and how to evaluate and repeat it",
        usage="[metric] [filter …]", run=dispatch.run_runs,
        words="name", first_words=_metrics, keys=(_ROOT,), filters=_FILTERS, flags=(_JSON, _QUIET),
    ),
    Verb(
        "runs show", "what a run is, its metrics and curves; the last where none is named",
        usage="[run …]", run=dispatch.run_runs, words="name", keys=(_ROOT,), flags=(_JSON,),
    ),
    Verb(
        "runs compare", "runs side by side: what differs, final metrics, curves",
        usage="<run> <run> …", run=dispatch.run_runs,
        words="name", least=2, keys=(_ROOT,), flags=(_JSON,),
    ),
    Verb(
        "runs diff", "two configs, line by line", usage="<run> <run>", run=dispatch.run_runs,
        words="name", least=2, most=2, for_more="runs compare", keys=(_ROOT,), flags=(_EXIT_CODE,),
    ),
    Verb(
        "runs rm", "remove runs: asks on a terminal, else needs --yes; keeps what trains",
        usage="<run> …", run=dispatch.run_runs,
        words="name", least=1, keys=(_ROOT,), flags=(_YES,),
    ),
    Verb(
        "runs tag", "give a run tags; a minus takes one away", usage="<run> [good -bad …]",
        run=dispatch.run_runs, words="tags", least=1, keys=(_ROOT,),
    ),
    Verb(
        "runs untag", "take tags away", usage="<run> [good …]",
        run=dispatch.run_runs, words="tags", least=1, keys=(_ROOT,),
    ),
    Verb(
        "runs note", "keep a note on a run; '' removes it", usage="<run> [text]",
        run=dispatch.run_runs, words="text", least=1, keys=(_ROOT,),
    ),
)  # fmt: skip

_ALL = (
    Verb(
        "fit",
        "train a model and test its best checkpoint",
        usage="[group=choice …] [key=value …]",
        run=dispatch.run_fit,
        page=pages.FIT,
        group="Train",
        config="fit",
        heads=(*GROUPS, "run.", "seed=", "resume="),
        flags=(
            Flag("--multirun", "a sweep: a run for every combination of key=a,b,c", short="-m"),
            *_OF_HYDRA,
        ),
    ),
    Verb(
        "reproduce",
        "train a run again and compare every bit",
        usage="<run> [key=value …]",
        run=dispatch.run_reproduce,
        page=pages.REPRODUCE,
        group="Train",
        config="fit",
        words="run",
        least=1,
        most=1,
        keys=(
            VerbKey("run.root", "where runs are, and the new one goes", is_path=True),
            VerbKey("run.name", "the name of the new run folder"),
            VerbKey("run.dir", "exactly this folder instead", is_path=True),
            VerbKey("data.root", "where the data is now", is_path=True),
            VerbKey("data.num_workers", "how many processes read your own data"),
            VerbKey("trainer.device", "the device, if there is another now"),
        ),
        flags=(_CONFIG_DIR,),
    ),
    Verb(
        "eval",
        "evaluate a checkpoint; it needs nothing else",
        usage="ckpt=<checkpoint> [key=value …]",
        run=dispatch.run_eval,
        page=pages.EVAL,
        group="Look after",
        config="eval",
        heads=("data", "trainer", "run.", "ckpt=", "eval."),
        flags=(
            Flag("--json", "for programs", override="eval.json=true"),
            Flag("--multirun", short="-m"),
            *_OF_HYDRA,
        ),
    ),
    Verb(
        "tb",
        "look at runs in TensorBoard",
        usage="[run …]",
        run=dispatch.run_tb,
        page=pages.TB,
        group="Look after",
        words="run",
        keys=(_PORT, _ROOT),
        instead={"--logdir": "Name the folder alone: {program} tb runs"},
    ),
    Verb(
        "runs",
        "list, compare and tidy up runs",
        usage="[verb] [run …]",
        run=dispatch.run_runs,
        page=pages.RUNS,
        group="Look after",
        verbs=_RUNS,
        instead={"list": "ls", "remove": "rm", "delete": "rm", "inspect": "show"},
    ),
    Verb(
        "check-run",
        "verify what is in a run folder",
        usage="<run>",
        run=dispatch.run_check,
        page=pages.CHECK_RUN,
        group="Look after",
        words="run",
        least=1,
        most=1,
        keys=(_ROOT,),
    ),
)  # fmt: skip

VERBS = {verb.name: verb for verb in _ALL}


def find_verb(words: Sequence[str]) -> tuple[Verb, list[str]]:
    """The verb at the beginning of `words` and the words after it; raises UsageError."""
    name, *rest = words
    if name not in VERBS:
        raise _no_verb(name)
    verb = VERBS[name]
    if not verb.verbs:
        return verb, rest
    # A filter or a flag without a verb belongs to the first one.
    if not rest or rest[0].startswith("-") or "=" in rest[0]:
        return verb.verbs[0], rest
    known = {inner.name.split()[-1]: inner for inner in verb.verbs}
    if rest[0] in known:
        return known[rest[0]], rest[1:]
    hint = suggestion(rest[0], known, label="Verbs")
    if rest[0] in verb.instead:
        hint = f"Did you mean {verb.instead[rest[0]]}? {hint[hint.index('Verbs') :]}"
    raise UsageError(f"trainer {name} has no verb {rest[0]}.", hint=hint)


def _no_verb(word: str) -> UsageError:
    """What is wrong with a first word that is no verb."""
    flag = word.partition("=")[0]
    if word.startswith("-") and VERBS["fit"].flag(flag) is None:
        known = ("--help", "--version", "--shell-completion")
        return UsageError(
            f"There is no flag {flag}.",
            hint=suggestion(flag, known, label="Flags without a command"),
        )
    if word.startswith("-") or "=" in word:
        return UsageError(
            f"The command is missing before {word}.", hint=f"Write: {command_line('fit', word)}"
        )
    return UsageError(
        f"There is no command {word}.", hint=suggestion(word, VERBS, label="Commands")
    )
