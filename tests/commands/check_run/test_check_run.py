"""`trainer check-run`: what is sound is called sound, what is damaged is named, and nothing is
touched.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commandline import run_python, trainer_main
from killing import POINTS, at_batch, in_save
from processes import Prepare, Started
from processes import run as run_process
from running import PLAIN, SMALL, Outcome, Run, Trainer
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from waiting import wait_until

from trainer.tracking.event_files import event_files, read_events

NEWEST = "checkpoints/step-000018"
SAVES = (*PLAIN, "trainer.save_every=3steps", "logger.log_every=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs to copy: `board` and `bare` are done, with TensorBoard and without; `killed` was
    killed after a save.
    """
    folder = tmp_path_factory.mktemp("made")
    for name, words in (("board", PLAIN), ("bare", (*SMALL, "logger=none"))):
        ran = trainer_main("fit", *words, f"run.dir={name}", cwd=folder)
        assert ran.code == 0, ran.err
    # A save waits for the one before: that of step 12 is complete when that of step 15 begins.
    prepare: Prepare = functools.partial(in_save, "before open", 5)
    ended = run_process("fit", *SAVES, "run.dir=killed", cwd=folder, prepare=prepare)
    assert ended.code == -signal.SIGKILL
    return folder


Copy = Callable[[str], Run]


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Copy:
    """`copy("board")` gives a copy of that run, to be damaged."""

    def run(name: str) -> Run:
        shutil.copytree(made / name, tmp_path / name, symlinks=True)
        return Run(tmp_path / name)

    return run


@dataclass(frozen=True)
class Checked:
    """How a check ended, and the rows of its table: state and detail by what was checked."""

    outcome: Outcome
    rows: dict[str, tuple[str, str]]

    @property
    def err(self) -> str:
        return self.outcome.err

    def states(self) -> dict[str, str]:
        return {what: state for what, (state, _) in self.rows.items()}


