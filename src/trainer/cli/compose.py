"""Hydra: the config of a command, and the axes of a sweep. No other file imports it.

Its errors are put into words in `hydra_errors.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict

from trainer.cli.arguments import Arguments
from trainer.cli.configs import configs_folder
from trainer.cli.hydra_errors import explain
from trainer.cli.own_yaml import (
    OF_A_RUN,
    OF_A_SWEEP,
    check_experiment,
    check_files,
    check_hydras_part,
    own_sources,
)
from trainer.config import affects, find_key, load_sweep
from trainer.config.sweep import Axis, SweepRequest, key_of
from trainer.errors import UsageError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import IntervalSweep, Override

# A range with more values is a typing error, which would fill the memory.
_MAX_VALUES = 100_000


def compose(arguments: Arguments, *, choices: Sequence[str] = ()) -> DictConfig:
    """The config of a command: its overrides, and `choices` of groups behind them.

    Raises UsageError.
    """
    from hydra.core.hydra_config import HydraConfig

    _refuse_hydras_own(arguments.values, but="hydra.mode", hint=OF_A_RUN)
    with _composer(arguments) as compose_words:
        composed = compose_words([*map(_as_addition, arguments.overrides), *choices])
    HydraConfig.instance().set_config(composed)  # what ${hydra:…} in a value refers to
    mode = _take_hydra(composed).mode
    # Only hydra.main acts on the mode: here a person's YAML with MULTIRUN would train once.
    if mode is not None and mode.name == "MULTIRUN":
        raise UsageError(
            "hydra.mode=MULTIRUN is not how trainer sweeps.",
            hint="Write -m, or sweep.params in your file.",
        )
    return composed


@contextlib.contextmanager
def _composer(arguments: Arguments) -> Iterator[Callable[[Sequence[str]], DictConfig]]:
    """A function from overrides to a config, Hydra's part included; it works in the context only.

    It raises UsageError.
    """
    from hydra import compose as compose_by_hydra
    from hydra import initialize_config_dir

    search = _search_path(arguments)

    def compose_whole(words: Sequence[str]) -> DictConfig:
        # Hydra's part is needed to resolve ${hydra:…}.
        try:
            # Hydra only warns of a folder that is not there.
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "provider=.* is not available")
                return compose_by_hydra(
                    arguments.config, overrides=[*search, *words], return_hydra_config=True
                )
        except Exception as error:  # of Hydra, OmegaConf, PyYAML or the parser: no common base
            raise _explained(error, arguments, words) from error

    @functools.cache
    def bare_hydra() -> DictConfig:
        return _take_hydra(compose_whole(()))

    check_files_once = functools.cache(check_files)  # a sweep composes a config for every job

    def compose_words(words: Sequence[str]) -> DictConfig:
        composed = compose_whole(words)
        folders = own_sources(composed)
        check_files_once(folders)
        check_experiment(composed, folders)
        # Nothing that ships sets one of Hydra's own keys; a second composing takes 80 ms.
        if folders:
            check_hydras_part(composed.hydra, bare=bare_hydra())
        return composed

    folder = str(configs_folder().resolve())  # Hydra refuses a relative one
    # The version pins Hydra's defaults: a later Hydra composes as the tested one does.
    with initialize_config_dir(folder, version_base="1.3", job_name="trainer"):
        yield compose_words


def _take_hydra(composed: DictConfig) -> DictConfig:
    """Remove Hydra's part from a config, and return it."""
    with open_dict(composed):
        hydra: DictConfig = composed.pop("hydra")
    return hydra


def _explained(error: Exception, arguments: Arguments, words: Sequence[str]) -> Exception:
    argv = [*arguments.flag_words, *words]
    return explain(error, verb=arguments.verb, argv=argv, typed=arguments.overrides)


def _search_path(arguments: Arguments) -> list[str]:
    """The override with which Hydra looks for YAML in a person's own folder too; UsageError."""
    if arguments.config_dir is None:
        return []
    folder = Path(arguments.config_dir)
    # That of Path raises where a name is too long.
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UsageError(f"--config-dir {folder} is not a folder.")
    quoted = str(folder.absolute()).replace("'", "\\'")
    # Hydra reads the first such override only, so the person's own becomes a part of ours. Folders
    # of it come after ours: a file there adds a choice, and never replaces one that ships.
    typed = arguments.values.get("hydra.searchpath", "").strip("[]")
    folders = [f"'file://{quoted}'", *([typed] if typed else [])]
    return [f"hydra.searchpath=[{','.join(folders)}]"]


