"""Finding runs and checkpoints by what a person types, even after a move."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from runfolders import make_run, make_saved_run

from trainer.errors import InputError, TrainerError, UsageError
from trainer.files import write_json
from trainer.run.find import find_checkpoint, find_path, find_run, not_a_run, resolve_reference
from trainer.run.folder import CHECKPOINTS, MODEL_FILE, step_folder_name
from trainer.run.index import read_index


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs below `runs`, the second of a sweep; the working directory is the folder above."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("runs/2026-01-01/10-00-00-mnist-cnn"), minutes=0)
    make_run(Path("runs/2026-01-01/10-05-00-sweep/000-mnist-mlp"), "model=mlp", minutes=5)
    make_run(Path("runs/2026-01-01/10-10-00-mnist-lenet5"), "model=lenet5", minutes=10)
    return Path("runs")


def message_of(action: Callable[[], object], kind: type[TrainerError]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


# Runs.


@pytest.mark.parametrize("digits", [4, 5, 6, 20, 64])
def test_a_run_by_its_id(digits: int, root: Path) -> None:
    for entry in read_index(root):
        assert find_run(entry.digest[:digits], root=root).path == entry.path
        assert find_run(entry.digest[:digits].upper(), root=root).path == entry.path
        assert resolve_reference(entry.digest[:digits], root=root) == str(entry.path)


def test_three_digits_are_no_id(root: Path) -> None:
    entry = read_index(root)[0]
    assert "no run in runs has that name" in message_of(
        lambda: find_run(entry.digest[:3], root=root), UsageError
    )
    assert resolve_reference(entry.digest[:3], root=root) == entry.digest[:3]


def test_a_run_by_a_part_of_its_name_by_its_path_and_as_the_last(root: Path) -> None:
    for reference in ("cnn", "10-00-00-mnist-cnn", "runs/2026-01-01/10-00-00-mnist-cnn/"):
        assert find_run(reference, root=root).name == "10-00-00-mnist-cnn"
    assert find_run("last", root=root).name == "10-10-00-mnist-lenet5"
    assert (
        resolve_reference("mnist-mlp", root=root) == "runs/2026-01-01/10-05-00-sweep/000-mnist-mlp"
    )
    by_path = find_run(str(Path("runs/2026-01-01/10-00-00-mnist-cnn").absolute()), root=root)
    assert by_path.id == find_run("cnn", root=root).id


def test_a_path_that_exists_wins(root: Path) -> None:
    entry = read_index(root)[0]
    other = make_run(Path(entry.id))
    assert find_run(entry.id, root=root).path == other
    assert resolve_reference(entry.id, root=root) == entry.id


@pytest.mark.parametrize(
    "reference", ["last", "auto", "null", "", "runs/x", "nothing", "port=3", "\0"]
)
def test_what_names_no_run_is_left_as_it_is(reference: str, root: Path) -> None:
    assert resolve_reference(reference, root=root) == reference


def test_several_that_are_meant_are_named(root: Path) -> None:
    message = message_of(lambda: find_run("mnist", root=root), UsageError)
    assert "mnist may mean 3 runs" in message
    assert all(entry.id in message and str(entry.path) in message for entry in read_index(root))
    with pytest.raises(UsageError):
        resolve_reference("mnist", root=root)


def test_a_whole_name_is_not_a_part_of_another(root: Path) -> None:
    make_run(root / "2026-01-02" / "10-00-00-mnist-cnn-2", minutes=60)
    assert find_run("10-00-00-mnist-cnn", root=root).name == "10-00-00-mnist-cnn"


def test_a_copy_has_the_same_id_and_both_are_named(root: Path) -> None:
    entry = find_run("cnn", root=root)
    shutil.copytree(entry.path, root / "2026-01-03" / entry.name)
    assert [each.id for each in read_index(root)].count(entry.id) == 2
    assert f"{entry.id} may mean 2 runs" in message_of(
        lambda: find_run(entry.id, root=root), UsageError
    )


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("000-mnist-mpl", "Did you mean 000-mnist-mlp?"),
        (
            "runs/2026-01-01",
            "There are runs in it. Name one: runs/2026-01-01/10-10-00-mnist-lenet5",
        ),
        ("runs/2026-01-01/10-00-00-mnist-cnn/checkpoints", "Name the run itself"),
        ("runs/2026-01-01/10-00-00-mnist-cnn/config.yaml", "is not a run folder"),
        ("nothing-like-it-at-all", "trainer runs lists them"),
        ("nothing", "nothing does not exist, and no run in runs has that name or id."),
        ("runs/nothing", "runs/nothing does not exist."),
        ("runs/2026-01-01/10-00-00-mnist-cn", "Did you mean runs/2026-01-01/10-00-00-mnist-cnn?"),
        ("lsat", "Did you mean last?"),
        ("x" * 5000, "does not exist"),
        ("x/" * 5000, "does not exist"),
        ("\0", "does not exist"),
        ("", "does not exist"),
    ],
)
def test_what_is_no_run(reference: str, words: str, root: Path) -> None:
    Path("runs/2026-01-01/10-00-00-mnist-cnn/checkpoints").mkdir()
    assert words in message_of(lambda: find_run(reference, root=root), UsageError)


def test_the_hint_begins_as_the_command_did(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/lib/trainer/__main__.py", "runs"])
    hint = message_of(lambda: find_run("nothing-like-it-at-all", root=root), UsageError)
    assert "the word last; python -m trainer runs lists them." in hint


def test_runs_in_the_order_of_their_start_whatever_their_names_say(tmp_path: Path) -> None:
    late = make_saved_run(tmp_path / "2020-01-01" / "late", 1, started="2026-11-21T10:00:00")
    early = make_saved_run(tmp_path / "2026-11-21" / "early", 1, started="2026-11-20T10:00:00")
    swept = make_saved_run(
        tmp_path / "2026-11-21" / "sweep" / "000-job", 1, started="2026-11-20T11:00:00"
    )
    assert [entry.path for entry in read_index(tmp_path)] == [late, swept, early]
    assert find_run("last", root=tmp_path).path == late


# Checkpoints.


def test_the_last_checkpoint_is_that_of_the_newest_run(tmp_path: Path) -> None:
    make_saved_run(tmp_path / "day" / "first", 3, started="2026-01-01")
    make_saved_run(tmp_path / "day" / "second", 4, 5, best=4, started="2026-01-02")
    assert find_run("last", root=tmp_path).name == "second"
    assert find_checkpoint("last", root=tmp_path).name == "step-000004"
    assert find_checkpoint("last", root=tmp_path, prefer="last").name == "step-000005"


def test_where_the_newest_run_has_no_checkpoint_the_newest_that_has_one_is_named(
    tmp_path: Path,
) -> None:
    failed = make_saved_run(tmp_path / "day" / "failed", started="2026-01-03")
    message = message_of(lambda: find_checkpoint("last", root=tmp_path), InputError)
    assert f"The newest run, {failed}, has no checkpoint." in message
    assert "trainer fit" in message
    make_saved_run(tmp_path / "day" / "older", 3, started="2026-01-01")
    done = make_saved_run(tmp_path / "day" / "done", 3, started="2026-01-02")
    message = message_of(lambda: find_checkpoint("last", root=tmp_path), InputError)
    assert message.endswith(f"The newest run that has one: {done}")
    assert find_run("last", root=tmp_path).path == failed


@pytest.mark.parametrize("find", [find_run, find_checkpoint])
def test_no_run_at_all(find: Callable[..., object], tmp_path: Path) -> None:
    message = message_of(lambda: find("last", root=tmp_path / "runs"), InputError)
    assert f"There is no run in {tmp_path / 'runs'}." in message
    assert "trainer fit" in message
    (tmp_path / "ruins").mkdir()
    message = message_of(lambda: find("last", root=tmp_path / "runs"), InputError)
    assert f"Did you mean {tmp_path / 'ruins'}?" in message


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
    run = make_saved_run(
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
    run = make_saved_run(tmp_path / "run", 1, 2, 3, best=1, has_links=False)
    (run / "run.json").unlink()
    assert find_checkpoint(str(run), root=tmp_path) == run / "checkpoints" / "step-000003"


def test_the_model_file_below_a_link(tmp_path: Path) -> None:
    run = make_saved_run(tmp_path / "run", 1, 2, best=1)
    found = find_checkpoint(str(run / "checkpoints" / "best" / "model.safetensors"), root=tmp_path)
    assert found.resolve() == run / "checkpoints" / "step-000001"


def test_a_resume_prefers_the_last_checkpoint(tmp_path: Path) -> None:
    run = make_saved_run(tmp_path / "run", 1, 2, best=1)
    assert find_checkpoint(str(run), root=tmp_path, prefer="last").name == "step-000002"
    assert find_checkpoint(str(run), root=tmp_path, prefer="best").name == "step-000001"


def test_a_link_may_not_lead_out_of_the_run(tmp_path: Path) -> None:
    other = make_saved_run(tmp_path / "other", 9)
    run = make_saved_run(tmp_path / "run", 1, 2, has_links=False)
    (run / "checkpoints" / "best").symlink_to(other / "checkpoints" / "step-000009")
    write_json(run / "run.json", {"checkpoints": {"best": "../../other/checkpoints/step-000009"}})
    assert find_checkpoint(str(run), root=tmp_path) == run / "checkpoints" / "step-000002"


def test_a_bare_model_file_stands_for_itself(tmp_path: Path) -> None:
    for name in ("model.safetensors", "mine.safetensors"):
        (tmp_path / name).write_bytes(b"model")
        assert find_checkpoint(str(tmp_path / name), root=tmp_path) == tmp_path / name


def test_the_state_is_not_a_model(tmp_path: Path) -> None:
    run = make_saved_run(tmp_path / "run", 1)
    state = run / "checkpoints" / "step-000001" / "state.safetensors"
    message = message_of(lambda: find_checkpoint(str(state), root=tmp_path), InputError)
    assert str(state.with_name("model.safetensors")) in message


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nothing/here", "nothing/here does not exist"),
        ("runs/rnu", "Did you mean runs/run?"),
        ("runs/run/checkpoints/step-000009", "does not exist"),
        ("rnu", "Did you mean run?"),
        ("x" * 5000, "does not exist"),
        ("\0", "does not exist"),
        ("runs/run/checkpoints/step-000009", "There is: step-000001."),
        ("runs/empty", "runs/empty holds no checkpoint"),
        ("runs/empty/checkpoints/best", "runs/empty/checkpoints/best holds no checkpoint"),
    ],
)
def test_what_is_not_there(
    reference: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_saved_run(tmp_path / "runs" / "run", 1)
    make_saved_run(tmp_path / "runs" / "empty")
    assert words in message_of(lambda: find_checkpoint(reference, root=Path("runs")), InputError)


@pytest.mark.parametrize("recorded", [{"best": 3}, 3, ["x"], None])
def test_a_run_json_of_another_make_does_not_stop_the_search(
    recorded: object, tmp_path: Path
) -> None:
    run = make_saved_run(tmp_path / "run", 1, has_links=False)
    (run / "run.json").write_text(json.dumps({"checkpoints": recorded, "started": recorded}))
    assert find_checkpoint(str(run), root=tmp_path).name == "step-000001"
    assert find_run("last", root=tmp_path.parent) in read_index(tmp_path.parent)


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


def test_a_checkpoint_by_the_id_and_a_part_of_the_name_of_its_run(tmp_path: Path) -> None:
    make_saved_run(tmp_path / "day" / "first-mlp", 3, started="2026-01-01")
    cnn = make_saved_run(tmp_path / "day" / "second-cnn", 4, started="2026-01-02")
    for reference in ("cnn", find_run("cnn", root=tmp_path).id):
        found = find_checkpoint(reference, root=tmp_path)
        assert found == cnn / CHECKPOINTS / "step-000004"
    (tmp_path / "day" / "third-cnn").mkdir()
    shutil.copy(cnn / "run.json", tmp_path / "day" / "third-cnn")
    assert "may mean 2 runs" in message_of(
        lambda: find_checkpoint("cnn", root=tmp_path), UsageError
    )


@pytest.mark.parametrize("find", [find_run, find_path])
def test_a_run_that_an_error_names_can_be_typed_again(
    find: Callable[..., object], tmp_path: Path
) -> None:
    folder = tmp_path / "a day"
    make_run(folder / "run")
    error = not_a_run(folder, command=("tb",), error=InputError)
    assert isinstance(error, InputError)
    assert str(error).endswith(f"Name one: trainer tb '{folder}/run'")
    assert find(str(folder / "run"), root=tmp_path)
