"""Two runs of one config compared: every bit of the last weights, the final metrics, and what is
known to differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint.header import read_description
from trainer.checkpoint.load import load_weights
from trainer.commands.reproduce.original import read_machine
from trainer.errors import printable
from trainer.run.find import find_checkpoint
from trainer.run.folder import MODEL_FILE, step_of
from trainer.run.index import entry_of
from trainer.tracking.console import Terminal
from trainer.tracking.table import write_table

_LENGTH_OF_COMMIT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came out of a run: its record, final metrics, and the weights of its last step folder
    `step`.
    """

    record: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    machine: Mapping[str, Any]
    step: str
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, run: Path) -> Outcome:
        """Of a run that has ended."""
        entry, step = entry_of(run), find_checkpoint(str(run), root=run, prefer="last")
        weights = load_weights(step, read_description(step / MODEL_FILE).aliases)
        return cls(
            record=entry.record,
            metrics=entry.metrics,
            machine=read_machine(step),
            step=step.name,
            weights=weights,
        )

    @property
    def num_steps(self) -> int:
        """The step of its last checkpoint."""
        return step_of(Path(self.step)) or 0


def report(then: Outcome, now: Outcome, *, own: Sequence[str], terminal: Terminal) -> int:
    """Say whether `now` is `then`, or by how much it differs and what else does; returns the exit
    code, 0 or 1.

    `own` are the keys that name a person's own classes, whose code is not compared.
    """
    weights = weights_differ(then.weights, now.weights)
    if not weights and then.step == now.step and dict(then.metrics) == dict(now.metrics):
        terminal.line(
            f"Bit-identical: all {len(then.weights)} tensors of step {then.num_steps} "
            f"and all {len(then.metrics)} metrics.",
            style="bold green",
        )
        return 0
    terminal.line("Not identical:", style="bold red")
    write_table(("METRIC", "THEN", "NOW", "DIFFERENCE"), _metric_rows(then, now), terminal=terminal)
    facts = [
        ("weights", weights or f"all {len(then.weights)} tensors of the last step are the same")
    ]
    changed = [
        (name, f"{before} -> {after}") for name, before, after in known_differences(then, now)
    ]
    terminal.facts("", [(printable(name), printable(value)) for name, value in (*facts, *changed)])
    if not changed:
        terminal.line(
            "Versions, commit, host, device and threads are the same: what is known does not "
            "explain it."
        )
    if "+changes" in f"{then.record.get('git_commit')}{now.record.get('git_commit')}":
        terminal.line("Files differed from the commit; which ones, and how, is not known.")
    if own:
        terminal.line(f"The code of your own classes ({', '.join(own)}) is not compared.")
    return 1


def weights_differ(then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> str:
    """How many tensors differ in a bit, and by how much at most, in a phrase; empty when none does."""
    names = list({**then, **now})
    changed = [
        name
        for name in names
        if name not in then or name not in now or _differ(then[name], now[name])
    ]
    if not changed:
        return ""
    told = [f"{len(changed)} of {len(names)} tensors differ"]
    shared = [
        name
        for name in changed
        if name in then and name in now and then[name].shape == now[name].shape
    ]
    if shared:
        distances = {name: _distance(then[name], now[name]) for name in shared}
        farthest = max(shared, key=lambda name: distances[name])
        told.append(f"by {distances[farthest]:.3g} at most ({farthest})")
    others = [name for name in changed if name not in shared]
    if others:
        told.append(
            "of another shape or on one side only: "
            f"{', '.join(others[:3])}{' …' if len(others) > 3 else ''}"
        )
    return ", ".join(told)


def known_differences(then: Outcome, now: Outcome) -> list[tuple[str, str, str]]:
    """What is known of both runs and not the same, each with its value then and now."""
    before, after = _known(then), _known(now)
    return [
        (name, before.get(name, "none"), after.get(name, "none"))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _known(outcome: Outcome) -> dict[str, str]:
    """Versions, commit, host, and on what it was trained."""
    record, machine = outcome.record, outcome.machine
    versions = record.get("versions")
    known = (
        {str(name): str(version) for name, version in versions.items()}
        if isinstance(versions, dict)
        else {}
    )
    commit, plus, changes = str(record.get("git_commit") or "none").partition("+")
    return known | {
        # With its build, such as +cpu, which decides which kernels there are.
        "torch": str(machine["torch"]),
        "commit": commit[:_LENGTH_OF_COMMIT] + plus + changes,
        "host": str(record.get("host") or "none"),
        "device": str(machine["device"]),
        "threads": str(machine["threads"]),
        "model run": str(machine["variant"]),
    }


def _metric_rows(then: Outcome, now: Outcome) -> list[list[str]]:
    rows = []
    if then.step != now.step:
        rows.append(
            [
                "steps",
                str(then.num_steps),
                str(now.num_steps),
                f"{now.num_steps - then.num_steps:+}",
            ]
        )
    for name in {**then.metrics, **now.metrics}:
        before, after = then.metrics.get(name), now.metrics.get(name)
        difference = "-"
        if before is not None and after is not None:
            difference = "0" if before == after else f"{after - before:+.3g}"
        rows.append([name, _number(before), _number(after), difference])
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.8g}"


def _differ(then: Tensor, now: Tensor) -> bool:
    """Whether two tensors differ in their form or in any bit: 0 and -0 do, a NaN and the same
    NaN do not.
    """
    if then.dtype != now.dtype or then.shape != now.shape:
        return True
    return not torch.equal(
        *(tensor.reshape(-1).contiguous().view(torch.uint8) for tensor in (then, now))
    )


def _distance(then: Tensor, now: Tensor) -> float:
    """The largest absolute difference of two tensors of one shape; infinite where one of them is
    not finite.
    """
    if not then.numel():
        return 0.0
    wide = torch.complex128 if then.is_complex() or now.is_complex() else torch.float64
    apart = (then.to(wide) - now.to(wide)).abs()
    return float(torch.where(then == now, 0.0, apart).nan_to_num(nan=torch.inf).max())