def everything(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What is in a folder: every name with its inode, its times and its content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        about = path.lstat()
        content = path.read_bytes() if path.is_file() and about.st_size < 10**7 else b""
        found[str(path)] = (
            about.st_mode,
            about.st_ino,
            about.st_mtime_ns,
            about.st_ctime_ns,
            about.st_size,
            content,
        )
    return found


def check(trainer: Trainer, run: Run, *, code: int) -> Checked:
    """`trainer check-run`, by the rules that hold for all of them."""
    before = everything(run.folder)
    outcome = trainer("check-run", str(run.folder))
    assert everything(run.folder) == before
    assert outcome.code == code, outcome.out + outcome.err
    assert "Traceback" not in outcome.err and "fault of trainer" not in outcome.err
    assert len(outcome.err.splitlines()) <= 3 and bool(outcome.err) == bool(code)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", outcome.out + outcome.err)
    assert ("Nothing is damaged." in outcome.out) == (code == 0)
    assert outcome.out.count("──") > 1
    table = outcome.out.rpartition("──")[2].splitlines()
    cells = [re.split(r" {2,}", line.strip(), maxsplit=2) for line in table]
    rows = {row[0]: (row[1], row[2]) for row in cells if len(row) == 3}
    assert "run.json" in rows and "metrics.jsonl" in rows
    return Checked(outcome, rows)


def test_a_run_that_is_done(trainer: Trainer, copy: Copy) -> None:
    checked = check(trainer, copy("board"), code=0)
    assert checked.rows == {
        "run.json": ("ok", checked.rows["run.json"][1]),
        "step-000009": ("ok", "both files verified, 0.02 MB"),
        "step-000018": ("ok", "both files verified, 0.02 MB"),
        "last": ("ok", "points at step-000018"),
        "best": ("ok", "points at step-000018"),
        "metrics.jsonl": ("ok", "10 rows: 5 train, 2 train_epoch, 2 val, 1 test"),
        "TensorBoard": ("ok", "34 values in 1 file, the same in metrics.jsonl"),
    }
    assert checked.rows["run.json"][1].startswith("done, ended 20")


def test_a_run_without_tensorboard(trainer: Trainer, copy: Copy) -> None:
    checked = check(trainer, copy("bare"), code=0)
    assert checked.rows["TensorBoard"] == ("not written", "logger=none")
    assert {state for what, state in checked.states().items() if what != "TensorBoard"} == {"ok"}


def test_a_run_without_scalars(trainer: Trainer, tmp_path: Path) -> None:
    assert (
        trainer("fit", *PLAIN, "logger.scalars=false", "logger.hparams=false", "run.dir=run").code
        == 0
    )
    run = Run(tmp_path / "run")
    assert check(trainer, run, code=0).rows["TensorBoard"] == (
        "ok",
        "0 values in 1 file, the same in metrics.jsonl",
    )
    event_files(run.folder)[0].unlink()
    assert check(trainer, run, code=0).rows["TensorBoard"] == (
        "not written",
        "logger.scalars=false",
    )


def test_targets_that_are_values_have_no_accuracy(trainer: Trainer, tmp_path: Path) -> None:
    assert trainer("fit", "experiment=line", "trainer.epochs=3", "run.dir=run").code == 0
    rows = Run(tmp_path / "run").rows
    assert rows and all(row["accuracy"] is None for row in rows)
    assert check(trainer, Run(tmp_path / "run"), code=0).rows["TensorBoard"][0] == "ok"


def test_a_run_that_was_killed(trainer: Trainer, copy: Copy) -> None:
    run = copy("killed")
    # What its writer had not flushed is lost; whether there was any is a matter of time.
    rewrite(run, lambda event: None if event.step > 12 else event)
    states = check(trainer, run, code=0).rows
    assert states["run.json"] == (
        "interrupted",
        "says running, but no process trains in it: it was killed",
    )
    assert states["metrics.jsonl"][0] == "interrupted"
    assert "past step-000012: a resume drops that and makes it again" in states["metrics.jsonl"][1]
    assert states["TensorBoard"][0] == "interrupted"
    assert re.search(
        r", \d+ fewer than metrics.jsonl: a resume drops that", states["TensorBoard"][1]
    )
    assert trainer("fit", f"resume={run.folder}").code == 0
    assert set(check(trainer, run, code=0).states().values()) == {"ok"}


def test_a_killed_run_that_lacks_what_was_saved_is_damaged(trainer: Trainer, copy: Copy) -> None:
    run = copy("killed")
    rewrite(run, lambda event: None if event.step == 10 else event)
    checked = check(trainer, run, code=3)
    assert checked.rows["TensorBoard"] == (
        "damaged",
        "Loss/train lacks step 10, which metrics.jsonl has",
    )
    assert f"To continue from it: trainer fit resume={run.folder}" in checked.err


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_within_a_save_damages_nothing(point: str, trainer: Trainer, tmp_path: Path) -> None:
    prepare: Prepare = functools.partial(in_save, point, 3)
    assert (
        run_process("fit", *SAVES, "run.dir=run", cwd=tmp_path, prepare=prepare).code
        == -signal.SIGKILL
    )
    run = Run(tmp_path / "run")
    checked = check(trainer, run, code=0)
    assert checked.states()["run.json"] == "interrupted"
    assert ("leftovers" in checked.rows) == any((run.folder / "checkpoints").glob(".step-*"))
    assert trainer("fit", f"resume={run.folder}").code == 0
    assert set(check(trainer, run, code=0).states().values()) == {"ok"}


def test_a_run_killed_before_anything_was_saved(trainer: Trainer, tmp_path: Path) -> None:
    prepare: Prepare = functools.partial(at_batch, 5)
    assert (
        run_process("fit", *PLAIN, "run.dir=run", cwd=tmp_path, prepare=prepare).code
        == -signal.SIGKILL
    )
    run = Run(tmp_path / "run")
    checked = check(trainer, run, code=0)
    assert checked.rows["metrics.jsonl"][1].endswith(
        "1 with no checkpoint: nothing was saved to resume from"
    )
    assert "last" not in checked.rows
    (run.folder / "metrics.jsonl").unlink()
    event_files(run.folder)[0].unlink()
    states = check(trainer, run, code=0).states()
    assert states == {
        "run.json": "interrupted",
        "metrics.jsonl": "not written",
        "TensorBoard": "not written",
    }


def test_a_run_that_failed(trainer: Trainer, tmp_path: Path) -> None:
    assert trainer("fit", *PLAIN, "optimizer.lr=1e30", "run.dir=run").code == 1
    state, detail = check(trainer, Run(tmp_path / "run"), code=0).rows["run.json"]
    assert state == "failed" and "Loss became" in detail


def test_a_logger_that_was_changed_on_a_resume(trainer: Trainer, copy: Copy) -> None:
    run = copy("bare")
    assert (
        trainer("fit", f"resume={run.folder}", "logger=tensorboard", "trainer.epochs=3").code == 0
    )
    state, detail = check(trainer, run, code=0).rows["TensorBoard"]
    assert state == "ok" and "the logger was changed on a resume" in detail
    rewrite(run, lambda event: moved(event, by=0.5))
    assert "has another value at step" in check(trainer, run, code=3).rows["TensorBoard"][1]


def test_a_run_that_is_training(trainer: Trainer, tmp_path: Path) -> None:
    words = (
        *PLAIN,
        "trainer.epochs=2000",
        "trainer.save_every=1steps",
        "logger.log_every=1",
        "trainer.keep=0",
    )
    started = Started("fit", *words, "run.dir=run", cwd=tmp_path)
    folder = tmp_path / "run"
    try:
        wait_until(lambda: (folder / "checkpoints" / "last").exists())
        for _ in range(15):
            outcome = trainer("check-run", str(folder))
            assert outcome.code == 0, outcome.out + outcome.err
            assert f"process {started.pid} on " in outcome.out
    finally:
        started.signal(signal.SIGTERM)
    assert started.wait().code == 143
    states = check(trainer, Run(folder), code=0).states()
    assert states.pop("run.json") == "interrupted"
    assert set(states.values()) == {"ok"}


def flip(path: Path, at: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def relink(run: Run, which: str, target: str) -> None:
    link = run.folder / "checkpoints" / which
    link.unlink()
    link.symlink_to(target)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit_record(run: Run, **changes: Any) -> None:
    (run.folder / "run.json").write_text(json.dumps({**run.record, **changes}))


def swap_states(run: Run) -> None:
    states = [run.folder / "checkpoints" / step / "state.safetensors" for step in run.steps]
    states[1].write_bytes(states[0].read_bytes())


def drop_newest(run: Run) -> None:
    shutil.rmtree(run.folder / NEWEST)
    for which in ("last", "best"):
        relink(run, which, "step-000009")


Mutate = Callable[[Run], Any]
# What is done to a run that is done, the row that tells it, and words of the detail.
OF_CHECKPOINTS: dict[str, tuple[Mutate, str, str]] = {
    "a bit of the model": (
        lambda run: flip(run.folder / NEWEST / "model.safetensors"),
        "step-000018",
        "checksum",
    ),
    "a bit of the state": (
        lambda run: flip(run.folder / NEWEST / "state.safetensors"),
        "step-000018",
        "state.safe",
    ),
    "a bit of the header": (
        lambda run: flip(run.folder / NEWEST / "model.safetensors", 300),
        "step-000018",
        "model.",
    ),
    "a model cut short": (
        lambda run: os.truncate(run.folder / NEWEST / "model.safetensors", 900),
        "step-000018",
        "model.safetensors: it is",
    ),
    "no model": (
        lambda run: (run.folder / NEWEST / "model.safetensors").unlink(),
        "step-000018",
        "it is missing",
    ),
    "no state": (
        lambda run: (run.folder / NEWEST / "state.safetensors").unlink(),
        "step-000018",
        "it is missing",
    ),
    "a pipe": (
        lambda run: replace_by_pipe(run.folder / NEWEST / "model.safetensors"),
        "step-000018",
        "not a regular file",
    ),
    "a state of another step": (swap_states, "step-000018", "belongs to another model.safetensors"),
    "a step by another name": (
        lambda run: shutil.copytree(run.folder / NEWEST, run.folder / "checkpoints/step-000027"),
        "step-000027",
        "it holds step 18",
    ),
    "last leads nowhere": (
        lambda run: relink(run, "last", "step-000027"),
        "last",
        "no step of this run",
    ),
    "last leads out": (lambda run: relink(run, "last", "../.."), "last", "no step of this run"),
    "last goes round": (lambda run: relink(run, "last", "last"), "last", "no step of this run"),
    "last is not the newest": (
        lambda run: relink(run, "last", "step-000009"),
        "last",
        "not at step-000018",
    ),
    "best leads nowhere": (
        lambda run: relink(run, "best", "gone\x1b]0;x\x07"),
        "best",
        "gone?]0;x?",
    ),
    "the newest is gone": (drop_newest, "run.json", "last checkpoint (step-000018) is not there"),
    "a newer step than recorded": (
        lambda run: edit_record(run, checkpoints={"last": "step-000009", "best": "step-000018"}),
        "run.json",
        "step-000018 is there",
    ),
    "a best that is not there": (
        lambda run: edit_record(run, checkpoints={"last": "step-000018", "best": "../\x1b[2J"}),
        "run.json",
        "best checkpoint (../?[2J)",
    ),
    "no run.json": (lambda run: (run.folder / "run.json").unlink(), "run.json", "it is missing"),
    "run.json is not JSON": (
        lambda run: (run.folder / "run.json").write_text("{"),
        "run.json",
        "it is not JSON",
    ),
    "run.json is deep": (
        lambda run: (run.folder / "run.json").write_text("[" * 10**5),
        "run.json",
        "not JSON",
    ),
    "run.json is a list": (
        lambda run: (run.folder / "run.json").write_text("[]"),
        "run.json",
        "not a table",
    ),
    "run.json is a pipe": (
        lambda run: replace_by_pipe(run.folder / "run.json"),
        "run.json",
        "not a regular file",
    ),
    "no status": (
        lambda run: edit_record(run, status="\x1b[1mfine"),
        "run.json",
        "no status that trainer knows",
    ),
    "no names": (
        lambda run: edit_record(run, checkpoints=[]),
        "run.json",
        "last checkpoint (None)",
    ),
}


def edit_lines(run: Run, edit: Callable[[list[str]], list[str]]) -> None:
    path = run.folder / "metrics.jsonl"
    path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))


