"""The loop of a sweep with jobs that only say how they ended: what becomes of each record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trainer.cli.arguments import Arguments
from trainer.cli.compose import sweep_request
from trainer.cli.verbs import VERBS
from trainer.commands.sweep.display import Board
from trainer.commands.sweep.launchers import Handle
from trainer.commands.sweep.loop import Loop
from trainer.commands.sweep.plan import command_of, grid
from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.search import Suggestion
from trainer.commands.sweep.task import JobOutcome, JobStatus, Task
from trainer.config.sweep import SweepRequest
from trainer.signals import Signals
from trainer.tracking.console import Terminal

DIED = JobOutcome(status=JobStatus.FAILED, error="Its process was killed.")
DONE = JobOutcome(status=JobStatus.DONE, metrics={"val/loss": 0.5})
Job = Callable[[Path], JobOutcome]


@dataclass
class FakeHandle:
    """A job that ends when it is asked for its outcome, or with `waits` when it is stopped."""

    ending: Callable[[], JobOutcome]
    waits: bool
    stopped: list[str]
    name: str
    num_stops: int = 0

    def outcome(self) -> JobOutcome | None:
        return None if self.waits and not self.num_stops else self.ending()

    def stop(self) -> None:
        self.num_stops += 1
        self.stopped.append(self.name)


@dataclass
class FakeLauncher:
    """Starts jobs that do nothing but `job`."""

    job: Job
    slots: int = 2
    threads: int | None = None
    uses_terminal: bool = False
    waits: bool = False
    started: list[str] = field(default_factory=list)
    logs: list[str | None] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    on_wait: Callable[[], None] = lambda: None

    def start(self, tasks: Sequence[Task]) -> list[FakeHandle]:
        return [self._start(task) for task in tasks]

    def _start(self, task: Task) -> FakeHandle:
        run = Path(task.config["run"]["dir"])
        self.started.append(run.name)
        self.logs.append(task.log)
        return FakeHandle(lambda: self.job(run), self.waits, self.stopped, run.name)

    def wait(self, handles: Sequence[Handle], *, seconds: float) -> None:
        assert len(handles) <= self.slots and seconds > 0
        self.on_wait()

    def close(self) -> None:
        pass


class FakeSignals(Signals):
    """No signal of the system; `is_set` stands for one that came."""

    is_set = False

    def should_stop(self) -> bool:
        return self.is_set


@pytest.fixture
def request_of_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SweepRequest]:
    monkeypatch.chdir(tmp_path)
    words = ["-m", "data=dirichlet", "model=mlp", "seed=0,1,2"]
    with sweep_request(Arguments.parse(VERBS["fit"], words)) as request:
        yield request


def a_record(request: SweepRequest, folder: Path) -> SweepRecord:
    jobs = [
        JobRecord(number=number, values=values, command=command_of(request, values))
        for number, values in enumerate(grid(request.axes))
    ]
    return SweepRecord(
        folder=folder,
        kind="grid",
        identity="x",
        command=[],
        keys=["seed"],
        monitor="val/loss",
        maximize=False,
        started="",
        jobs=jobs,
    )


def run(
    request: SweepRequest,
    record: SweepRecord,
    launcher: FakeLauncher,
    signals: FakeSignals | None = None,
    *,
    terminal: Terminal | None = None,
) -> None:
    board = Board(
        terminal or Terminal(), total=len(record.jobs), monitor="val/loss", maximize=False
    )
    loop = Loop(
        request, record, launcher, board=board, search=None, signals=signals or FakeSignals()
    )
    loop.run(iter([Suggestion(number=job.number, values=job.values) for job in record.jobs]))


def ends_with(outcome: JobOutcome, run_json: dict[str, Any] | None) -> Job:
    def job(run: Path) -> JobOutcome:
        if run_json is not None:
            (run / "run.json").write_text(json.dumps(run_json))
        return outcome

    return job


def test_every_job_is_started_and_recorded(request_of_three: SweepRequest, tmp_path: Path) -> None:
    record = a_record(request_of_three, tmp_path)
    launcher = FakeLauncher(ends_with(DONE, {"status": "running"}), threads=3)
    run(request_of_three, record, launcher)
    names = [f"{number:03d}-dirichlet-mlp-seed{number}" for number in range(3)]
    assert launcher.started == names and [job.run for job in record.jobs] == names
    # A network drive may show an older run.json than the one that the job read.
    assert [job.status for job in record.jobs] == [JobStatus.DONE] * 3
    assert record.jobs[2].metrics == {"val/loss": 0.5}
    assert record.jobs[2].command[-2:] == ["seed=2", "trainer.threads=3"]
    written = json.loads((tmp_path / "sweep.json").read_text())["jobs"]
    assert [job["status"] for job in written] == ["done"] * 3


def test_a_process_that_died_after_its_run_was_done_has_not_failed(
    request_of_three: SweepRequest, tmp_path: Path
) -> None:
    record = a_record(request_of_three, tmp_path)
    ended = {"status": "done", "metrics": {"val/loss": 0.25}, "git_commit": "abc"}
    run(request_of_three, record, FakeLauncher(ends_with(DIED, ended)))
    job = record.jobs[0]
    assert (job.status, job.error, job.metrics) == (JobStatus.DONE, None, {"val/loss": 0.25})
    assert job.code == {"commit": "abc"}


def test_a_process_that_died_in_its_run_has_failed(
    request_of_three: SweepRequest, tmp_path: Path
) -> None:
    record = a_record(request_of_three, tmp_path)
    running = {"status": "running", "git_commit": "abc"}
    run(request_of_three, record, FakeLauncher(ends_with(DIED, running)))
    job = record.jobs[0]
    assert (job.status, job.error) == (JobStatus.FAILED, "Its process was killed.")
    assert job.code == {"commit": "abc"} and job.run is not None


def test_the_folder_of_a_job_that_never_wrote_its_run_json_is_removed(
    request_of_three: SweepRequest, tmp_path: Path
) -> None:
    record = a_record(request_of_three, tmp_path)
    run(request_of_three, record, FakeLauncher(ends_with(DIED, None)))
    assert [job.run for job in record.jobs] == [None] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_jobs_of_an_earlier_command_are_kept_continued_or_run_again(
    request_of_three: SweepRequest, tmp_path: Path
) -> None:
    record = a_record(request_of_three, tmp_path)
    done, interrupted, failed = record.jobs
    done.status = JobStatus.DONE
    interrupted.status, interrupted.run, interrupted.seconds = JobStatus.INTERRUPTED, "mine", 1000.0
    failed.status, failed.run, failed.seconds = JobStatus.FAILED, "002-dirichlet-mlp-seed2", 1000.0
    for name in ("mine", "002-dirichlet-mlp-seed2"):
        (tmp_path / name).mkdir()
    launcher = FakeLauncher(ends_with(DONE, {"status": "running"}))
    run(request_of_three, record, launcher)
    assert launcher.started == ["mine", "002-dirichlet-mlp-seed2-2"]
    assert interrupted.seconds > 1000 > (failed.seconds or 0)
    failed.status = JobStatus.FAILED
    request_of_three.sweep.retry_failed = False
    launcher.started.clear()
    run(request_of_three, record, launcher)
    assert launcher.started == [] and failed.status == JobStatus.FAILED


def test_a_signal_stops_the_running_jobs_and_starts_no_more(
    request_of_three: SweepRequest, tmp_path: Path
) -> None:
    record, signals = a_record(request_of_three, tmp_path), FakeSignals()
    saved = JobOutcome(status=JobStatus.INTERRUPTED, error="Stopped at step 3. Saved.")
    launcher = FakeLauncher(ends_with(saved, {"status": "interrupted"}), waits=True)
    launcher.on_wait = lambda: setattr(signals, "is_set", True)
    run(request_of_three, record, launcher, signals)
    names = ["000-dirichlet-mlp-seed0", "001-dirichlet-mlp-seed1"]
    assert launcher.started == names and launcher.stopped == names[::-1], "once each"
    assert [job.status for job in record.jobs] == ["interrupted", "interrupted", "waiting"]
    assert record.jobs[0].error == "Stopped at step 3. Saved."


@pytest.mark.fault("N")
def test_jobs_write_to_files_once_nobody_reads(
    tmp_path: Path, request_of_three: SweepRequest
) -> None:
    """Failed before: each job of `trainer fit -m … sweep.jobs=1 | head -1` warned of that again."""
    terminal = Terminal()

    def job(_: Path) -> JobOutcome:
        terminal.loss = "Standard output failed."
        return DONE

    launcher = FakeLauncher(job, slots=1, uses_terminal=True)
    run(request_of_three, a_record(request_of_three, tmp_path), launcher, terminal=terminal)
    names = [str(tmp_path / f"output/{name}.txt") for name in launcher.started]
    assert launcher.logs == [None, *names[1:]] and len(names) == 3
