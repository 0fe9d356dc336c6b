"""TensorBoard under faults: what it shows is metrics.jsonl, and nothing that befalls it stops the
training.

Group M of the plan of faults.
"""

from __future__ import annotations

import functools
import json
import re
import time
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from commandline import ROOT
from disks import Disk, events_in, in_turn
from killing import at_batch
from processes import Prepare
from running import SMALL, Outcome, Run, Trainer
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util

from trainer.engine.progress import Progress
from trainer.tracking.event_files import event_files, read_events
from trainer.tracking.metrics_file import read_rows
from trainer.tracking.records import BESIDES_ROWS, scalar_tags

KILLED = -9
# 27 updates. The weights stay as they are, so that only the first evaluation is the best and saves;
# each flushes.
WORDS = (
    *SMALL, "trainer.epochs=3", "trainer.save_every=5steps", "trainer.eval_every=4steps",
    "logger.log_every=2", "optimizer.lr=1e-30", "scheduler=constant", "run.dir=run",
)  # fmt: skip

Points = dict[str, list[tuple[int, float]]]


class Reader:
    """Follows a run as a TensorBoard does that is running: with each of the two readers that it
    has in Python.
    """

    def __init__(self, run: Path) -> None:
        all_of_them = {"scalars": 0, "tensors": 0}
        self._scalars = event_accumulator.EventAccumulator(str(run), size_guidance=all_of_them)
        self._tensors = plugin_event_accumulator.EventAccumulator(
            str(run), size_guidance=all_of_them
        )

    def read(self) -> Points:
        """What is shown now, which must be the same in both."""
        scalars, tensors = self._scalars.Reload(), self._tensors.Reload()
        shown = {
            tag: [(event.step, event.value) for event in scalars.Scalars(tag)]
            for tag in scalars.Tags()["scalars"]
            if tag.partition("/")[0] not in BESIDES_ROWS
        }
        for tag, points in shown.items():
            values = [
                (event.step, tensor_util.make_ndarray(event.tensor_proto).item())
                for event in tensors.Tensors(tag)
            ]
            assert values == points, tag
            steps = [step for step, _ in points]
            assert steps == sorted(set(steps)), f"{tag} has double or unordered points"
        # TensorBoard keeps the name of a tag whose points were all purged.
        return {tag: points for tag, points in shown.items() if points}


def written(run: Path) -> Points:
    """All that is in the files, in their order, also what a reader would purge."""
    points: Points = {}
    for path in event_files(run):
        for event in read_events(path):
            for value in event.summary.value:
                if (
                    value.HasField("simple_value")
                    and value.tag.partition("/")[0] not in BESIDES_ROWS
                ):
                    points.setdefault(value.tag, []).append((event.step, value.simple_value))
    return points


def recorded(run: Path) -> Points:
    """What metrics.jsonl says, as TensorBoard would show it."""
    points: Points = {}
    for row in read_rows(run):
        for name, tag in scalar_tags(row["split"]).items():
            if (value := row.get(name)) is not None:
                points.setdefault(tag, []).append((row["step"], torch.tensor(value).item()))
    return points


def up_to(step: int, points: Points) -> Points:
    kept = {
        tag: [(at, value) for at, value in found if at <= step] for tag, found in points.items()
    }
    return {tag: found for tag, found in kept.items() if found}


def fit(*words: str, cwd: Path, prepare: Prepare | None = None, code: int = 0) -> Outcome:
    outcome = processes.run("fit", *words, cwd=cwd, prepare=prepare)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    return outcome


def killed_at(batch: int, *words: str, cwd: Path, before: tuple[Prepare, ...] = ()) -> int:
    """Train until a SIGKILL after so many batches; gives the step of the last checkpoint."""
    fit(*words, cwd=cwd, prepare=in_turn(*before, functools.partial(at_batch, batch)), code=KILLED)
    return int(Run(cwd / "run").steps[-1].removeprefix("step-"))


def slow(owner: Any, name: str, *, seconds: float) -> None:
    function = getattr(owner, name)

    def late(*arguments: Any, **options: Any) -> Any:
        time.sleep(seconds)
        return function(*arguments, **options)

    setattr(owner, name, late)


def on_a_slow_disk() -> None:
    """A save is complete two batches later; events wait in the buffer of their writer anyhow."""
    slow(Progress, "count_batch", seconds=0.02)


@pytest.mark.fault("M")
def test_a_kill_loses_only_what_came_after_the_last_save(tmp_path: Path) -> None:
    """Without an evaluation, which has its events written as well."""
    words, run = (*WORDS, "trainer.eval_every=3epochs"), tmp_path / "run"
    saved = killed_at(17, *words, cwd=tmp_path, before=(on_a_slow_disk,))
    content = (run / "metrics.jsonl").read_bytes()
    assert content.endswith(b"}\n")
    assert [row["step"] for row in map(json.loads, content.splitlines())][-1] == 16, (
        "every row is there at once"
    )
    shown = Reader(run).read()
    assert saved >= 10 and up_to(saved, shown) == up_to(saved, recorded(run))
    assert all(set(points) <= set(recorded(run)[tag]) for tag, points in shown.items())


@pytest.mark.fault("M")
def test_a_resume_purges_also_what_a_running_tensorboard_shows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    saved = killed_at(14, *WORDS, cwd=tmp_path)
    running = Reader(run)
    assert running.read()["Loss/train"][-1][0] == 12 > saved, "what is to be purged is shown"
    for batches in (9, 4, None):
        # TensorBoard goes from file to file by the second in their names.
        time.sleep(1.01 - time.time() % 1)
        if batches is None:
            fit("resume=run", cwd=tmp_path)
        else:
            saved = killed_at(batches, "resume=run", cwd=tmp_path)
            assert max(step for points in running.read().values() for step, _ in points) > saved
        assert running.read() == Reader(run).read()
    assert running.read() == recorded(run)


