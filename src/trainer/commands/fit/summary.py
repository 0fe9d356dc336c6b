"""The words of fit and eval for the terminal: the facts at the start, the end, the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from trainer import __version__
from trainer.config import FitConfig, to_plain
from trainer.config.logger import TensorBoardConfig
from trainer.config.overrides import eval_words, override, own_words
from trainer.data.load import Data
from trainer.device import device_label
from trainer.engine.evaluate import Evaluation
from trainer.engine.progress import Limits, Monitor, Progress, StopReason
from trainer.errors import command_line
from trainer.metrics import class_reports
from trainer.models import count_parameters
from trainer.tracking.console import Terminal
from trainer.tracking.records import OF_VALUES
from trainer.tracking.table import Narrow, write_table

if TYPE_CHECKING:
    from trainer.commands.fit.lifecycle import Run


def start(run: Run) -> None:
    """Print one compact block: data, model, how it is trained, on what, where results go."""
    components = run.components
    config = components.config
    optimizer = f"{config.optimizer.name} (lr {config.optimizer.lr:g})"
    training = f"{config.loss.name}, {optimizer}, {config.scheduler.name}"
    rows = [
        ("data", f"{config.data.name}: {describe_data(components.data)}"),
        ("model", f"{config.model.name}: {count_parameters(components.model):,} parameters"),
        ("training", f"{training}, batches of {config.data.batch_size}, seed {config.seed}"),
        ("device", f"{device_label(components.device)}, {config.trainer.precision}"),
        ("run", str(run.folder)),
    ]
    run.terminal.facts(f"trainer {__version__}", rows)
    if run.saved is not None:
        at = components.state.progress
        run.terminal.line(
            f"Resumed at step {at.step} of {components.num_updates} (epoch {at.epoch}, batch "
            f"{at.batch})."
        )
        if longer(components.state.limits, at, components.state.monitor):
            run.terminal.line("Nothing is left to train, only to test.")


def describe_data(data: Data) -> str:
    """Sizes, shape and classes in a phrase."""
    splits = [("train", data.train_unshuffled), ("val", data.val), ("test", data.test)]
    sizes = ", ".join(
        f"{batches.num_samples:,} {name}" for name, batches in splits if batches is not None
    )
    shape = "x".join(map(str, data.input_shape))
    values = "value" if data.num_outputs == 1 else "values"
    outputs = f"{len(data.classes)} classes" if data.classes else f"{data.num_outputs} {values}"
    return f"{sizes}, {shape} -> {outputs}"


def end(run: Run, metrics: Mapping[str, float | None], *, reason: StopReason) -> None:
    """Print the closing block: the result, the run folder, and the exact next commands."""
    components = run.components
    monitor = components.state.monitor
    next_commands = NextCommands(run.folder, components.config, given=run.command)
    if reason is StopReason.PATIENCE:
        run.terminal.line(
            f"Stopped early: {monitor.metric} has not improved for {monitor.num_stale} evaluations."
        )
    rows = []
    if monitor.best is not None:
        rows.append(("best", f"{monitor.metric} {monitor.best:.6g} at step {monitor.best_step}"))
    if "test/loss" in metrics:
        rows.append(("test", describe_metrics(metrics, "test")))
    # For a line through points the weights are the result.
    if learned := describe_line(components.model):
        rows.append(("learned", learned))
    rows.append(("run", str(run.folder)))
    rows.append(("evaluate", next_commands.evaluate()))
    if isinstance(components.config.logger, TensorBoardConfig):
        rows.append(("tensorboard", command_line("tb", str(run.folder))))
    # The run is complete, so a resume without a later end would be refused.
    train_longer = longer(components.state.limits, components.state.progress, monitor)
    rows.append(("resume", next_commands.resume(*train_longer)))
    run.terminal.facts("", rows)


def describe_metrics(metrics: Mapping[str, float | None], split: str) -> str:
    """`accuracy 91.60%, loss 0.2412` or `loss 0.2412, mse 0.4824, mae 0.5513` of a split."""
    accuracy = metrics.get(f"{split}/accuracy")
    parts = [] if accuracy is None else [f"accuracy {100 * accuracy:.2f}%"]
    errors = {name: metrics.get(f"{split}/{name}") for name in ("loss", *OF_VALUES)}
    parts += [f"{name} {value:.6g}" for name, value in errors.items() if value is not None]
    return ", ".join(parts)


def describe_line(model: nn.Module) -> str:
    """`y = 2.0000 x + 1.0000` for a linear model of one input and one output; else empty."""
    # By the parameters, not the config: the weights may have come from any run.
    parameters = dict(model.named_parameters())
    if any(parameter.numel() != 1 for parameter in parameters.values()):
        return ""
    if set(parameters) not in ({"fc.weight"}, {"fc.weight", "fc.bias"}):
        return ""
    line = f"y = {parameters['fc.weight'].item():.4f} x"
    if "fc.bias" in parameters:
        bias = parameters["fc.bias"].item()
        line += f" {'-' if bias < 0 else '+'} {abs(bias):.4f}"
    return line


def longer(limits: Limits, done: Progress, monitor: Monitor | None = None) -> list[str]:
    """The overrides that train a complete run further: of each limit that ended it, twice as much.

    Without `monitor` its patience is not looked at.
    """
    words = []
    if monitor is not None and monitor.stop_reason is StopReason.PATIENCE:
        words.append(f"trainer.patience={2 * monitor.num_stale}")
    # From where it ended, which an earlier, longer run may have put elsewhere. A run of 0 steps has
    # no double.
    if done.epoch >= limits.epochs:
        words.append(f"trainer.epochs={2 * max(limits.epochs, done.epoch) or 1}")
    if limits.max_steps is not None and done.step >= limits.max_steps:
        words.append(f"trainer.max_steps={2 * max(limits.max_steps, done.step) or 100}")
    return words


class NextCommands:
    """The exact next commands for a run, ready to be copied into a shell.

    Words that name the person's own classes, or where their YAML is, are repeated: a checkpoint
    never names code.
    """

    def __init__(self, folder: Path, config: FitConfig, *, given: Sequence[str]) -> None:
        plain = to_plain(config)
        self._folder = folder
        self._words = own_words(plain, given=given)
        self._eval_words = eval_words(plain, given=given)

    def evaluate(self) -> str:
        """The command that evaluates the best checkpoint, on the test set if there is one."""
        return command_line("eval", override("ckpt", str(self._folder)), *self._eval_words)

    def resume(self, *more: str) -> str:
        """The command that resumes the run; `more` is what must change for a complete one."""
        return command_line("fit", override("resume", str(self._folder)), *self._words, *more)


def print_classes(result: Evaluation, classes: tuple[str, ...], *, terminal: Terminal) -> None:
    """Print a table with precision, recall and F1 of every class."""
    assert result.by_class is not None
    rows = []
    for name, row in zip(classes, class_reports(result.by_class), strict=True):
        scores = (f"{score:.4f}" for score in (row.precision, row.recall, row.f1))
        rows.append([name, *scores, str(row.support)])
    numbers = ("precision", "recall", "f1", "samples")
    write_table(
        ("class", *numbers),
        rows,
        terminal=terminal,
        right=numbers,
        narrow=Narrow(cut=("class",), leave_out=("samples", "f1", "precision")),
        styles={},
        is_ruled=True,
    )
