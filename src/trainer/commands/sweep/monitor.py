"""Which metric the jobs of a sweep are compared by, and whether it means the same in all of them.

What makes a metric incomparable is in `trainer.config.comparison`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.commands.sweep import plan
from trainer.config import CHOICES, ConfigTree, FitConfig, flatten, to_plain
from trainer.config.comparison import Difference, difference, redefines, what_differs
from trainer.config.compatibility import metric_without_loss, monitored_metric
from trainer.config.sweep import SweepRequest
from trainer.tracking.console import Terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The `metric` that ranks the jobs; each job gets `words`, which make it monitor that metric.

    `note` says why it is not the usual one, `warning` why some jobs cannot be compared by it; both
    may be empty.
    """

    metric: str
    words: tuple[str, ...] = ()
    note: str = ""
    warning: str = ""

    @property
    def sentences(self) -> list[str]:
        """What the report says of it."""
        return [text for text in (self.note, self.warning) if text]

    def show(self, terminal: Terminal) -> None:
        """Print it, where there is something to say."""
        if self.note:
            terminal.note(self.note)
        if self.warning:
            terminal.warn(self.warning)


@dataclass(frozen=True, slots=True)
class _Jobs:
    """Some jobs of a sweep: configs that show what differs, else the names of the varied keys.

    `plain` are the configs by dotted keys.
    """

    configs: Sequence[FitConfig]
    plain: Sequence[ConfigTree]
    keys: Sequence[str]

    def difference(self, metric: str) -> Difference | None:
        """Why the jobs cannot be compared by `metric`; None where they can."""
        varied = [key for key in self.keys if redefines(key, metric)]
        return what_differs(metric, self.plain) or difference(varied)

    @property
    def metric_without_loss(self) -> str | None:
        """The metric that does not depend on the loss and that all jobs have, if there is one."""
        names = {metric_without_loss(config) for config in self.configs}
        return names.pop() if len(names) == 1 else None


def choose(
    request: SweepRequest, configs: Sequence[FitConfig], *, former: str | None
) -> Comparison:
    """How to compare the jobs of `request`; `configs` are those that `plan.check` returned.

    Where the loss is varied, and no metric chosen, the jobs monitor one that does not depend on the
    loss. `former` is the metric of the sweep that the same command continues, if there is one: an
    older version of trainer took the loss, and the jobs that are done keep it.
    """
    usual = monitored_metric(configs[0])
    jobs = _jobs(request, configs)
    found = jobs.difference(usual)
    if found is None:
        return Comparison(metric=usual, warning=_warning_of_monitors(request, usual))
    loss = difference([key for key in found.keys if key.partition(".")[0] == "loss"])
    instead = jobs.metric_without_loss
    is_chosen = any(config.trainer.monitor is not None for config in jobs.configs)
    if loss is None or instead is None or is_chosen or former == usual:
        return Comparison(metric=usual, warning=_warning(usual, found, jobs))
    others = jobs.difference(instead)
    return Comparison(
        metric=instead,
        words=(f"trainer.monitor={instead}",),
        note=f"Jobs are compared by {instead} instead of {usual}, because {loss.reason}.",
        warning="" if others is None else _warning(instead, others, jobs),
    )


def _jobs(request: SweepRequest, configs: Sequence[FitConfig]) -> _Jobs:
    """The jobs with these configs, and one with the last values.

    Of a group every choice is among `configs`, of another key one value. With another value of one
    key another may change too, as by `loss.delta=${optimizer.lr}`.
    """
    last = plan.last_values(request)
    keys = [] if last else [axis.key for axis in request.axes if axis.key not in CHOICES]
    known = [*configs, *last]
    return _Jobs(known, [flatten(to_plain(config), levels=2) for config in known], keys)


def _warning(metric: str, found: Difference, jobs: _Jobs) -> str:
    """The sentences that some jobs cannot be compared, and what to do."""
    instead = jobs.metric_without_loss
    if instead not in (None, metric) and jobs.difference(instead) is None:
        advice = f"Set trainer.monitor={instead}."
    elif metric.startswith("train/") and not any(redefines(key, "val/mse") for key in found.keys):
        advice = "Hold out samples to compare on: data.val_size=…"
    else:
        advice = f"Compare only jobs with the same {' and '.join(found.keys)}."
    return f"Jobs cannot all be compared by {metric}: {found.reason}. {advice}"


def _warning_of_monitors(request: SweepRequest, metric: str) -> str:
    """The sentence for jobs with different monitors; empty where the monitor is not varied."""
    if all(axis.key != "trainer.monitor" for axis in request.axes):
        return ""
    return (
        f"Jobs are compared by {metric}, and each chooses its best checkpoint by its own "
        "trainer.monitor."
    )