def edit_row(run: Run, index: int, **changes: Any) -> None:
    def edit(lines: list[str]) -> list[str]:
        row = {**json.loads(lines[index]), **changes}
        lines[index] = (
            json.dumps({key: value for key, value in row.items() if value is not ...}) + "\n"
        )
        return lines

    edit_lines(run, edit)


def row_at(run: Run, split: str) -> int:
    """The number of the last row of a split."""
    return max(index for index, row in enumerate(run.rows) if row["split"] == split)


def edits_row(split: str, **changes: Any) -> Callable[[Run], None]:
    """A change of the last row of a split."""
    return lambda run: edit_row(run, row_at(run, split), **changes)


OF_METRICS: dict[str, tuple[Mutate, str]] = {
    "missing": (lambda run: (run.folder / "metrics.jsonl").unlink(), "it is missing"),
    "a pipe": (lambda run: replace_by_pipe(run.folder / "metrics.jsonl"), "not a regular file"),
    "a folder": (lambda run: replace_by_folder(run.folder / "metrics.jsonl"), "not a regular file"),
    "too large": (
        lambda run: os.truncate(run.folder / "metrics.jsonl", 2 * 10**9),
        "larger than any of trainer's",
    ),
    "torn": (
        lambda run: edit_lines(run, lambda lines: [*lines[:-1], lines[-1][:40]]),
        "line 10 is incomplete",
    ),
    "without its end": (
        lambda run: edit_lines(run, lambda lines: [*lines[:-1], lines[-1][:-1]]),
        "line 10 is incomplete",
    ),
    "the last row is gone": (
        lambda run: edit_lines(run, lambda lines: lines[:-1]),
        "not the test/loss that run.json",
    ),
    "a torn line within": (
        lambda run: edit_lines(run, lambda lines: [lines[0][:40] + "\n", *lines[1:]]),
        "line 1 is not JSON; a resume would drop it",
    ),
    "a doubled row": (
        lambda run: edit_lines(run, lambda lines: [*lines[:2], *lines[1:]]),
        "line 3 has step 8 of train after step 8",
    ),
    "a doubled test": (
        lambda run: edit_lines(run, lambda lines: [*lines, lines[-1]]),
        "of test after step 18",
    ),
    "rows that changed places": (
        lambda run: edit_lines(run, lambda lines: [lines[1], lines[0], *lines[2:]]),
        "line 2 has step 4 of train after step 8",
    ),
    "an empty line": (
        lambda run: edit_lines(run, lambda lines: ["\n", *lines]),
        "line 1 is not JSON",
    ),
    "a list": (lambda run: edit_lines(run, lambda lines: ["[]\n", *lines]), "line 1 has no split"),
    "an unknown split": (
        lambda run: edit_row(run, 0, split="train\x1b[2J"),
        "line 1 has no split that trainer knows",
    ),
    "a split that is a list": (
        lambda run: edit_row(run, 0, split=[]),
        "line 1 has no split that trainer knows",
    ),
    "an unknown field": (lambda run: edit_row(run, 0, **{"\x1b[2J": 1}), "the unknown field ?[2J"),
    "a field too few": (lambda run: edit_row(run, 0, loss=...), "line 1 lacks the field loss"),
    "not a number": (lambda run: edit_row(run, 0, loss=float("nan")), "line 1 is not JSON"),
    "a text": (lambda run: edit_row(run, 0, loss="0.1"), "line 1 has a loss that is invalid"),
    "a huge number": (
        lambda run: edit_row(run, 0, samples=10**400),
        "line 1 has a samples that is invalid",
    ),
    "a truth": (lambda run: edit_row(run, 0, step=True), "line 1 has a step that is invalid"),
    "a step below 0": (
        lambda run: edit_row(run, 0, step=-4),
        "line 1 has a step that is invalid",
    ),
    "a deep row": (
        lambda run: edit_lines(run, lambda lines: ["[" * 90_000 + "\n", *lines]),
        "line 1 is not JSON",
    ),
    "an endless row": (
        lambda run: edit_lines(run, lambda lines: ["[" * 10**6, *lines]),
        "line 1 is longer than",
    ),
    "another validation loss": (
        edits_row("val", loss=0.25),
        "not the val/loss that step",
    ),
    "no validation row": (
        lambda run: edit_lines(run, lambda lines: [line for line in lines if '"val"' not in line]),
        "not the val/loss that step-000009 has",
    ),
    "another test loss": (
        edits_row("test", loss=0.25),
        "not the test/loss that run.json",
    ),
    "another loss of an epoch": (
        edits_row("train_epoch", loss=0.25),
        "not the train/loss that step-000018 has",
    ),
    "another accuracy of an epoch": (
        edits_row("train_epoch", accuracy=0.25),
        "not the train/accuracy that step-000018 has",
    ),
    "an epoch twice": (
        edits_row("train_epoch", step=9),
        "has step 9 of train_epoch after step 9",
    ),
    "an epoch past the end": (
        edits_row("train_epoch", step=99),
        "its rows reach step 99",
    ),
    "a row past the end": (
        edits_row("train", step=99),
        "its rows reach step 99",
    ),
}


