"""Tidying up: by age, day and sweep; what a sweep leaves behind; the disk that runs take."""

from __future__ import annotations

import json
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
from commandline import Ran, trainer_main
from runfolders import held, make_run
from running import SMALL

from trainer.commands.runs import when
from trainer.commands.sweep import loop, record, report, study
from trainer.errors import UsageError
from trainer.run import folder as folders
from trainer.run.index import entry_of

DAYS = 86400
# Two months after the runs of the fixture, whatever the clock.
NOW = datetime(2026, 3, 1, 12, 0)


class Frozen(datetime):
    """The clock of the filters at NOW."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW.timestamp(), tz)


@pytest.fixture(autouse=True)
def _clock_at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(when, "time", SimpleNamespace(time=NOW.timestamp))
    monkeypatch.setattr(when, "datetime", Frozen)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two single runs on two days, and a sweep of two on a third."""
    make_run(tmp_path / "runs/2026-01-01/10-00-00-a", minutes=0)
    make_run(tmp_path / "runs/2026-01-02/10-00-00-b", minutes=24 * 60, status="failed")
    sweep = tmp_path / "runs/2026-01-03/09-00-00-lr"
    for number in range(2):
        make_run(sweep / f"00{number}-c", minutes=48 * 60 + number)
    for name in ("sweep.json", "sweep.csv", "sweep.md", ".lock"):
        (sweep / name).write_text("{}")
    (sweep / "output").mkdir()
    (sweep / "output" / "000-c.txt").write_text("of a job")
    return tmp_path


def runs(root: Path, *words: str) -> Ran:
    return trainer_main("runs", *words, cwd=root)


def names(root: Path, *words: str) -> list[str]:
    found = json.loads(runs(root, "ls", "--json", *words).out)
    return sorted(run["name"].rpartition("-")[2] for run in found)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("day=2026-01-02", ["b"]),
        ("day=2026-01", ["a", "b", "c", "c"]),
        ("day=2025", []),
        ("day=today", []),
        ("sweep=lr", ["c", "c"]),
        ("sweep=other", []),
        ("older=1min", ["a", "b", "c", "c"]),
        ("newer=4w", []),
    ],
)
def test_filters_by_time_and_sweep(word: str, expected: list[str], root: Path) -> None:
    assert names(root, word) == expected


