"""The tracker that writes for TensorBoard, all in the run's own folder. The x axis is the step.

It only reads: it changes no weight, no mode and no random generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from trainer.config.logger import TensorBoardConfig
from trainer.run.record import RunStatus
from trainer.tracking import FailSafe, Metrics
from trainer.tracking.event_files import event_files, rewind
from trainer.tracking.metrics_file import read_rows
from trainer.tracking.observer import Update, Watch
from trainer.tracking.records import EpochRecord, EvalRecord, MetricsRow, Record, ResumePoint
from trainer.tracking.tensorboard import custom_scalars, hparams, projector
from trainer.tracking.tensorboard.context import Context
from trainer.tracking.tensorboard.graph import NotTraceable, trace
from trainer.tracking.tensorboard.model_records import (
    HistogramRecords,
    ImageRecords,
    LayerRecords,
)
from trainer.tracking.tensorboard.prediction_records import PredictionRecords, ProjectorRecords
from trainer.tracking.tensorboard.scalars import Scalars
from trainer.tracking.tensorboard.writer import EventFileError, EventWriter

P = ParamSpec("P")
T = TypeVar("T")
Look = Callable[[int, Update], None]
# Updates that are recorded besides those of a larger cadence: a short run has records too.
_EARLY = (1, 10, 100)
_PREDICTIONS = "figures and PR curves"
_PROJECTOR = "projector"


class TensorBoard:
    """Writes the kinds of records that `kinds` switches on, each at its cadence.

    A kind that fails is lost alone, with one call of `warn`; an event file that cannot be written
    raises EventFileError. `config` is the whole config of the run, for its hparams, and `varied`
    are its keys that a sweep varies; `texts` are Markdown, by the last part of their tag.
    """

    def __init__(
        self,
        run: Path,
        *,
        kinds: TensorBoardConfig,
        context: Context,
        config: Mapping[str, object],
        varied: Sequence[str],
        texts: Mapping[str, str],
        warn: Callable[[str], None],
        resumed: ResumePoint | None = None,
    ) -> None:
        self._warn = warn
        self._kinds = kinds
        self._context = context
        self._fail_safes: dict[str, FailSafe] = {}
        rows: list[MetricsRow] = []
        replays = False
        self._step = 0
        # TensorBoard ignores the first start of a run.
        purge_step = 0
        # Before the new file is opened: these rename and rewrite all event files of the run.
        if resumed is not None:
            if (damage := rewind(run, resumed)) is not None:
                warn(damage)
            projector.rewind(run, step=resumed.step)
            rows = read_rows(run)
            replays = not event_files(run)
            self._step = resumed.step
            # A TensorBoard that is running has read what was dropped: this makes it purge that.
            purge_step = resumed.step + 1
        self._writer = EventWriter(run, purge_step=purge_step)
        self._scalars = None
        if kinds.scalars:
            self._scalars = Scalars(self._writer, axes=kinds.axes, rows=rows, replays=replays)
        self._looks = self._make_looks()
        self._predictions = None
        self._projector = None
        # Targets that are values have no predicted classes to draw.
        if context.classes is not None:
            if kinds.figures or kinds.pr_curves:
                self._predictions = PredictionRecords(
                    self._writer,
                    context.classes,
                    kinds,
                    num_evaluations=sum(row["split"] == "val" for row in rows),
                )
            if kinds.projector:
                self._projector = ProjectorRecords(run, context, context.classes, kinds)
        self._write_start(config, varied=varied, texts=texts)
        # A TensorBoard that is running then shows the run before its first window ends.
        self.flush()

    def record(self, record: Record) -> None:
        """Write the scalars of a record, and what is due at its evaluation or epoch."""
        self._step = record.step
        if self._scalars is not None:
            self._scalars.record(record)
        if isinstance(record, EpochRecord) and self._projector is not None:
            self._attempt(_PROJECTOR, self._projector.epoch, record.epoch, record.step)
        if isinstance(record, EvalRecord):
            if self._predictions is not None:
                evaluation = self._predictions.evaluation
                self._attempt(_PREDICTIONS, evaluation, record.split, record.step)
            self.flush()

    def wants_update(self, step: int) -> bool:
        return any(_is_due(step, every) for every, _ in self._looks.values())

    def update(self, step: int, update: Update) -> None:
        for kind, (every, look) in self._looks.items():
            if _is_due(step, every):
                self._attempt(kind, look, step, update)

    def watch(self, split: str) -> Watch | None:
        if self._predictions is None:
            return None
        return self._fail_safe_of(_PREDICTIONS).watch(self._predictions.watch, split)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, outcome: RunStatus, metrics: Metrics | None) -> None:
        """Draw what waits for the end of a completed run, and close the event file."""
        try:
            if metrics is not None and self._predictions is not None:
                self._attempt(_PREDICTIONS, self._predictions.draw)
            if metrics is not None and self._projector is not None:
                self._attempt(_PROJECTOR, self._projector.write, self._step)
            if self._kinds.hparams:
                self._writer.summary(hparams.end_summary(outcome, time.time()), self._step)
        finally:
            self._writer.close()

    def _attempt(
        self, kind: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Return the result of `call`; None once a call of this kind has failed."""
        return self._fail_safe_of(kind)(call, *args, **kwargs)

    def _fail_safe_of(self, kind: str) -> FailSafe:
        if kind not in self._fail_safes:
            self._fail_safes[kind] = FailSafe(
                f"TensorBoard gets no more of this kind: {kind}",
                "Everything else continues.",
                warn=self._warn,
                # No kind can be written any more, which FailSafeTracker reports.
                passes=(EventFileError,),
            )
        return self._fail_safes[kind]

    def _make_looks(self) -> dict[str, tuple[int, Look]]:
        """Make what records updates, by kind, each with its cadence in updates."""
        kinds = self._kinds
        writer = self._writer
        context = self._context
        looks: dict[str, tuple[int, Look]] = {}
        if kinds.layers:
            looks["layers"] = kinds.layers_every, LayerRecords(writer, context)
        if kinds.histograms:
            records = HistogramRecords(writer, context, warn=self._warn)
            looks["histograms"] = kinds.histograms_every, records
        if kinds.images:
            looks["images"] = kinds.images_every, ImageRecords(writer, context)
        return looks

    def _write_start(
        self, config: Mapping[str, object], *, varied: Sequence[str], texts: Mapping[str, str]
    ) -> None:
        """Write what every start of a run writes again, since a resume drops it."""
        kinds = self._kinds
        has_classes = self._context.classes is not None
        if kinds.scalars or kinds.layers:
            layout = custom_scalars.layout(has_classes=has_classes)
            self._writer.message(custom_scalars.TAG, layout, custom_scalars.METADATA, 0)
        if kinds.text:
            for name, markdown in texts.items():
                self._writer.text(f"Run/{name}", markdown, 0)
        if kinds.graph or kinds.text:
            self._attempt("graph", self._write_graph)
        if kinds.hparams:
            for summary in hparams.start_summaries(
                config,
                metrics=hparams.METRICS if has_classes else hparams.METRICS_OF_VALUES,
                started=time.time(),
                varied=varied,
            ):
                self._writer.summary(summary, 0)

    def _write_graph(self) -> None:
        try:
            graph = trace(self._context.model, self._context.fixed[:2])
        except NotTraceable as reason:
            self._warn(f"TensorBoard has no graph and no table of the model's layers: {reason}.")
            return
        if self._kinds.graph:
            self._writer.graph(graph.as_graph_def())
        if self._kinds.text:
            self._writer.text("Run/layers", graph.as_table(), 0)


def _is_due(step: int, every: int) -> bool:
    return step % every == 0 or (step < every and step in _EARLY)
