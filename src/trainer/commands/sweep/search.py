"""The parent's side of a search: Optuna's study, which suggests values for trials and is told what
they gave.

How a trial is run, and how it is pruned meanwhile, is not here.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.sweep import study as keeping
from trainer.commands.sweep.pruning import PRUNING, settings
from trainer.commands.sweep.task import Trial
from trainer.config.sweep import Axis, OptunaConfig, RandomConfig
from trainer.errors import InputError, UsageError

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

_SPACE = "space"
# A trial that repeats a failed one says which.
_REPEATS = "repeats"
_ANEW = "Begin a new sweep: add sweep.fresh=true, or name another run.dir."


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A trial: its number, which is the job's, and its values as they would be typed, in the order
    of the axes.

    `trial` is what the job needs for pruning; None where nothing is pruned.
    """

    number: int
    values: dict[str, str]
    trial: Trial | None


class Search:
    """The study `name` over `axes`, opened, or made where there is none.

    `known` is how many trials are known to have been asked for: a study with fewer is not theirs.
    Raises EnvironmentFault when it cannot be kept, InputError when it is damaged, UsageError when
    it is another search. With one job at a time, what is suggested is a function of the seed and of
    what was told.
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
        self._address = (
            keeping.address_in(folder) if given is None else keeping.given_address(given)
        )
        with keeping.told(self._address):
            self._storage = keeping.open_storage(self._address, makes_tables=True)
            self._study = optuna.create_study(
                storage=self._storage,
                # Those that work are made for each trial, and pruning is up to the jobs.
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=optuna.pruners.NopPruner(),
                study_name=name,
                direction="maximize" if maximize else "minimize",
                load_if_exists=True,
            )
            self._identify(maximize=maximize, known=known)
            trials = self._study.get_trials(deepcopy=False)
            self._failed_before = {trial.number for trial in trials if trial.state.name == "FAIL"}

    def unfinished(self) -> list[Suggestion]:
        """The trials that an earlier process began and did not tell the end of; to be called before `ask`."""
        from optuna.trial import Trial, TrialState

        with keeping.told(self._address):
            trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            return [self._suggestion(Trial(self._study, trial._trial_id)) for trial in trials]

    def failed(self) -> list[int]:
        """See to it that `ask` suggests again what failed in earlier processes, if that is wanted.

        Each becomes a new trial with a number of its own, before any new values, and no longer
        counts. Gives the numbers of all that others repeat: an earlier process may have seen to
        some, and not have noted it.
        """
        if not self._config.retry_failed:
            return []
        with keeping.told(self._address):
            trials = self._study.get_trials(deepcopy=False)
            repeated = _repeated(trials)
            again = [
                t for t in trials if t.number in self._failed_before and t.number not in repeated
            ]
            for trial in again:
                self._study.enqueue_trial(trial.params, user_attrs={_REPEATS: trial.number})
        return sorted(repeated.union(trial.number for trial in again))

    def ask(self) -> Suggestion | None:
        """The next trial; None when there are as many as the config wants. A failed one counts
        until it is repeated.
        """
        with keeping.told(self._address):
            trials = self._study.get_trials(deepcopy=False)
            repeated = _repeated(trials)
            if (
                sum(t.state.name != "WAITING" and t.number not in repeated for t in trials)
                >= self._config.trials
            ):
                return None
            return self._suggestion(self._study.ask())

    def tell(self, number: int, *, status: str, value: float | None) -> None:
        """How a trial ended: `done` with its `value`, `pruned`, `failed`, or `interrupted`: it is
        then unfinished.

        Told again, it stays as it was told first: a killed process may not have noted that it told.
        """
        from optuna.trial import TrialState

        assert status in ("done", "pruned", "failed", "interrupted"), status
        if status == "interrupted":
            return
        state = TrialState.PRUNED if status == "pruned" else TrialState.FAIL
        if status == "done" and value is not None and not math.isnan(value):
            state = TrialState.COMPLETE
        values = value if state == TrialState.COMPLETE else None
        with keeping.told(self._address):
            self._study.tell(number, values, state=state, skip_if_finished=True)

    def close(self) -> None:
        """Let go of the study."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _identify(self, *, maximize: bool, known: int) -> None:
        """Let a new study say what it is, and hold an old one to that."""
        from optuna.distributions import distribution_to_json

        space = {key: json.loads(distribution_to_json(value)) for key, value in self._space.items()}
        attributes, num_trials = self._study.user_attrs, len(self._study.get_trials(deepcopy=False))
        if num_trials < known:
            raise InputError(
                f"The study of the sweep has {num_trials} trials, and there were {known}: it was "
                "lost or replaced.",
                hint=_ANEW,
            )
        if _SPACE not in attributes and num_trials == 0:
            self._study.set_user_attr(_SPACE, space)
        elif attributes.get(_SPACE) != space:
            raise UsageError(_difference(attributes.get(_SPACE), space), hint=_ANEW)
        if self._study.direction.name != ("MAXIMIZE" if maximize else "MINIMIZE"):
            wants = "largest" if self._study.direction.name == "MAXIMIZE" else "smallest"
            raise UsageError(
                f"The study of the sweep looks for the {wants} value, unlike this command.",
                hint=_ANEW,
            )
        config = self._config
        if isinstance(config, OptunaConfig):
            pruning = settings(
                config.pruner, warmup=config.warmup, startup_trials=config.startup_trials
            )
            if attributes.get(PRUNING) != pruning:
                self._study.set_user_attr(PRUNING, pruning)

    def _suggestion(self, trial: optuna.trial.Trial) -> Suggestion:
        """What a trial is to try: as noted, or drawn now.

        Each draw has a seed of its own. A search that was cut, even between two values of a trial,
        goes on as if it had not been.
        """
        if trial.params.keys() != self._space.keys():
            self._study.sampler = self._sampler(f"{self._config.seed}/{trial.number}")
            trial.relative_params  # noqa: B018 Reading it draws the values that are drawn together.
        values = {}
        for key, distribution in self._space.items():
            self._study.sampler = self._sampler(f"{self._config.seed}/{trial.number}/{key}")
            values[key] = _suggested(trial, key, distribution)
        prunes = isinstance(self._config, OptunaConfig) and self._config.pruner != "none"
        handed = Trial(
            storage=self._address, study=self._study.study_name, trial_id=trial._trial_id
        )
        return Suggestion(number=trial.number, values=values, trial=handed if prunes else None)

    def _sampler(self, purpose: str) -> optuna.samplers.BaseSampler:
        from optuna.samplers import RandomSampler, TPESampler

        seed = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
        if not isinstance(self._config, OptunaConfig):
            return RandomSampler(seed=seed)
        # The liar takes a running trial for a bad one, so that several at a time do not try the
        # same.
        return TPESampler(
            seed=seed,
            n_startup_trials=self._config.startup_trials,
            constant_liar=self._config.num_jobs != 1,
        )


def _distribution(axis: Axis) -> BaseDistribution:
    """What Optuna draws from for `axis`; raises UsageError when it cannot."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.values and axis.step is None:
        # In whatever order they were typed, it is the same search.
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


def _difference(old: Any, new: dict[str, Any]) -> str:
    """A sentence on how the space of a study differs from that of the command."""
    if not isinstance(old, dict):
        return "The study of the sweep was not made by a sweep."
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return f"The study of the sweep has other values to choose from for {', '.join(keys)}."
