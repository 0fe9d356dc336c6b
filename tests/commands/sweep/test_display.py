"""The display of a sweep: what is on the screen of a terminal, and the plain lines off one."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_display_of_running import append, line

from trainer.commands.sweep.display import Board
from trainer.commands.sweep.record import JobRecord
from trainer.commands.sweep.task import JobStatus
from trainer.tracking.console import Terminal


class Screen(Terminal):
    """A terminal of this size; `lines` is what a person sees on it, scrolled lines included."""

    def __init__(
        self, *, width: int = 120, height: int = 30, err: io.StringIO | None = None
    ) -> None:
        super().__init__()
        self.file, lines = io.StringIO(), type(self.out)
        # Without these a variable of the caller's, such as NO_COLOR or TERM, would decide what is
        # drawn.
        size = {"COLUMNS": str(width), "LINES": str(height), "TERM": "xterm-256color"}
        self.out = lines(
            file=self.file, force_terminal=True, highlight=False, soft_wrap=True, _environ=size
        )
        self.err = lines(
            file=err or self.file,
            force_terminal=err is None,
            width=width,
            highlight=False,
            soft_wrap=True,
            _environ=size,
        )

    @property
    def lines(self) -> list[str]:
        lines, y, x = [""], 0, 0
        for found in re.finditer(
            r"\x1b\[([?0-9;]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+", self.file.getvalue()
        ):
            if found[0] == "\r":
                x = 0
            elif found[0] == "\n":
                y, x = y + 1, 0
                lines += [""] * (y == len(lines))
            elif found[2] == "A":
                y = max(0, y - int(found[1] or 1))
            elif found[2] == "K":
                lines[y] = ""
            elif found[2] is None:
                lines[y] = lines[y][:x].ljust(x) + found[0] + lines[y][x + len(found[0]) :]
                x += len(found[0])
        return [text.rstrip() for text in lines if text.strip()]


class Plain(Terminal):
    """A file or a pipe in the place of a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.warned, lines = io.StringIO(), io.StringIO(), type(self.out)
        self.out = lines(file=self.written, width=200, highlight=False, soft_wrap=True, _environ={})
        self.err = lines(file=self.warned, width=200, highlight=False, soft_wrap=True, _environ={})


def a_job(number: int, **values: str) -> JobRecord:
    return JobRecord(number=number, values=values or {"optimizer.lr": f"0.{number}"}, command=[])


def a_board(
    terminal: Terminal,
    *,
    total: int = 12,
    monitor: str = "val/accuracy",
    maximize: bool = True,
) -> Board:
    return Board(terminal, total=total, monitor=monitor, maximize=maximize)


def start(board: Board, job: JobRecord, run: Path) -> JobRecord:
    job.status = JobStatus.RUNNING
    board.start(job, run=run, epochs=5, max_steps=None)
    return job


def end(
    board: Board,
    job: JobRecord,
    status: JobStatus = JobStatus.DONE,
    *,
    error: str | None = None,
    **metrics: float | None,
) -> None:
    """End a job; `val_loss=…` is its val/loss."""
    job.status, job.error, job.seconds = status, error, 12.34
    job.metrics = {name.replace("_", "/"): value for name, value in metrics.items()}
    board.end(job)


def test_a_running_job_has_a_line_with_what_it_wrote_last(tmp_path: Path) -> None:
    screen = Screen()
    with a_board(screen) as board:
        start(board, a_job(3, **{"optimizer.lr": "0.1", "model": "cnn"}), tmp_path)
        board.refresh()
        assert re.fullmatch(r"job 3  optimizer\.lr=0\.1 model=cnn  ━+  waiting", screen.lines[0])
        append(
            tmp_path, line(epoch=2, samples=200, loss=0.31214) + line("val", epoch=2, samples=200)
        )
        board.refresh()
        job, sweep = screen.lines
        assert re.fullmatch(
            r"job 3  optimizer\.lr=0\.1 model=cnn  [━╸╺]{20}  epoch 2/5  loss 0\.3121  "
            r"val/accuracy 0\.9000"
            r"  100 samples/s",
            job,
        )
        assert re.fullmatch(
            r"sweep  [━╸╺]{20}  0/12  1 running  \d:\d\d  \d+:\d\d(:\d\d)? left", sweep
        )
    assert screen.lines == []


