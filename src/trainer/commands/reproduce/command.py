"""`trainer reproduce`: train a run again from the config in its checkpoint, and compare both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.commands.reproduce.original import Original, with_original_machine
from trainer.config import FitConfig, custom_groups, is_custom
from trainer.config.checks import Cadence
from trainer.errors import DataError
from trainer.tracking.console import Terminal

if TYPE_CHECKING:
    from trainer.data.load import Data


def run(
    config: FitConfig, original: Original, *, command: Sequence[str], terminal: Terminal
) -> int:
    """Train by `config`, that of `original`, and compare both runs.

    Returns 0 when they are equal bit for bit, else 1. Raises DataError when the data is another,
    and what fit raises.
    """
    # Imported here, because they load torch: a run that cannot be reproduced is refused before.
    from trainer.checkpoint.load import load_weights
    from trainer.commands.build import check_checkpoint_fits
    from trainer.commands.fit import run as fit
    from trainer.commands.reproduce.compare import RunOutcome, report

    description = original.description
    # Read before training: damage is reported at once, and the run may be removed meanwhile.
    weights = load_weights(original.step, description.aliases)

    # fit calls it before it makes the model and the run folder: a refusal leaves no trace.
    def check_data(config: FitConfig, data: Data) -> None:
        _check_data(data, original)
        shape, num_outputs = data.input_shape, data.num_outputs
        check_checkpoint_fits(
            config, weights, input_shape=shape, num_outputs=num_outputs, source=original.step
        )
        terminal.line(f"Reproducing {original.entry.id}: {original.entry.path}")

    if Cadence.parse("trainer.eval_every", config.trainer.eval_every).unit == "min":
        terminal.warn(
            f"trainer.eval_every={config.trainer.eval_every} goes by the clock: which step is the "
            "best, and what follows from it, may differ."
        )
    result = fit.run(
        with_original_machine(config, original.machine),
        command=command,
        terminal=terminal,
        check=check_data,
    )
    then = RunOutcome(
        record=original.entry.record,
        metrics=original.entry.metrics,
        machine=original.machine,
        step=original.step.name,
        weights=weights,
    )
    own = [f"{group}.target" for group in custom_groups(config)]
    return report(then, RunOutcome.of(result.run), own=own, terminal=terminal)


def _check_data(data: Data, original: Original) -> None:
    """Raise DataError when a file is not as it was, or the data has another shape."""
    from trainer.data.fingerprint import differences

    # By checksum, not by path: the files may have been moved. Data from a formula has none; of that
    # only the shape can be compared.
    then = original.description.checksums
    now = data.checksums
    if is_custom(original.config.data):
        if changed := differences(then, now, reread=data.reread):
            raise DataError(
                f"The data is not what the run was trained on: {', '.join(changed)}.",
                hint="Nothing was trained. Restore the data as it was.",
            )
        then = now  # a run of before kept nothing of it
    for name in {**then, **now}:
        if then.get(name) != now.get(name):
            raise DataError(
                f"{name} is not what the run was trained on: SHA-256 {_digits(then, name)} then, "
                f"{_digits(now, name)} now.",
                hint="Nothing was trained. Name the folder of the original files: data.root=…",
            )
    description = original.description
    before = _form(description.input_shape, description.num_outputs)
    after = _form(data.input_shape, data.num_outputs)
    if before != after:
        raise DataError(
            f"The data is another: {before} then, {after} now.", hint="Nothing was trained."
        )


def _form(shape: Sequence[int], num_outputs: int) -> str:
    return f"samples {'x'.join(map(str, shape))} and {num_outputs} outputs"


def _digits(checksums: Mapping[str, str], name: str) -> str:
    return f"{checksums[name][:12]}…" if name in checksums else "none"
