"""The command line: which verb, what Hydra composes for it, and what a person sees when something
is wrong.

Nothing here imports torch; a command is imported inside the function that runs it, once its config
is right.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trainer import __version__
from trainer.cli.arguments import (
    SWITCHES,
    VERBS,
    WITH_VALUE,
    Arguments,
    read_run_words,
    read_tb_words,
)
from trainer.errors import (
    ConfigError,
    CustomCodeError,
    TrainerError,
    UsageError,
    printable,
    suggestion,
)
from trainer.signals import pass_signals_over, set_signals

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from trainer.commands.fit.saved_step import SavedStep
    from trainer.config import FitConfig

FLAGS = ("--help", "--version", "--shell-completion")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code (see trainer.errors)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the caller
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    set_signals()
    try:
        code = _run_and_tell(argv)
    except KeyboardInterrupt:
        code = 130
        sys.stderr.write("Stopped.\n")
    pass_signals_over()
    sys.exit(code)


def _run_and_tell(argv: list[str]) -> int:
    """Run a command line; whatever goes wrong is told in a sentence and an exit code."""
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except TrainerError as error:
        return _tell(error)
    except BrokenPipeError:
        # Whoever read our output has gone (`trainer … | head`); nothing can be told to them any
        # more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return _tell_unexpected(error)
    return code


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help"):
        from trainer.cli import help as helppage

        sys.stdout.write(helppage.overview())
        return 0
    verb, *rest = argv
    if verb == "--version":
        sys.stdout.write(f"trainer {__version__}\n")
        return 0
    if verb in ("--shell-completion", "-sc"):
        from trainer.cli import completion

        completion.run(argv)
        return 0
    if verb not in VERBS:
        raise _no_command(verb)
    about_runs = {
        "check-run": _run_check,
        "tb": _run_tb,
        "runs": _run_runs,
        "reproduce": _run_reproduce,
    }
    if verb in about_runs:
        # A note may say anything, after the run.
        asking = rest[:2] if [verb, *rest[:1]] == ["runs", "note"] else rest
        return _show_help(verb) if {"-h", "--help"} & set(asking) else about_runs[verb](rest)
    arguments = Arguments.parse(verb, rest)
    if arguments.asks_for_help:
        return _show_help(verb, config_dir=arguments.config_dir)
    return _run_eval(arguments) if verb == "eval" else _run_fit(arguments)


def _show_help(verb: str, *, config_dir: str | None = None) -> int:
    from trainer.cli import help as helppage

    sys.stdout.write(helppage.verb(verb, config_dir=config_dir))
    return 0


def _no_command(word: str) -> UsageError:
    """What is wrong with a first word that is no command."""
    flag = word.partition("=")[0]
    if word.startswith("-") and flag not in (*SWITCHES, *WITH_VALUE):
        return UsageError(
            f"There is no flag {flag}.",
            hint=suggestion(flag, FLAGS, label="Flags without a command"),
        )
    if word.startswith("-") or "=" in word:
        return UsageError(
            f"The command is missing before {word}.", hint=f"Write: trainer fit {word}"
        )
    return UsageError(
        f"There is no command {word}.", hint=suggestion(word, VERBS, label="Commands")
    )


def _run_fit(arguments: Arguments) -> int:
    if arguments.is_multirun:
        return _run_sweep(arguments)
    with ExitStack() as stack:
        composed, saved = _open_fit(arguments, stack)
        if composed is None:
            return 0
        if _is_sweep(composed, arguments):
            return _run_sweep(arguments)
        if word := arguments.about_a_sweep():
            raise UsageError(
                f"{word} is about sweeps, and this is a single run.",
                hint="Add -m: trainer fit -m …",
            )
        config = _load_fit(composed, arguments)
        if config.resume is not None and saved is None:  # a person's own YAML may set it
            from trainer.commands.fit.resume import open_saved

            root, in_place = Path(config.run.root), config.run.dir is None
            saved = stack.enter_context(open_saved(config.resume, root=root, in_place=in_place))
        from trainer.commands.fit import run as fit
        from trainer.tracking.console import Terminal

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
        if experiment := arguments.values.get("experiment"):
            error.where = f"The config comes from experiment={experiment} and the command line."
        raise


def _run_eval(arguments: Arguments) -> int:
    if arguments.is_multirun:
        raise UsageError(
            "eval does not sweep.",
            hint="Evaluate one checkpoint at a time: trainer eval ckpt=runs/<run>",
        )
    if "ckpt" not in arguments.values and not arguments.only_shows:
        raise UsageError(
            "ckpt is missing.",
            hint="Say what to evaluate: trainer eval ckpt=last, or ckpt=runs/<run>",
        )
    reference = _reference(arguments, "ckpt")
    if reference is None:
        from trainer.cli.compose import compose
        from trainer.config import load_eval

        composed = compose("eval", arguments.given)
        if composed is not None:
            load_eval(composed)  # says that ckpt is missing
        return 0
    from trainer.cli.from_checkpoint import check_eval_keys
    from trainer.commands.fit.resume import find_saved
    from trainer.config import load_eval

    saved = find_saved(reference, root=Path(arguments.values.get("run.root", "runs")))
    check_eval_keys(arguments, saved.description.config)
    config = load_eval(_compose_over(saved, arguments))
    from trainer.commands import eval as evaluation
    from trainer.tracking.console import Terminal

    evaluation.run(config, saved, terminal=Terminal())
    return 0


def _run_check(words: list[str]) -> int:
    reference, root = read_run_words(words)
    from trainer.commands.check_run import command as check_run
    from trainer.tracking.console import Terminal

    check_run.run(reference, root=root, terminal=Terminal())
    return 0


def _run_tb(words: list[str]) -> int:
    references, root, port = read_tb_words(words)
    from trainer.commands import tb
    from trainer.tracking.console import Terminal

    return tb.run(references, root=root, port=port, terminal=Terminal())


def _run_runs(words: list[str]) -> int:
    from trainer.cli.run_arguments import read_runs_words

    asked = read_runs_words(words)
    from trainer.commands.runs import command as verbs
    from trainer.tracking.console import Terminal

    return verbs.run(asked.verb, asked.words, asked.options, root=asked.root, terminal=Terminal())


def _run_reproduce(words: list[str]) -> int:
    from trainer.cli.run_arguments import read_reproduce_words

    reference, arguments = read_reproduce_words(words)
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

    original = read_original(reference, root=Path(arguments.values.get("run.root") or "runs"))
    step, saved = original.step, original.config
    check_reproduce_keys(arguments, saved, command=original.entry.record.get("command"))
    check_named(step, saved, arguments)
    composed = compose("fit", [*arguments.given, *arguments.choices_of(saved)])
    assert composed is not None, "it shows nothing"
    config = load_fit(over_saved(composed, step, saved, arguments))
    check_same(config, saved)
    return reproduce.run(
        config, original, command=["trainer", "reproduce", *words], terminal=Terminal()
    )


def _run_sweep(arguments: Arguments) -> int:
    if "resume" in arguments.values:
        raise UsageError(
            "resume and -m do not go together.",
            hint="Resume one run at a time: trainer fit resume=…",
        )
    from trainer.cli.compose import sweep_request

    with sweep_request(arguments) as request:
        from trainer.commands.sweep import command as verb
        from trainer.tracking.console import Terminal

        return verb.run(request, terminal=Terminal())


def _open_fit(arguments: Arguments, stack: ExitStack) -> tuple[DictConfig | None, SavedStep | None]:
    """What Hydra composes for fit, over the config of the step that it resumes, if any.

    None instead of a config when Hydra only shows something. The lock of a run that continues is
    held as long as `stack` is open.
    """
    from trainer.cli.compose import compose

    reference = _reference(arguments, "resume")
    if reference is None:
        return compose("fit", arguments.given), None
    from trainer.commands.fit.resume import open_interrupted, open_saved

    if reference == "auto":
        from trainer.config import load_fit

        composed = compose("fit", arguments.given)
        assert composed is not None, "it shows nothing"
        composed.resume = None
        found = open_interrupted(load_fit(composed), root=Path(composed.run.root))
        interrupted = stack.enter_context(found)
        if interrupted is not None:
            composed.resume, composed.run.dir = str(interrupted.folder), None
        return composed, interrupted
    root = Path(arguments.values.get("run.root", "runs"))
    in_place = "run.dir" not in arguments.values
    saved = stack.enter_context(open_saved(reference, root=root, in_place=in_place))
    return _compose_over(saved, arguments), saved


def _compose_over(saved: SavedStep, arguments: Arguments) -> DictConfig:
    """The config of a checkpoint, with what the command line changes."""
    from trainer.cli.compose import compose
    from trainer.cli.from_checkpoint import check_named, over_saved

    config = saved.description.config
    check_named(saved.folder, config, arguments)
    composed = compose(arguments.verb, [*arguments.given, *arguments.choices_of(config)])
    assert composed is not None, "it shows nothing"
    return over_saved(composed, saved.folder, config, arguments)


def _reference(arguments: Arguments, key: str) -> str | None:
    """The run or checkpoint that `key` names; None when there is none, or nothing is to be run."""
    reference = arguments.values.get(key)
    if arguments.only_shows:
        return None
    if reference == "":
        raise UsageError(
            f"{key}= is empty.",
            hint=f"Name a run or a checkpoint: trainer {arguments.verb} {key}=last",
        )
    if reference is None or reference == "null":
        return None
    from trainer.run.find import resolve_reference

    return resolve_reference(reference, root=Path(arguments.values.get("run.root", "runs")))


def _tell(error: TrainerError) -> int:
    if os.environ.get("TRAINER_DEBUG") == "1":
        traceback.print_exception(error)
    elif isinstance(error, CustomCodeError) and error.__cause__ is not None:
        traceback.print_exception(error.__cause__)
    sys.stderr.write(("" if error.exit_code > 128 else "Error: ") + f"{error}\n")
    return error.exit_code


def _tell_unexpected(error: Exception) -> int:
    """A fault of ours, or of the machine: still a sentence, never a silent one."""
    if os.environ.get("TRAINER_DEBUG") == "1":
        traceback.print_exception(error)
    has_no_memory = (
        "can't allocate memory" in str(error) or type(error).__name__ == "OutOfMemoryError"
    )
    is_environment = isinstance(error, (OSError, MemoryError)) or has_no_memory
    first = printable(str(error).strip().splitlines()[0] if str(error).strip() else "no message")
    sys.stderr.write(f"Error: {type(error).__name__}: {first}\n")
    if has_no_memory:
        sys.stderr.write("Not enough memory: try a smaller data.batch_size or a smaller model.\n")
    elif not is_environment:
        sys.stderr.write(
            "This is a fault of trainer, not yours. TRAINER_DEBUG=1 shows where; please report "
            "it.\n"
        )
    return 4 if is_environment else 1