def rewrite(run: Run, change: Callable[[Event], Event | list[Event] | None]) -> None:
    """Write the event file anew, with right checksums; `change` gives what stands in place of an
    event.
    """
    [path] = event_files(run.folder)
    kept: list[Event] = []
    for event in read_events(path):
        new = change(event)
        kept += new if isinstance(new, list) else [] if new is None else [new]
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for event in kept:
            writer.write(event.SerializeToString())


def append_record(run: Run, data: bytes) -> None:
    with event_files(run.folder)[0].open("ab") as file:
        RecordWriter(file).write(data)


def moved(event: Event, *, by: float, tag: str = "Loss/train") -> Event:
    for value in event.summary.value:
        if value.tag == tag:
            value.simple_value += by
    return event


def with_tag(event: Event, tag: str, *, step: int | None = None) -> list[Event]:
    """An event, and where it is of Loss/test one more of another name or at another step."""
    more = Event.FromString(event.SerializeToString())
    if [value.tag for value in event.summary.value] != ["Loss/test"]:
        return [event]
    more.summary.value[0].tag = tag
    more.step = event.step if step is None else step
    return [event, more]


def is_of(event: Event, tag: str, step: int) -> bool:
    return event.step == step and [value.tag for value in event.summary.value] == [tag]


OF_EVENTS: dict[str, tuple[Mutate, str]] = {
    "missing": (lambda run: event_files(run.folder)[0].unlink(), "there is no event file"),
    "empty": (lambda run: os.truncate(event_files(run.folder)[0], 0), "Loss/train lacks step 4"),
    "a flipped bit": (lambda run: flip(event_files(run.folder)[0], 2000), "is damaged at byte"),
    "cut off": (
        lambda run: os.truncate(
            event_files(run.folder)[0], event_files(run.folder)[0].stat().st_size - 3
        ),
        "ends within a record",
    ),
    "no event": (
        lambda run: append_record(run, b"\xff\xff"),
        "has no event at byte",
    ),
    "a pipe": (lambda run: replace_by_pipe(event_files(run.folder)[0]), "not a regular file"),
    "too large": (
        lambda run: os.truncate(event_files(run.folder)[0], 2 * 10**9),
        "larger than any of trainer's",
    ),
    "another value": (
        lambda run: rewrite(run, lambda event: moved(event, by=1e-6)),
        "Loss/train has another value at step 4 than metrics.jsonl",
    ),
    "not finite": (
        lambda run: rewrite(run, lambda event: moved(event, by=float("nan"))),
        "another value at step 4",
    ),
    "a value gone": (
        lambda run: rewrite(
            run, lambda event: None if is_of(event, "Learning/learning_rate", 8) else event
        ),
        "Learning/learning_rate lacks step 8",
    ),
    "an epoch gone": (
        lambda run: rewrite(
            run, lambda event: None if is_of(event, "Loss/train_epoch", 9) else event
        ),
        "Loss/train_epoch lacks step 9",
    ),
    "another value of an epoch": (
        lambda run: rewrite(run, lambda event: moved(event, by=1e-3, tag="Accuracy/train_epoch")),
        "Accuracy/train_epoch has another value at step 9",
    ),
    "a value twice": (
        lambda run: rewrite(
            run, lambda event: [event, event] if is_of(event, "Loss/val", 9) else event
        ),
        "Loss/val has step 9 after step 9",
    ),
    "a value more": (
        lambda run: rewrite(run, lambda event: with_tag(event, "Loss/val", step=99)),
        "Loss/val has step",
    ),
    "an unknown tag": (
        lambda run: rewrite(run, lambda event: with_tag(event, "Loss/\x1b]0;own\x07")),
        "Loss/?]0;own? is no value of metrics.jsonl",
    ),
    "a hostile name": (
        lambda run: flip(
            event_files(run.folder)[0].rename(run.folder / "events.out.tfevents.\x1b[31m\n[red]"),
            2000,
        ),
        "events.out.tfevents.?[31m?[red] is damaged at byte",
    ),
    "another loss in the row": (
        lambda run: edit_row(run, 0, loss=0.25),
        "Loss/train has another value at step 4",
    ),
}
DAMAGES: dict[str, tuple[Mutate, str, str]] = {
    **{f"checkpoints: {name}": what for name, what in OF_CHECKPOINTS.items()},
    **{
        f"metrics: {name}": (mutate, "metrics.jsonl", words)
        for name, (mutate, words) in OF_METRICS.items()
    },
    **{
        f"TensorBoard: {name}": (mutate, "TensorBoard", words)
        for name, (mutate, words) in OF_EVENTS.items()
    },
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_named(name: str, trainer: Trainer, copy: Copy) -> None:
    mutate, what, words = DAMAGES[name]
    run = copy("board")
    mutate(run)
    checked = check(trainer, run, code=3)
    state, detail = checked.rows[what]
    assert state == "damaged" and words in detail, checked.rows
    first = next(row for row, (state, _) in checked.rows.items() if state == "damaged")
    assert checked.err.startswith(f"Error: {first} of {run.folder} is damaged: ")
    # One thing is damaged, and only what hangs on it is told beside it.
    others = {row for row, (state, _) in checked.rows.items() if state == "damaged"} - {what}
    assert others <= {"last", "best", "metrics.jsonl"}


def test_without_tensorboard_a_damaged_row_is_found_all_the_same(
    trainer: Trainer, copy: Copy
) -> None:
    run = copy("bare")
    edit_row(run, row_at(run, "val"), accuracy=0.75)
    assert "val/accuracy that step-000018" in check(trainer, run, code=3).rows["metrics.jsonl"][1]


def test_what_to_do_when_the_newest_step_is_damaged(trainer: Trainer, copy: Copy) -> None:
    run = copy("board")
    flip(run.folder / NEWEST / "model.safetensors")
    err = check(trainer, run, code=3).err.splitlines()
    assert err[0].endswith(
        "is damaged: model.safetensors: its checksum differs (and 2 more, above)."
    )
    assert err[1:] == [
        "Newest intact step: step-000009.",
        f"To continue from it: trainer fit resume={run.folder}",
    ]
    outcome = trainer("fit", f"resume={run.folder}")
    assert outcome.code == 0 and "Resumed at step 9" in outcome.out


def test_what_to_do_when_the_newest_step_is_intact(trainer: Trainer, copy: Copy) -> None:
    run = copy("board")
    flip(run.folder / "checkpoints/step-000009/state.safetensors")
    err = check(trainer, run, code=3).err.splitlines()
    assert err[1] == "The newest step, step-000018, is intact."
    command = err[2].partition("To use it: trainer ")[2].split()
    assert trainer(*command).code == 0


def test_what_to_do_when_no_step_is_intact(trainer: Trainer, copy: Copy) -> None:
    run = copy("board")
    for step in run.steps:
        flip(run.folder / "checkpoints" / step / "model.safetensors")
    assert check(trainer, run, code=3).err.splitlines()[1] == "No step is intact."


def test_an_interrupted_run_with_a_torn_row(trainer: Trainer, copy: Copy) -> None:
    run = copy("killed")
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"split": "tra')
    state, detail = check(trainer, run, code=0).rows["metrics.jsonl"]
    assert (
        state == "interrupted"
        and "the last line is incomplete" in detail
        and "a resume drops that" in detail
    )
    assert trainer("fit", f"resume={run.folder}").code == 0
    assert check(trainer, run, code=0).rows["metrics.jsonl"][0] == "ok"


def test_an_interrupted_run_with_a_torn_event(trainer: Trainer, copy: Copy) -> None:
    run = copy("killed")
    with event_files(run.folder)[0].open("ab") as file:
        file.write(event_files(run.folder)[0].read_bytes()[:13])
    state, detail = check(trainer, run, code=0).rows["TensorBoard"]
    assert state == "interrupted" and "truncated within a record" in detail
    assert trainer("fit", f"resume={run.folder}").code == 0
    assert check(trainer, run, code=0).rows["TensorBoard"][0] == "ok"


def test_a_resume_puts_right_a_record_that_is_no_event(trainer: Trainer, copy: Copy) -> None:
    run = copy("killed")
    append_record(run, b"\xff\xff")
    check(trainer, run, code=3)
    outcome = trainer("fit", f"resume={run.folder}")
    assert outcome.code == 0 and "rebuilt from metrics.jsonl" in outcome.err
    assert check(trainer, run, code=0).rows["TensorBoard"][0] == "ok"


def test_a_run_killed_while_a_step_was_replaced(trainer: Trainer, copy: Copy) -> None:
    run = copy("killed")
    step = run.folder / "checkpoints" / "step-000012"
    step.rename(step.with_name(".step-000012.old"))
    checked = check(trainer, run, code=0)
    assert (
        checked.rows["last"][0] == "interrupted" and "was being replaced" in checked.rows["last"][1]
    )
    assert checked.states()["leftovers"] == "interrupted"
    assert trainer("fit", f"resume={run.folder}").code == 0
    assert set(check(trainer, run, code=0).states().values()) == {"ok"}


def test_a_copy_that_lost_the_links(trainer: Trainer, copy: Copy) -> None:
    run = copy("board")
    for which in ("last", "best"):
        (run.folder / "checkpoints" / which).unlink()
    states = check(trainer, run, code=0).states()
    assert (states["last"], states["best"]) == ("no link", "no link")


def test_a_copy_that_followed_the_links(trainer: Trainer, made: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "copied")
    shutil.copytree(made / "board", run.folder, symlinks=False)
    assert check(trainer, run, code=0).rows["last"] == (
        "ok",
        "a folder, not a link: both files verified, 0.02 MB",
    )
    flip(run.folder / "checkpoints/last/model.safetensors")
    assert check(trainer, run, code=3).states()["last"] == "damaged"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails")
def test_what_cannot_be_read_is_not_called_damaged(trainer: Trainer, copy: Copy) -> None:
    run = copy("board")
    (run.folder / "metrics.jsonl").unlink()
    (run.folder / "metrics.jsonl").symlink_to("/proc/self/mem")
    outcome = trainer("check-run", str(run.folder))
    assert outcome.code == 4
    assert "metrics.jsonl" in outcome.err and "is unreadable: Input/output error." in outcome.err
    assert "damaged" not in outcome.out


def test_hostile_names_do_not_drive_the_terminal(
    trainer: Trainer, made: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "a\x1b]0;own\x07\n[red]b [link=x]")
    shutil.copytree(made / "board", run.folder, symlinks=True)
    (run.folder / "checkpoints" / ".step-\x1b[2J").mkdir()
    edit_record(
        run, status="failed", error="\x1b[31m[bold]no\r\nError: all is well", ended="\x9b2J"
    )
    checked = check(trainer, run, code=0)
    assert "a?]0;own??[red]b [link=x]" in checked.outcome.out
    assert checked.rows["run.json"] == ("failed", "ended ?2J: ?[31m[bold]no??Error: all is well")
    assert checked.rows["leftovers"][1].startswith(".step-?[2J was left")
    flip(run.folder / NEWEST / "model.safetensors")
    assert "[red]b [link=x] is damaged" in check(trainer, run, code=3).err


def test_the_word_last(trainer: Trainer, copy: Copy, tmp_path: Path) -> None:
    for name, started in (
        ("bare", "2030-01-02T00:00:00+00:00"),
        ("board", "2030-01-01T00:00:00+00:00"),
    ):
        run = copy(name)
        edit_record(run, started=started)
        (tmp_path / "runs" / "2030-01-01").mkdir(parents=True, exist_ok=True)
        run.folder.rename(tmp_path / "runs" / "2030-01-01" / name)
    outcome = trainer("check-run", "last")
    assert outcome.code == 0 and outcome.out.startswith("runs/2030-01-01/bare\n")
    (tmp_path / "runs").rename(tmp_path / "results")
    outcome = trainer("check-run", "last", "run.root=results")
    assert outcome.code == 0 and outcome.out.startswith("results/2030-01-01/bare\n")
    refused = trainer("check-run", "results/2030-01-01")
    assert refused.code == 2
    assert (
        "There are runs in it. Name one: trainer check-run results/2030-01-01/bare" in refused.err
    )


# Words after check-run, beside a run at `here/board`, and what the message must hold.
WRONG: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("The run is missing.", "trainer check-run last"),
    ("",): ("A word is empty.",),
    ("lsat",): ("lsat does not exist,", "Did you mean last?"),
    ("here/baord",): ("here/baord does not exist.", "Did you mean here/board?"),
    ("nowhere/at/all",): ("nowhere/at/all does not exist.", "Give a run folder"),
    ("here/board/run.json",): ("here/board/run.json is not a run folder.",),
    ("here",): ("here is not a run folder.", "trainer check-run here/board"),
    ("empty",): ("empty is not a run folder.", "Give a run folder"),
    ("here/board/checkpoints",): ("is not a run folder", "trainer check-run here/board"),
    ("here/board/checkpoints/last",): ("is not a run folder", "trainer check-run here/board"),
    ("here/board", "last"): (
        "check-run takes one run; last is one too many.",
        "trainer check-run here/board",
    ),
    ("here/board", "--fix"): ("There is no flag --fix.", "--help"),
    ("--hlep",): ("There is no flag --hlep.", "Did you mean --help?"),
    ("ckpt=last",): ("check-run has no key ckpt.", "trainer check-run last"),
    ("resume=here/board",): ("check-run has no key resume.", "trainer check-run here/board"),
    ("last", "run.rot=here"): ("check-run has no key run.rot.", "Did you mean run.root?"),
    ("x" * 5000,): ("x does not exist", "Give a run folder"),
    ("\x1b[2Jrun",): ("?[2Jrun does not exist",),
}


