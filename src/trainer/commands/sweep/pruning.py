"""A job's side of a search: it reports each evaluation and asks whether to stop early."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainer.commands.sweep.study import open_storage, reason
from trainer.commands.sweep.task import TrialAddress
from trainer.config.sweep import OptunaConfig

if TYPE_CHECKING:
    import optuna

# The attribute of a study with the settings of its pruner: a job knows no more than its address.
PRUNING = "pruning"
# Optuna's default: so many trials must be complete before one is compared with them.
_NUM_COMPARED = 5
# Takes the place of NaN and infinity in the study: with those, the median of some trials is NaN,
# and numpy warns of it.
_WORST = 1e300


def settings(config: OptunaConfig) -> dict[str, str | int]:
    """The value of the attribute PRUNING."""
    startup = min(config.startup_trials, _NUM_COMPARED)
    return {"pruner": config.pruner, "warmup": config.warmup, "startup": startup}


def pruner_of(
    trial: TrialAddress | None, *, warn: Callable[[str], None], start: int = 0
) -> Callable[[float], bool]:
    """The `should_prune` of `fit.run`: given the monitored value, whether to end the run.

    `start` is how many evaluations the run had at the checkpoint it continues from: the next one is
    number `start` + 1. Without a `trial` nothing is pruned, nor is it after the first failure of
    the study, of which `warn` is called.
    """
    return (lambda _: False) if trial is None else _TrialPruner(trial, warn=warn, start=start)


class _TrialPruner:
    """Reports evaluations by their number, from 1."""

    def __init__(self, trial: TrialAddress, *, warn: Callable[[str], None], start: int) -> None:
        self._trial = trial
        self._warn = warn
        self._number = start
        self._live: optuna.trial.Trial | None = None
        self._reported: set[int] = set()
        self._is_off = False

    def __call__(self, value: float) -> bool:
        self._number += 1
        if self._is_off:
            return False
        try:
            return self._should_prune(value)
        except Exception as error:
            # Any error: the training is worth more than its comparison with others.
            self._is_off = True
            self._warn(f"Pruning is off: {reason(error)}.")
            return False

    def _should_prune(self, value: float) -> bool:
        if self._live is None:
            self._live = _open_trial(self._trial)
            self._reported = set(
                self._live.storage.get_trial(self._trial.trial_id).intermediate_values
            )
        if self._number not in self._reported:
            self._live.report(
                _bounded(value, maximize=self._live.study.direction.name == "MAXIMIZE"),
                self._number,
            )
            self._reported.add(self._number)
        elif self._number < max(self._reported):
            # The run was killed later than its checkpoint: it was not pruned here before.
            return False
        return self._live.should_prune()


def _open_trial(trial: TrialAddress) -> optuna.trial.Trial:
    """Optuna's object for a trial in its study, with the pruner of that study."""
    import optuna

    storage = open_storage(trial.storage, makes_tables=False)
    # The sampler is not used here. Without one Optuna would make its default.
    study = optuna.load_study(
        study_name=trial.study, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.pruner = _pruner(**study.user_attrs[PRUNING])
    return optuna.trial.Trial(study, trial.trial_id)


def _pruner(pruner: str, warmup: int, startup: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner; evaluations count from 1, and the first that may prune follows `warmup`."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if pruner == "median":
        return MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup + 1)
    if pruner == "hyperband":
        return HyperbandPruner(min_resource=warmup + 1)
    return NopPruner()


def _bounded(value: float, *, maximize: bool) -> float:
    if math.isnan(value):
        return -_WORST if maximize else _WORST
    return min(max(value, -_WORST), _WORST)
