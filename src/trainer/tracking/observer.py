"""What looks at the model itself and not only at numbers: at updates, and at predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

# Only for types: the terminal and metrics.jsonl need no torch, and commands such as `trainer runs`
# start without it.
if TYPE_CHECKING:
    from torch import Tensor

# Called with the inputs, outputs and targets of each batch of an evaluation.
Watch = Callable[["Tensor", "Tensor", "Tensor"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An update: its last batch, its gradients before clipping, and the weights from before it.

    Gradients and weights are by parameter name, on the training device; `loss_scale` is that of the
    scaler, if any.
    """

    inputs: Tensor
    targets: Tensor
    gradients: dict[str, Tensor]
    before: dict[str, Tensor]
    loss_scale: float | None


class Observer(Protocol):
    """Receives updates and predictions, on the training device."""

    def wants_update(self, step: int) -> bool:
        """Whether to keep the update that completes `step`; called before it is made."""

    def update(self, step: int, update: Update) -> None:
        """Take an update that was wanted."""

    def watch(self, split: str) -> Watch | None:
        """Return what to call with each batch of an evaluation that begins; None for nothing."""
