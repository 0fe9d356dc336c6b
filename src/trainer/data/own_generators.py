"""Random generators that a person's data set has as attributes: nothing here can repeat them."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch

from trainer.data.image_sets.download import Report

# Attributes of attributes, and so on: of the transforms of a pipeline of transforms.
_DEPTH = 4
_MAX_ITEMS = 50


def own_generators(dataset: object) -> dict[str, Any]:
    """The generators that `dataset` has, by the name of the attribute: `transform.rng`."""
    return dict(_search(dataset, "", depth=_DEPTH, seen=set()))


def generator_state(generator: Any) -> str:
    """The state of one, to compare."""
    if isinstance(generator, torch.Generator):
        return str(generator.get_state().tolist())
    if isinstance(generator, random.Random):
        return str(generator.getstate())
    bits = getattr(generator, "bit_generator", None)
    return str(generator.get_state() if bits is None else bits.state)


@contextlib.contextmanager
def watching_generators(
    dataset: object, *, name: str, num_workers: int, report: Report
) -> Iterator[None]:
    """Warn of generators that `dataset` has as attributes: no checkpoint keeps them.

    With workers, each draws the same from its copy; without, one counts that a sample drew from
    that was read in the block.
    """
    before = {key: generator_state(found) for key, found in own_generators(dataset).items()}
    yield
    names = [
        key
        for key, found in own_generators(dataset).items()
        if num_workers or before.get(key, "") != generator_state(found)
    ]
    if not names:
        return
    what = "a resumed run draws other numbers from it"
    if num_workers:
        what = f"each of the {num_workers} workers draws the same from its copy, in every epoch"
    report.warn(
        f"{name} has a random generator ({', '.join(names)}): {what}. Draw from the global ones of "
        "torch, NumPy or Python, which are seeded for each sample, or make one from the epoch (see "
        "set_epoch in docs/custom.md) and the index."
    )


def _search(value: object, name: str, *, depth: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, _kinds()):
        yield name, value
        return
    if depth == 0:
        return
    for part, item in _parts(value):
        below = f"{name}.{part}" if name else part
        yield from _search(item, below, depth=depth - 1, seen=seen)


def _parts(value: object) -> list[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        return [(str(index), item) for index, item in enumerate(value[:_MAX_ITEMS])]
    if isinstance(value, dict):
        return [(str(key), item) for key, item in list(value.items())[:_MAX_ITEMS]]
    if isinstance(value, (torch.Tensor, type)) or callable(getattr(value, "__array__", None)):
        return []
    attributes = getattr(value, "__dict__", {})
    return list(attributes.items()) if isinstance(attributes, dict) else []


def _kinds() -> tuple[type, ...]:
    """Types of generators, NumPy's where something has loaded it."""
    kinds: list[type] = [torch.Generator, random.Random]
    if (numpy := sys.modules.get("numpy")) is not None:
        kinds += [numpy.random.Generator, numpy.random.RandomState]
    return tuple(kinds)
