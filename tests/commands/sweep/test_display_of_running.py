"""Following a running job by its metrics.jsonl: what was appended, half lines, other files,
hostile files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trainer.commands.sweep.display import RunFollower


def row(
    split: str = "train", *, epoch: Any = 0, step: int = 1, samples: Any = 10, loss: Any = 0.5
) -> dict[str, Any]:
    """A row as a run writes it."""
    content = {
        "split": split,
        "epoch": epoch,
        "step": step,
        "samples": samples,
        "seconds": 1.0,
        "loss": loss,
    }
    if split == "train_epoch":
        return {**content, "accuracy": 0.9, "learning_rate": 0.1}
    if split != "train":
        return {**content, "accuracy": 0.9, "count": 100}
    return {
        **content,
        "accuracy": None,
        "learning_rate": 0.1,
        "grad_norm": None,
        "samples_per_second": 100.0,
    }


def line(split: str = "train", **values: Any) -> bytes:
    """The line of a row."""
    return json.dumps(row(split, **values)).encode() + b"\n"


def append(run: Path, data: bytes) -> None:
    """Write `data` to the end of a run's metrics.jsonl."""
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(data)


def follow(run: Path, *, epochs: int = 4, max_steps: int | None = None) -> RunFollower:
    return RunFollower(run, epochs=epochs, max_steps=max_steps)


def test_the_last_row_of_each_split_is_kept(tmp_path: Path) -> None:
    job = follow(tmp_path)
    append(
        tmp_path,
        line(step=1)
        + line("val", step=1, loss=0.4)
        + line(step=2, loss=0.3)
        + line("test", loss=9.0),
    )
    job.look()
    assert job.train == row(step=2, loss=0.3) and job.val == row("val", step=1, loss=0.4)
    append(tmp_path, line(step=3, loss=0.2))
    job.look()
    assert job.train == row(step=3, loss=0.2) and job.val == row("val", step=1, loss=0.4)


def test_an_epoch_as_a_whole_counts_and_is_no_evaluation(tmp_path: Path) -> None:
    job = follow(tmp_path)
    append(tmp_path, line(step=1) + line("val", step=2) + line("train_epoch", epoch=1, step=2))
    job.look()
    assert job.train == row(step=1) and job.val == row("val", step=2)
    assert job.position == "epoch 1/4"


def test_a_half_written_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    job, second = follow(tmp_path), line(step=2)
    append(tmp_path, line(step=1) + second[:30])
    job.look()
    assert job.train == row(step=1)
    append(tmp_path, second[30:-1])
    job.look()
    assert job.train == row(step=1)
    append(tmp_path, second[-1:] + line(step=3)[:5])
    job.look()
    assert job.train == row(step=2)


def test_a_file_that_became_shorter_is_read_from_its_start(tmp_path: Path) -> None:
    job = follow(tmp_path)
    append(
        tmp_path, line(epoch=1, step=1) + line("val", step=1) + line(epoch=3, step=2) + b'{"half'
    )
    job.look()
    assert job.fraction == 0.75
    os.truncate(tmp_path / "metrics.jsonl", len(line(epoch=1, step=1)))
    job.look()
    assert job.train == row(epoch=1, step=1) and job.val is None and job.fraction == 0.25


def test_a_file_that_was_replaced_by_a_longer_one_is_read_from_its_start(tmp_path: Path) -> None:
    job = follow(tmp_path)
    append(tmp_path, line(epoch=3, step=9))
    job.look()
    (tmp_path / "new").write_bytes(
        line(step=1) + line("val", step=2) + line("val", epoch=1, step=3)
    )
    (tmp_path / "new").replace(tmp_path / "metrics.jsonl")
    job.look()
    assert (
        job.train == row(step=1) and job.val == row("val", epoch=1, step=3) and job.fraction == 0.25
    )


def test_what_a_job_waits_for_before_its_first_row(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = follow(run)
    job.look()
    assert job.position == "waiting" and job.fraction == 0
    run.mkdir()
    (run / "run.json").write_text('{"steps": 40}')
    job.look()
    assert job.position == "starting"
    append(run, line(epoch=2))
    job.look()
    assert job.position == "epoch 2/4"


def test_the_steps_that_run_json_plans_give_the_fraction(tmp_path: Path) -> None:
    job, fractions = follow(tmp_path), []
    (tmp_path / "run.json").write_text('{"steps": 40}')
    for epoch, step in ((0, 5), (1, 10), (1, 15), (2, 20), (1, 15), (4, 40), (5, 50)):
        append(tmp_path, line(epoch=epoch, step=step))
        job.look()
        fractions.append(job.fraction)
    # A row out of order takes nothing back.
    assert fractions == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 1, 1])
    assert fractions == sorted(fractions)


