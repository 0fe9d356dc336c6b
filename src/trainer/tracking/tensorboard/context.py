"""What the records of a run are about: its models and its data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

# Samples whose activations are counted.
NUM_FIXED = 64


@dataclass(frozen=True, kw_only=True)
class Context:
    """The models and the data that records are made of.

    `model` is in training, `evaluated` is its moving average where there is one. `samples` gives
    the batches of the validation set in order, as the model sees them in evaluation, or of the
    training set where there is no validation set; `first` gives its first samples without reading
    the rest. `classes` are the class names, None where the targets are values.
    """

    model: nn.Module
    evaluated: nn.Module
    classes: tuple[str, ...] | None
    samples: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    first: Callable[[int], tuple[Tensor, Tensor]]

    @property
    def fixed(self) -> Tensor:
        """The first samples (N, …), the same ones in the whole run and after a resume.

        A copy each time: a person's own model may change its inputs in place.
        """
        return self._fixed.clone()

    @functools.cached_property
    def _fixed(self) -> Tensor:
        inputs, _ = self.first(NUM_FIXED)
        return inputs
