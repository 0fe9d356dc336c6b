"""Whether runs can be compared by a metric: what it means, and on which samples it is measured.

Which key changes that is said at the key: `Key.redefines`. No torch.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainer.config.schema import SCHEMAS, find_key

# Metrics of which more is better; of all others less is.
_MAXIMIZED = ("accuracy",)
# Differing keys that are named; more of them say no more.
_MAX_NAMED = 3
_CHOICES = {f"{group}.name": group for group in SCHEMAS}
_PLURALS = {"data": "the data sets", "loss": "the losses"}


@dataclass(frozen=True, slots=True)
class Difference:
    """Why runs cannot be compared by a metric: they differ in `keys`, as they are typed.

    A group stands for its choice: `data`, `loss`, `loss.delta`.
    """

    keys: tuple[str, ...]

    @property
    def reason(self) -> str:
        """`the data sets differ`, `loss.delta differs`: a clause."""
        names = [_PLURALS.get(key, key) for key in self.keys[:_MAX_NAMED]]
        verb = "differs" if len(names) == 1 and self.keys[0] not in _PLURALS else "differ"
        *others, last = names
        return f"{', '.join(others)} and {last} {verb}" if others else f"{last} {verb}"


def what_differs(metric: str, configs: Iterable[Mapping[str, object]]) -> Difference | None:
    """What makes `metric`, such as `val/loss`, incomparable between runs; None where nothing does.

    `configs` have dotted keys, as `flatten(plain, levels=2)` gives them; a key that a config lacks
    is not compared. Seeds do not count.
    """
    values: dict[str, set[str]] = {}
    for config in configs:
        for key, value in _measured(config, metric.partition("/")[0]).items():
            if redefines(key, metric):
                values.setdefault(key, set()).add(json.dumps(value, sort_keys=True, default=str))
    return difference([key for key, found in values.items() if len(found) > 1])


def difference(keys: Iterable[str]) -> Difference | None:
    """The difference between runs whose dotted `keys` differ; None without one.

    Of another choice of a group, the other keys that differ are the consequence.
    """
    typed = dict.fromkeys(_CHOICES.get(key, key) for key in keys)
    kept = [key for key in typed if "." not in key or key.partition(".")[0] not in typed]
    return Difference(tuple(kept)) if kept else None


def redefines(dotted: str, metric: str) -> bool:
    """Whether runs with different values of a key, or choices of a group, differ in `metric`.

    That is: whether it measures something else in them, or on other samples.
    """
    key = find_key(f"{dotted}.name" if dotted in SCHEMAS else dotted)
    return key is not None and any(fnmatch.fnmatch(metric, each) for each in key.redefines or ())


def is_maximized(metric: str) -> bool:
    """Whether more is better."""
    return metric.rpartition("/")[2] in _MAXIMIZED


def _measured(config: Mapping[str, object], split: str) -> dict[str, object]:
    """A config as it counts for `split`: the arguments of a person's own data set are those of it.

    `data.val_kwargs` lie on top of `data.kwargs`.
    """
    kwargs = config.get("data.kwargs")
    more = config.get(f"data.{split}_kwargs")
    if isinstance(kwargs, Mapping) and isinstance(more, Mapping):
        return {**config, "data.kwargs": {**kwargs, **more}}
    return dict(config)