@pytest.mark.parametrize(
    ("age", "seconds"),
    [("90min", 5400), ("12h", 43200), ("30d", 30 * DAYS), ("2weeks", 14 * DAYS), ("1.5d", 129600)],
)
def test_an_age_to_the_second(age: str, seconds: float, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    entry = entry_of(run)
    for past, is_older in ((seconds - 1, False), (seconds + 1, True)):
        started = NOW.timestamp() - past
        at = type(entry)(path=run, digest="", id="", record={}, started=started)
        assert when.passes("older", age)(at) == is_older
        assert when.passes("newer", age)(at) != is_older
    unknown = type(entry)(path=run, digest="", id="", record={}, started=0.0)
    assert not when.passes("older", age)(unknown)


@pytest.mark.parametrize("word", ["older=soon", "older=3", "older=0d", "newer=", "day=monday"])
def test_what_is_no_age_and_no_day(word: str) -> None:
    key, _, value = word.partition("=")
    with pytest.raises(UsageError, match=rf"{key}={value} is not a"):
        when.passes(key, value)


def test_runs_are_removed_by_filters(root: Path) -> None:
    ran = runs(root, "rm", "day=2026-01-02", "status=failed", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert "Removed 1 run." in ran.out
    assert names(root) == ["a", "c", "c"]
    ran = runs(root, "rm", "day=2026-01-02", "--yes")
    assert (ran.code, "no run in runs that passes" in ran.out + ran.err) == (0, True)


def test_a_run_and_a_filter_together_are_refused(root: Path) -> None:
    ran = runs(root, "rm", "last", "older=1d", "--yes")
    assert ran.code == 2
    assert "older=1d is a filter" in ran.err and "runs rm older=1d" in ran.err
    assert len(names(root)) == 4


def test_without_yes_nothing_goes(root: Path) -> None:
    ran = runs(root, "rm", "older=1min")
    assert ran.code == 2 and "--yes" in ran.err
    assert len(names(root)) == 4


@pytest.mark.parametrize("way", ["runs", "folder", "filter"])
def test_nothing_of_a_sweep_is_left_when_its_last_run_goes(way: str, root: Path) -> None:
    sweep = root / "runs/2026-01-03/09-00-00-lr"
    (sweep / "002-c").mkdir()  # of a job that never began
    words = {
        "runs": [str(path) for path in sweep.glob("00[01]-c")],
        "folder": [str(sweep)],
        "filter": ["sweep=lr"],
    }
    if way == "runs":  # one after the other: the sweep goes with the last
        assert runs(root, "rm", words["runs"].pop(), "--yes").code == 0
        assert (sweep / "sweep.json").exists()
    assert runs(root, "rm", *words[way], "--yes").code == 0
    assert not sweep.parent.exists()
    assert names(root) == ["a", "b"]


def test_a_skeleton_from_before_can_be_removed(root: Path) -> None:
    skeleton = root / "runs/2026-01-04/08-00-00-old"
    skeleton.mkdir(parents=True)
    (skeleton / "sweep.json").write_text("{}")
    ran = runs(root, "rm", str(skeleton), "--yes")
    assert ran.code == 0, ran.err
    assert "a sweep without runs" in ran.out and "0 runs and 1 sweep" in ran.out
    assert not skeleton.parent.exists()


def test_a_persons_file_keeps_the_folder_of_a_sweep(root: Path) -> None:
    sweep = root / "runs/2026-01-03/09-00-00-lr"
    (sweep / "my_plot.png").touch()
    assert runs(root, "rm", "sweep=lr", "--yes").code == 0
    assert [path.name for path in sweep.iterdir()] == ["my_plot.png"]


def test_a_sweep_that_runs_is_kept(root: Path) -> None:
    sweep = root / "runs/2026-01-03/09-00-00-lr"
    with held(sweep):
        assert runs(root, "rm", "sweep=lr", "--yes").code == 0
        assert (sweep / "sweep.json").exists()


@pytest.mark.long
def test_a_real_sweep_leaves_nothing(tmp_path: Path) -> None:
    words = (*SMALL, "trainer.epochs=1", "logger=none", "-m", "seed=0,1")
    assert trainer_main("fit", *words, cwd=tmp_path).code == 0
    [sweep] = [path.parent for path in tmp_path.glob("runs/*/*/sweep.json")]
    assert runs(tmp_path, "rm", f"sweep={sweep.name}", "--yes").code == 0
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_names_of_a_sweeps_files() -> None:
    written = {loop.OUTPUT, report.CSV_NAME, report.MARKDOWN_NAME, study.FILE_NAME, "slurm"}
    assert written <= set(folders.SWEEP_OUTPUTS)
    assert folders.SWEEP_FILE == record.FILE_NAME


def test_du_adds_up_by_day_and_sweep(root: Path) -> None:
    (root / "runs/2026-01-02/10-00-00-b/weights").write_bytes(bytes(3_000_000))
    lines = runs(root, "du").out.splitlines()
    assert lines[0].split() == ["SIZE", "RUNS", "WHERE"]
    assert lines[1].split() == ["3.0", "MB", "1", "runs/2026-01-02"]
    assert lines[-1].startswith("4 runs, 3.0 MB in all")
    sizes = {row["path"]: row for row in json.loads(runs(root, "du", "--json").out)}
    assert sizes["runs/2026-01-03/09-00-00-lr"]["runs"] == 2
    of_b = sum(path.stat().st_size for path in (root / "runs/2026-01-02").rglob("*.*"))
    assert sizes["runs/2026-01-02"]["bytes"] == of_b + 3_000_000
    assert runs(root, "du", "day=2026-01-01").out.splitlines()[-1].startswith("1 run,")


def test_du_of_no_runs(tmp_path: Path) -> None:
    ran = runs(tmp_path, "du")
    assert (ran.code, "no run in runs" in ran.err) == (3, True)
