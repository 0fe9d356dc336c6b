"""Run folders: never shared by two runs."""

from __future__ import annotations

import functools
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from runfolders import make_saved_run
from waiting import HANG_S

from trainer.errors import EnvironmentFault, TrainerError, UsageError
from trainer.files import read_json, write_json
from trainer.run.folder import (
    create_dated_folder,
    create_exact_folder,
    create_numbered_folder,
    step_folder_name,
    step_folders,
    step_of,
)


def message_of(action: Callable[[], object], kind: type[TrainerError]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_a_run_folder_says_when_and_what(tmp_path: Path) -> None:
    folder = create_dated_folder(tmp_path / "runs", "mnist-cnn")
    assert folder.is_dir()
    assert folder.parent.parent == tmp_path / "runs"
    assert [len(part) for part in folder.parent.name.split("-")] == [4, 2, 2]
    assert folder.name.split("-", 3)[3] == "mnist-cnn"


def test_twenty_threads_in_one_second_make_twenty_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        folders = list(
            pool.map(
                lambda number: create_numbered_folder(tmp_path / "day", "10-15-00-run"), range(20)
            )
        )
    assert len(set(folders)) == 20
    names = {"10-15-00-run", *(f"10-15-00-run-{number}" for number in range(2, 21))}
    assert {path.name for path in (tmp_path / "day").iterdir()} == names


def test_twenty_processes_make_twenty_folders(tmp_path: Path) -> None:
    imports = "from pathlib import Path; from trainer.run.folder import create_dated_folder"
    code = f"{imports}; print(create_dated_folder(Path('runs'), 'same'))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    folders = {process.communicate(timeout=HANG_S)[0].strip() for process in started}
    assert len(folders) == 20
    assert all((tmp_path / folder).is_dir() for folder in folders)


@pytest.mark.parametrize("is_there", [False, True])
def test_an_exact_folder_is_new_or_empty(is_there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "down"
    if is_there:
        folder.mkdir(parents=True)
    assert create_exact_folder(folder) == folder
    assert folder.is_dir()


def test_an_exact_folder_with_work_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("of a week")
    for folder in (tmp_path, tmp_path / "work"):
        message = message_of(lambda folder=folder: create_exact_folder(folder), UsageError)  # type: ignore[misc]
        assert f"run.dir={folder} exists" in message
    assert (tmp_path / "work").read_text() == "of a week"


def test_a_place_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for action in (create_dated_folder, create_numbered_folder):
        message = message_of(functools.partial(action, tmp_path / "file", "run"), EnvironmentFault)
        assert str(tmp_path / "file") in message
        assert "run.root=" in message
    message_of(lambda: create_exact_folder(tmp_path / "file" / "run"), EnvironmentFault)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert "Permission denied" in message_of(
        lambda: create_dated_folder(tmp_path / "runs", "run"), EnvironmentFault
    )


def test_json_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"name": "größe", "value": None})
    assert read_json(path) == {"name": "größe", "value": None}
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]

    def fail(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"value": 2})
    assert read_json(path) == {"name": "größe", "value": None}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"3", b'"x"'])
def test_a_damaged_run_json_is_read_as_empty(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    assert read_json(tmp_path / "run.json") == {}
    assert read_json(tmp_path / "missing.json") == {}


def test_step_folders_by_number_and_only_whole_ones(tmp_path: Path) -> None:
    run = make_saved_run(tmp_path / "run", 5, 1_000_000, 999_999)
    for name in ("step-000100", "step-12", "step-abcdef", "saving-000200"):
        (run / "checkpoints" / name).mkdir()
    (run / "checkpoints" / "step-000007").write_text("a file")
    assert [step_of(folder) for folder in step_folders(run)] == [5, 999_999, 1_000_000]
    assert step_of(Path("step-12")) is None
    assert step_folder_name(938) == "step-000938"


@pytest.mark.parametrize("mode", [0o2775, 0o1777, 0o777, 0o775])
def test_who_may_write_to_a_root_may_write_to_its_days(mode: int, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(mode)
    before = os.umask(0o077)
    try:
        run = create_dated_folder(root, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(run.parent.stat().st_mode) == mode
    assert stat.S_IMODE(run.stat().st_mode) & 0o777 == 0o700, "the run itself is of the umask"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_days_of_a_root_of_ones_own_are_of_the_umask(umask: int, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    root.chmod(0o755)
    before = os.umask(umask)
    try:
        run = create_dated_folder(root, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(run.parent.stat().st_mode) == 0o777 & ~umask


def test_the_day_of_another_person_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = create_dated_folder(tmp_path, "x").parent

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(EnvironmentFault, match=r"belongs to \w+: ask for rights") as caught:
        create_numbered_folder(day, "y")
    assert "run.root=" in str(caught.value)
