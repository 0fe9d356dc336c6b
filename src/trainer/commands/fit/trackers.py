"""The trackers of a run, made from its config: metrics.jsonl, TensorBoard, the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.commands.build import cause_not_finite
from trainer.commands.fit.components import Components
from trainer.commands.fit.lifecycle import Run
from trainer.config import to_plain
from trainer.config.logger import TensorBoardConfig
from trainer.device import device_label
from trainer.errors import Stopped
from trainer.files import as_table, read_json
from trainer.run.folder import RECORD_FILE
from trainer.run.record import RunStatus
from trainer.tracking import FailSafeTracker, Metrics, ObservingTracker, Tracker, Trackers
from trainer.tracking.console import ConsoleTracker
from trainer.tracking.metrics_file import MetricsFile
from trainer.tracking.observer import Observer
from trainer.tracking.records import ResumePoint


@dataclass(slots=True, kw_only=True)
class Watchers:
    """The trackers of the numbers as one, and the observer of the model, if any."""

    tracker: Tracker
    observer: Observer | None
    # The final metrics, once the run is tested: the trackers are closed with them.
    metrics: Metrics | None = None


def check_logger(components: Components) -> None:
    """Raises ConfigError when the logger names a layer that the model does not have."""
    logger = components.config.logger
    if isinstance(logger, TensorBoardConfig) and logger.projector_layer is not None:
        from trainer.tracking.tensorboard.projector import find_layer

        find_layer(components.evaluated, logger.projector_layer)


@contextlib.contextmanager
def watching(run: Run) -> Iterator[Watchers]:
    """Open the trackers of a run, and close them with the word for how it ended."""
    watchers = _make(run)
    outcome = RunStatus.FAILED
    try:
        yield watchers
        outcome = RunStatus.DONE
    except (Stopped, KeyboardInterrupt, SystemExit, BrokenPipeError):
        outcome = RunStatus.INTERRUPTED
        raise
    finally:
        watchers.tracker.close(outcome, watchers.metrics)


def _make(run: Run) -> Watchers:
    components = run.components
    terminal = run.terminal
    resumed = None if run.saved is None else run.saved.point(components)
    # First the source of truth, which alone may end the run by an error.
    trackers: list[Tracker] = [MetricsFile(run.record.folder, warn=terminal.warn, resumed=resumed)]
    observer = None

    def warn_of_loss(text: str) -> None:
        terminal.warn(text)
        # check-run reads it: events that are missing are no damage then.
        run.record.lose_events()

    if isinstance(components.config.logger, TensorBoardConfig):
        observer = FailSafeTracker(
            lambda: _make_tensorboard(run, resumed), name="TensorBoard", warn=warn_of_loss
        )
        trackers.append(observer)
    limits = components.state.limits
    done = components.state.progress
    monitor = components.state.monitor
    batches = components.data.train
    trackers.append(
        ConsoleTracker(
            terminal,
            num_epochs=limits.num_epochs(batches.num_batches, done),
            num_samples=limits.num_samples(batches, done),
            num_samples_done=done.samples,
            monitor=monitor.metric,
            best_step=lambda: monitor.best_step,
            find_cause=lambda: cause_not_finite(components.data, "val"),
        )
    )
    return Watchers(tracker=Trackers(*trackers), observer=observer)


def _make_tensorboard(run: Run, resumed: ResumePoint | None) -> ObservingTracker:
    # Imported here: with logger=none a run need not wait for it.
    from trainer.tracking.tensorboard.context import Context
    from trainer.tracking.tensorboard.tracker import TensorBoard

    components = run.components
    data = components.data
    kinds = components.config.logger
    assert isinstance(kinds, TensorBoardConfig), "the caller has checked"
    # Samples that the model is not trained on, where there are any, without augmentation.
    observed = data.train_unshuffled if data.val is None else data.val
    return TensorBoard(
        run.record.folder,
        kinds=kinds,
        context=Context(
            model=components.model,
            evaluated=components.evaluated,
            classes=data.classes,
            # A function: a pass over the data begins only when a record needs it.
            samples=lambda: observed.epoch(0),
            first=observed.first,
        ),
        config=to_plain(components.config),
        varied=run.varied,
        texts=_texts(run.folder, device=device_label(components.device)),
        warn=run.terminal.warn,
        resumed=resumed,
    )


def _texts(folder: Path, *, device: str) -> dict[str, str]:
    """The config, the command and the environment, as Markdown beside the curves."""
    record = read_json(folder / RECORD_FILE)
    versions = as_table(record.get("versions"))
    facts = {
        "device": device,
        "host": record.get("host"),
        "started": record.get("started"),
        "git commit": record.get("git_commit") or "none",
        **versions,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return {
        "config": _as_code((folder / "config.yaml").read_text(encoding="utf-8")),
        "command": _as_code(str(record.get("command", ""))),
        "environment": f"| | |\n|---|---|\n{table}",
    }


def _as_code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
