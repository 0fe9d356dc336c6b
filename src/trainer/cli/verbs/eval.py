"""`trainer eval`: evaluate a checkpoint."""

from __future__ import annotations

import os

from trainer.cli.arguments import Arguments, Flag, Verb
from trainer.cli.verbs.shared import OF_HYDRA, find_reference
from trainer.errors import UsageError, command_line, program

PAGE = """\
<checkpoint> may stand alone too: trainer eval last. It may be
  last                                     the newest run
  runs/<date>/<run>                        a run folder: its best checkpoint
  …/checkpoints/best, …/checkpoints/last   one of the two by name
  …/checkpoints/step-000938                a step folder
  …/model.safetensors                      a model file

Keys
{keys}

Flags
{flags}

Examples
  trainer eval ckpt=last
  trainer eval ckpt=last eval.split=val
  trainer eval ckpt=last data=mnist --json
"""


def run(arguments: Arguments) -> int:
    """`trainer eval`."""
    if arguments.is_multirun:
        raise UsageError(
            "eval does not sweep.",
            hint=f"Evaluate one checkpoint at a time: {program()} eval ckpt=runs/<run>",
        )
    reference = _find_checkpoint(arguments)
    if reference is None:
        raise UsageError(
            "ckpt is missing.",
            hint=f"Say what to evaluate: {program()} eval ckpt=last, or ckpt=runs/<run>",
        )
    from trainer.cli.from_checkpoint import check_eval_keys, compose_over
    from trainer.commands.fit.resume import find_saved
    from trainer.config import load_eval

    # Before Hydra composes and torch loads: a damaged or hostile checkpoint is refused at once.
    saved = find_saved(reference, root=arguments.root)
    trained = saved.description.config
    check_eval_keys(arguments, trained)
    config = load_eval(compose_over(saved.folder, trained, arguments))
    from trainer.commands import eval as evaluation
    from trainer.tracking.console import Terminal

    evaluation.run(config, saved, terminal=Terminal())
    return 0


def _find_checkpoint(arguments: Arguments) -> str | None:
    """The checkpoint of the word alone, or of ckpt=…"""
    word = next(iter(arguments.words), None)
    if word is None:
        return find_reference(arguments, "ckpt")
    if "ckpt" in arguments.values:
        raise UsageError(
            f"{word} and ckpt={arguments.values['ckpt']} name two checkpoints.",
            hint="Leave one of them out.",
        )
    if word == "ckpt" and not os.path.lexists(word):
        raise UsageError("ckpt needs a value.", hint=f"Write: {command_line('eval', 'ckpt=last')}")
    from trainer.run.find import resolve_reference

    return resolve_reference(word, root=arguments.root)


VERB = Verb(
    "eval",
    "evaluate a checkpoint; it needs nothing else",
    usage="ckpt=<checkpoint> [key=value …]",
    run=run,
    page=PAGE,
    group="Look after",
    config="eval",
    words="run",
    most=1,
    heads=("data", "trainer", "run.", "ckpt=", "eval."),
    flags=(
        Flag("--json", "for programs", override="eval.json=true"),
        Flag("--multirun", short="-m"),
        *OF_HYDRA,
    ),
)
