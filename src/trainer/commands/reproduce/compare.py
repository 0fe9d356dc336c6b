"""Two runs of one config compared: the last weights bit by bit, the metrics, the machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.checkpoint.header import read_description
from trainer.checkpoint.load import load_weights
from trainer.commands.reproduce.original import read_machine
from trainer.errors import printable
from trainer.files import as_table
from trainer.run.find import find_checkpoint
from trainer.run.folder import MODEL_FILE, step_of
from trainer.run.index import entry_of
from trainer.run.record import COMMIT_LENGTH
from trainer.tracking.console import Terminal
from trainer.tracking.records import OF_VALUES
from trainer.tracking.table import write_table

_MAX_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What a run gave: its record, metrics, and the weights of its last step folder `step`."""

    record: Mapping[str, object]
    metrics: Mapping[str, float | None]
    machine: Mapping[str, object]
    step: str
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, run: Path) -> RunOutcome:
        """The outcome of a run that has ended."""
        # Read from its folder, as the original was: what counts is what a later command finds.
        entry = entry_of(run)
        step = find_checkpoint(str(run), root=run, prefer="last")
        return cls(
            record=entry.record,
            metrics=entry.metrics,
            machine=read_machine(step),
            step=step.name,
            weights=load_weights(step, read_description(step / MODEL_FILE).aliases),
        )

    @property
    def num_steps(self) -> int:
        """The step of its last checkpoint."""
        return step_of(Path(self.step)) or 0


def report(then: RunOutcome, now: RunOutcome, *, own: Sequence[str], terminal: Terminal) -> int:
    """Print whether `now` is `then`, or how they differ; returns the exit code, 0 or 1.

    `own` are the keys that name a person's own classes, whose code is not compared.
    """
    difference = weights_difference(then.weights, now.weights)
    # The metrics are equal as numbers: one that is not finite is null in run.json.
    if not difference and then.step == now.step and dict(then.metrics) == _known_then(then, now):
        terminal.line(
            f"Bit-identical: all {len(then.weights)} tensors of step {then.num_steps} "
            f"and all {len(then.metrics)} metrics.",
            style="bold green",
        )
        return 0
    terminal.line("Not identical:", style="bold red")
    write_table(("METRIC", "THEN", "NOW", "DIFFERENCE"), _metric_rows(then, now), terminal=terminal)
    same_weights = f"all {len(then.weights)} tensors of the last step are the same"
    known = known_differences(then, now)
    changes = [(printable(name), printable(f"{old} -> {new}")) for name, old, new in known]
    terminal.facts("", [("weights", printable(difference or same_weights)), *changes])
    # The kind of processor, for one, is not recorded, and decides which kernels run.
    if not known:
        terminal.line(
            "Versions, commit, host, device and threads are the same: what is known does not "
            "explain it."
        )
    if "+changes" in f"{then.record.get('git_commit')}{now.record.get('git_commit')}":
        terminal.line("Files differed from the commit; which ones, and how, is not known.")
    if own:
        terminal.line(f"The code of your own classes ({', '.join(own)}) is not compared.")
    return 1


def _known_then(then: RunOutcome, now: RunOutcome) -> dict[str, float | None]:
    """The metrics of `now`, without those that an older version of trainer did not measure."""
    return {
        name: value
        for name, value in now.metrics.items()
        if name in then.metrics or name.rpartition("/")[2] not in OF_VALUES
    }


def weights_difference(then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> str:
    """How many tensors differ, and by how much at most, in a phrase; empty when none differs."""
    distances: dict[str, float] = {}
    others: list[str] = []
    names = list({**then, **now})
    # Other numbers of steps or a class that was changed can give other tensors, too.
    for name in names:
        if name not in then or name not in now or then[name].shape != now[name].shape:
            others.append(name)
        elif not _is_bit_identical(then[name], now[name]):
            distances[name] = _distance(then[name], now[name])
    if not distances and not others:
        return ""
    parts = [f"{len(distances) + len(others)} of {len(names)} tensors differ"]
    if distances:
        farthest = max(distances, key=lambda name: distances[name])
        parts.append(f"by {distances[farthest]:.3g} at most ({farthest})")
    if others:
        more = " …" if len(others) > _MAX_NAMED else ""
        listed = ", ".join(others[:_MAX_NAMED])
        parts.append(f"of another shape or on one side only: {listed}{more}")
    return ", ".join(parts)


def known_differences(then: RunOutcome, now: RunOutcome) -> list[tuple[str, str, str]]:
    """The name and both values of what is known of the runs and not the same."""
    before = _known(then)
    after = _known(now)
    return [
        (name, before.get(name, "none"), after.get(name, "none"))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]


def _known(outcome: RunOutcome) -> dict[str, str]:
    """Versions, commit, host, and on what it was trained."""
    record = outcome.record
    machine = outcome.machine
    versions = as_table(record.get("versions"))
    known = {str(name): str(version) for name, version in versions.items()}
    commit, plus, changes = str(record.get("git_commit") or "none").partition("+")
    return known | {
        # In place of the version in run.json: with its build, such as +cpu, which decides which
        # kernels there are.
        "torch": str(machine["torch"]),
        "commit": commit[:COMMIT_LENGTH] + plus + changes,
        "host": str(record.get("host") or "none"),
        "device": str(machine["device"]),
        "threads": str(machine["threads"]),
        "model run": str(machine["variant"]),
    }


def _metric_rows(then: RunOutcome, now: RunOutcome) -> list[list[str]]:
    rows = []
    if then.step != now.step:
        change = f"{now.num_steps - then.num_steps:+}"
        rows.append(["steps", str(then.num_steps), str(now.num_steps), change])
    for name in {**then.metrics, **now.metrics}:
        before = then.metrics.get(name)
        after = now.metrics.get(name)
        difference = "-"
        if before is not None and after is not None:
            difference = "0" if before == after else f"{after - before:+.3g}"
        rows.append([name, _exact_text(before), _exact_text(after), difference])
    return rows


def _exact_text(value: float | None) -> str:
    """In more digits than elsewhere: two runs may differ in the last ones."""
    return "-" if value is None else f"{value:.8g}"


def _is_bit_identical(then: Tensor, now: Tensor) -> bool:
    """Whether two tensors of one shape are the same: 0 and -0 are not, a NaN and itself are."""
    if then.dtype != now.dtype:
        return False
    # Flat, because a single number has no axis that could be seen as bytes.
    return torch.equal(
        *(tensor.reshape(-1).contiguous().view(torch.uint8) for tensor in (then, now))
    )


def _distance(then: Tensor, now: Tensor) -> float:
    """The largest absolute difference of two tensors of one shape, infinite for a NaN."""
    if not then.numel():
        return 0.0
    wide = torch.complex128 if then.is_complex() or now.is_complex() else torch.float64
    apart = (then.to(wide) - now.to(wide)).abs()
    # Two equal infinities are 0 apart, though their difference is a NaN.
    return float(torch.where(then == now, 0.0, apart).nan_to_num(nan=torch.inf).max())
