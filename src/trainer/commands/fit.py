"""`trainer fit`: build everything a config names, train, test the best checkpoint, report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer import rundir
from trainer.checkpoint.header import VERSION, read_description
from trainer.checkpoint.store import CheckpointStore, load_into, load_weights, restore
from trainer.commands import report
from trainer.commands.build import own_faults
from trainer.commands.parts import Parts, build_parts
from trainer.commands.stopping import StopRequest
from trainer.config import FitConfig, to_plain
from trainer.config.checks import Cadence
from trainer.engine.fit import fit
from trainer.engine.journal import Journal
from trainer.engine.progress import Due, Progress
from trainer.errors import EnvironmentFault, Stopped, TrainerError, TrainingError, UsageError
from trainer.runrecord import RunRecord
from trainer.tracking import Tracker, Trackers
from trainer.tracking.console import ConsoleTracker, Terminal
from trainer.tracking.metrics_file import MetricsFile
from trainer.tracking.records import EvalRecord


@dataclass(frozen=True, slots=True)
class FitResult:
    """Where a run is, its final metrics, and the best value of the monitored one: what a sweep compares."""

    run: Path
    metrics: dict[str, float | None]
    monitor: str
    best: float | None
    maximize: bool


def run(
    config: FitConfig, *, command: Sequence[str], terminal: Terminal, sweep: Path | None = None, job: int = 0
) -> FitResult:
    """Train as `config` says, in the folder of a `sweep` as its job `job`; raises the errors of trainer.errors."""
    resumed = None
    if config.resume is not None:
        resumed = rundir.find_checkpoint(config.resume, root=Path(config.run.root), prefer="last")
    parts = build_parts(config, terminal)
    if resumed is not None:
        _check_newest(resumed, config)
        _load_weights(resumed, parts)
        restore(resumed, parts.table)
    folder = _run_folder(config, resumed, sweep=sweep, job=job)
    try:
        with (folder / "config.yaml").open("w", encoding="utf-8") as file:
            yaml.safe_dump(to_plain(config), file, sort_keys=False, allow_unicode=True)
        record = RunRecord(folder, command=command, seed=config.seed, checksums=parts.data.checksums)
    except OSError as error:
        raise EnvironmentFault(f"Could not write to the run folder {folder}: {error.strerror or error}.") from error
    next_commands = report.NextCommands(folder, config, given=command)
    with _ending(record, folder), own_faults(config):
        return _train_and_test(
            parts, folder, record=record, terminal=terminal, resumed=resumed, next_commands=next_commands
        )


def _check_newest(resumed: Path, config: FitConfig) -> None:
    """Refuse to go on in place from anything but the newest step: the steps after it would be of another past."""
    newest = rundir.step_folders(resumed.parent.parent)[-1:]
    if config.run.dir is None and newest and newest[0].resolve() != resumed.resolve():
        raise UsageError(
            f"{resumed} is not the newest step of its run, which is {newest[0].name}.",
            hint="To branch off from it, name a new folder: add run.dir=…",
        )


def _load_weights(resumed: Path, parts: Parts) -> None:
    """The weights to go on from; refuses a run that is complete before anything is touched."""
    description = read_description(resumed / rundir.MODEL_FILE)
    done = Progress(**description.progress)
    if parts.limits.are_reached(done):
        raise UsageError(
            f"{resumed} is complete: epoch {done.epoch} of {parts.limits.epochs}, step {done.step}.",
            hint=f"To train longer, add {report.longer(parts.limits, done)}",
        )
    load_into(parts.evaluated, load_weights(resumed, description.aliases), source=resumed)


def _run_folder(config: FitConfig, resumed: Path | None, *, sweep: Path | None, job: int) -> Path:
    name = config.run.name or f"{config.data.name}-{config.model.name}"
    if sweep is not None:
        return rundir.create_numbered(sweep, f"{job:03d}-{name}")
    if config.run.dir is not None:
        return rundir.create_exactly(Path(config.run.dir))
    if resumed is not None:
        return resumed.parent.parent
    return rundir.create(Path(config.run.root), name)


@contextlib.contextmanager
def _ending(record: RunRecord, folder: Path) -> Iterator[None]:
    """Whatever ends the run early is written to its run.json."""
    try:
        yield
    except TrainingError as error:
        steps = rundir.step_folders(folder)
        error.where = f"Last good checkpoint: {steps[-1]}." if steps else "No checkpoint had been saved yet."
        _record_end(record, "failed", error.what)
        raise
    except (Stopped, KeyboardInterrupt, SystemExit, BrokenPipeError):
        _record_end(record, "interrupted", None)
        raise
    except TrainerError as error:
        _record_end(record, "failed", error.what)
        raise
    except Exception as error:
        _record_end(record, "failed", f"{type(error).__name__}: {error}")
        raise


def _record_end(record: RunRecord, status: str, error: str | None) -> None:
    # The disk may be what ended the run: its own error is the one to tell.
    with contextlib.suppress(OSError):
        record.end(status, error=error)


def _train_and_test(
    parts: Parts,
    folder: Path,
    *,
    record: RunRecord,
    terminal: Terminal,
    resumed: Path | None,
    next_commands: report.NextCommands,
) -> FitResult:
    """Train in `folder`, then test the best checkpoint and report."""
    config, monitor = parts.config, parts.monitor
    store = CheckpointStore(
        folder, weights=parts.evaluated, table=parts.table, description=_description(parts), keep=config.trainer.keep
    )
    resumed_step = None
    if resumed is not None:
        store.adopt(best_step=monitor.best_step)
        if store.best is None:
            monitor.forget()
        resumed_step = parts.progress.step if folder == resumed.parent.parent else None
    report.start(parts, folder, terminal=terminal, is_resumed=resumed is not None)
    with contextlib.closing(_make_tracker(parts, folder, terminal=terminal, resumed_step=resumed_step)) as tracker:
        with StopRequest() as stop:
            reason = _train(parts, store, tracker, stop)
        record.checkpoints(best=_name(store.best), last=_name(store.last))
        if stop.signal_number is not None and reason == "stopped":
            raise Stopped(
                f"Stopped at step {parts.progress.step}. Saved.",
                signal_number=stop.signal_number,
                hint=f"Continue with: {next_commands.resume()}",
            )
        metrics = _test(parts, store, tracker)
        tracker.finish(metrics)
    record.end("done", metrics=metrics)
    report.end(parts, folder, metrics=metrics, reason=reason, next_commands=next_commands, terminal=terminal)
    return FitResult(folder, metrics, monitor.metric, monitor.best, monitor.maximize)


def _train(parts: Parts, store: CheckpointStore, tracker: Tracker, stop: StopRequest) -> str:
    config = parts.config
    journal = Journal(
        step=parts.step,
        validate=parts.validate if parts.data.val is not None else None,
        schedule=parts.schedule,
        tracker=tracker,
        store=store,
        progress=parts.progress,
        monitor=parts.monitor,
        window=parts.window,
        epoch=parts.epoch,
        log_every=config.logger.log_every,
        eval_every=Due(Cadence.parse("trainer.eval_every", config.trainer.eval_every)),
        save_every=Due(Cadence.parse("trainer.save_every", config.trainer.save_every)),
        counts_correct=parts.data.classes is not None,
    )
    return fit(
        step=parts.step,
        batches=parts.data.train,
        schedule=parts.schedule,
        journal=journal,
        monitor=parts.monitor,
        progress=parts.progress,
        limits=parts.limits,
        should_stop=stop.is_made,
    )


def _test(parts: Parts, store: CheckpointStore, tracker: Tracker) -> dict[str, float | None]:
    """The final metrics: what the best checkpoint had on the validation set, and what it has on the test set now."""
    best = store.best or store.last
    assert best is not None, "fit saves before it ends"
    description = read_description(best / rundir.MODEL_FILE)
    metrics = {name: value for name, value in description.metrics.items() if value is not None or name.endswith("loss")}
    if parts.data.test is None:
        return metrics
    load_into(parts.evaluated, load_weights(best, description.aliases), source=best)
    result, at = parts.test(), Progress(**description.progress)
    tracker.evaluation(
        EvalRecord(
            split="test",
            epoch=at.epoch,
            step=at.step,
            samples=at.samples,
            seconds=parts.progress.seconds,
            loss=result.loss,
            accuracy=result.accuracy,
            count=result.count,
        )
    )
    return (
        metrics | {"test/loss": result.loss} | ({} if result.accuracy is None else {"test/accuracy": result.accuracy})
    )


def _make_tracker(parts: Parts, folder: Path, *, terminal: Terminal, resumed_step: int | None) -> Tracker:
    config, progress = parts.config, parts.progress
    trackers: list[Tracker] = [MetricsFile(folder, resumed_step=resumed_step)]
    if config.logger.name == "tensorboard":
        # Imported here: with logger=none a run need not wait for it.
        from trainer.tracking.tensorboard import TensorBoard

        trackers.append(
            TensorBoard(
                folder,
                scalars=config.logger.scalars,
                hparams=config.logger.hparams,
                config=to_plain(config),
                resumed_step=resumed_step,
            )
        )
    trackers.append(
        ConsoleTracker(
            terminal,
            num_epochs=parts.limits.num_epochs(parts.data.train.num_batches),
            num_samples=parts.limits.num_samples(parts.data.train),
            num_samples_done=progress.samples,
        )
    )
    return Trackers(trackers)


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
