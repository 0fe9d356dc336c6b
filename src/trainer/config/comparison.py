"""Whether runs can be compared by a metric: what it means, and on which samples it is measured.

`Key.redefines` says which metrics a key changes so. No torch.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainer.config.schema import SCHEMAS, find_key

# The arguments of a person's own data set, which are compared as a whole.
_ARGUMENTS = ("data.kwargs", "data.val_kwargs", "data.test_kwargs")
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
    found = list(configs)
    values: dict[str, list[object]] = {}
    for config in found:
        for key, value in config.items():
            if key not in _ARGUMENTS and redefines(key, metric):
                values.setdefault(key, []).append(value)
    own = _own_arguments(found, split=metric.partition("/")[0])
    return difference([*(key for key, each in values.items() if _differ(each)), *own])


def _own_arguments(configs: Iterable[Mapping[str, object]], *, split: str) -> list[str]:
    """The keys by which the arguments of a person's own data set differ for `split`.

    Those of the split, such as `data.val_kwargs`, lie on top of `data.kwargs`: together they may be
    the same.
    """
    shared = []
    added = []
    for config in configs:
        if isinstance(kwargs := config.get("data.kwargs"), Mapping):
            more = config.get(f"data.{split}_kwargs")
            shared.append(kwargs)
            added.append(more if isinstance(more, Mapping) else {})
    if not _differ([{**kwargs, **more} for kwargs, more in zip(shared, added, strict=True)]):
        return []
    found = {"data.kwargs": shared, f"data.{split}_kwargs": added}
    return [key for key, each in found.items() if _differ(each)]


def _differ(values: Sequence[object]) -> bool:
    return any(value != values[0] for value in values)


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
