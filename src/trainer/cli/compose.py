"""What Hydra does for the command line: composing the config of a command, and reading what a sweep
varies.

Only this file knows Hydra. What goes wrong in it is told by `explain`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from trainer.cli.arguments import Arguments, configs_folder
from trainer.cli.hydra_errors import explain
from trainer.config import load_sweep
from trainer.config.sweep import Axis, SweepRequest, key_of
from trainer.errors import TrainerError, UsageError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# Tables whose keys are a person's own.
_FREE_TABLES = ("model.kwargs", "data.kwargs", "data.test_kwargs", "launcher.extra")
# More values than that of one key are a typing error in a range, and would only fill the memory.
_MAX_VALUES = 100_000
# What is about the sweep itself, so that no job can have another one than the others.
_OF_THE_SWEEP = ("sweep", "launcher", "run", "resume", "hydra")


def compose(verb: str, argv: list[str]) -> DictConfig | None:
    """The config of `verb` with the flags and overrides `argv`; None when Hydra only showed something.

    Raises UsageError.
    """
    import hydra

    composed: list[DictConfig] = []

    def task(config: DictConfig) -> None:
        composed.append(config)

    with _as_argv(["trainer", *map(_as_addition, argv)]):
        try:
            hydra.main(version_base="1.3", config_path=str(configs_folder()), config_name=verb)(
                task
            )()
        except TrainerError:
            raise
        except SystemExit as ended:
            # Hydra has said why it cannot show what it was asked for; our code for a wrong command
            # is 2.
            raise SystemExit(2 if ended.code == 1 else ended.code) from None
        except Exception as error:
            raise explain(error, verb=verb, argv=argv) from error
    if len(composed) > 1:
        raise UsageError(
            "hydra.mode=MULTIRUN is not how trainer sweeps.",
            hint="Write -m, or sweep.params in your file.",
        )
    return composed[0] if composed else None


def _as_addition(word: str) -> str:
    """`word`, with `++` where its keys are a person's own: Hydra refuses keys that the YAML does
    not have.
    """
    key = word.partition("=")[0]
    return f"++{word}" if ".".join(key.split(".")[:2]) in _FREE_TABLES else word


@contextlib.contextmanager
def _as_argv(argv: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and raises instead of printing and exiting only under this variable."""
    before, variable = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = before
        if variable is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = variable


@contextlib.contextmanager
def sweep_request(arguments: Arguments) -> Iterator[SweepRequest]:
    """What a command line with -m, or an experiment that is a sweep, asks for; composes jobs as
    long as it is open.

    Raises UsageError.
    """
    from hydra import initialize_config_dir

    folder, search = arguments.config_dir, []
    if folder is not None:
        if not Path(folder).is_dir():
            raise UsageError(f"--config-dir {folder} is not a folder.")
        search = [f"hydra.searchpath=['file://{Path(folder).absolute()}']"]

    def compose_job(words: Sequence[str]) -> DictConfig:
        from hydra import compose as compose_by_hydra

        try:
            composed = compose_by_hydra(
                arguments.verb, overrides=[*search, *words], return_hydra_config=True
            )
            if composed.hydra.sweeper.get("params"):
                _refuse_hydras_own(["hydra.sweeper.params"])
            with open_dict(composed):
                del composed["hydra"]
            return composed
        except TrainerError:
            raise
        except Exception as error:
            raise explain(
                error, verb=arguments.verb, argv=[*arguments.flag_words, *words]
            ) from error

    with initialize_config_dir(str(configs_folder().resolve()), version_base="1.3"):
        yield _request(arguments, compose_job)


def _refuse_hydras_own(keys: Iterable[str]) -> None:
    """Hydra's sweepers and launchers would be passed over in silence: trainer has its own."""
    for key in keys:
        if key.partition(".")[0].partition("/")[0] == "hydra" and key != "hydra.searchpath":
            raise UsageError(
                f"{key} has no effect on trainer's sweeps.",
                hint="There are sweep=grid, random, optuna; launcher=local, slurm, ray; in a file, "
                "sweep.params.",
            )


