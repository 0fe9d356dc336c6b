"""The index of runs: ids that survive a move, states that can be believed, and one run found by
what a person types.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from runfolders import held, make_run

from trainer.errors import InputError, TrainerError, UsageError
from trainer.run.folder import all_runs, create_exactly
from trainer.run.index import Notes, entry_of, find, named, read_index, read_notes, write_notes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs below `runs`, the second of a sweep; the working directory is the folder above."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/2026-01-01/10-00-00-mnist-cnn"), minutes=0)
    make_run(Path("runs/2026-01-01/10-05-00-sweep/000-mnist-mlp"), "model=mlp", minutes=5)
    make_run(Path("runs/2026-01-01/10-10-00-mnist-lenet5"), "model=lenet5", minutes=10)
    return Path("runs")


def message_of(kind: type[TrainerError], reference: str, root: Path) -> str:
    with pytest.raises(kind) as caught:
        find(reference, root=root)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_the_index_has_the_runs_of_the_root_the_newest_first(root: Path) -> None:
    assert [entry.path for entry in read_index(root)] == all_runs(root)[::-1]
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


@pytest.mark.parametrize("digits", [4, 5, 6, 20, 64])
def test_a_run_by_its_id(digits: int, root: Path) -> None:
    for entry in read_index(root):
        assert find(entry.digest[:digits], root=root).path == entry.path
        assert find(entry.digest[:digits].upper(), root=root).path == entry.path
        assert named(entry.digest[:digits], root=root) == str(entry.path)


def test_three_digits_are_no_id(root: Path) -> None:
    entry = read_index(root)[0]
    assert "There is no run" in message_of(UsageError, entry.digest[:3], root)
    assert named(entry.digest[:3], root=root) == entry.digest[:3]


def test_a_run_by_a_part_of_its_name_by_its_path_and_as_the_last(root: Path) -> None:
    for reference in ("cnn", "10-00-00-mnist-cnn", "runs/2026-01-01/10-00-00-mnist-cnn/"):
        assert find(reference, root=root).name == "10-00-00-mnist-cnn"
    assert find("last", root=root).name == "10-10-00-mnist-lenet5"
    assert named("mnist-mlp", root=root) == "runs/2026-01-01/10-05-00-sweep/000-mnist-mlp"
    by_path = find(str(Path("runs/2026-01-01/10-00-00-mnist-cnn").absolute()), root=root)
    assert by_path.id == find("cnn", root=root).id


def test_a_path_that_exists_wins(root: Path) -> None:
    entry = read_index(root)[0]
    other = make_run(Path(entry.id))
    assert find(entry.id, root=root).path == other
    assert named(entry.id, root=root) == entry.id


@pytest.mark.parametrize(
    "reference", ["last", "auto", "null", "", "runs/x", "nothing", "port=3", "\0"]
)
def test_what_names_no_run_is_left_as_it_is(reference: str, root: Path) -> None:
    assert named(reference, root=root) == reference


def test_several_that_are_meant_are_named(root: Path) -> None:
    message = message_of(UsageError, "mnist", root)
    assert "mnist may mean 3 runs" in message
    assert all(entry.id in message and str(entry.path) in message for entry in read_index(root))
    with pytest.raises(UsageError):
        named("mnist", root=root)


def test_a_whole_name_is_not_a_part_of_another(root: Path) -> None:
    make_run(root / "2026-01-02" / "10-00-00-mnist-cnn-2", minutes=60)
    assert find("10-00-00-mnist-cnn", root=root).name == "10-00-00-mnist-cnn"


def test_a_copy_has_the_same_id_and_both_are_named(root: Path) -> None:
    entry = find("cnn", root=root)
    shutil.copytree(entry.path, root / "2026-01-03" / entry.name)
    assert [each.id for each in read_index(root)].count(entry.id) == 2
    assert f"{entry.id} may mean 2 runs" in message_of(UsageError, entry.id, root)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("000-mnist-mpl", "Did you mean 000-mnist-mlp?"),
        ("runs/2026-01-01", "There are runs in it, such as runs/2026-01-01"),
        ("runs/2026-01-01/10-00-00-mnist-cnn/checkpoints", "Name the run itself"),
        ("runs/2026-01-01/10-00-00-mnist-cnn/config.yaml", "is not a run folder"),
        ("nothing-like-it-at-all", "trainer runs lists them"),
        ("", "There is no run"),
    ],
)
def test_what_is_no_run(reference: str, words: str, root: Path) -> None:
    Path("runs/2026-01-01/10-00-00-mnist-cnn/checkpoints").mkdir()
    assert words in message_of(UsageError, reference, root)


def test_the_last_of_none(tmp_path: Path) -> None:
    assert "There is no run" in message_of(InputError, "last", tmp_path)


def test_a_run_that_says_running_is_cut_when_nobody_holds_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "day" / "run", status="running")
    with held(run):
        assert entry_of(run).status == "running"
    assert entry_of(run).status == "cut"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"status": 3}', '{"status": "finished"}', "\xff"]
)
def test_a_damaged_record(content: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "2026-01-01" / "10-00-00-run")
    (run / "run.json").write_text(content, encoding="latin-1")
    [entry] = read_index(tmp_path)
    assert (entry.status, entry.metrics) == ("damaged", {})
    assert entry.started > 0, "its folder says when"
    assert find(entry.id, root=tmp_path).path == run


def test_a_pipe_for_a_record_and_links_that_go_round(tmp_path: Path) -> None:
    run = make_run(tmp_path / "day" / "run")
    (run / "run.json").unlink()
    os.mkfifo(run / "run.json")
    (tmp_path / "day" / "round").symlink_to(tmp_path)
    assert {entry.status for entry in read_index(tmp_path)} == {"damaged"}


def test_a_run_that_is_being_removed_is_not_there(tmp_path: Path) -> None:
    make_run(tmp_path / "day" / ".run.old")
    assert read_index(tmp_path) == [] == all_runs(tmp_path)


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
    assert create_exactly(tmp_path) == tmp_path
    assert read_notes(tmp_path).note == "try again"
