"""`trainer fit`: build everything a config names, train, test the best checkpoint, report."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint.header import VERSION, read_description
from trainer.checkpoint.load import load_into, load_weights
from trainer.checkpoint.store import CheckpointStore
from trainer.commands.build import user_code_errors
from trainer.commands.fit import summary as report
from trainer.commands.fit.compile import choose_variant
from trainer.commands.fit.components import Parts, build_parts
from trainer.commands.fit.lifecycle import begin, ending, new_folder, record_end
from trainer.commands.fit.profile import profiling
from trainer.commands.fit.resume import SavedStep
from trainer.commands.fit.trackers import Watchers, check_logger, watching
from trainer.config import FitConfig, to_plain
from trainer.config.checks import Cadence
from trainer.config.logger import TensorBoardConfig
from trainer.data.load import Data
from trainer.engine.evaluate import Evaluation, EvaluationStopped
from trainer.engine.fit import fit
from trainer.engine.periodic import Periodic
from trainer.engine.progress import Due, Progress
from trainer.errors import EnvironmentFault, Stopped
from trainer.run.folder import MODEL_FILE, step_of
from trainer.run.lock import locked
from trainer.run.record import RunRecord, RunStatus
from trainer.signals import Signals
from trainer.tracking.console import Terminal
from trainer.tracking.observer import Watch


@dataclass(frozen=True, slots=True)
class FitResult:
    """Where a run is, its final metrics, and whether a search ended it early."""

    run: Path
    metrics: dict[str, float | None]
    is_pruned: bool


def run(
    config: FitConfig,
    *,
    command: Sequence[str],
    terminal: Terminal,
    saved: SavedStep | None = None,
    varied: Sequence[str] = (),
    check: Callable[[FitConfig, Data], None] = lambda *_: None,
    judge: Callable[[float], bool] = lambda value: False,
) -> FitResult:
    """Train as `config` says; raises the errors of trainer.errors.

    `saved` is the step to continue from, the one of `config.resume`. `varied` are the keys that a
    sweep varies: TensorBoard shows them first among the hparams. `check` gets the data before
    anything is written, also on a resume, and raises what is wrong with it. `judge`
    is shown the monitored metric after each evaluation, and says whether the run is worth no more
    time: a search prunes it.
    """
    _check_installed(config)
    assert (config.resume is None) == (saved is None), "the step to resume is opened by the caller"
    if saved is not None:
        saved.compare(config)

    def check_all(config: FitConfig, data: Data) -> None:
        check(config, data)
        if saved is not None:
            saved.check_model(config, data)

    with contextlib.ExitStack() as held:
        origin = saved
        parts = build_parts(config, terminal, check=check_all, judge=judge)
        if origin is not None:
            origin.load(parts, terminal)
        check_logger(parts)
        keeps = origin is not None and "trainer.compile" not in origin.changes
        choice = choose_variant(parts, terminal, keeps=keeps)
        if origin is not None and origin.in_place:
            folder = origin.run
        else:
            folder = new_folder(config)
            held.enter_context(locked(folder))
        record = begin(parts, folder, command=command, origin=origin, choice=choice)
        commands = report.NextCommands(folder, config, given=command)
        before_leaving = functools.partial(record_end, record, RunStatus.INTERRUPTED, None)
        with (
            Signals(before_leaving=before_leaving) as signals,
            ending(record, folder),
            user_code_errors(config),
        ):
            return _train_and_test(
                parts,
                folder,
                record=record,
                signals=signals,
                terminal=terminal,
                origin=origin,
                next_commands=commands,
                varied=varied,
            )


def _check_installed(config: FitConfig) -> None:
    """Before anything is built: an installation without its dependencies may lack TensorBoard."""
    if (
        isinstance(config.logger, TensorBoardConfig)
        and importlib.util.find_spec("tensorboard") is None
    ):
        raise EnvironmentFault(
            f"logger={config.logger.name} needs the package tensorboard, which is not installed.",
            hint="Install it (pip install tensorboard), or use logger=none: metrics.jsonl is "
            "written in any case.",
        )


def _train_and_test(
    parts: Parts,
    folder: Path,
    *,
    record: RunRecord,
    signals: Signals,
    terminal: Terminal,
    origin: SavedStep | None,
    next_commands: report.NextCommands,
    varied: Sequence[str],
) -> FitResult:
    """Train in `folder`, then test the best checkpoint and report."""
    config, monitor = parts.config, parts.monitor
    store = CheckpointStore(
        folder,
        weights=parts.evaluated,
        table=parts.table,
        description=_description(parts),
        keep=config.trainer.keep,
    )
    if origin is not None:
        store.adopt(origin.folder, best_step=monitor.best_step)
        if store.best is None:
            if monitor.best is not None and origin.in_place:
                terminal.warn(
                    f"The best so far, of step {monitor.best_step}, is not there or damaged: a new "
                    "one is found."
                )
            monitor.forget()
    report.start(parts, folder, terminal=terminal, is_resumed=origin is not None)
    resumed = None if origin is None else origin.point(parts)
    with watching(
        parts, folder, terminal, record=record, resumed=resumed, varied=varied
    ) as watchers:
        with store, profiling(parts, folder, terminal) as profile:
            reason = _train(parts, store, watchers, signals, profile=profile, origin=origin)
        record.checkpoints(best=_name(store.best), last=_name(store.last))
        if reason == "stopped":
            raise _stopped(parts, store, signals, next_commands)
        if reason == "pruned":
            return _pruned(parts, folder, store, record=record, terminal=terminal)
        try:
            metrics = _test(parts, store, watchers, signals)
        except EvaluationStopped:
            raise _stopped(parts, store, signals, next_commands) from None
        watchers.metrics = metrics
    record.end(RunStatus.DONE, metrics=metrics)
    report.end(
        parts,
        folder,
        metrics=metrics,
        reason=reason,
        next_commands=next_commands,
        terminal=terminal,
    )
    return FitResult(folder, metrics, is_pruned=False)


def _pruned(
    parts: Parts, folder: Path, store: CheckpointStore, *, record: RunRecord, terminal: Terminal
) -> FitResult:
    """The end of a run that a search gave up: it is saved, and the test is spared."""
    metrics = _best_metrics(store)
    record.end(RunStatus.PRUNED, metrics=metrics)
    at = parts.progress
    terminal.line(f"Pruned at step {at.step} (epoch {at.epoch}): other trials were better there.")
    return FitResult(folder, metrics, is_pruned=True)


def _stopped(
    parts: Parts, store: CheckpointStore, signals: Signals, next_commands: report.NextCommands
) -> Stopped:
    assert signals.stopped_by is not None, "only a signal stops"
    step = parts.progress.step
    if store.last is None:
        return Stopped(
            f"Stopped at step {step}, before anything could be saved.",
            signal_number=signals.stopped_by,
        )
    is_saved = step_of(store.last) == step
    return Stopped(
        f"Stopped at step {step}. Saved."
        if is_saved
        else f"Stopped at step {step}. Saved is {store.last.name}.",
        signal_number=signals.stopped_by,
        hint=f"Continue with: {next_commands.resume()}",
    )


def _train(
    parts: Parts,
    store: CheckpointStore,
    watchers: Watchers,
    signals: Signals,
    *,
    profile: Callable[[int], None] | None,
    origin: SavedStep | None,
) -> str:
    config = parts.config

    def validate(watch: Watch | None) -> Evaluation:
        return parts.evaluate("val", should_stop=signals.should_stop, watch=watch)

    journal = Periodic(
        step=parts.step,
        validate=None if parts.data.val is None else validate,
        schedule=parts.schedule,
        tracker=watchers.tracker,
        observer=watchers.observer,
        profile=profile,
        store=store,
        progress=parts.progress,
        monitor=parts.monitor,
        standing=parts.standing,
        should_save=signals.take_save,
        log_every=config.logger.log_every,
        eval_every=Due(Cadence.parse("trainer.eval_every", config.trainer.eval_every)),
        save_every=Due(Cadence.parse("trainer.save_every", config.trainer.save_every)),
        counts_correct=parts.data.classes is not None,
        metrics={} if origin is None else origin.description.metrics,
        is_saved=origin is not None and origin.in_place,
    )
    return fit(
        step=parts.step,
        batches=parts.data.train,
        schedule=parts.schedule,
        journal=journal,
        monitor=parts.monitor,
        progress=parts.progress,
        limits=parts.limits,
        should_stop=signals.should_stop,
    )


def _test(
    parts: Parts, store: CheckpointStore, watchers: Watchers, signals: Signals
) -> dict[str, float | None]:
    """The final metrics: what the best checkpoint had on the validation set, and what it has on
    the test set now.
    """
    metrics = _best_metrics(store)
    if parts.data.test is None:
        return metrics
    best = _best_step(store)
    description = read_description(best / MODEL_FILE)
    load_into(parts.evaluated, load_weights(best, description.aliases), source=best)
    watch = None if watchers.observer is None else watchers.observer.watch("test")
    result = parts.evaluate("test", should_stop=signals.should_stop, watch=watch)
    at = Progress(**description.progress)
    watchers.tracker.record(result.as_record("test", at=at, seconds=parts.progress.seconds))
    return (
        metrics
        | {"test/loss": result.loss}
        | ({} if result.accuracy is None else {"test/accuracy": result.accuracy})
    )


def _best_metrics(store: CheckpointStore) -> dict[str, float | None]:
    """What the best checkpoint had in training and on the validation set."""
    found = read_description(_best_step(store) / MODEL_FILE).metrics
    return {
        name: value for name, value in found.items() if value is not None or name.endswith("loss")
    }


def _best_step(store: CheckpointStore) -> Path:
    best = store.best or store.last
    assert best is not None, "fit saves before it ends"
    return best


def _description(parts: Parts) -> dict[str, Any]:
    """What every checkpoint of this run says of itself, besides progress and metrics."""
    return {
        "version": VERSION,
        "config": to_plain(parts.config) | {"resume": None},
        "input_shape": list(parts.data.input_shape),
        "num_outputs": parts.data.num_outputs,
        "checksums": parts.data.checksums,
    }


def _name(folder: Path | None) -> str | None:
    return None if folder is None else folder.name