def test_a_line_fits_the_width_and_keeps_room_for_the_values(tmp_path: Path) -> None:
    append(tmp_path, line(epoch=2, samples=200) + line("val", epoch=2, samples=200))
    for width in (200, 120, 100, 80, 60, 40, 20, 5):
        screen = Screen(width=width)
        with a_board(screen) as board:
            start(board, a_job(1, **{"model.hidden": "[" + "256," * 100 + "]"}), tmp_path)
            start(board, a_job(200, **{"model.hidden": "[1]"}), tmp_path)
            board.refresh()
            assert all(len(text) <= width for text in screen.lines) and len(screen.lines) == 3
            if width >= 60:
                assert "model.hidden=[256," in screen.lines[0] and "…" in screen.lines[0]
                assert all("epoch 2/5" in text for text in screen.lines[:2])
            assert ("samples/s" in screen.lines[0]) is (width >= 120)


def test_a_job_that_ended_has_a_line_above_the_display(tmp_path: Path) -> None:
    screen = Screen()
    with a_board(screen) as board:
        jobs = [start(board, a_job(number), tmp_path / str(number)) for number in range(1, 6)]
        end(board, jobs[0], val_accuracy=0.90123)
        end(board, jobs[1], JobStatus.PRUNED, val_accuracy=0.2)
        end(board, jobs[2], JobStatus.INTERRUPTED)
        end(board, jobs[3], JobStatus.FAILED, error="The loss is nan\nat step 3.")
        board.refresh()
        *said, running, sweep = screen.lines
        assert running.startswith("job 5 ")
        # The job that was interrupted waits for the next command, and a pruned one is not the best.
        assert (
            "  3/12  1 running  1 failed  1 pruned  1 interrupted  best val/accuracy 0.9012 (job 1)"
            in sweep
        )
    assert screen.lines == said
    assert said == [
        "Job 1 done: optimizer.lr=0.1  val/accuracy 0.9012  12.3 s",
        "Job 2 pruned: optimizer.lr=0.2  val/accuracy 0.2000  12.3 s",
        "Job 3 interrupted: optimizer.lr=0.3  12.3 s",
        "Warning: Job 4 (optimizer.lr=0.4) failed: The loss is nan at step 3.",
    ]


def test_warnings_go_to_standard_error_where_that_is_a_file(tmp_path: Path) -> None:
    err = io.StringIO()
    screen = Screen(err=err)
    with a_board(screen) as board:
        end(board, start(board, a_job(1), tmp_path), JobStatus.FAILED)
        board.warn("Look here.")
        board.say("And here.", style="bold")
        assert screen.lines[0] == "And here." and len(screen.lines) == 2
    assert err.getvalue() == (
        "Warning: Job 1 (optimizer.lr=0.1) failed: it gave no reason\nWarning: Look here.\n"
    )


def test_off_a_terminal_there_is_a_plain_line_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    plain = Plain()
    with a_board(plain) as board:
        jobs = [
            start(board, a_job(1), tmp_path),
            start(board, a_job(2, model="cnn", seed="3"), tmp_path),
        ]
        append(tmp_path, line(epoch=2))
        for _ in range(5):
            board.refresh()
        end(board, jobs[0], val_accuracy=0.9)
        end(board, jobs[1], JobStatus.FAILED, error="It ran out of memory.")
        last = start(board, JobRecord(number=3, values={}, command=[]), tmp_path)
        board.end(last)
    assert plain.written.getvalue() == (
        "Job 1: optimizer.lr=0.1\n"
        "Job 2: model=cnn seed=3\n"
        "Job 1 done: optimizer.lr=0.1  val/accuracy 0.9000  12.3 s\n"
        "Job 3: started\n"
        "Job 3 running\n"
    )
    assert (
        plain.warned.getvalue()
        == "Warning: Job 2 (model=cnn seed=3) failed: It ran out of memory.\n"
    )


