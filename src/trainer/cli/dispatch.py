"""What runs a verb: its config is composed and checked, then its command is imported and called.

Nothing here imports torch; a command does, inside the function that runs it.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import Arguments
from trainer.errors import ConfigError, UsageError, program

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from trainer.commands.fit.saved_step import SavedStep
    from trainer.config import FitConfig

# The default of TensorBoard.
PORT = 6006


def run_fit(arguments: Arguments) -> int:
    """`trainer fit`: one run, or a sweep."""
    if arguments.is_multirun:
        return _run_sweep(arguments)
    with ExitStack() as stack:
        composed, saved = _open_fit(arguments, stack)
        if _is_sweep(composed, arguments):
            return _run_sweep(arguments)
        if word := arguments.word_of_a_sweep():
            raise UsageError(
                f"{word} has an effect in a sweep only, and this is a single run.",
                hint=f"Add -m: {program()} fit -m …",
            )
        config = _load_fit(composed, arguments)
        if config.resume is not None and saved is None:  # a person's own YAML may set it
            from trainer.commands.fit.resume import open_saved

            in_place = config.run.dir is None
            found = open_saved(config.resume, root=Path(config.run.root), in_place=in_place)
            saved = stack.enter_context(found)
        # Imported when the whole command is known to be right: it loads torch, one to two seconds.
        from trainer.commands.fit import run as fit
        from trainer.tracking.console import Terminal

        # Recorded as `trainer`: the path that was typed may mean nothing where the record is read.
        command = ["trainer", "fit", *arguments.given]
        fit.run(config, command=command, terminal=Terminal(), saved=saved)
    return 0


def _is_sweep(composed: DictConfig, arguments: Arguments) -> bool:
    """Whether an experiment varies keys that the words leave open."""
    # With every key of it typed, nothing is left to vary: so a job of it is repeated alone.
    varied = set(composed.sweep.get("params") or ())
    return "experiment" in arguments.values and not varied <= set(arguments.values)


def _load_fit(composed: DictConfig, arguments: Arguments) -> FitConfig:
    from trainer.config import load_fit

    try:
        return load_fit(composed)
    except ConfigError as error:
        # The key may be one that the person never typed.
        if experiment := arguments.values.get("experiment"):
            error.where = f"The config comes from experiment={experiment} and the command line."
        raise


def _run_sweep(arguments: Arguments) -> int:
    if "resume" in arguments.values:
        raise UsageError(
            "resume and -m do not go together.",
            hint=f"Resume one run at a time: {program()} fit resume=…",
        )
    from trainer.cli.compose import sweep_request

    with sweep_request(arguments) as request:
        from trainer.commands.sweep import command as sweep
        from trainer.tracking.console import Terminal

        return sweep.run(request, terminal=Terminal())


def run_eval(arguments: Arguments) -> int:
    """`trainer eval`."""
    if arguments.is_multirun:
        raise UsageError(
            "eval does not sweep.",
            hint=f"Evaluate one checkpoint at a time: {program()} eval ckpt=runs/<run>",
        )
    reference = _reference(arguments, "ckpt")
    if reference is None:
        raise UsageError(
            "ckpt is missing.",
            hint=f"Say what to evaluate: {program()} eval ckpt=last, or ckpt=runs/<run>",
        )
    from trainer.cli.from_checkpoint import check_eval_keys
    from trainer.commands.fit.resume import find_saved
    from trainer.config import load_eval

    # Before Hydra composes and torch loads: a damaged or hostile checkpoint is refused at once.
    saved = find_saved(reference, root=arguments.root)
    check_eval_keys(arguments, saved.description.config)
    config = load_eval(_compose_over(saved, arguments))
    from trainer.commands import eval as evaluation
    from trainer.tracking.console import Terminal

    evaluation.run(config, saved, terminal=Terminal())
    return 0


def run_check(arguments: Arguments) -> int:
    """`trainer check-run`."""
    from trainer.commands.check_run import command as check_run
    from trainer.tracking.console import Terminal

    check_run.run(arguments.words[0], root=arguments.root, terminal=Terminal())
    return 0


def run_tb(arguments: Arguments) -> int:
    """`trainer tb`."""
    from trainer.commands import tb
    from trainer.tracking.console import Terminal

    port = int(arguments.values.get("port", PORT))
    return tb.run(arguments.words, root=arguments.root, port=port, terminal=Terminal())


def run_runs(arguments: Arguments) -> int:
    """`trainer runs` with one of its verbs."""
    from trainer.commands.runs import command as runs
    from trainer.tracking.console import Terminal

    verb = arguments.verb.removeprefix("runs ")
    options = {flag.removeprefix("--"): "true" for flag in arguments.flags} | arguments.values
    root = arguments.root
    return runs.run(verb, arguments.words, options, root=root, terminal=Terminal())


def run_reproduce(arguments: Arguments) -> int:
    """`trainer reproduce`."""
    from trainer.cli.compose import compose
    from trainer.cli.from_checkpoint import (
        check_named,
        check_reproduce_keys,
        check_same,
        over_saved,
    )
    from trainer.commands.reproduce import command as reproduce
    from trainer.commands.reproduce.original import read_original
    from trainer.config import load_fit
    from trainer.tracking.console import Terminal

    original = read_original(arguments.words[0], root=arguments.root)
    step = original.step
    saved = original.config
    check_reproduce_keys(arguments, saved, command=original.entry.record.get("command"))
    check_named(step, saved, arguments)
    composed = compose(arguments, choices=arguments.choices_of(saved))
    config = load_fit(over_saved(composed, step, saved, arguments))
    check_same(config, saved)
    command = ["trainer", "reproduce", *arguments.typed]
    return reproduce.run(config, original, command=command, terminal=Terminal())


def _open_fit(arguments: Arguments, stack: ExitStack) -> tuple[DictConfig, SavedStep | None]:
    """What Hydra composes for fit, over the config of the step that it resumes, if any.

    The lock of a run that continues is held as long as `stack` is open.
    """
    from trainer.cli.compose import compose

    reference = _reference(arguments, "resume")
    if reference is None:
        return compose(arguments), None
    from trainer.commands.fit.resume import open_interrupted, open_saved

    if reference == "auto":
        from trainer.config import load_fit

        # Composed first: only a run of this very config is continued.
        composed = compose(arguments)
        composed.resume = None
        found = open_interrupted(load_fit(composed), root=Path(composed.run.root))
        interrupted = stack.enter_context(found)
        if interrupted is not None:
            composed.resume = str(interrupted.folder)
            # It continues in the folder where it is; run.dir would ask for a new one.
            composed.run.dir = None
        return composed, interrupted
    # With run.dir it branches into a new folder, and the old run, perhaps in use, is only read.
    in_place = "run.dir" not in arguments.values
    saved = stack.enter_context(open_saved(reference, root=arguments.root, in_place=in_place))
    return _compose_over(saved, arguments), saved


def _compose_over(saved: SavedStep, arguments: Arguments) -> DictConfig:
    """The config of a checkpoint, with what the command line changes."""
    from trainer.cli.compose import compose
    from trainer.cli.from_checkpoint import check_named, over_saved

    config = saved.description.config
    check_named(saved.folder, config, arguments)
    composed = compose(arguments, choices=arguments.choices_of(config))
    return over_saved(composed, saved.folder, config, arguments)


def _reference(arguments: Arguments, key: str) -> str | None:
    """The run or checkpoint that `key` names, if any."""
    reference = arguments.values.get(key)
    if reference == "":
        raise UsageError(
            f"{key}= is empty.",
            hint=f"Name a run or a checkpoint: {program()} {arguments.verb} {key}=last",
        )
    # `resume=null` undoes a resume of the person's own YAML.
    if reference is None or reference == "null":
        return None
    from trainer.run.find import resolve_reference

    return resolve_reference(reference, root=arguments.root)
