"""Whether TensorBoard's event files hold what metrics.jsonl does, for `trainer check-run`. No
torch.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.commands.check_run.checkpoints import DAMAGED, OK, UNREADABLE, Finding, Standing
from trainer.commands.check_run.metrics import MAX_FILE_BYTES, SPLIT_OF, Points, Rows, is_kept
from trainer.config.logger import TensorBoardConfig
from trainer.errors import printable
from trainer.tracking.records import BESIDES_ROWS

_WRITTEN = ("logger=tensorboard", "logger=tensorboard_full")
_LOST = "events could not be written from some step on, as a warning said"


@dataclass(slots=True)
class Comparison:
    """Values of TensorBoard against the rows: what is wrong, first of all, and what a killed
    writer explains.
    """

    damage: str = ""
    num_short: int = 0
    num_over: int = 0
    is_cut: bool = False
    points: dict[str, Points] = field(default_factory=dict)


def check_tensorboard(standing: Standing, rows: Rows) -> Finding:
    """The event files of a run against the rows of its metrics.jsonl."""
    what, files = "TensorBoard", sorted(standing.run.glob("events.out.tfevents.*"))
    logger, is_changed = _logger(standing), _is_changed(standing)
    is_lost = standing.record.get("events_lost") is True
    must_hold = logger in _WRITTEN and not is_changed and not is_lost
    if not files and not must_hold:
        return Finding(what=what, state="not written", detail=_LOST if is_lost else logger)
    if files and importlib.util.find_spec("tensorboard") is None:
        return Finding(
            what=what, state="not checked", detail="the package tensorboard is not installed"
        )
    found = Comparison()
    try:
        for path in files:
            _read_points(path, found, standing)
    except OSError as error:
        return Finding(what=what, state=UNREADABLE, detail=error.strerror or str(error))
    if not found.damage and rows.damage:
        return Finding(what=what, state="not compared", detail="metrics.jsonl is not sound")
    if not found.damage:
        _compare(found, rows, standing, must_hold=must_hold)
    if not files and (found.damage or standing.is_done):
        found.damage = "there is no event file"
    return _told(
        what, found, standing, num_files=len(files), why_partial=_why_partial(is_changed, is_lost)
    )


def _logger(standing: Standing) -> str:
    """What the newest intact checkpoint says was to be written."""
    if standing.newest is None or standing.newest.description is None:
        return "no checkpoint says what was to be written"
    logger = standing.newest.description.config.logger
    has_none = isinstance(logger, TensorBoardConfig) and not logger.scalars
    return "logger.scalars=false" if has_none else f"logger={logger.name}"


def _is_changed(standing: Standing) -> bool:
    """Whether a resume changed what is written: then some records never were."""
    resumes = standing.record.get("resumed")
    changes = (
        [item.get("changes") for item in resumes if isinstance(item, dict)]
        if isinstance(resumes, list)
        else []
    )
    keys = {key for change in changes if isinstance(change, dict) for key in change}
    return not keys.isdisjoint({"logger.name", "logger.scalars"})


def _why_partial(is_changed: bool, is_lost: bool) -> str:
    """Why some values may be missing, as the end of a sentence."""
    if is_lost:
        return f"; {_LOST}"
    return "; the logger was changed on a resume, so some were never written" * is_changed


def _told(
    what: str, found: Comparison, standing: Standing, *, num_files: int, why_partial: str
) -> Finding:
    if found.damage:
        return Finding(what=what, state=DAMAGED, detail=found.damage)
    num = sum(len(points.steps) for tag, points in found.points.items() if tag in SPLIT_OF)
    counted = f"{num} values in {num_files} file{'s' * (num_files != 1)}"
    if found.num_short or found.num_over or found.is_cut:
        parts = [
            f"{found.num_short} fewer" * bool(found.num_short),
            f"{found.num_over} more" * bool(found.num_over),
        ]
        parts = [f"{' and '.join(filter(None, parts))} than metrics.jsonl"] if any(parts) else []
        parts += ["cut off within a record"] * found.is_cut
        return Finding(
            what=what,
            state=standing.cut,
            detail=f"{counted}, {', '.join(parts)}: {standing.outlook}",
        )
    return Finding(what=what, state=OK, detail=f"{counted}, the same in metrics.jsonl{why_partial}")


def _read_points(path: Path, found: Comparison, standing: Standing) -> None:
    """Take in the scalars of an event file, as far as TensorBoard reads it."""
    from trainer.tracking.event_files import CutOffEvents, DamagedEvents, read_events

    if standing.is_locked and not path.exists():
        return  # a resume has just begun, and gives the files new names
    name = printable(path.name)[:60]
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        found.damage = (
            found.damage or f"{name} is not a regular file, or larger than any of trainer's"
        )
        return
    try:
        for event in read_events(path):
            for value in event.summary.value:
                if not value.HasField("simple_value"):
                    continue
                points = found.points.setdefault(value.tag, Points())
                if not points.add(event.step, value.simple_value) and not found.damage:
                    tag = printable(value.tag)[:60]
                    found.damage = (
                        f"{tag} has step {event.step} after step {points.steps[-1]} in {name}"
                    )
    except CutOffEvents as error:
        found.is_cut = True
        if standing.is_done:
            found.damage = found.damage or printable(error)[:120]
    except DamagedEvents as error:
        found.damage = found.damage or f"{printable(error)[:120]}; TensorBoard reads no further"


def _compare(found: Comparison, rows: Rows, standing: Standing, *, must_hold: bool) -> None:
    for tag in {**rows.points, **found.points}:
        split = SPLIT_OF.get(tag)
        if split is None and tag.partition("/")[0] in BESIDES_ROWS:
            continue
        if split is None:
            found.damage = found.damage or f"{printable(tag)[:60]} is no value of metrics.jsonl"
            continue
        for kind, step in _differences(rows.points[tag], found.points.get(tag, Points())):
            stays = is_kept(split, step, standing)
            if kind == "other":
                found.damage = (
                    found.damage or f"{tag} has another value at step {step} than metrics.jsonl"
                )
            elif kind == "over" and stays:
                found.damage = found.damage or f"{tag} has step {step}, which metrics.jsonl has not"
            elif kind == "short" and stays and must_hold:
                found.damage = found.damage or f"{tag} lacks step {step}, which metrics.jsonl has"
            elif not stays:
                found.num_over += kind == "over"
                found.num_short += kind == "short" and must_hold


def _differences(expected: Points, found: Points) -> Iterator[tuple[str, int]]:
    """The steps at which TensorBoard is `short` of a value, has one `over`, or an`other` than the row."""
    i = j = 0
    while i < len(expected.steps) or j < len(found.steps):
        step = expected.steps[i] if i < len(expected.steps) else math.inf
        at = found.steps[j] if j < len(found.steps) else math.inf
        if step == at:
            value, held = expected.values[i], found.values[j]
            # A number that is not finite is null in a row, and itself in TensorBoard.
            if value != held and (math.isfinite(held) or not math.isnan(value)):
                yield "other", expected.steps[i]
            i, j = i + 1, j + 1
        elif step < at:
            if not math.isnan(expected.values[i]):
                yield "short", expected.steps[i]
            i += 1
        else:
            yield "over", found.steps[j]
            j += 1