def _request(
    arguments: Arguments, compose_job: Callable[[Sequence[str]], DictConfig]
) -> SweepRequest:
    """Read the axes on the command line and in the experiment, and what all jobs have in common."""
    _refuse_hydras_own(arguments.values)
    words, axes = _split(arguments, list(map(_as_addition, arguments.overrides)))
    first = compose_job([*words, *map(_first_word, axes)])
    sweep, launcher, run = load_sweep(first)
    typed = {axis.key for axis in axes} | {key_of(word) for word in words}
    if sweep.params and "experiment" in {axis.key for axis in axes}:
        raise UsageError(
            "An experiment that is a sweep cannot be varied itself.",
            hint="Sweep over one at a time.",
        )
    in_file = [
        f"{key}={_in_grammar(value)}" for key, value in sweep.params.items() if key not in typed
    ]
    more, from_file = _split(arguments, list(map(_as_addition, in_file)))
    _check_once([*axes, *from_file], words)
    return SweepRequest(
        command=["trainer", arguments.verb, *arguments.given],
        flags=[word for word in arguments.flag_words if word not in ("-m", "--multirun")],
        words=[*more, *words],
        axes=[*from_file, *axes],
        sweep=sweep,
        launcher=launcher,
        run=run,
        compose=compose_job,
    )


def _in_grammar(value: Any) -> str:
    """A value in YAML as Hydra reads it on the command line: a list is a choice."""
    return ",".join(map(_one_value, value)) if isinstance(value, list) else _one_value(value)


def _one_value(value: Any) -> str:
    """One of the values of a choice, which may be a list or a table itself."""
    if isinstance(value, list):
        return f"[{','.join(map(_one_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{_one_value(its)}' for name, its in value.items())}}}"
    return "null" if value is None else str(value)


def _split(arguments: Arguments, words: list[str]) -> tuple[list[str], list[Axis]]:
    """The words with one value, and those with several as axes, each in its order; raises UsageError."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        parsed = parser.parse_overrides(words)
    except Exception as error:
        raise explain(error, verb=arguments.verb, argv=words) from error
    fixed = [
        word
        for word, override in zip(words, parsed, strict=True)
        if not override.is_sweep_override()
    ]
    return fixed, [_axis(override) for override in parsed if override.is_sweep_override()]


def _check_once(axes: Sequence[Axis], words: Sequence[str]) -> None:
    """Raises UsageError for a key that is varied and given once more."""
    for axis in axes:
        if [*map(key_of, words), *(other.key for other in axes)].count(axis.key) > 1:
            raise UsageError(
                f"{axis.key} is given more than once.", hint=f"Give it once: {axis.key}=…"
            )


def _axis(override: Override) -> Axis:
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    element = override.get_key_element()
    key = element.lstrip("+")
    if key.partition(".")[0] in _OF_THE_SWEEP:
        raise UsageError(
            f"{key} cannot be varied: it is the same for all jobs.",
            hint=f"Give it one value: {key}=…",
        )
    prefix, value = element[: len(element) - len(key)], override.value()
    if isinstance(value, IntervalSweep):
        low, high, log = float(value.start or 0), float(value.end or 0), "log" in value.tags
        if not low < high or (log and low <= 0):
            bound = "above 0" if low < high else "below its end"
            raise UsageError(f"{override.input_line}: the interval must begin {bound}.")
        is_int = {type(value.start), type(value.end)} == {int}
        return Axis(key=key, prefix=prefix, low=low, high=high, is_int=is_int, log=log)
    if isinstance(value, RangeSweep) and value.step == 0:
        raise UsageError(
            f"{override.input_line}: the step must not be 0.", hint="Such as range(0,10,2)."
        )
    values = tuple(map(str, itertools.islice(override.sweep_string_iterator(), _MAX_VALUES + 1)))
    if len(values) > _MAX_VALUES:
        raise UsageError(
            f"{override.input_line} has more than {_MAX_VALUES:,} values.",
            hint=f"Draw some: {key}=interval(…)",
        )
    if not values:
        raise UsageError(
            f"{override.input_line} has no values.", hint="Such as 0.1,0.01 or range(0,5)."
        )
    if len(values) != len(set(values)):
        twice = next(value for value in values if values.count(value) > 1)
        raise UsageError(
            f"{key} has the value {twice} more than once.", hint="To repeat a run, vary the seed."
        )
    if isinstance(value, RangeSweep):
        numbers = sorted(map(float, values))
        is_int, step = all(map(_is_whole, values)), float(abs(value.step))
        return Axis(
            key=key,
            prefix=prefix,
            values=values,
            low=numbers[0],
            high=numbers[-1],
            step=step,
            is_int=is_int,
        )
    return Axis(key=key, prefix=prefix, values=values)


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _first_word(axis: Axis) -> str:
    return axis.word(axis.values[0] if axis.values else repr(axis.low))
