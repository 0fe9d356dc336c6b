"""What is kept of a person's own data set, so that a resume notices that it was changed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.sample_generators import seeded_generators

# Samples that are read, evenly spread: a change of one row in a thousand may be missed.
_NUM_SAMPLES = 64


def fingerprint(
    dataset: Dataset[object], *, name: str, classes: Sequence[str] | None
) -> dict[str, str]:
    """The length, the classes and a SHA-256 of some samples, as `train length` and so on.

    The same data gives the same, unless its samples are random in a way that no seed repeats. A
    data set that raises has no `samples`: training reports that better.
    """
    length = len(dataset)  # type: ignore[arg-type]
    found = {f"{name} length": str(length)}
    if classes is not None:
        found[f"{name} classes"] = _digest(list(classes))
    with contextlib.suppress(Exception), seeded_generators(0):
        num = min(length, _NUM_SAMPLES)
        chosen = [index * (length - 1) // max(1, num - 1) for index in range(num)]
        found[f"{name} samples"] = _digest([dataset[index] for index in chosen])
    return found


def differences(
    then: Mapping[str, str], now: Mapping[str, str], *, reread: Callable[[], Mapping[str, str]]
) -> list[str]:
    """What differs between two fingerprints, or checksums of files, in words.

    Names that were not kept then are passed over. `reread` takes the fingerprint anew: what differs
    from that too is random, and proves nothing.
    """
    names = [name for name in then if name in now and then[name] != now[name]]
    again = reread() if names else {}
    return [
        _in_words(name, then[name], now[name])
        for name in names
        if again.get(name, now[name]) == now[name]
    ]


def _in_words(name: str, then: str, now: str) -> str:
    what, _, kind = name.partition(" ")
    if kind == "length":
        return f"{what} had {then} samples, and has {now}"
    if kind == "classes":
        return f"{what} had other classes"
    if kind == "samples":
        return f"samples of {what} are not as they were"
    return f"{name} is another file"


def _digest(value: object) -> str:
    digest = hashlib.sha256()
    _add(digest.update, value)
    return digest.hexdigest()


def _add(update: Callable[[bytes], object], value: object) -> None:
    """Add a value and its type, so that 1, 1.0 and "1" differ."""
    update(f"{type(value).__name__}:".encode())
    if isinstance(value, Tensor):
        update(f"{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    elif isinstance(value, Mapping):
        _add(update, [[key, value[key]] for key in sorted(value, key=str)])
    elif isinstance(value, list | tuple):
        update(f"{len(value)}".encode())
        for item in value:
            _add(update, item)
    elif hasattr(value, "tobytes"):  # an array of NumPy, a picture of PIL
        update(f"{getattr(value, 'shape', getattr(value, 'size', ''))}".encode())
        update(value.tobytes())
    elif isinstance(value, str | bytes | bool | int | float | None):
        update(repr(value).encode())