@pytest.mark.fault("N")
def test_the_last_of_no_runs_ends_as_in_every_command(trainer: Trainer) -> None:
    """Failed before: check-run ended with 2 where five other commands end with 3."""
    for words in (("check-run", "last"), ("runs", "show"), ("reproduce", "last"), ("tb", "last")):
        outcome = trainer(*words)
        assert (outcome.code, outcome.out) == (3, "")
        assert outcome.err == "Error: There is no run in runs.\nStart one: trainer fit\n"


@pytest.mark.parametrize(
    "words", WRONG, ids=lambda words: " ".join(words)[:40].replace("\x1b", "") or "nothing"
)
def test_a_wrong_command(
    words: tuple[str, ...], trainer: Trainer, copy: Copy, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "empty").mkdir()
    copy("board").folder.rename(tmp_path / "here" / "board")
    before = everything(tmp_path)
    outcome = trainer("check-run", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert 1 <= len(outcome.err.splitlines()) <= 3 and len(outcome.err) < 1000
    assert [part for part in WRONG[words] if part not in outcome.err] == [], outcome.err
    assert "\x1b" not in outcome.err
    assert everything(tmp_path) == before


def test_a_folder_with_an_equals_sign_is_a_run(
    trainer: Trainer, copy: Copy, tmp_path: Path
) -> None:
    copy("bare").folder.rename(tmp_path / "lr=0.1")
    assert trainer("check-run", "lr=0.1").code == 0


WITHOUT_TORCH = """
import sys
from trainer.cli.main import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules
    print("modules:", len(sys.modules), "tensorboard" in sys.modules)
"""


@pytest.mark.parametrize("name", ["board", "bare"])
def test_torch_is_not_loaded_and_tensorboard_only_where_there_are_events(
    name: str, made: Path
) -> None:
    ran = run_python("-c", WITHOUT_TORCH, "check-run", name, cwd=made)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith(f" {name == 'board'}\n")


def test_in_a_narrow_terminal_nothing_is_lost(
    trainer: Trainer, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy("board")
    monkeypatch.setenv("COLUMNS", "50")
    outcome = trainer("check-run", str(run.folder))
    assert "metrics.jsonl" in outcome.out and "34 values in 1 file" in outcome.out
    assert "…" not in outcome.out
