"""The tracker that writes for TensorBoard, all in the run's own folder. The x axis is the step.

It looks, and never changes what it looks at: not the weights, not a mode, not a random generator.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.config.logger import TensorBoardConfig
from trainer.tracking import describe_error
from trainer.tracking.event_files import event_files, rewind
from trainer.tracking.metrics_file import read_rows
from trainer.tracking.observer import Update, Watch
from trainer.tracking.records import EpochRecord, EvalRecord, ResumePoint, TrainRecord
from trainer.tracking.tensorboard import custom_scalars, hparams, projector
from trainer.tracking.tensorboard.context import Subject
from trainer.tracking.tensorboard.graph import NotTraceable, trace
from trainer.tracking.tensorboard.model_records import (
    HistogramRecords,
    LayerRecords,
    PictureRecords,
)
from trainer.tracking.tensorboard.prediction_records import PredictionRecords, ProjectorRecords
from trainer.tracking.tensorboard.scalars import Scalars
from trainer.tracking.tensorboard.writer import EventFileError, EventWriter

Look = Callable[[int, Update], None]
# The updates that are looked at besides those of a cadence that is larger: a short run is seen as
# well.
_EARLY = (1, 10, 100)
_PREDICTED = "figures and PR curves"


class TensorBoard:
    """Writes the kinds of records that `kinds` switches on, each at its cadence; `warn` tells a
    person.

    A kind that fails is told once and left out from then on; what cannot go on without the event
    file is raised.

    `config` is the whole config of the run, for its hparams, and `varied` are its keys that a sweep
    varies; `texts` are Markdown, by the last part of their tag.
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
        self._warn, self._lost = warn, set[str]()
        replays = resumed is not None and not event_files(run)
        # A TensorBoard that is running has already read what is dropped: this tells it. The first
        # start it passes over.
        self._writer = EventWriter(run, purge_step=0 if resumed is None else resumed.step + 1)
        rows = [] if resumed is None else read_rows(run)
        self._scalars = (
            Scalars(self._writer, axes=kinds.axes, rows=rows, replays=replays)
            if kinds.scalars
            else None
        )
        self._has_hparams = kinds.hparams
        self._looks = self._make_looks(kinds, subject)
        self._predictions, self._projector = self._make_predicted(run, kinds, subject, rows)
        self._step = 0 if resumed is None else resumed.step
        self._begin(kinds, subject, texts)
        if kinds.hparams:
            metrics = hparams.METRICS if subject.classes is not None else hparams.METRICS_OF_VALUES
            for summary in hparams.start_summaries(
                config, metrics=metrics, started=time.time(), varied=varied
            ):
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
        if (predictions := self._predictions) is not None:
            self._attempt(_PREDICTED, lambda: predictions.evaluation(record.split, record.step))
        self.flush()

    def epoch(self, record: EpochRecord) -> None:
        """See `Tracker.epoch`."""
        if (projector := self._projector) is not None:
            self._attempt("projector", lambda: projector.epoch(record.epoch, record.step))

    def looks_at(self, step: int) -> bool:
        """See `Observer.looks_at`."""
        return any(_is_due(step, every) for every, _ in self._looks.values())

    def update(self, step: int, update: Update) -> None:
        """See `Observer.update`."""
        for kind, (every, look) in self._looks.items():
            if _is_due(step, every):
                self._attempt(kind, functools.partial(look, step, update))

    def watch(self, split: str) -> Watch | None:
        """See `Observer.watch`."""
        if (predictions := self._predictions) is None:
            return None
        seen: Watch | None = self._attempt(_PREDICTED, lambda: predictions.watch(split))
        return (
            None if seen is None else lambda *batch: self._attempt(_PREDICTED, lambda: seen(*batch))
        )

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._writer.flush()

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """Draw what waits for the end."""
        if self._predictions is not None:
            self._attempt(_PREDICTED, self._predictions.finish)
        if (projector := self._projector) is not None:
            self._attempt("projector", lambda: projector.write(self._step))

    def close(self, outcome: str) -> None:
        """See `Tracker.close`."""
        try:
            if self._has_hparams:
                status = {"done": "success", "failed": "failure"}.get(outcome, "unknown")
                self._writer.summary(hparams.end_summary(status, time.time()), self._step)
        finally:
            self._writer.close()

    def _attempt(self, kind: str, action: Callable[[], Any]) -> Any:
        """What `action` gives; None when it fails or has failed before, which loses its kind and
        nothing else.
        """
        if kind in self._lost:
            return None
        try:
            return action()
        except EventFileError:
            raise
        except Exception as error:
            self._lost.add(kind)
            self._warn(
                f"TensorBoard gets no more of this kind: {kind} ({describe_error(error)}). All "
                "else goes on."
            )
            return None

    def _make_looks(
        self, kinds: TensorBoardConfig, subject: Subject
    ) -> dict[str, tuple[int, Look]]:
        """What looks at updates, by kind, and every how many."""
        looks: dict[str, tuple[int, Look]] = {}
        if kinds.layers:
            looks["layers"] = kinds.layers_every, LayerRecords(self._writer, subject)
        if kinds.histograms:
            looks["histograms"] = (
                kinds.histograms_every,
                HistogramRecords(self._writer, subject, warn=self._warn),
            )
        if kinds.images:
            looks["images"] = kinds.images_every, PictureRecords(self._writer, subject)
        return looks

    def _make_predicted(
        self, run: Path, kinds: TensorBoardConfig, subject: Subject, rows: list[dict[str, Any]]
    ) -> tuple[PredictionRecords | None, ProjectorRecords | None]:
        """What shows predictions: there are none where the targets are values."""
        if subject.classes is None:
            return None, None
        num_evaluations = sum(row["split"] == "val" for row in rows)
        predictions = PredictionRecords(
            self._writer, subject.classes, kinds, num_evaluations=num_evaluations
        )
        return (
            predictions if kinds.figures or kinds.pr_curves else None,
            ProjectorRecords(run, subject, subject.classes, kinds) if kinds.projector else None,
        )

    def _begin(
        self,
        kinds: TensorBoardConfig,
        subject: Subject,
        texts: Mapping[str, str],
    ) -> None:
        """What stands at the beginning: a resume drops it, and it is written again."""
        if kinds.scalars or kinds.layers:
            self._writer.layout(
                custom_scalars.TAG, custom_scalars.layout(), custom_scalars.METADATA, 0
            )
        if kinds.text:
            for name, markdown in texts.items():
                self._writer.text(f"Run/{name}", markdown, 0)
        if kinds.graph or kinds.text:
            self._attempt("graph", lambda: self._write_graph(kinds, subject))

    def _write_graph(self, kinds: TensorBoardConfig, subject: Subject) -> None:
        try:
            graph = trace(subject.model, subject.fixed[:2])
        except NotTraceable as reason:
            self._warn(f"TensorBoard has no graph and no table of the model's layers: {reason}.")
            return
        if kinds.graph:
            self._writer.graph(graph.as_graph_def())
        if kinds.text:
            self._writer.text("Run/layers", graph.as_table(), 0)


def _is_due(step: int, every: int) -> bool:
    return step % every == 0 or (step < every and step in _EARLY)
