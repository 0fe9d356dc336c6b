"""Records of what was predicted: confusion matrix, reliability, confident mistakes, PR curves,
and the projector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tensorboard.plugins.pr_curve.metadata import create_summary_metadata
from torch import Tensor

from trainer.config.logger import TensorBoardConfig
from trainer.run.folder import step_folder_name
from trainer.tracking.observer import Watch
from trainer.tracking.tensorboard import figures, projector
from trainer.tracking.tensorboard.context import Context
from trainer.tracking.tensorboard.image_grids import grid, is_image
from trainer.tracking.tensorboard.predictions import Predictions
from trainer.tracking.tensorboard.writer import EventWriter

NUM_MISTAKES = 25
# A curve has 3 KB, at each evaluation; nobody looks at hundreds of them.
MAX_CURVES = 50
_NUM_THRESHOLDS = 127


class PredictionRecords:
    """Collects what is predicted in an evaluation, and shows it where that is due.

    Figures of the last evaluation of a split are drawn when the run ends, if they were not before.
    `num_evaluations` of the validation set were made before a resume.
    """

    def __init__(
        self,
        writer: EventWriter,
        classes: Sequence[str],
        kinds: TensorBoardConfig,
        *,
        num_evaluations: int,
    ) -> None:
        self._writer, self._classes, self._kinds = writer, classes, kinds
        # A tag is one class's alone.
        self._names = [
            f"{name} ({i})" if classes.count(name) > 1 else name for i, name in enumerate(classes)
        ]
        self._num_evaluations = num_evaluations
        self._collected: dict[str, Predictions] = {}
        self._undrawn: dict[str, int] = {}

    def watch(self, split: str) -> Watch:
        """Begin to collect; before the test, what was not drawn is drawn, for a test that is cut
        short is the end.
        """
        if split == "test":
            self.draw()
        collected = Predictions(num_classes=len(self._classes), num_mistakes=NUM_MISTAKES)
        self._collected[split] = collected
        return collected.add

    def evaluation(self, split: str, step: int) -> None:
        """An evaluation that was collected is over."""
        if split not in self._collected:
            return
        self._num_evaluations += split == "val"
        kinds, number = self._kinds, self._num_evaluations
        if kinds.figures:
            self._undrawn[split] = step
            if split == "test" or (
                kinds.figures_every is not None and number % kinds.figures_every == 0
            ):
                self._draw(split)
        if kinds.pr_curves and (split == "test" or number % kinds.pr_curves_every == 0):
            self._write_curves(split, step)

    def draw(self) -> None:
        """Draw the figures of evaluations that were not drawn yet."""
        for split in list(self._undrawn):
            self._draw(split)

    def _draw(self, split: str) -> None:
        step = self._undrawn.pop(split, None)
        if step is None:
            return
        collected = self._collected[split]
        self._writer.image(
            f"Confusion/{split}", figures.confusion_figure(collected.confusion, self._classes), step
        )
        self._writer.image(
            f"Reliability/{split}", figures.reliability_figure(collected.reliability()), step
        )
        mistakes = collected.mistakes
        if mistakes and is_image(mistakes[0].input.shape):
            labels = [
                f"{self._classes[mistake.true]} >\n{self._classes[mistake.predicted]} "
                f"{mistake.confidence:.0%}"
                for mistake in mistakes
            ]
            pictures = grid(torch.stack([mistake.input for mistake in mistakes]), labels)
            self._writer.image(f"Mistakes/{split}", pictures, step)

    def _write_curves(self, split: str, step: int) -> None:
        collected = self._collected[split]
        for index, name in enumerate(self._names[:MAX_CURVES]):
            metadata = create_summary_metadata(
                display_name=f"{name} ({split})", description="", num_thresholds=_NUM_THRESHOLDS
            )
            curve = np.stack(collected.pr_curve(index, num_thresholds=_NUM_THRESHOLDS)).astype(
                np.float32
            )
            self._writer.tensor(f"Precision_recall/{split}/{name}", curve, metadata, step)


class ProjectorRecords:
    """Writes what a layer has for a class-balanced sample, at chosen epochs and when the run ends."""

    def __init__(
        self, run: Path, context: Context, classes: Sequence[str], kinds: TensorBoardConfig
    ) -> None:
        self._run, self._context, self._classes, self._kinds = run, context, classes, kinds
        self._sample: tuple[Tensor, Tensor] | None = None

    def epoch(self, epoch: int, step: int) -> None:
        """An epoch is over."""
        if epoch in self._kinds.projector_epochs:
            self.write(step)

    def write(self, step: int) -> None:
        """Write those of the weights as they are, which are those of `step`."""
        if self._sample is None:
            num = self._kinds.projector_samples
            inputs, targets, _ = projector.balanced(
                self._context.samples(), num=num, num_classes=len(self._classes)
            )
            self._sample = inputs, targets
        inputs, targets = self._sample
        model, layer = self._context.evaluated, self._kinds.projector_layer
        called, features, outputs = projector.features(model, inputs, layer=layer)
        projector.write(
            self._run,
            tag=step_folder_name(step),
            layer=called,
            features=features,
            labels=[self._classes[target] for target in targets.tolist()],
            predicted=[self._classes[index] for index in outputs.argmax(1).tolist()],
            thumbnails=inputs if is_image(inputs.shape[1:]) else None,
        )