@pytest.mark.parametrize(
    ("maximize", "best"), [(True, "0.9000 (job 2)"), (False, "0.1000 (job 3)")]
)
def test_the_best_so_far(maximize: bool, best: str) -> None:
    screen = Screen()
    with a_board(screen, monitor="val/loss", maximize=maximize) as board:
        for number, loss in enumerate((0.5, 0.9, 0.1, None, float("nan"), float("inf")), start=1):
            end(board, a_job(number), val_loss=loss)
        end(board, a_job(7), JobStatus.FAILED, val_loss=99.0 if maximize else 0.0)
        board.refresh()
        assert f"  7/12  1 failed  best val/loss {best}  " in screen.lines[-1]


def test_jobs_that_ended_before_this_command_count(tmp_path: Path) -> None:
    screen = Screen()
    with a_board(screen, monitor="val/loss", maximize=False) as board:
        board.keep(JobRecord(number=0, values={}, command=[], status=JobStatus.FAILED))
        board.keep(
            JobRecord(
                number=1, values={}, command=[], status=JobStatus.DONE, metrics={"val/loss": 0.3}
            )
        )
        end(board, a_job(3), val_loss=0.4)
        board.refresh()
        assert "3/12  best val/loss 0.3000 (job 1)" in screen.lines[-1]


def test_jobs_without_the_metric(tmp_path: Path) -> None:
    screen = Screen()
    with a_board(screen) as board:
        end(board, start(board, a_job(1), tmp_path))
        start(board, a_job(2), tmp_path)
        board.refresh()
        assert screen.lines[0] == "Job 1 done: optimizer.lr=0.1  12.3 s"
        assert "  1/12  1 running  " in screen.lines[-1] and "best" not in screen.lines[-1]


def test_a_job_that_is_run_once_more_no_longer_counts_as_failed(tmp_path: Path) -> None:
    screen = Screen()
    with a_board(screen) as board:
        job = start(board, a_job(1), tmp_path)
        end(board, job, JobStatus.FAILED)
        start(board, job, tmp_path)
        board.refresh()
        assert "  0/12  1 running  " in screen.lines[-1] and "failed" not in screen.lines[-1]
        end(board, job, val_accuracy=0.5)
        board.refresh()
        assert "  1/12  best val/accuracy 0.5000 (job 1)" in screen.lines[-1]


@pytest.mark.parametrize(("height", "num_shown"), [(50, 16), (24, 16), (12, 9), (5, 2), (1, 0)])
def test_forty_running_jobs_fit_the_screen(tmp_path: Path, height: int, num_shown: int) -> None:
    screen = Screen(height=height)
    with a_board(screen, total=40) as board:
        for number in range(1, 41):
            start(board, a_job(number), tmp_path / str(number))
        for _ in range(3):
            board.refresh()
        shown = screen.lines
        assert len(shown) <= height
        assert [text.split()[1] for text in shown if text.startswith("job ")] == [
            str(n + 1) for n in range(num_shown)
        ]
        if num_shown:
            assert (
                shown[num_shown] == f"… and {40 - num_shown} more"
                and "  0/40  40 running" in shown[-1]
            )


def test_the_bar_of_the_sweep_counts_the_parts_of_running_jobs(tmp_path: Path) -> None:
    screen = Screen()
    with a_board(screen, total=2) as board:
        start(board, a_job(1), tmp_path)
        append(tmp_path, line(epoch=5))
        board.refresh()
        assert re.match(
            r"sweep  ━{10}╺━{9}  0/2", screen.lines[-1]
        )  # one half: the other colour begins at the sign