def show(arguments: Arguments) -> None:
    """Let Hydra show what --cfg, --info or --hydra-help ask for; raises UsageError."""
    import hydra

    _refuse_hydras_own(arguments.values, but="hydra.mode", hint=OF_A_RUN)

    def task(_: DictConfig) -> None:
        raise AssertionError("it shows something, and runs nothing")

    words = [*arguments.flag_words, *map(_as_addition, arguments.overrides)]
    main = hydra.main(
        version_base="1.3", config_path=str(configs_folder()), config_name=arguments.config
    )
    before = sys.argv
    sys.argv = ["trainer", *words]  # where hydra.main reads its words, and nowhere else
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it raises, instead of printing and exiting
    try:
        main(task)()
    except SystemExit as ended:
        # Hydra printed what is wrong and ends with 1; a wrong command ends with 2.
        raise SystemExit(2 if ended.code == 1 else ended.code) from None
    except Exception as error:
        raise _explained(error, arguments, words) from error
    finally:
        sys.argv = before


def _as_addition(word: str) -> str:
    """`word`, with `++` where a person chooses the keys: Hydra would refuse new ones."""
    known = find_key(word.partition("=")[0])
    return f"++{word}" if known is not None and known.is_open else word


@contextlib.contextmanager
def sweep_request(arguments: Arguments) -> Iterator[SweepRequest]:
    """What a sweep varies, and its jobs' configs as long as it is open; raises UsageError."""
    _refuse_hydras_own(arguments.values, hint=OF_A_SWEEP)
    with _composer(arguments) as compose_words:

        def compose_job(words: Sequence[str]) -> DictConfig:
            composed = compose_words(words)
            _take_hydra(composed)
            return composed

        yield _request(arguments, compose_job)


def _refuse_hydras_own(keys: Iterable[str], *, hint: str, but: str = "") -> None:
    """Raise UsageError for a key of Hydra's own runs, sweepers and launchers."""
    for key in keys:
        head = key.partition(".")[0].partition("/")[0]
        if head == "hydra" and key not in ("hydra.searchpath", but):
            raise UsageError(f"{key} has no effect on trainer.", hint=hint)


def _request(
    arguments: Arguments, compose_job: Callable[[Sequence[str]], DictConfig]
) -> SweepRequest:
    """The axes on the command line and in the experiment, and what all jobs have in common."""
    words, axes = _split(arguments, list(map(_as_addition, arguments.overrides)))
    # Composed before the rest, because sweep.params may be in an experiment.
    first = compose_job([*words, *map(_first_word, axes)])
    sweep, launcher, run = load_sweep(first)
    typed = {axis.key for axis in axes} | {key_of(word) for word in words}
    if sweep.params and "experiment" in {axis.key for axis in axes}:
        # Each of the experiments may have other params, so the jobs would not be one grid.
        raise UsageError(
            "An experiment that is a sweep cannot be varied itself.",
            hint="Sweep over one at a time.",
        )
    # A key that is typed wins over the file, as anywhere in Hydra.
    in_file = [
        f"{key}={_in_grammar(value)}" for key, value in sweep.params.items() if key not in typed
    ]
    more, from_file = _split(arguments, list(map(_as_addition, in_file)))
    _check_once([*axes, *from_file], words)
    return SweepRequest(
        command=["trainer", arguments.verb, *arguments.given],
        flags=[word for word in arguments.flag_words if word != "--multirun"],
        words=[*more, *words],
        axes=[*from_file, *axes],  # the last axis varies fastest
        sweep=sweep,
        launcher=launcher,
        run=run,
        name_template=_name_template(first, [*axes, *from_file], words),
        compose=compose_job,
    )


