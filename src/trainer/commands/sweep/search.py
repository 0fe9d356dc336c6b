"""The sweep's side of a search: Optuna's study suggests values from the trials before."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.sweep import study
from trainer.commands.sweep.pruning import PRUNING, settings
from trainer.commands.sweep.study import storage_errors
from trainer.commands.sweep.task import JobStatus, TrialAddress
from trainer.config.sweep import Axis, OptunaConfig, RandomConfig
from trainer.errors import InputError, UsageError

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

_SPACE = "space"
# The attribute of a trial that repeats a failed one: the number of that one.
_REPEATS = "repeats"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A job to run: its number, and its values as they would be typed, in the order of the axes.

    `trial` is what the job needs for pruning; None where nothing is pruned.
    """

    number: int
    values: dict[str, str]
    trial: TrialAddress | None = None


class Search:
    """The study `name` over `axes`, opened, or made where there is none.

    `known` is the number of trials in the sweep's record: a study with fewer is not the one that
    made them. With one job at a time, the suggestions are a function of the seed and of the values
    that came back. Raises EnvironmentFault where the study cannot be kept, InputError where it is
    damaged, UsageError where it is another search.
    """

    def __init__(
        self,
        config: RandomConfig,
        axes: Sequence[Axis],
        *,
        folder: Path,
        name: str,
        maximize: bool,
        known: int = 0,
    ) -> None:
        import optuna

        self._config = config
        self._space = {axis.key: _distribution(axis) for axis in axes}
        given = config.storage if isinstance(config, OptunaConfig) else None
        self._address = study.address_in(folder) if given is None else study.given_address(given)
        with storage_errors(self._address):
            self._storage = study.open_storage(self._address, makes_tables=True)
            self._study = optuna.create_study(
                storage=self._storage,
                # Neither is used: each trial has its own sampler, and the jobs prune.
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=optuna.pruners.NopPruner(),
                study_name=name,
                direction="maximize" if maximize else "minimize",
                load_if_exists=True,
            )
            self._identify(maximize=maximize, known=known)
            trials = self._study.get_trials(deepcopy=False)
            self._failed_before = {trial.number for trial in trials if trial.state.name == "FAIL"}

    def suggestions(self) -> Iterator[Suggestion]:
        """The trials to run: those of `unfinished`, then new ones as long as `ask` gives any."""
        return itertools.chain(self.unfinished(), iter(self.ask, None))

    def unfinished(self) -> list[Suggestion]:
        """The trials that an earlier process began and did not end; call it before `ask`."""
        from optuna.trial import Trial, TrialState

        with storage_errors(self._address):
            trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            return [self._suggestion(Trial(self._study, trial._trial_id)) for trial in trials]

    def failed(self, *, changed: Collection[int] = ()) -> list[int]:
        """Let `ask` suggest some trials again, and return the numbers of all that are repeated.

        They are those that failed in earlier processes, if that is wanted, and those `changed`.
        Each becomes a new trial with a new number, before any new values, and no longer counts. An
        earlier process may have been killed between repeating one and writing so into its record.
        """
        chosen = set(changed)
        if self._config.retry_failed:
            chosen |= self._failed_before
        if not chosen:
            return []
        with storage_errors(self._address):
            trials = self._study.get_trials(deepcopy=False)
            repeated = _repeated(trials)
            for trial in trials:
                # One that is not ended is suggested anyway.
                if trial.number in chosen - repeated and trial.state.is_finished():
                    self._study.enqueue_trial(trial.params, user_attrs={_REPEATS: trial.number})
        return sorted(repeated | chosen)

    def ask(self) -> Suggestion | None:
        """The next trial; None when there are as many as the config wants.

        A failed one counts until it is repeated.
        """
        with storage_errors(self._address):
            trials = self._study.get_trials(deepcopy=False)
            repeated = _repeated(trials)
            num_suggested = sum(
                trial.state.name != "WAITING" and trial.number not in repeated for trial in trials
            )
            if num_suggested >= self._config.trials:
                return None
            return self._suggestion(self._study.ask())

    def tell(self, number: int, *, status: JobStatus, value: float | None) -> None:
        """Record how a trial ended; an interrupted one stays unfinished.

        The first call counts: a process may be killed before it records that it made this one.
        """
        from optuna.trial import TrialState

        if status == JobStatus.INTERRUPTED:
            return
        has_value = value is not None and not math.isnan(value)
        if status == JobStatus.PRUNED:
            state = TrialState.PRUNED
        elif status == JobStatus.DONE and has_value:
            state = TrialState.COMPLETE
        else:
            state = TrialState.FAIL
        values = value if state == TrialState.COMPLETE else None
        with storage_errors(self._address):
            self._study.tell(number, values, state=state, skip_if_finished=True)

    def close(self) -> None:
        """Close the connections to the study."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _identify(self, *, maximize: bool, known: int) -> None:
        """Note in a new study what it searches, and refuse an old one that searches elsewhere."""
        from optuna.distributions import distribution_to_json

        space = {key: json.loads(distribution_to_json(value)) for key, value in self._space.items()}
        attributes = self._study.user_attrs
        num_trials = len(self._study.get_trials(deepcopy=False))
        if num_trials < known:
            raise InputError(
                f"The study of the sweep has {num_trials} trials, and there were {known}: it was "
                "lost or replaced.",
                hint=study.NEW_SWEEP,
            )
        if _SPACE not in attributes and num_trials == 0:
            self._study.set_user_attr(_SPACE, space)
        elif attributes.get(_SPACE) != space:
            raise UsageError(_difference(attributes.get(_SPACE), space), hint=study.NEW_SWEEP)
        maximizes = self._study.direction.name == "MAXIMIZE"
        if maximizes != maximize:
            raise UsageError(
                f"The study of the sweep looks for the {'largest' if maximizes else 'smallest'} "
                "value, unlike this command.",
                hint=study.NEW_SWEEP,
            )
        if isinstance(self._config, OptunaConfig):
            self._study.set_user_attr(PRUNING, settings(self._config))

    def _suggestion(self, trial: optuna.trial.Trial) -> Suggestion:
        """The values of a trial: those in the study, or drawn now.

        Each draw has its own seed, so that a search that was killed, even between two values of a
        trial, continues as if it had not been.
        """
        if trial.params.keys() != self._space.keys():
            self._study.sampler = self._sampler(f"{self._config.seed}/{trial.number}")
            trial.relative_params  # noqa: B018 Reading it draws the values that are drawn together.
        values = {}
        for key, distribution in self._space.items():
            self._study.sampler = self._sampler(f"{self._config.seed}/{trial.number}/{key}")
            values[key] = _suggested(trial, key, distribution)
        address = None
        if isinstance(self._config, OptunaConfig) and self._config.pruner != "none":
            address = TrialAddress(
                storage=self._address, study=self._study.study_name, trial_id=trial._trial_id
            )
        return Suggestion(number=trial.number, values=values, trial=address)

    def _sampler(self, purpose: str) -> optuna.samplers.BaseSampler:
        from optuna.samplers import RandomSampler, TPESampler

        seed = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
        if not isinstance(self._config, OptunaConfig):
            return RandomSampler(seed=seed)
        # With a constant liar a running trial counts as a bad one, so that trials at the same time
        # differ.
        return TPESampler(
            seed=seed,
            n_startup_trials=self._config.startup_trials,
            constant_liar=self._config.num_jobs != 1,
        )


def _distribution(axis: Axis) -> BaseDistribution:
    """The distribution of Optuna for `axis`; raises UsageError where there is none."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.values and axis.step is None:
        # Sorted: in whatever order they were typed, it is the same search.
        return CategoricalDistribution(sorted(set(axis.values)))
    try:
        with warnings.catch_warnings():
            # A range that its step does not divide ends earlier, and Optuna warns of that.
            warnings.simplefilter("ignore", UserWarning)
            if axis.is_int:
                return IntDistribution(
                    int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1)
                )
            return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
    except ValueError as error:
        raise UsageError(f"Optuna cannot draw {axis.key}: {str(error).rstrip('.')}.") from error


def _suggested(trial: optuna.trial.Trial, key: str, distribution: BaseDistribution) -> str:
    """The value of `key` in `trial`, as text that gives exactly that value again."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return str(trial.suggest_categorical(key, distribution.choices))
    if isinstance(distribution, IntDistribution):
        whole = trial.suggest_int(
            key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
        return repr(int(whole))
    assert isinstance(distribution, FloatDistribution)
    value = trial.suggest_float(
        key, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )
    return repr(float(value))


def _repeated(trials: Sequence[optuna.trial.FrozenTrial]) -> set[int]:
    """The numbers of failed trials that later ones repeat."""
    return {trial.user_attrs[_REPEATS] for trial in trials if _REPEATS in trial.user_attrs}


def _difference(old: object, new: Mapping[str, object]) -> str:
    """A sentence: how the space of a study differs from that of the command."""
    if not isinstance(old, dict):
        return "The study of the sweep was not made by a sweep."
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return f"The study of the sweep has other values to choose from for {', '.join(keys)}."
