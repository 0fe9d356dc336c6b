"""A clock that is wrong, or jumps. Group J of the plan of faults.

The clock of the machine is not touched: in the process of the run, `time.time`, from which
TensorBoard takes its times and the names of its files, and the `datetime` that names folders and
dates the record, are moved. The time zone is a real one, set as a person would.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import processes
import pytest
from killing import at_batch
from processes import Prepare
from running import PLAIN, Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainer.run.folder
import trainer.run.record

KILLED = -9
HOUR = 3600.0
# 18 updates; a save every second one.
WORDS = (*PLAIN, "trainer.save_every=2steps")


class _Clock(datetime):
    """`datetime` whose now is that of `time.time`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _Clock:
        return cls.fromtimestamp(time.time(), tz)


def _set_clock(now: Callable[[], float]) -> None:

    time.time = now
    for module in (trainer.run.folder, trainer.run.record):
        setattr(module, "datetime", _Clock)  # noqa: B010 (not exported, says mypy)


def _shifted(seconds: float) -> None:
    real = time.time
    _set_clock(lambda: real() + seconds)


def _since_1970() -> None:
    """A machine whose clock has no battery, a minute after it was switched on."""
    real, start = time.time, time.time()
    _set_clock(lambda: 60.0 + real() - start)


def _back_an_hour_at_batch(batch: int) -> None:
    from trainer.engine.progress import Progress

    real, is_back, count, calls = time.time, False, Progress.count_batch, itertools.count(1)

    def counting(self: Progress, *arguments: Any, **options: Any) -> None:
        nonlocal is_back
        is_back = is_back or next(calls) == batch
        count(self, *arguments, **options)

    Progress.count_batch = counting  # type: ignore[method-assign]
    _set_clock(lambda: real() - HOUR * is_back)


def _in_zone(zone: str) -> None:
    os.environ["TZ"] = zone
    time.tzset()


def _both(first: Prepare, second: Prepare) -> None:
    first()
    second()


def train(
    *words: str, cwd: Path, prepare: Prepare | None = None, kill_at: int | None = None
) -> str:
    if kill_at is not None:
        prepare = functools.partial(
            _both, prepare or _nothing, functools.partial(at_batch, kill_at)
        )
    outcome = processes.run("fit", *words, cwd=cwd, prepare=prepare)
    assert outcome.code == (0 if kill_at is None else KILLED), outcome.err
    assert "Traceback" not in outcome.err
    return outcome.out


def _nothing() -> None:
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same training by a clock that is right."""
    cwd = tmp_path_factory.mktemp("whole")
    train(*WORDS, "run.dir=run", cwd=cwd)
    return Run(cwd / "run")


def points(run: Run) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, but for the speed."""
    events = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    tags = sorted(
        set(events.Tags()["scalars"]) - {"Throughput/samples_per_second", "Memory/peak_resident"}
    )
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def assert_undisturbed(run: Run, whole: Run) -> None:
    """As by a right clock: weights, points in TensorBoard, none double or out of order; and
    times run forward.
    """
    assert run.digest() == whole.digest()
    found = points(run)
    assert found == points(whole)
    for tag, values in found.items():
        steps = [step for step, _ in values]
        assert steps == sorted(set(steps)), tag
    seconds = [row["seconds"] for row in run.rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert all(row["samples_per_second"] > 0 for row in run.split("train"))


def the_run(root: Path, name: str) -> Run:
    (folder,) = root.glob(f"runs/*/*-{name}")
    return Run(folder)


@pytest.mark.fault("J")
def test_back_a_day_between_a_run_and_its_resume(tmp_path: Path, whole: Run) -> None:
    train(*WORDS, "run.name=old", cwd=tmp_path, prepare=functools.partial(_shifted, -HOUR))
    train(*WORDS, "run.name=cut", cwd=tmp_path, kill_at=13)
    cut = the_run(tmp_path, "cut")
    for hours, kill_at in [(24, 3), (48, None)]:
        newest = int(cut.steps[-1][-6:])
        prepare = functools.partial(_shifted, -hours * HOUR)
        out = train("resume=last", cwd=tmp_path, prepare=prepare, kill_at=kill_at)
        assert f"Resumed at step {newest} of" in out
    assert_undisturbed(cut, whole)
    assert_undisturbed(the_run(tmp_path, "old"), whole)


@pytest.mark.fault("J")
def test_back_an_hour_inside_a_run(tmp_path: Path, whole: Run) -> None:
    train(
        *WORDS,
        "run.name=cut",
        cwd=tmp_path,
        prepare=functools.partial(_back_an_hour_at_batch, 7),
        kill_at=13,
    )
    cut = the_run(tmp_path, "cut")
    assert len(points(cut)["Loss/train"]) == 3
    train("resume=last", cwd=tmp_path, prepare=functools.partial(_back_an_hour_at_batch, 3))
    assert_undisturbed(cut, whole)
    assert datetime.fromisoformat(cut.record["ended"]) < datetime.fromisoformat(
        cut.record["started"]
    ), "it went back"


@pytest.mark.fault("J")
def test_1970(tmp_path: Path, whole: Run) -> None:
    train(*WORDS, "run.name=cut", cwd=tmp_path, prepare=_since_1970, kill_at=7)
    cut = the_run(tmp_path, "cut")
    assert cut.record["started"].startswith(("1970-01-01", "1969-12-31"))
    train("resume=last", cwd=tmp_path, kill_at=5)
    train("resume=last", cwd=tmp_path, prepare=_since_1970)
    assert_undisturbed(cut, whole)
    train(*WORDS, "run.name=next", cwd=tmp_path)
    assert "next" in processes.run("eval", "ckpt=last", cwd=tmp_path).out


@pytest.mark.fault("J")
def test_the_time_zone_changes(tmp_path: Path, whole: Run) -> None:
    """By the clock on the wall, the second run began a day before the first."""
    train(*WORDS, "run.name=east", cwd=tmp_path, prepare=functools.partial(_in_zone, "EAST-14"))
    train(
        *WORDS,
        "run.name=west",
        cwd=tmp_path,
        prepare=functools.partial(_in_zone, "WEST11"),
        kill_at=9,
    )
    west = the_run(tmp_path, "west")
    assert west.record["started"].endswith("-11:00")
    assert west.record["started"] < the_run(tmp_path, "east").record["started"]
    newest = int(west.steps[-1][-6:])
    out = train("resume=last", cwd=tmp_path, prepare=functools.partial(_in_zone, "EAST-14"))
    assert f"Resumed at step {newest} of" in out
    assert_undisturbed(west, whole)
