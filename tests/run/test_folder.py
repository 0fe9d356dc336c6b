"""Run folders: never shared by two runs, and found again by what a person types, even after a
move.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from waiting import HANG_S

from trainer.errors import EnvironmentFault, InputError, TrainerError, UsageError
from trainer.files import read_json, write_json
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    all_runs,
    create,
    create_exactly,
    create_numbered,
    find_checkpoint,
    find_run,
    step_folder_name,
    step_folders,
    step_of,
)


def make_run(
    folder: Path, *steps: int, best: int | None = None, started: str = "", has_links: bool = True
) -> Path:
    """A run folder with complete step folders; `best` and the last are recorded, and linked
    unless told not to.
    """
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    for step in steps:
        (checkpoints / step_folder_name(step)).mkdir()
        (checkpoints / step_folder_name(step) / "model.safetensors").write_bytes(b"model")
        (checkpoints / step_folder_name(step) / "state.safetensors").write_bytes(b"state")
    record: dict[str, Any] = {"started": started, "checkpoints": {}}
    if steps:
        names = {"best": step_folder_name(best or steps[-1]), "last": step_folder_name(steps[-1])}
        record["checkpoints"] = names
        for link, name in names.items() if has_links else ():
            (checkpoints / link).symlink_to(name)
    write_json(folder / "run.json", record)
    return folder


def message_of(action: Callable[[], object], kind: type[TrainerError]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_a_run_folder_says_when_and_what(tmp_path: Path) -> None:
    folder = create(tmp_path / "runs", "mnist-cnn")
    assert folder.is_dir()
    assert folder.parent.parent == tmp_path / "runs"
    assert [len(part) for part in folder.parent.name.split("-")] == [4, 2, 2]
    assert folder.name.split("-", 3)[3] == "mnist-cnn"


def test_twenty_threads_in_one_second_make_twenty_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        folders = list(
            pool.map(lambda number: create_numbered(tmp_path / "day", "10-15-00-run"), range(20))
        )
    assert len(set(folders)) == 20
    names = {"10-15-00-run", *(f"10-15-00-run-{number}" for number in range(2, 21))}
    assert {path.name for path in (tmp_path / "day").iterdir()} == names


def test_twenty_processes_make_twenty_folders(tmp_path: Path) -> None:
    imports = "from pathlib import Path; from trainer.run.folder import create"
    code = f"{imports}; print(create(Path('runs'), 'same'))"
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
    assert create_exactly(folder) == folder
    assert folder.is_dir()


def test_an_exact_folder_with_work_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("of a week")
    for folder in (tmp_path, tmp_path / "work"):
        message = message_of(lambda folder=folder: create_exactly(folder), UsageError)  # type: ignore[misc]
        assert f"run.dir={folder} exists" in message
    assert (tmp_path / "work").read_text() == "of a week"


def test_a_place_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for action in (create, create_numbered):
        message = message_of(functools.partial(action, tmp_path / "file", "run"), EnvironmentFault)
        assert str(tmp_path / "file") in message
        assert "run.root=" in message
    message_of(lambda: create_exactly(tmp_path / "file" / "run"), EnvironmentFault)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert "Permission denied" in message_of(
        lambda: create(tmp_path / "runs", "run"), EnvironmentFault
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
    run = make_run(tmp_path / "run", 5, 1_000_000, 999_999)
    for name in ("step-000100", "step-12", "step-abcdef", "saving-000200"):
        (run / "checkpoints" / name).mkdir()
    (run / "checkpoints" / "step-000007").write_text("a file")
    assert [step_of(folder) for folder in step_folders(run)] == [5, 999_999, 1_000_000]
    assert step_of(Path("step-12")) is None
    assert step_folder_name(938) == "step-000938"


def test_runs_in_the_order_of_their_start_whatever_their_names_say(tmp_path: Path) -> None:
    late = make_run(tmp_path / "2020-01-01" / "late", 1, started="2026-11-21T10:00:00")
    early = make_run(tmp_path / "2026-11-21" / "early", 1, started="2026-11-20T10:00:00")
    swept = make_run(
        tmp_path / "2026-11-21" / "sweep" / "000-job", 1, started="2026-11-20T11:00:00"
    )
    assert all_runs(tmp_path) == [early, swept, late]
    assert find_run("last", root=tmp_path) == late


def test_the_last_run_is_the_newest_with_a_checkpoint(tmp_path: Path) -> None:
    done = make_run(tmp_path / "day" / "done", 3, started="2026-01-01")
    make_run(tmp_path / "day" / "failed", started="2026-01-02")
    assert find_run("last", root=tmp_path) == done
    assert find_checkpoint("last", root=tmp_path) == done / "checkpoints" / "step-000003"


def test_no_run_at_all(tmp_path: Path) -> None:
    message = message_of(lambda: find_run("last", root=tmp_path / "runs"), InputError)
    assert f"no run with a checkpoint in {tmp_path / 'runs'}" in message
    assert "trainer fit" in message


FORMS = {
    "": 2,
    "checkpoints": 2,
    "checkpoints/best": 2,
    "checkpoints/last": 3,
    "checkpoints/step-000001": 1,
    "checkpoints/step-000001/": 1,
    "checkpoints/step-000001/model.safetensors": 1,
}


@pytest.mark.parametrize(
    "damage",
    ["none", "no links", "moved", "copied without links", "links elsewhere", "no run.json"],
)
@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_name_a_checkpoint(
    form: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(
        tmp_path / "runs" / "day" / "run", 1, 2, 3, best=2, has_links=damage != "no links"
    )
    if damage == "moved":
        run = run.rename(tmp_path / "elsewhere")
    elif damage == "copied without links":
        shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("best", "last"))
        run = tmp_path / "copy"
    elif damage == "links elsewhere":
        for link in ("best", "last"):
            (run / "checkpoints" / link).unlink()
            (run / "checkpoints" / link).symlink_to("/no/such/place")
    elif damage == "no run.json":
        (run / "run.json").unlink()
    expected = run / "checkpoints" / step_folder_name(FORMS[form])
    assert find_checkpoint(str(run / form), root=tmp_path).resolve() == expected.resolve()
    monkeypatch.chdir(run.parent)
    assert find_checkpoint(f"{run.name}/{form}", root=tmp_path).resolve() == expected.resolve()


def test_without_links_and_record_the_highest_step_is_taken(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1, 2, 3, best=1, has_links=False)
    (run / "run.json").unlink()
    assert find_checkpoint(str(run), root=tmp_path) == run / "checkpoints" / "step-000003"


def test_the_model_file_below_a_link(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1, 2, best=1)
    found = find_checkpoint(str(run / "checkpoints" / "best" / "model.safetensors"), root=tmp_path)
    assert found.resolve() == run / "checkpoints" / "step-000001"


def test_a_resume_prefers_the_last_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1, 2, best=1)
    assert find_checkpoint(str(run), root=tmp_path, prefer="last").name == "step-000002"
    assert find_checkpoint(str(run), root=tmp_path, prefer="best").name == "step-000001"


def test_a_link_may_not_lead_out_of_the_run(tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", 9)
    run = make_run(tmp_path / "run", 1, 2, has_links=False)
    (run / "checkpoints" / "best").symlink_to(other / "checkpoints" / "step-000009")
    write_json(run / "run.json", {"checkpoints": {"best": "../../other/checkpoints/step-000009"}})
    assert find_checkpoint(str(run), root=tmp_path) == run / "checkpoints" / "step-000002"


def test_a_bare_model_file_stands_for_itself(tmp_path: Path) -> None:
    for name in ("model.safetensors", "mine.safetensors"):
        (tmp_path / name).write_bytes(b"model")
        assert find_checkpoint(str(tmp_path / name), root=tmp_path) == tmp_path / name


def test_the_state_is_not_a_model(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 1)
    state = run / "checkpoints" / "step-000001" / "state.safetensors"
    message = message_of(lambda: find_checkpoint(str(state), root=tmp_path), InputError)
    assert str(state.with_name("model.safetensors")) in message


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nothing/here", "nothing/here does not exist"),
        ("runs/rnu", "Did you mean runs/run?"),
        ("runs/run/checkpoints/step-000009", "does not exist"),
        ("runs/empty", "runs/empty holds no checkpoint"),
        ("runs/empty/checkpoints/best", "runs/empty/checkpoints/best holds no checkpoint"),
    ],
)
def test_what_is_not_there(
    reference: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "run", 1)
    make_run(tmp_path / "runs" / "empty")
    assert words in message_of(lambda: find_checkpoint(reference, root=Path("runs")), InputError)


@pytest.mark.parametrize("recorded", [{"best": 3}, 3, ["x"], None])
def test_a_run_json_of_another_make_does_not_stop_the_search(
    recorded: object, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", 1, has_links=False)
    (run / "run.json").write_text(json.dumps({"checkpoints": recorded, "started": recorded}))
    assert find_checkpoint(str(run), root=tmp_path).name == "step-000001"
    assert find_run("last", root=tmp_path.parent) in all_runs(tmp_path.parent)


def test_a_pipe_for_a_run_json_and_links_that_go_round_do_not_stop_the_search(
    tmp_path: Path,
) -> None:
    run = tmp_path / "day" / "run"
    for step in (3, 6):
        folder = run / CHECKPOINTS / step_folder_name(step)
        folder.mkdir(parents=True)
        (folder / MODEL_FILE).write_bytes(b"")
    os.mkfifo(run / "run.json")
    (run / CHECKPOINTS / "best").symlink_to("best")
    assert find_checkpoint("last", root=tmp_path) == folder
