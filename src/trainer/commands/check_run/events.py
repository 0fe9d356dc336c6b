"""Whether TensorBoard's event files hold what metrics.jsonl does, for `trainer check-run`.

No torch; TensorBoard is imported only where there are event files.
"""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.commands.check_run.checkpoints import DAMAGED, OK, UNREADABLE, Finding, RunFiles
from trainer.commands.check_run.metrics import MAX_FILE_BYTES, SPLIT_OF, Points, Rows, is_kept
from trainer.config.logger import TensorBoardConfig
from trainer.errors import counted, printable, reason_of
from trainer.run.record import changes_of
from trainer.tracking.records import BESIDES_ROWS

_WHAT = "TensorBoard"
_WRITTEN = ("logger=tensorboard", "logger=tensorboard_full")
_LOST = "events could not be written after some step, as a warning reported"
_CHANGED = "the logger was changed on a resume, so some were never written"
_FEWER = "fewer"
_MORE = "more"
_OTHER = "other"


class _Damage(Exception):
    """What is wrong with the events, in a phrase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logged:
    """What a run had written for TensorBoard, and why some values may be missing."""

    logger: str
    gap: str

    @property
    def is_all(self) -> bool:
        """Whether each value of metrics.jsonl must be there."""
        return self.logger in _WRITTEN and not self.gap

    @property
    def note(self) -> str:
        """Why some values may be missing, as the end of a sentence."""
        return f"; {self.gap}" if self.gap else ""


def check_tensorboard(files: RunFiles, rows: Rows) -> Finding:
    """The event files of a run compared with the rows of its metrics.jsonl."""
    paths = sorted(files.run.glob("events.out.tfevents.*"))
    logged = _logged(files)
    if not paths and not logged.is_all:
        return Finding(_WHAT, "not written", detail=_LOST if logged.gap == _LOST else logged.logger)
    # Installed without its dependencies, trainer checks all but these files.
    if paths and importlib.util.find_spec("tensorboard") is None:
        return Finding(_WHAT, "not checked", detail="the package tensorboard is not installed")
    try:
        points, is_cut = _read_points(paths, files)
        # Read all the same: the events may have damage of another kind. But rows that are wrong
        # are no measure.
        if rows.damage:
            return Finding(_WHAT, "not compared", detail="metrics.jsonl is not sound")
        counts = _compare(points, rows, files, must_hold=logged.is_all)
    except OSError as error:
        return Finding(_WHAT, UNREADABLE, detail=reason_of(error))
    except _Damage as damage:
        return Finding(_WHAT, DAMAGED, detail=str(damage) if paths else "there is no event file")
    found = f"{_num_values(points)} values in {counted(len(paths), 'file')}"
    if differences := _differences_text(counts, is_cut=is_cut):
        detail = f"{found}, {differences}: {files.outlook}"
        return Finding(_WHAT, files.unfinished_state, detail=detail)
    return Finding(_WHAT, OK, detail=f"{found}, the same in metrics.jsonl{logged.note}")


def _logged(files: RunFiles) -> _Logged:
    """What the newest intact checkpoint and run.json say of the logger."""
    gap = ""
    if files.record.get("events_lost") is True:
        gap = _LOST
    elif _is_logger_changed(files):
        gap = _CHANGED
    if files.newest is None or files.newest.description is None:
        return _Logged(logger="no checkpoint says what was to be written", gap=gap)
    config = files.newest.description.config.logger
    if isinstance(config, TensorBoardConfig) and not config.scalars:
        return _Logged(logger="logger.scalars=false", gap=gap)
    return _Logged(logger=f"logger={config.name}", gap=gap)


def _is_logger_changed(files: RunFiles) -> bool:
    """Whether a resume changed what is written: then some records never were."""
    changes = changes_of(files.record)
    return any("logger.name" in keys or "logger.scalars" in keys for keys in changes)


def _num_values(points: Mapping[str, Points]) -> int:
    # Of the tags that rows have; others, such as those of layers, are in no row.
    return sum(len(found.steps) for tag, found in points.items() if tag in SPLIT_OF)


def _differences_text(counts: Counter[str], *, is_cut: bool) -> str:
    """How the events of a run that is not done differ from its rows, as a kill leaves them."""
    parts = []
    numbers = [f"{counts[kind]} {kind}" for kind in (_FEWER, _MORE) if counts[kind]]
    if numbers:
        parts.append(f"{' and '.join(numbers)} than metrics.jsonl")
    if is_cut:
        parts.append("truncated within a record")
    return ", ".join(parts)


def _read_points(paths: Sequence[Path], files: RunFiles) -> tuple[dict[str, Points], bool]:
    """The scalars by tag, as far as TensorBoard reads them, and whether a file is truncated.

    Raises _Damage or OSError.
    """
    points: dict[str, Points] = {}
    is_cut = False
    if paths:
        from trainer.tracking.event_files import CutOffEvents, DamagedEvents
    elif files.is_done:
        raise _Damage
    for path in paths:
        if files.is_locked and not path.exists():
            continue  # a resume has just begun, and gives the files new names
        try:
            _add_points(path, points)
        except CutOffEvents as error:
            # A kill leaves a record without its end; a run that is done has flushed it.
            is_cut = True
            if files.is_done:
                raise _Damage(printable(error)[:120]) from error
        except DamagedEvents as error:
            raise _Damage(f"{printable(error)[:120]}; TensorBoard reads no further") from error
    return points, is_cut


def _add_points(path: Path, points: dict[str, Points]) -> None:
    """Add the scalars of an event file to `points`; raises _Damage, DamagedEvents or OSError."""
    from trainer.tracking.event_files import read_events

    name = printable(path.name)[:60]
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        raise _Damage(f"{name} is not a regular file, or larger than any of trainer's")
    for event in read_events(path):
        for value in event.summary.value:
            if not value.HasField("simple_value"):
                continue
            known = points.setdefault(value.tag, Points())
            # TensorBoard would draw a line that goes back.
            if not known.add(event.step, value.simple_value):
                tag = printable(value.tag)[:60]
                raise _Damage(f"{tag} has step {event.step} after step {known.steps[-1]} in {name}")


def _compare(
    points: dict[str, Points], rows: Rows, files: RunFiles, *, must_hold: bool
) -> Counter[str]:
    """How many values are `fewer` or `more` than the rows, as a kill may leave them.

    `must_hold` says that each value of a row must be there. Raises _Damage for any other
    difference.
    """
    counts: Counter[str] = Counter()
    for tag in {**rows.points, **points}:
        split = SPLIT_OF.get(tag)
        if split is None:
            if tag.partition("/")[0] in BESIDES_ROWS:
                continue
            raise _Damage(f"{printable(tag)[:60]} is no value of metrics.jsonl")
        for kind, step in _differences(rows.points[tag], points.get(tag, Points())):
            if kind == _OTHER:
                raise _Damage(f"{tag} has another value at step {step} than metrics.jsonl")
            if kind == _FEWER and not must_hold:
                continue
            # Past the last checkpoint the two were written at different moments before the kill.
            if not is_kept(split, step, files):
                counts[kind] += 1
            elif kind == _MORE:
                raise _Damage(f"{tag} has step {step}, which metrics.jsonl has not")
            else:
                raise _Damage(f"{tag} lacks step {step}, which metrics.jsonl has")
    return counts


def _differences(expected: Points, found: Points) -> Iterator[tuple[str, int]]:
    """The steps, in order, at which `found` has one value fewer, one more, or another one."""
    # Both are sorted by step: one pass, however many values there are.
    i = 0
    j = 0
    while i < len(expected.steps) or j < len(found.steps):
        step = expected.steps[i] if i < len(expected.steps) else math.inf
        found_step = found.steps[j] if j < len(found.steps) else math.inf
        if found_step < step:
            yield _MORE, found.steps[j]
            j += 1
            continue
        # A number that is not finite is null in a row, and itself in TensorBoard.
        is_null = math.isnan(expected.values[i])
        if step < found_step:
            if not is_null:
                yield _FEWER, expected.steps[i]
        else:
            value = found.values[j]
            if value != expected.values[i] and not (is_null and not math.isfinite(value)):
                yield _OTHER, expected.steps[i]
            j += 1
        i += 1