class Clock:
    """A clock that stands until it is set, in seconds."""

    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def test_the_time_left_is_by_what_was_done_in_this_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, clock = Screen(), Clock()
    monkeypatch.setattr("trainer.commands.sweep.display.monotonic", clock)
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    append(resumed, line(epoch=3))
    with a_board(screen, total=10) as board:
        for number in range(5):
            board.keep(a_job(number))
        end(board, start(board, a_job(6), tmp_path))
        start(board, a_job(7), resumed)
        append(resumed, line(epoch=4))
        clock.seconds += 3_600
        board.refresh()
        # Done: a job and a fifth of the next. Left: the last fifth of that, and three.
        assert screen.lines[-1].endswith("  6/10  1 running  1:00:00  2:40:00 left")
        end(board, start(board, a_job(8), tmp_path), JobStatus.FAILED)
        board.refresh()
        assert screen.lines[-1].endswith("  7/10  1 running  1 failed  1:00:00  1:50:00 left")


def test_texts_from_outside_cannot_drive_the_terminal(tmp_path: Path) -> None:
    screen, plain = Screen(width=200), Plain()
    for terminal in (screen, plain):
        with a_board(terminal) as board:
            jobs = [
                start(board, a_job(number, key="\x1b[2J[red]x[/nothing]\x07"), tmp_path)
                for number in (1, 2)
            ]
            board.refresh()
            end(board, jobs[0], JobStatus.FAILED, error="[bold]no\x1b]0;title\x07[/]\x9b2J")
            board.say("a\x1bb")
            end(board, jobs[1])
    assert (
        screen.lines[0]
        == "Warning: Job 1 (key=?[2J[red]x[/nothing]?) failed: [bold]no?]0;title?[/]?2J"
    )
    assert screen.lines[1:] == ["a?b", "Job 2 done: key=?[2J[red]x[/nothing]?  12.3 s"]
    assert "job 1  key=?[2J[red]x[/nothing]?  ━" in re.sub(
        r"\x1b\[[0-9;]*m", "", screen.file.getvalue()
    )
    assert not re.search(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", plain.written.getvalue() + plain.warned.getvalue()
    )


def test_numbers_of_any_size_are_short(tmp_path: Path) -> None:
    screen = Screen(width=1_000)
    huge = line(loss=1e300).replace(b'"samples_per_second": 100.0', b'"samples_per_second": 1e300')
    append(tmp_path, huge + line("val", loss=1e-9))
    with a_board(screen, monitor="val/loss", maximize=False) as board:
        start(board, a_job(1), tmp_path)
        board.refresh()
        assert screen.lines[0].endswith("  epoch 0/5  loss 1.000e+300  val/loss 1.000e-09")


def test_a_thousand_refreshes_keep_no_more_than_the_first(tmp_path: Path) -> None:
    screen = Screen()
    with a_board(screen) as board:
        job = start(board, a_job(1), tmp_path)
        sizes = []
        for step in range(1_000, 2_000):
            append(tmp_path, line(epoch=1, step=step, samples=step))
            board.refresh()
            screen.file.seek(0)
            screen.file.truncate()
            sizes.append(num_kept(board))
        assert max(sizes) <= sizes[0]
        end(board, job, val_accuracy=0.5)


def num_kept(thing: object, seen: set[int] | None = None) -> int:
    """How many values are kept by an object of ours, in and below it."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, dict):
        return sum(num_kept(value, seen) for value in thing.values()) + len(thing)
    if isinstance(thing, list | tuple | set):
        return sum(num_kept(value, seen) for value in thing) + len(thing)
    if type(thing).__module__.startswith("trainer.commands"):
        return num_kept(getattr(thing, "__dict__", {}), seen)
    return len(thing) if isinstance(thing, bytes | str) and len(thing) > 100 else 1


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    screen = Screen()
    screen.out = type(screen.out)(
        file=screen.file, force_terminal=True, soft_wrap=True, _environ={"TERM": "dumb"}
    )
    with a_board(screen) as board:
        start(board, a_job(1), tmp_path)
        board.refresh()
    assert screen.file.getvalue() == "Job 1: optimizer.lr=0.1\n"


def test_it_is_ready_before_torch() -> None:
    heavy = "{'torch', 'hydra', 'optuna'}"
    code = f"import sys, trainer.commands.sweep.command; print({heavy} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        == "set()\n"
    )
