"""`trainer fit`: one run, or a sweep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import GROUPS, Arguments, Flag, Verb
from trainer.cli.verbs.shared import OF_HYDRA, find_reference
from trainer.errors import ConfigError, UsageError, program

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from trainer.commands.fit.saved_step import SavedStep
    from trainer.config import FitConfig
    from trainer.data.load import Data
    from trainer.tracking.console import Terminal


PAGE = """\
Groups (the default first)
{groups}

Keys people use most
{keys}

Flags
{flags}

Examples
  trainer fit model=lenet5 data=mnist
  trainer fit optimizer=adamw optimizer.lr=0.001 trainer.epochs=10
  trainer fit 'data.transforms=[random_erasing,{{name: random_crop, padding: 2}}]'
  trainer fit resume=last trainer.epochs=10
  trainer fit -m optimizer.lr=0.1,0.01 model=mlp,lenet5 'seed=range(0,5)'
  trainer fit -m sweep=optuna 'optimizer.lr=tag(log,interval(1e-4,1))'
  trainer fit experiment=line
"""


def run(arguments: Arguments) -> int:
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
        terminal = Terminal()
        check = _watch_its_sweep(saved, stack, terminal)
        fit.run(config, command=command, terminal=terminal, saved=saved, check=check)
    return 0


def _watch_its_sweep(
    saved: SavedStep | None, stack: ExitStack, terminal: Terminal
) -> Callable[[FitConfig, Data], None]:
    """For a job of a sweep that is resumed alone: the check of its changes, and a report after."""
    from trainer.run.folder import is_sweep_folder

    if saved is None or not saved.in_place or not is_sweep_folder(saved.run.parent):
        return lambda *_: None
    from trainer.commands.sweep import one_job

    step = saved
    stack.callback(one_job.refresh_report, saved.run, terminal=terminal)
    return lambda *_: one_job.warn_of_change(step, terminal=terminal)


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


def _open_fit(arguments: Arguments, stack: ExitStack) -> tuple[DictConfig, SavedStep | None]:
    """What Hydra composes for fit, over the config of the step that it resumes, if any.

    The lock of a run that continues is held as long as `stack` is open.
    """
    from trainer.cli.compose import compose

    reference = find_reference(arguments, "resume")
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
    from trainer.cli.from_checkpoint import compose_over

    in_place = arguments.values.get("run.dir", "null").lower() == "null"
    saved = stack.enter_context(open_saved(reference, root=arguments.root, in_place=in_place))
    return compose_over(saved.folder, saved.description.config, arguments), saved


VERB = Verb(
    "fit",
    "train a model and test its best checkpoint",
    usage="[group=choice …] [key=value …]",
    run=run,
    page=PAGE,
    group="Train",
    config="fit",
    heads=(*GROUPS, "run.", "seed=", "resume="),
    flags=(
        Flag("--multirun", "a sweep: a run for every combination of key=a,b,c", short="-m"),
        *OF_HYDRA,
    ),
    instead=dict.fromkeys(
        ("--config", "--config-file", "--config-name", "--config-path", "--cfg-file", "--yaml"),
        "A file of yours is an experiment: --config-dir DIR experiment=NAME for "
        "DIR/experiment/NAME.yaml",
    )
    | {
        "--resume": "Write: {program} fit resume=last",
        "--ckpt": "Write: {program} fit resume=last",
        "--version": "Write: {program} --version",
        "--sweep": "Write: {program} fit -m key=a,b",
    },
)