@pytest.mark.fault("M")
def test_three_kills_leave_one_line(tmp_path: Path) -> None:
    words = (*WORDS, "trainer.save_every=2steps", "trainer.eval_every=3steps", "logger.log_every=1")
    killed_at(8, *words, cwd=tmp_path)
    for batches in (7, 9):
        killed_at(batches, "resume=run", cwd=tmp_path)
    fit("resume=run", cwd=tmp_path)
    shown = Reader(tmp_path / "run").read()
    assert shown == written(tmp_path / "run") == recorded(tmp_path / "run")
    assert [step for step, _ in shown["Loss/train"]] == list(range(1, 28))


@pytest.mark.fault("M")
@pytest.mark.parametrize(
    ("gone_at", "reason"), [(None, "No space left on device"), (12, "No such file or directory")]
)
def test_events_that_cannot_be_written_do_not_stop_the_training(
    tmp_path: Path, disk: Disk, gone_at: int | None, reason: str
) -> None:
    """The disk has space for a part of them; or their folder goes in the middle of the training."""
    if gone_at is None:
        disk.fill(but=4096)
    prepare = in_turn(
        disk.enter, functools.partial(events_in, tmp_path / "disk/events", gone_at=gone_at)
    )
    stderr = fit(*WORDS, cwd=tmp_path, prepare=prepare).err
    (line,) = stderr.splitlines()
    assert line.startswith(f"Warning: TensorBoard gets no more records ({reason}"), line
    assert line.endswith("Training continues; metrics.jsonl is complete.")
    run = Run(tmp_path / "run")
    assert [row["step"] for row in run.split("train")] == [*range(2, 27, 2), 27]
    assert len(run.split("test")) == 1 and run.record["status"] == "done"
    checked = processes.run("check-run", "run", cwd=tmp_path)
    assert checked.code == 0 and "events could not be written" in " ".join(checked.out.split())


# Where in a record a bit is flipped: 8 bytes of length, 4 of its checksum, the event, 4 of its
# checksum.
PLACES = {"length": 1, "checksum of the length": 9, "event": 20, "last byte": -1}


def flip(path: Path, place: int) -> None:
    """Flip a bit of a record in the middle of an event file."""
    content, start = bytearray(path.read_bytes()), 0
    for _ in range(20):
        start, before = start + 16 + int.from_bytes(content[start : start + 8], "little"), start
    content[(before if place >= 0 else start) + place] ^= 0x10
    path.write_bytes(content)


@pytest.mark.fault("M")
@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_a_flipped_bit_costs_nothing(tmp_path: Path, place: int) -> None:
    killed_at(17, *WORDS, cwd=tmp_path)
    run = tmp_path / "run"
    rows, (path,) = read_rows(run), run.glob("events.*")
    times = {event.step: event.wall_time for event in read_events(path)}
    flip(path, place)
    assert Reader(run).read() != up_to(16, recorded(run)), "TensorBoard stops reading there"
    stderr = fit("resume=run", cwd=tmp_path).err
    pattern = (
        r"Warning: (\S+) is damaged at byte [\d,]+: "
        r"what TensorBoard shows of this run was rebuilt from (\S+)\.\n"
    )
    match = re.fullmatch(pattern, stderr)
    assert match and match.groups() == (path.name, "metrics.jsonl"), stderr
    assert read_rows(run)[:5] == rows[:5]
    assert [row["step"] for row in Run(run).split("train")] == [*range(2, 27, 2), 27]
    assert Reader(run).read() == recorded(run)
    made = {event.step: event.wall_time for event in read_events(event_files(run)[0])}
    assert made[2] == pytest.approx(times[2], abs=0.1), "seconds since 1970"


SERVES_ALL = re.compile("bind" + "[-_]?all|--host", re.IGNORECASE)
FOLDERS = (".ci", "benchmarks", "configs", "docs", "src", "tests")


def texts_in(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    files = [
        path
        for path in folder.glob(pattern)
        if path.is_file() and path.suffix not in (".pyc", ".safetensors")
    ]
    return {str(path): path.read_text(encoding="utf-8", errors="replace") for path in files}


@pytest.mark.fault("M")
def test_nobody_is_told_to_serve_tensorboard_to_all(trainer: Trainer, tmp_path: Path) -> None:
    """By default it listens to this machine alone: what it shows has no password."""
    texts: dict[str, Any] = texts_in(ROOT, "*")
    for folder in FOLDERS:
        texts |= texts_in(ROOT / folder)
    assert len(texts) > 100
    commands = (
        ("fit", *WORDS), ("fit", "-m", *SMALL, "trainer.max_steps=1", "seed=0,1", "run.dir=swept"),
        ("eval", "ckpt=run"), ("--help",), ("fit", "--help"), ("eval", "--help"),
        ("fit", "--cfg", "all"),
    )  # fmt: skip
    for words in commands:
        outcome = trainer(*words)
        assert outcome.code == 0, outcome.err
        texts[" ".join(words)] = outcome.out + outcome.err
    texts |= texts_in(tmp_path)
    assert sum("trainer tb " in text for text in texts.values()) > 5
    own = str(Path(__file__))
    assert [name for name, text in texts.items() if SERVES_ALL.search(text) and name != own] == []
