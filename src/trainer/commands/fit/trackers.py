"""What watches a run, made from its config: metrics.jsonl, TensorBoard, the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.commands.fit.components import Parts
from trainer.config import to_plain
from trainer.config.logger import TensorBoardConfig
from trainer.device import device_label
from trainer.errors import Stopped
from trainer.files import read_json
from trainer.run.record import RunRecord, RunStatus
from trainer.tracking import FailSafeTracker, Metrics, ObservingTracker, Tracker, Trackers
from trainer.tracking.console import ConsoleTracker, Terminal
from trainer.tracking.metrics_file import MetricsFile
from trainer.tracking.observer import Observer
from trainer.tracking.records import ResumePoint


@dataclass(slots=True, kw_only=True)
class Watchers:
    """What receives a run's numbers, what looks at its model, and the metrics to close with."""

    tracker: Tracker
    observer: Observer | None
    metrics: Metrics | None = None


def check_logger(parts: Parts) -> None:
    """Raises ConfigError when the logger names a layer that the model has not: before anything
    is written.
    """
    logger = parts.config.logger
    if isinstance(logger, TensorBoardConfig) and logger.projector_layer is not None:
        from trainer.tracking.tensorboard.projector import find_layer

        find_layer(parts.evaluated, logger.projector_layer)


@contextlib.contextmanager
def watching(
    parts: Parts,
    folder: Path,
    terminal: Terminal,
    *,
    record: RunRecord,
    resumed: ResumePoint | None,
    varied: Sequence[str],
) -> Iterator[Watchers]:
    """Watch a run, and close all trackers with its outcome and its final metrics."""
    watchers = _make(parts, folder, terminal, record=record, resumed=resumed, varied=varied)
    outcome = RunStatus.FAILED
    try:
        yield watchers
        outcome = RunStatus.DONE
    except (Stopped, KeyboardInterrupt, SystemExit, BrokenPipeError):
        outcome = RunStatus.INTERRUPTED
        raise
    finally:
        watchers.tracker.close(outcome, watchers.metrics)


def _make(
    parts: Parts,
    folder: Path,
    terminal: Terminal,
    *,
    record: RunRecord,
    resumed: ResumePoint | None,
    varied: Sequence[str],
) -> Watchers:
    trackers: list[Tracker] = [MetricsFile(folder, warn=terminal.warn, resumed=resumed)]
    observer = None

    def lost(warning: str) -> None:
        terminal.warn(warning)
        record.lose_events()

    if isinstance(parts.config.logger, TensorBoardConfig):
        observer = FailSafeTracker(
            lambda: _make_tensorboard(parts, folder, terminal, resumed=resumed, varied=varied),
            name="TensorBoard",
            warn=lost,
        )
        trackers.append(observer)
    trackers.append(
        ConsoleTracker(
            terminal,
            num_epochs=parts.limits.num_epochs(parts.data.train.num_batches),
            num_samples=parts.limits.num_samples(parts.data.train),
            num_samples_done=parts.progress.samples,
        )
    )
    return Watchers(tracker=Trackers(*trackers), observer=observer)


def _make_tensorboard(
    parts: Parts,
    folder: Path,
    terminal: Terminal,
    *,
    resumed: ResumePoint | None,
    varied: Sequence[str],
) -> ObservingTracker:
    # Imported here: with logger=none a run need not wait for it.
    from trainer.tracking.tensorboard.context import Context
    from trainer.tracking.tensorboard.tracker import TensorBoard

    kinds = parts.config.logger
    data = parts.data
    assert isinstance(kinds, TensorBoardConfig), "the caller has looked"
    shown = data.train_unshuffled if data.val is None else data.val
    return TensorBoard(
        folder,
        kinds=kinds,
        context=Context(
            model=parts.model,
            evaluated=parts.evaluated,
            classes=data.classes,
            samples=lambda: shown.epoch(0),
            first=shown.first,
        ),
        config=to_plain(parts.config),
        varied=varied,
        texts=_texts(parts, folder),
        warn=terminal.warn,
        resumed=resumed,
    )


def _texts(parts: Parts, folder: Path) -> dict[str, str]:
    """What a person reads beside the curves, as Markdown: the config, the command, and on what it ran."""
    record = read_json(folder / "run.json")
    versions = record.get("versions", {})
    facts = {
        "device": device_label(parts.device),
        "host": record.get("host"),
        "started": record.get("started"),
        "git commit": record.get("git_commit") or "none",
        **(versions if isinstance(versions, dict) else {}),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return {
        "config": _as_code((folder / "config.yaml").read_text(encoding="utf-8")),
        "command": _as_code(str(record.get("command", ""))),
        "environment": f"| | |\n|---|---|\n{table}",
    }


def _as_code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
