"""What the tests of commands share: a small config, how a command ended, and a run folder read
back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trainer.tracking.metrics_file import read_rows

# Small enough for a second, large enough to have uneven last batches.
SMALL = (
    "data=dirichlet",
    "model=mlp",
    "model.hidden=[16]",
    "data.train_size=700",
    "data.val_size=150",
    "data.test_size=210",
    "data.eval_batch_size=64",
    "trainer.epochs=2",
    "logger.log_every=4",
)
# Without the figures: to draw them takes longer than all else in such a run.
PLAIN = (*SMALL, "logger.figures=false")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Run:
    """A run folder, read back."""

    folder: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder)

    def split(self, name: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["split"] == name]

    @property
    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return content

    @property
    def steps(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "checkpoints").glob("step-*"))

    def weights(self, which: str = "last") -> dict[str, torch.Tensor]:
        return load_file(self.folder / "checkpoints" / which / "model.safetensors")

    def digest(self, which: str = "last") -> str:
        """SHA-256 of all weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.weights(which).items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


Trainer = Callable[..., Outcome]
Fit = Callable[..., Run]
