"""What looks at the model itself, and not only at numbers: told by the engine of an update, and
of what it predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

# Called with the inputs, outputs and targets of each batch of an evaluation.
Watch = Callable[["Tensor", "Tensor", "Tensor"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An update that was made: its last batch, its gradients before clipping, and the weights as
    they were before it.

    Gradients and weights are by parameter name, on the training device; `loss_scale` is that of the
    scaler, if any.
    """

    inputs: Tensor
    targets: Tensor
    gradients: dict[str, Tensor]
    before: dict[str, Tensor]
    loss_scale: float | None


class Observer(Protocol):
    """What the engine shows, and to whom it matters when."""

    def looks_at(self, step: int) -> bool:
        """Whether the update that completes `step` is to be shown; asked before it is made."""

    def update(self, step: int, update: Update) -> None:
        """An update that is looked at was made."""

    def watch(self, split: str) -> Watch | None:
        """What an evaluation of `split` that now begins is to tell of its batches; None for nothing."""
