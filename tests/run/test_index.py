"""The index of runs: ids that survive a move, and states that can be believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from runfolders import held, make_run

from trainer.run.find import find_run
from trainer.run.folder import create_exact_folder
from trainer.run.index import Notes, entry_of, read_index, read_notes, write_notes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs below `runs`, the second of a sweep; the working directory is the folder above."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/2026-01-01/10-00-00-mnist-cnn"), minutes=0)
    make_run(Path("runs/2026-01-01/10-05-00-sweep/000-mnist-mlp"), "model=mlp", minutes=5)
    make_run(Path("runs/2026-01-01/10-10-00-mnist-lenet5"), "model=lenet5", minutes=10)
    return Path("runs")


def test_the_index_has_the_runs_of_the_root_the_newest_first(root: Path) -> None:
    names = [str(entry.path.relative_to(root)) for entry in read_index(root)]
    assert names == [
        "2026-01-01/10-10-00-mnist-lenet5",
        "2026-01-01/10-05-00-sweep/000-mnist-mlp",
        "2026-01-01/10-00-00-mnist-cnn",
    ]
    assert read_index(root / "nowhere") == []


def test_an_id_survives_a_move_of_the_root_and_tells_runs_apart(root: Path) -> None:
    before = {entry.name: entry.id for entry in read_index(root)}
    assert len(set(before.values())) == 3
    assert all(len(digits) == 6 and int(digits, 16) >= 0 for digits in before.values())
    root.rename("elsewhere")
    assert {entry.name: entry.id for entry in read_index(Path("elsewhere"))} == before


def test_an_id_is_as_long_as_the_others_need_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = iter(["abcdef0011", "abcdef0022", "123456"])
    monkeypatch.setattr("trainer.run.index._digest", lambda folder, record: next(digests))
    assert {entry.id for entry in read_index(root)} == {"abcdef001", "abcdef002", "123456"}


def test_a_run_that_says_running_is_interrupted_when_nobody_holds_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "day" / "run", status="running")
    with held(run):
        assert entry_of(run).status == "running"
    assert entry_of(run).status == "interrupted"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"status": 3}', '{"status": "finished"}', "\xff"]
)
def test_a_damaged_record(content: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "2026-01-01" / "10-00-00-run")
    (run / "run.json").write_text(content, encoding="latin-1")
    [entry] = read_index(tmp_path)
    assert (entry.status, entry.metrics) == ("damaged", {})
    assert entry.started > 0, "its folder says when"
    assert find_run(entry.id, root=tmp_path).path == run


def test_a_pipe_for_a_record_and_links_that_go_round(tmp_path: Path) -> None:
    run = make_run(tmp_path / "day" / "run")
    (run / "run.json").unlink()
    os.mkfifo(run / "run.json")
    (tmp_path / "day" / "round").symlink_to(tmp_path)
    assert {entry.status for entry in read_index(tmp_path)} == {"damaged"}


def test_a_run_that_is_being_removed_is_not_there(tmp_path: Path) -> None:
    make_run(tmp_path / "day" / ".run.old")
    assert read_index(tmp_path) == []


def test_metrics_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    metrics: Any = {"val/loss": 1.5, "val/accuracy": None, "x": "y"}
    run = make_run(tmp_path / "day" / "run", metrics=metrics)
    assert entry_of(run).metrics == {"val/loss": 1.5, "val/accuracy": None}


def test_notes_are_kept_and_damaged_ones_are_none(tmp_path: Path) -> None:
    assert read_notes(tmp_path) == Notes()
    write_notes(tmp_path, Notes(tags=("good", "größer"), note="two\nlines"))
    assert read_notes(tmp_path) == Notes(tags=("good", "größer"), note="two\nlines")
    for content in ("[", "[]", '{"tags": 3, "note": 4}', '{"tags": [3]}'):
        (tmp_path / "notes.json").write_text(content)
        assert read_notes(tmp_path) == Notes()


def test_a_folder_with_nothing_but_a_note_can_be_trained_in(tmp_path: Path) -> None:
    write_notes(tmp_path, Notes(note="try again"))
    assert create_exact_folder(tmp_path) == tmp_path
    assert read_notes(tmp_path).note == "try again"
