"""The words of fit and eval for the terminal: the block of facts at the start, the closing
block, the tables.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from torch import nn

from trainer import __version__
from trainer.commands.fit.components import Parts
from trainer.config import FitConfig
from trainer.config.logger import TensorBoardConfig
from trainer.config.overrides import override
from trainer.data.load import Data
from trainer.device import device_label
from trainer.engine.evaluate import Evaluation
from trainer.engine.fit import Limits
from trainer.engine.progress import Progress
from trainer.metrics import class_reports
from trainer.models import count_parameters
from trainer.tracking.console import Terminal


def start(parts: Parts, folder: Path, *, terminal: Terminal, is_resumed: bool) -> None:
    """One compact block: data, model, how it is trained, on what, and where the results go."""
    config, data = parts.config, parts.data
    how = f"{config.loss.name}, {config.optimizer.name} (lr {config.optimizer.lr:g}), {config.scheduler.name}"
    rows = [
        ("data", f"{config.data.name}: {describe_data(data)}"),
        ("model", f"{config.model.name}: {count_parameters(parts.model):,} parameters"),
        ("training", f"{how}, batches of {config.data.batch_size}, seed {config.seed}"),
        ("device", f"{device_label(parts.device)}, {config.trainer.precision}"),
        ("run", str(folder)),
    ]
    terminal.facts(f"trainer {__version__}", rows)
    if is_resumed:
        at = parts.progress
        total = parts.limits.num_updates(data.train.num_batches)
        terminal.line(f"Resumed at step {at.step} of {total} (epoch {at.epoch}, batch {at.batch}).")
        if parts.limits.are_reached(at):
            terminal.line("Nothing is left to train, only to test.")


def describe_data(data: Data) -> str:
    """Sizes, shape and classes in a phrase."""
    splits = [("train", data.train_unshuffled), ("val", data.val), ("test", data.test)]
    sizes = ", ".join(
        f"{batches.num_samples:,} {name}" for name, batches in splits if batches is not None
    )
    shape = "x".join(map(str, data.input_shape))
    kind = (
        f"{len(data.classes)} classes"
        if data.classes
        else f"{data.num_outputs} value{'s' * (data.num_outputs > 1)}"
    )
    return f"{sizes}, {shape} -> {kind}"


def end(
    parts: Parts,
    folder: Path,
    *,
    metrics: Mapping[str, float | None],
    reason: str,
    next_commands: NextCommands,
    terminal: Terminal,
) -> None:
    """The closing block: the result, the run folder, and the exact commands to go on with."""
    monitor, config = parts.monitor, parts.config
    if reason == "patience":
        terminal.line(
            f"Stopped early: {monitor.metric} has not improved for {monitor.num_stale} evaluations."
        )
    rows = []
    if monitor.best is not None:
        rows.append(("best", f"{monitor.metric} {monitor.best:.6g} at step {monitor.best_step}"))
    if "test/loss" in metrics:
        rows.append(("test", describe_metrics(metrics, "test")))
    if learned := describe_line(parts.model):
        rows.append(("learned", learned))
    rows.append(("run", str(folder)))
    rows.append(("evaluate", next_commands.evaluate()))
    if isinstance(config.logger, TensorBoardConfig):
        rows.append(("tensorboard", f"trainer tb {shlex.quote(str(folder))}"))
    rows.append(("resume", next_commands.resume(longer(parts.limits, parts.progress))))
    terminal.facts("", rows)


def describe_metrics(metrics: Mapping[str, float | None], split: str) -> str:
    """`accuracy 91.60%, loss 0.2412` of a split."""
    accuracy, loss = metrics.get(f"{split}/accuracy"), metrics.get(f"{split}/loss")
    parts = [] if accuracy is None else [f"accuracy {100 * accuracy:.2f}%"]
    return ", ".join([*parts, f"loss {loss:.6g}"])


def describe_line(model: nn.Module) -> str:
    """`y = 2.0000 x + 1.0000` for a linear model of one input and one output; empty for any other."""
    values = {
        name: parameter for name, parameter in model.named_parameters() if parameter.numel() == 1
    }
    if (
        set(values) - {"fc.weight", "fc.bias"}
        or "fc.weight" not in values
        or len(values) != len(list(model.parameters()))
    ):
        return ""
    constant = f" {values['fc.bias'].item():+.4f}" if "fc.bias" in values else ""
    return f"y = {values['fc.weight'].item():.4f} x{constant}".replace(" +", " + ").replace(
        " -", " - "
    )


def longer(limits: Limits, done: Progress) -> str:
    """The override that lets a complete run train on: twice as far, by the limit that ended it."""
    if limits.max_steps is not None and done.step >= limits.max_steps:
        return f"trainer.max_steps={2 * max(limits.max_steps, done.step) or 100}"
    return f"trainer.epochs={2 * max(limits.epochs, done.epoch) or 1}"


class NextCommands:
    """The exact commands to go on with, ready to be copied into a shell.

    Words that name the person's own classes, or where their YAML is, are repeated: a checkpoint
    never names code.
    """

    def __init__(self, folder: Path, config: FitConfig, *, given: Sequence[str]) -> None:
        own = [group for group in ("model", "data") if getattr(config, group).name == "custom"]
        self._folder, self._words = folder, [word for word in given if _group(word) in own]
        for flag, value in itertools.pairwise(given):
            if flag in ("-cd", "--config-dir") and own:
                self._words += [flag, value]

    def evaluate(self) -> str:
        """The command that evaluates the best checkpoint."""
        return shlex.join(["trainer", "eval", override("ckpt", str(self._folder)), *self._words])

    def resume(self, *more: str) -> str:
        """The command that goes on with the run, with what must change when it was complete."""
        return shlex.join(
            ["trainer", "fit", override("resume", str(self._folder)), *self._words, *more]
        )


def _group(word: str) -> str:
    """`model` for `+model.kwargs.width=3`."""
    return word.lstrip("+").partition("=")[0].partition(".")[0]


def evaluation_table(result: Evaluation, classes: tuple[str, ...]) -> Table:
    """Precision, recall and F1 of every class."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in (
        ("class", "left"),
        ("precision", "right"),
        ("recall", "right"),
        ("f1", "right"),
        ("samples", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    assert result.confusion is not None
    for name, row in zip(classes, class_reports(result.confusion), strict=True):
        table.add_row(
            name, f"{row.precision:.4f}", f"{row.recall:.4f}", f"{row.f1:.4f}", str(row.support)
        )
    return table