def _name_template(first: DictConfig, axes: Sequence[Axis], words: Sequence[str]) -> str | None:
    """`run.name` as it is written, from the config of the first job."""
    is_typed = "run.name" in map(key_of, words)
    if not is_typed and "experiment" in {axis.key for axis in axes}:
        return None
    # The node: to read the value would resolve it.
    written = first.run._get_node("name")._value()
    return written if isinstance(written, str) else None


def _in_grammar(value: object) -> str:
    """A value in YAML as Hydra reads it on the command line: a list is a choice."""
    return ",".join(map(_one_value, value)) if isinstance(value, list) else _one_value(value)


def _one_value(value: object) -> str:
    """One of the values of a choice, which may be a list or a table itself."""
    if isinstance(value, list):
        return f"[{','.join(map(_one_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{_one_value(its)}' for name, its in value.items())}}}"
    return "null" if value is None else str(value)


def _split(arguments: Arguments, words: list[str]) -> tuple[list[str], list[Axis]]:
    """The words with one value, and those with several as axes; raises UsageError."""
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
    """Raise UsageError for a key that is varied and given once more."""
    keys = [axis.key for axis in axes]
    given = [*keys, *map(key_of, words)]
    for key in keys:
        if given.count(key) > 1:
            raise UsageError(f"{key} is given more than once.", hint=f"Give it once: {key}=…")


def _axis(override: Override) -> Axis:
    """What a key varies over; raises UsageError where that is wrong or nothing."""
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    element = override.get_key_element()
    key = element.lstrip("+")
    group = key.partition(".")[0]
    # The sweep reads these once, before there are jobs.
    if group == "hydra" or affects(group) == "command":
        raise UsageError(
            f"{key} cannot be varied: it is the same for all jobs.",
            hint=f"Give it one value: {key}=…",
        )
    axis = Axis(key=key, prefix=element.removesuffix(key))
    value = override.value()
    if isinstance(value, IntervalSweep):
        return _interval(axis, value, typed=override.input_line)
    if isinstance(value, RangeSweep) and value.step == 0:
        raise UsageError(
            f"{override.input_line}: the step must not be 0.", hint="Such as range(0,10,2)."
        )
    axis = dataclasses.replace(axis, values=_values(override, key))
    return _range(axis, step=abs(value.step)) if isinstance(value, RangeSweep) else axis


def _interval(axis: Axis, interval: IntervalSweep, *, typed: str | None) -> Axis:
    # The ends are optional in Hydra's type only: its grammar requires both.
    low = float(interval.start or 0)
    high = float(interval.end or 0)
    log = "log" in interval.tags
    if not low < high:
        raise UsageError(f"{typed}: the interval must begin below its end.")
    if log and low <= 0:
        raise UsageError(f"{typed}: the interval must begin above 0.")
    is_int = {type(interval.start), type(interval.end)} == {int}
    return dataclasses.replace(axis, low=low, high=high, is_int=is_int, log=log)


def _range(axis: Axis, *, step: float) -> Axis:
    numbers = [float(value) for value in axis.values]
    is_int = all(value.removeprefix("-").isdigit() for value in axis.values)
    return dataclasses.replace(
        axis, low=min(numbers), high=max(numbers), step=float(step), is_int=is_int
    )


def _values(override: Override, key: str) -> tuple[str, ...]:
    """The values of a choice or a range, as they are typed for a job; raises UsageError."""
    typed = override.input_line
    # Drawn one by one: range(0,1000000000000) must end here, and not when the memory is full.
    drawn = itertools.islice(override.sweep_string_iterator(), _MAX_VALUES + 1)
    values = tuple(str(value) for value in drawn)
    if len(values) > _MAX_VALUES:
        raise UsageError(
            f"{typed} has more than {_MAX_VALUES:,} values.", hint=f"Draw some: {key}=interval(…)"
        )
    if not values:
        raise UsageError(f"{typed} has no values.", hint="Such as 0.1,0.01 or range(0,5).")
    # Two jobs with the same config would give the same bits twice.
    [(commonest, count)] = Counter(values).most_common(1)
    if count > 1:
        raise UsageError(
            f"{key} has the value {commonest} more than once.",
            hint="To repeat a run, vary the seed.",
        )
    return values


def _first_word(axis: Axis) -> str:
    return axis.word(axis.values[0] if axis.values else repr(axis.low))
