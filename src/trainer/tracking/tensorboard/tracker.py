"""The tracker that writes for TensorBoard, all in the run's own folder. The x axis is the step.

It looks, and never changes what it looks at: not the weights, not a mode, not a random generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config.run import TensorBoardConfig
from trainer.tracking.events import rewind
from trainer.tracking.metrics_file import read_rows
from trainer.tracking.observer import Update, Watch
from trainer.tracking.records import EpochRecord, EvalRecord, ResumePoint, TrainRecord
from trainer.tracking.tensorboard import hparams, layout, projector
from trainer.tracking.tensorboard.graph import NotTraceable, trace
from trainer.tracking.tensorboard.predicted import PredictionRecords, ProjectorRecords
from trainer.tracking.tensorboard.scalars import Scalars
from trainer.tracking.tensorboard.shown import HistogramRecords, LayerRecords, PictureRecords
from trainer.tracking.tensorboard.subject import Subject
from trainer.tracking.tensorboard.writer import EventWriter

Look = Callable[[int, Update], None]


class TensorBoard:
    """Writes the kinds of records that `kinds` switches on, each at its cadence; `warn` tells a person.

    `config` is the whole config of the run, for its hparams, and `varied` are its keys that a sweep varies; `texts` are
    Markdown, by the last part of their tag.
    """

    def __init__(
        self,
        run: Path,
        *,
        kinds: TensorBoardConfig,
        subject: Subject,
        config: Mapping[str, Any],
        varied: Sequence[str],
        texts: Mapping[str, str],
        warn: Callable[[str], None],
        resumed: ResumePoint | None = None,
    ) -> None:
        if resumed is not None:
            if (damage := rewind(run, resumed)) is not None:
                warn(damage)
            projector.rewind(run, step=resumed.step)
        # A TensorBoard that is running has already read what is dropped: this tells it. The first start it passes over.
        self._writer = EventWriter(run, purge_step=0 if resumed is None else resumed.step + 1)
        rows = [] if resumed is None else read_rows(run)
        self._scalars = Scalars(self._writer, axes=kinds.axes, rows=rows) if kinds.scalars else None
        self._has_hparams = kinds.hparams
        self._looks = self._make_looks(kinds, subject, warn)
        self._predictions, self._projector = self._make_predicted(run, kinds, subject, rows)
        self._step = 0 if resumed is None else resumed.step
        self._begin(kinds, subject, texts, warn)
        if kinds.hparams:
            metrics = hparams.METRICS if subject.classes is not None else hparams.METRICS_OF_VALUES
            for summary in hparams.start_summaries(config, metrics=metrics, started=time.time(), varied=varied):
                self._writer.summary(summary, 0)
        self.flush()

    def train(self, record: TrainRecord) -> None:
        """See `Tracker.train`."""
        self._step = record.step
        if self._scalars is not None:
            self._scalars.train(record)

    def evaluation(self, record: EvalRecord) -> None:
        """See `Tracker.evaluation`."""
        self._step = record.step
        if self._scalars is not None:
            self._scalars.evaluation(record)
        if self._predictions is not None:
            self._predictions.evaluation(record.split, record.step)
        self.flush()

    def epoch(self, record: EpochRecord) -> None:
        """See `Tracker.epoch`."""
        if self._projector is not None:
            self._projector.epoch(record.epoch, record.step)

    def looks_at(self, step: int) -> bool:
        """See `Observer.looks_at`."""
        return any(step % every == 0 or (step == 1 and is_shown_first) for _, every, is_shown_first in self._looks)

    def update(self, step: int, update: Update) -> None:
        """See `Observer.update`."""
        for look, every, is_shown_first in self._looks:
            if step % every == 0 or (step == 1 and is_shown_first):
                look(step, update)

    def watch(self, split: str) -> Watch | None:
        """See `Observer.watch`."""
        return None if self._predictions is None else self._predictions.watch(split)

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._writer.flush()

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """Draw what waits for the end."""
        if self._predictions is not None:
            self._predictions.finish()
        if self._projector is not None:
            self._projector.write(self._step)

    def close(self, outcome: str) -> None:
        """See `Tracker.close`."""
        try:
            if self._has_hparams:
                status = {"done": "success", "failed": "failure"}.get(outcome, "unknown")
                self._writer.summary(hparams.end_summary(status, time.time()), self._step)
        finally:
            self._writer.close()

    def _make_looks(
        self, kinds: TensorBoardConfig, subject: Subject, warn: Callable[[str], None]
    ) -> list[tuple[Look, int, bool]]:
        """What looks at updates, every how many, and whether at the first one as well."""
        looks: list[tuple[Look, int, bool]] = []
        if kinds.layers:
            looks.append((LayerRecords(self._writer, subject), kinds.layers_every, False))
        if kinds.histograms:
            looks.append((HistogramRecords(self._writer, subject, warn=warn), kinds.histograms_every, True))
        if kinds.images:
            looks.append((PictureRecords(self._writer, subject), kinds.images_every, True))
        return looks

    def _make_predicted(
        self, run: Path, kinds: TensorBoardConfig, subject: Subject, rows: list[dict[str, Any]]
    ) -> tuple[PredictionRecords | None, ProjectorRecords | None]:
        """What shows predictions: there are none where the targets are values."""
        if subject.classes is None:
            return None, None
        num_evaluations = sum(row["split"] == "val" for row in rows)
        predictions = PredictionRecords(self._writer, subject.classes, kinds, num_evaluations=num_evaluations)
        return (
            predictions if kinds.figures or kinds.pr_curves else None,
            ProjectorRecords(run, subject, subject.classes, kinds) if kinds.projector else None,
        )

    def _begin(
        self,
        kinds: TensorBoardConfig,
        subject: Subject,
        texts: Mapping[str, str],
        warn: Callable[[str], None],
    ) -> None:
        """What stands at the beginning: a resume drops it, and it is written again."""
        if kinds.scalars or kinds.layers:
            self._writer.layout(layout.TAG, layout.layout(), layout.METADATA, 0)
        if kinds.text:
            for name, markdown in texts.items():
                self._writer.text(f"Run/{name}", markdown, 0)
        if kinds.graph or kinds.text:
            try:
                graph = trace(subject.model, subject.fixed[:2])
            except NotTraceable as reason:
                warn(f"TensorBoard has no graph and no table of the model's layers: {reason}.")
            else:
                if kinds.graph:
                    self._writer.graph(graph.as_graph_def())
                if kinds.text:
                    self._writer.text("Run/layers", graph.as_table(), 0)