def test_the_nearer_limit_counts(tmp_path: Path) -> None:
    job = follow(tmp_path, epochs=10, max_steps=40)
    append(tmp_path, line(epoch=1, step=30))
    job.look()
    assert (job.fraction, job.position) == (0.75, "step 30/40")
    job = follow(tmp_path, epochs=1, max_steps=60)
    job.look()
    assert (job.fraction, job.position) == (1, "epoch 1/1")


@pytest.mark.parametrize(
    "data",
    [
        b"NaN\n",
        line(loss=float("nan")),
        b"\x00\xff\x1b[2J\n\n\r\n",
        b"[" * 50_000 + b"\n",
        b'{"split": "train"}\n',
        b'{"split": ["train"]}\n',
        b"9" * 5_000 + b"\n",
        b"x" * 60_000,
    ],
)
def test_lines_that_are_no_rows_are_passed_over(tmp_path: Path, data: bytes) -> None:
    job = follow(tmp_path)
    append(tmp_path, line(step=1) + data)
    job.look()
    assert job.train == row(step=1)
    append(tmp_path, b"\n" + line(step=2))
    job.look()
    assert job.train == row(step=2)


def test_counters_that_make_no_sense_give_a_fraction(tmp_path: Path) -> None:
    for number in (None, -1, -1e308, 1e308, 5e-324, 2**53, 0):
        for other in (None, -1e308, 1e308, 5e-324, 0):
            run = tmp_path / f"{number}{other}"
            run.mkdir()
            append(
                run,
                line(epoch=number, samples=other)
                + line("val", epoch=other, samples=number, step=2**53),
            )
            for epochs, max_steps in ((0, 0), (4, None), (1, 1)):
                job = follow(run, epochs=epochs, max_steps=max_steps)
                job.look()
                assert 0 <= job.fraction <= 1 and job.position and job.val is not None


def test_a_named_pipe_a_folder_and_a_loop_of_links_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    (tmp_path / "folder" / "metrics.jsonl").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for run in (
        tmp_path,
        tmp_path / "folder",
        tmp_path / "loop",
        tmp_path / "file",
        tmp_path / ("x" * 5_000),
    ):
        job = follow(run)
        job.look()
        assert job.train is None and job.position == "waiting"


def test_a_pipe_in_place_of_the_file_keeps_the_last_rows(tmp_path: Path) -> None:
    job = follow(tmp_path)
    append(tmp_path, line(step=1))
    job.look()
    (tmp_path / "metrics.jsonl").unlink()
    os.mkfifo(tmp_path / "metrics.jsonl")
    job.look()
    assert job.train == row(step=1)


def test_of_a_large_file_the_end_is_read(tmp_path: Path) -> None:
    num = 100_000 // len(line(step=100)) + 1
    append(tmp_path, line("val") + b"".join(line(step=100 + step) for step in range(num)))
    job = follow(tmp_path)
    job.look()
    # The row of val is too far from the end; the line that the last 64 KiB begin within is no row
    # and no harm.
    assert job.train == row(step=100 + num - 1) and job.val is None
    append(tmp_path, line("val", step=7))
    job.look()
    assert job.val == row("val", step=7)


class Reads:
    """os.pread that notes how much was asked for."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, handle: int, size: int, offset: int) -> bytes:
        self.sizes.append(size)
        data = os.read(handle, 0)
        os.lseek(handle, offset, os.SEEK_SET)
        return data + os.read(handle, size)


def test_a_thousand_looks_read_each_byte_once_and_keep_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads()
    monkeypatch.setattr("trainer.commands.sweep.display.os.pread", reads)
    job, written = follow(tmp_path), 0
    for step in range(1, 501):
        data = line(step=step) + (b"" if step % 2 else line("val", step=step))
        append(tmp_path, data)
        written += len(data)
        job.look()
        job.look()
    assert sum(reads.sizes) == written and len(reads.sizes) == 500
    assert job.train == row(step=500) and job.val == row("val", step=500)
    assert kept_by(job) < 2_000


def test_a_line_without_an_end_is_not_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads()
    monkeypatch.setattr("trainer.commands.sweep.display.os.pread", reads)
    job = follow(tmp_path)
    append(tmp_path, line(step=1))
    for _ in range(40):
        append(tmp_path, b"x" * 50_000)
        job.look()
        assert kept_by(job) < 160_000
    append(tmp_path, b"x" * 10_000_000)
    job.look()
    assert max(reads.sizes) <= 64 * 1024 and kept_by(job) < 160_000
    append(tmp_path, b"x\n" + line(step=2))
    job.look()
    assert job.train == row(step=2)


def kept_by(job: RunFollower) -> int:
    """How long everything is, written out, that a job is remembered by."""
    return len(repr(vars(job)))
