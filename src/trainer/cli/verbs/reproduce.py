"""`trainer reproduce`: train a run again and compare every bit."""

from __future__ import annotations

from trainer.cli.arguments import Arguments, Verb, VerbKey
from trainer.cli.verbs.shared import CONFIG_DIR

PAGE = """\
<run> is named as in trainer runs. It must be done, and no resume may have
changed its config. Name your own classes again: model=custom model.target=…,
or --config-dir DIR model=mine.

Keys (the rest comes from the last checkpoint)
{keys}

Flags
{flags}

Exit code 0: every bit of the last weights and all metrics are the same.
1: they are not; a table lists what differs.

Examples
  trainer reproduce last
  trainer reproduce 3fa9c1 run.name=again
"""


def run(arguments: Arguments) -> int:
    """`trainer reproduce`."""
    from trainer.cli.from_checkpoint import check_reproduce_keys, check_same, compose_over
    from trainer.commands.reproduce import command as reproduce
    from trainer.commands.reproduce.original import read_original
    from trainer.config import load_fit
    from trainer.tracking.console import Terminal

    original = read_original(arguments.words[0], root=arguments.root)
    saved = original.config
    check_reproduce_keys(arguments, saved, command=original.entry.record.get("command"))
    config = load_fit(compose_over(original.step, saved, arguments))
    check_same(config, saved)
    command = ["trainer", "reproduce", *arguments.typed]
    return reproduce.run(config, original, command=command, terminal=Terminal())


VERB = Verb(
    "reproduce",
    "train a run again and compare every bit",
    usage="<run> [key=value …]",
    run=run,
    page=PAGE,
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
        VerbKey("data.cache", "whether your own samples are kept in memory"),
        VerbKey("trainer.device", "the device, if there is another now"),
    ),
    flags=(CONFIG_DIR,),
)
