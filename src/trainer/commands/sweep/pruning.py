"""A job's side of a search: it reports each evaluation and asks whether to go on. What is
suggested is not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainer.commands.sweep.study import open_storage, reason
from trainer.commands.sweep.task import Trial

if TYPE_CHECKING:
    import optuna

# The study says itself how its trials are pruned, since a job knows no more than its address.
PRUNING = "pruning"
# Optuna's default: so many trials must be complete before one is compared with them.
_NUM_COMPARED = 5
# Stands for NaN and infinity in the study: with those, the median of some trials is NaN, and numpy
# warns of it.
_WORST = 1e300


def settings(pruner: str, *, warmup: int, startup_trials: int) -> dict[str, str | int]:
    """What a study says under PRUNING."""
    return {"pruner": pruner, "warmup": warmup, "startup": min(startup_trials, _NUM_COMPARED)}


def judge_of(
    trial: Trial | None, *, warn: Callable[[str], None], start: int = 0
) -> Callable[[float], bool]:
    """What `fit.run` asks after each evaluation: given the monitored value, whether to prune.

    `start` is how many evaluations the run had at the checkpoint it goes on from: the next one is
    number `start` + 1. Without a `trial` nothing is pruned. Nor is it once the study failed, which
    `warn` is told.
    """
    return (lambda value: False) if trial is None else _Judge(trial, warn=warn, start=start)


class _Judge:
    """Reports evaluations by their number, from 1."""

    def __init__(self, trial: Trial, *, warn: Callable[[str], None], start: int) -> None:
        self._trial, self._warn, self._number = trial, warn, start
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
            # Whatever it is: the training is worth more than its comparison with others.
            self._is_off = True
            self._warn(f"Pruning is off: {reason(error)}.")
            return False

    def _should_prune(self, value: float) -> bool:
        if self._live is None:
            self._live = _attached(self._trial)
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
            # The run was killed later than its checkpoint: back then it was not pruned here.
            return False
        return self._live.should_prune()


def _attached(trial: Trial) -> optuna.trial.Trial:
    """The trial as Optuna knows it, in its study, with the pruner that the study asks for."""
    import optuna

    storage = open_storage(trial.storage, makes_tables=False)
    # The sampler is never asked here. Without one Optuna would make its default.
    study = optuna.load_study(
        study_name=trial.study, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.pruner = _pruner(**study.user_attrs[PRUNING])
    return optuna.trial.Trial(study, trial.trial_id)


def _pruner(pruner: str, warmup: int, startup: int) -> optuna.pruners.BasePruner:
    """Evaluations count from 1, and the first that may prune is the one after `warmup`."""
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
