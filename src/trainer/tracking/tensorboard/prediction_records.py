"""Records of predictions: confusion matrix, reliability, mistakes, PR curves, the projector."""

from __future__ import annotations

from collections import Counter
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
# A curve has 3 KB, at each evaluation, and nobody looks at hundreds of them.
MAX_CURVES = 50
# More classes than the figure has pixels: their matrix would take gigabytes, and show nothing.
MAX_MATRIX = 600
# As many as torch's own writer has at most.
_NUM_THRESHOLDS = 127


class PredictionRecords:
    """Collects the predictions of an evaluation, and writes figures and curves of them when due.

    Figures of the last evaluation of a split are drawn at the end, if they were not before.
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
        self._writer = writer
        self._classes = classes
        self._kinds = kinds
        # Two classes of one name need two tags.
        counts = Counter(classes)
        self._names = [
            f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(classes)
        ]
        self._num_evaluations = num_evaluations
        self._collected: dict[str, Predictions] = {}
        # By split, the step of an evaluation without figures. Figures and projector take a second,
        # so by default they wait for the last.
        self._undrawn: dict[str, int] = {}

    def watch(self, split: str) -> Watch:
        """Begin to collect; the test first draws what waits, for one that is stopped is the end."""
        if split == "test":
            self.draw()
        collected = Predictions(
            num_classes=len(self._classes), num_mistakes=NUM_MISTAKES, num_curves=MAX_CURVES
        )
        self._collected[split] = collected
        return collected.add

    def evaluation(self, split: str, step: int) -> None:
        """Write what is due after an evaluation, if it was collected."""
        if split not in self._collected:
            return
        self._num_evaluations += split == "val"
        if self._kinds.figures:
            self._undrawn[split] = step
            if self._is_due(split, self._kinds.figures_every):
                self.draw()
        if self._kinds.pr_curves and self._is_due(split, self._kinds.pr_curves_every):
            self._write_curves(split, step)

    def draw(self) -> None:
        """Draw the figures of evaluations that were not drawn yet."""
        while self._undrawn:
            split, step = self._undrawn.popitem()
            self._draw(split, step)

    def _is_due(self, split: str, every: int | None) -> bool:
        return split == "test" or (every is not None and self._num_evaluations % every == 0)

    def _draw(self, split: str, step: int) -> None:
        collected = self._collected[split]
        if len(self._classes) <= MAX_MATRIX:
            confusion = figures.confusion_figure(collected.confusion, self._classes)
            self._writer.image(f"Confusion/{split}", confusion, step)
        reliability = figures.reliability_figure(collected.reliability())
        self._writer.image(f"Reliability/{split}", reliability, step)
        mistakes = collected.mistakes
        if mistakes and is_image(mistakes[0].input.shape):
            labels = [
                f"{self._classes[mistake.true]} >\n{self._classes[mistake.predicted]} "
                f"{mistake.confidence:.0%}"
                for mistake in mistakes
            ]
            pixels = grid(torch.stack([mistake.input for mistake in mistakes]), labels)
            self._writer.image(f"Mistakes/{split}", pixels, step)

    def _write_curves(self, split: str, step: int) -> None:
        collected = self._collected[split]
        for index, name in enumerate(self._names[:MAX_CURVES]):
            metadata = create_summary_metadata(
                display_name=f"{name} ({split})", description="", num_thresholds=_NUM_THRESHOLDS
            )
            curve = np.stack(collected.pr_curve(index, num_thresholds=_NUM_THRESHOLDS))
            tag = f"Precision_recall/{split}/{name}"
            self._writer.tensor(tag, curve.astype(np.float32), metadata, step)


class ProjectorRecords:
    """Features of a class-balanced sample, at chosen epochs and when the run ends."""

    def __init__(
        self, run: Path, context: Context, classes: Sequence[str], kinds: TensorBoardConfig
    ) -> None:
        self._run = run
        self._context = context
        self._classes = classes
        self._kinds = kinds
        self._sample: tuple[Tensor, Tensor] | None = None

    def epoch(self, epoch: int, step: int) -> None:
        """Write them at the end of an epoch that is chosen."""
        if epoch in self._kinds.projector_epochs:
            self.write(step)

    def write(self, step: int) -> None:
        """Write those of the weights as they are, which are those of `step`."""
        if self._sample is None:
            self._sample = projector.balanced(
                self._context.samples(),
                num=self._kinds.projector_samples,
                num_classes=len(self._classes),
            )
        inputs, targets = self._sample
        layer, features, outputs = projector.features(
            self._context.evaluated, inputs, layer=self._kinds.projector_layer
        )
        projector.write(
            self._run,
            tag=step_folder_name(step),
            layer=layer,
            features=features,
            labels=[self._classes[target] for target in targets.tolist()],
            predicted=[self._classes[index] for index in outputs.argmax(1).tolist()],
            thumbnails=inputs if is_image(inputs.shape[1:]) else None,
        )
