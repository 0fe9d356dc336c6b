"""`trainer fit`: build everything a config names, train, test the best checkpoint, report."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint.file import read_file
from trainer.checkpoint.header import VERSION, read_description
from trainer.checkpoint.load import state_of
from trainer.checkpoint.store import CheckpointStore
from trainer.commands.build import evaluate_split, user_code_errors, warning_not_finite
from trainer.commands.fit import summary
from trainer.commands.fit.compile import choose_variant
from trainer.commands.fit.components import Components, build_components
from trainer.commands.fit.lifecycle import Run, begin, ending, new_folder, record_end
from trainer.commands.fit.profile import profiling
from trainer.commands.fit.rehearsal import rehearse
from trainer.commands.fit.restored import restored_model
from trainer.commands.fit.saved_step import SavedStep
from trainer.commands.fit.trackers import Watchers, check_logger, watching
from trainer.config import FitConfig, is_custom, to_plain
from trainer.config.checks import Cadence
from trainer.config.logger import TensorBoardConfig
from trainer.data.load import Data
from trainer.engine.evaluate import Evaluation, EvaluationStopped
from trainer.engine.fit import fit
from trainer.engine.periodic import Cadences, Periodic
from trainer.engine.progress import CadenceTimer, Progress, StopReason
from trainer.errors import EnvironmentFault, Stopped, listing
from trainer.files import JsonObject
from trainer.run.folder import MODEL_FILE, step_of
from trainer.run.lock import locked
from trainer.run.record import RunStatus
from trainer.signals import Signals
from trainer.tracking.console import Terminal
from trainer.tracking.observer import Watch

_MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class FitResult:
    """Where a run is, its final metrics, and whether a search ended it early."""

    run: Path
    metrics: Mapping[str, float | None]


def run(
    config: FitConfig,
    *,
    command: Sequence[str],
    terminal: Terminal,
    saved: SavedStep | None = None,
    varied: Sequence[str] = (),
    check: Callable[[FitConfig, Data], None] = lambda *_: None,
    should_prune: Callable[[float], bool] | None = None,
) -> FitResult:
    """Train as `config` says; raises the errors of trainer.errors.

    `saved` is the step to continue from, the one of `config.resume`. `varied` are the keys that a
    sweep varies: TensorBoard lists them first among the hparams. `check` gets the data before
    anything is written, on a resume too, and raises what is wrong with it. `should_prune` gets the
    monitored metric after each evaluation, and returns whether a search gives the run up.
    """
    _check_installed(config)
    terminal.outlive_output("Training continues; metrics.jsonl is complete.")
    assert (config.resume is None) == (saved is None), "the step to resume is opened by the caller"
    if saved is not None:
        saved.compare(config)

    def check_all(config: FitConfig, data: Data) -> None:
        check(config, data)
        if saved is not None:
            saved.check(config, data, terminal)

    with contextlib.ExitStack() as locks:
        with contextlib.chdir(Path.cwd()):  # in a trial a person's code may go elsewhere
            components = build_components(
                config, terminal, check=check_all, should_prune=should_prune
            )
            _load_and_rehearse(components, saved, terminal)
            keep_variant = saved is not None and "trainer.compile" not in saved.changes
            choice = choose_variant(components, terminal, keep=keep_variant)
        # The folder comes last: a command that is refused until here leaves nothing on the disk.
        folder = _open_folder(config, saved, locks)
        record = begin(components, folder, command=command, saved=saved, choice=choice)
        terminal.report_loss(record.lose_output)
        interrupted = functools.partial(record_end, record, RunStatus.INTERRUPTED)
        with (
            # Outermost: a signal while the end is recorded must not take the record away.
            Signals(before_leaving=interrupted) as signals,
            ending(record, folder),
            contextlib.chdir(Path.cwd()),  # back to it, wherever a person's code went
            user_code_errors(config),  # innermost: `ending` records the name of the class
        ):
            return _train_and_test(
                Run(
                    components=components,
                    folder=folder,
                    record=record,
                    saved=saved,
                    terminal=terminal,
                    signals=signals,
                    command=command,
                    varied=varied,
                )
            )


def _load_and_rehearse(components: Components, saved: SavedStep | None, terminal: Terminal) -> None:
    if saved is not None:
        saved.load(components, terminal)
    check_logger(components)
    rehearse(components, description=_description(components))


def _open_folder(config: FitConfig, saved: SavedStep | None, locks: contextlib.ExitStack) -> Path:
    """The folder of the run, locked: in place, the caller holds the lock."""
    if saved is not None and saved.in_place:
        return saved.run
    folder = new_folder(config)
    locks.enter_context(locked(folder))
    return folder


def _check_installed(config: FitConfig) -> None:
    """Before anything is built: an installation without its dependencies may lack TensorBoard."""
    if not isinstance(config.logger, TensorBoardConfig):
        return
    # Only looked for: it is imported when the trackers are made.
    if importlib.util.find_spec("tensorboard") is None:
        raise EnvironmentFault(
            f"logger={config.logger.name} needs the package tensorboard, which is not installed.",
            hint="Install it (pip install tensorboard), or use logger=none: metrics.jsonl is "
            "written in any case.",
        )


def _train_and_test(run: Run) -> FitResult:
    """Train, then test the best checkpoint and report."""
    state = run.components.state
    store = _open_store(run)
    summary.start(run)
    with watching(run) as watchers:
        with store, profiling(run) as profile:
            reason = fit(
                state,
                run.components.data.train,
                periodic=_make_periodic(run, store, watchers, profile=profile),
                should_stop=run.signals.should_stop,
            )
        # The store has been left: all that was saved is on the disk now.
        record_best = None if store.best is None else store.best.name
        record_last = None if store.last is None else store.last.name
        run.record.checkpoints(best=record_best, last=record_last)
        if reason is StopReason.STOPPED:
            raise _stopped(run, store)
        metrics = _best_metrics(store)
        if reason is StopReason.PRUNED:
            run.record.end(RunStatus.PRUNED, metrics=metrics)
            at = state.progress
            run.terminal.line(
                f"Pruned at step {at.step} (epoch {at.epoch}): other trials were better there."
            )
            return FitResult(run.folder, metrics)
        try:
            metrics |= _test(run, store, watchers)
        except EvaluationStopped:
            raise _stopped(run, store) from None
        watchers.metrics = metrics
    # After the trackers have closed: what is missing in a run that says done is damage.
    run.record.end(RunStatus.DONE, metrics=metrics)
    summary.end(run, metrics, reason=reason)
    return FitResult(run.folder, metrics)


def _open_store(run: Run) -> CheckpointStore:
    """The checkpoints of the run; a resumed one keeps its own, and what they say."""
    components = run.components
    state = components.state
    store = CheckpointStore(
        run.folder,
        weights=components.evaluated,
        table=components.table,
        description=_description(components),
        keep=components.config.trainer.keep,
    )
    if run.saved is None:
        return store
    store.adopt(run.saved.folder, best_step=state.monitor.best_step)
    if store.best is None:
        # In a new folder that is no surprise: the best stayed with the run it branched off from.
        if state.monitor.best is not None and run.saved.in_place:
            run.terminal.warn(
                f"The best so far, of step {state.monitor.best_step}, is not there or damaged: a "
                "new one is found."
            )
        state.monitor.forget()
    # A run that was killed before its test saves its last step again: with what it had measured.
    state.loop_state.metrics = run.saved.description.metrics
    if run.saved.in_place and state.loop_state.pending is None:
        state.loop_state.saved_at = state.progress.step
    return store


def _description(components: Components) -> JsonObject:
    """The header of every checkpoint of the run, besides progress and metrics."""
    return {
        "version": VERSION,
        "config": to_plain(components.config) | {"resume": None},
        "input_shape": list(components.data.input_shape),
        "num_outputs": components.data.num_outputs,
        "checksums": components.data.checksums,
    }


def _make_periodic(
    run: Run,
    store: CheckpointStore,
    watchers: Watchers,
    *,
    profile: Callable[[int], None] | None,
) -> Periodic:
    components = run.components
    config = components.config

    def validate(watch: Watch | None) -> Evaluation:
        return components.evaluate("val", should_stop=run.signals.should_stop, watch=watch)

    log_every = config.logger.log_every
    if log_every is None:
        log_every = components.state.limits.log_every(components.data.train.num_batches)
    cadences = Cadences(
        log_every=log_every,
        eval_every=CadenceTimer(Cadence.parse("trainer.eval_every", config.trainer.eval_every)),
        save_every=CadenceTimer(Cadence.parse("trainer.save_every", config.trainer.save_every)),
    )
    return Periodic(
        components.state,
        validate=None if components.data.val is None else validate,
        tracker=watchers.tracker,
        observer=watchers.observer,
        profile=profile,
        store=store,
        should_save=run.signals.pop_save_request,
        cadences=cadences,
    )


def _test(run: Run, store: CheckpointStore, watchers: Watchers) -> dict[str, float | None]:
    """The metrics of the best checkpoint on the test set, if there is one.

    They are of the model as `eval` makes it from that checkpoint.
    """
    components = run.components
    if components.data.test is None and not is_custom(components.config.model):
        return {}
    if unfrozen := components.state.step.unfrozen():
        run.terminal.warn(
            f"Unfrozen during training, and not trained: {listing(unfrozen, most=_MAX_NAMED)}. "
            "The optimizer has what is not frozen when training begins."
        )
    best = _best_step(store)
    description = read_description(best / MODEL_FILE)
    # From the disk: of the best weights memory keeps no copy while later ones are trained.
    weights = state_of(read_file(best / MODEL_FILE), description)
    model = restored_model(components, weights, run.terminal, source=best)
    if components.data.test is None:
        return {}
    watch = None if watchers.observer is None else watchers.observer.watch("test")
    result = evaluate_split(
        components.config,
        model,
        components.data,
        "test",
        device=components.device,
        should_stop=run.signals.should_stop,
        watch=watch,
    )
    if (warning := warning_not_finite(components.data, "test", result)) is not None:
        run.terminal.warn(warning)
    at = Progress(**description.progress)
    seconds = components.state.progress.seconds
    watchers.tracker.record(result.as_record("test", at=at, seconds=seconds))
    return _measured(result.metrics("test"))


def _best_metrics(store: CheckpointStore) -> dict[str, float | None]:
    """The metrics of the best checkpoint in training and on the validation set."""
    return _measured(read_description(_best_step(store) / MODEL_FILE).metrics)


def _measured(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """The metrics without an accuracy of None, that of values; another None was not finite."""
    return {
        name: value
        for name, value in metrics.items()
        if value is not None or not name.endswith("accuracy")
    }


def _best_step(store: CheckpointStore) -> Path:
    best = store.best or store.last
    assert best is not None, "fit saves before it ends"
    return best


def _stopped(run: Run, store: CheckpointStore) -> Stopped:
    """The error that ends a run after a signal, with the command that resumes it."""
    assert run.signals.stopped_by is not None, "only a signal stops"
    text = f"Stopped at step {run.components.state.progress.step}"
    if store.last is None:
        return Stopped(
            f"{text}, before anything could be saved.", signal_number=run.signals.stopped_by
        )
    is_saved = step_of(store.last) == run.components.state.progress.step
    saved = "Saved" if is_saved else f"Saved is {store.last.name}"
    next_commands = summary.NextCommands(run.folder, run.components.config, given=run.command)
    return Stopped(
        f"{text}. {saved}.",
        signal_number=run.signals.stopped_by,
        hint=f"Continue with: {next_commands.resume()}",
    )
