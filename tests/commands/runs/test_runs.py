"""`trainer runs`: every verb, on runs made by hand and on a real one; only runs are removed."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import Ran, quiet_environment, run_trainer, trainer_main
from runfolders import held, make_run, val_row
from running import SMALL
from waiting import HANG_S

from trainer.commands.runs.read import sparkline
from trainer.run.find import find_run
from trainer.run.index import Notes, read_index, read_notes, write_notes
from trainer.tracking.table import ago, duration_text, size_text

CNN, MLP, CUT = (
    "runs/2026-01-01/10-00-00-mnist-cnn",
    "runs/2026-01-01/10-05-00-mnist-mlp",
    "runs/2026-01-02/x-cut",
)

# The keys of their configs that differ.
KEYS = ["model", "lr", "seed", "hidden"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cnn (0.9), a newer mlp (0.8) and the newest run, which was cut."""
    rows = [val_row(1, 0.9, 0.5), val_row(2, 0.5, 0.9)]
    make_run(
        tmp_path / CNN,
        metrics={"val/accuracy": 0.9, "val/loss": 0.5, "test/accuracy": 0.89},
        rows=rows,
    )
    mlp = ("model=mlp", "optimizer.lr=0.1", "seed=1")
    make_run(tmp_path / MLP, *mlp, minutes=5, metrics={"val/accuracy": 0.8, "val/loss": 0.4})
    make_run(tmp_path / CUT, "run.name=x-cut", status="running", minutes=9, rows=rows[:1])
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real run and another of a sweep with two; not changed."""
    folder = tmp_path_factory.mktemp("trained")
    for words in (("optimizer.lr=0.02", "trainer.epochs=2"), ("-m", "seed=0,1", "run.name=swept")):
        ran = trainer_main("fit", *SMALL, "trainer.epochs=1", "logger=none", *words, cwd=folder)
        assert ran.code == 0, ran.err
    return folder


def runs(folder: Path, *words: str) -> Ran:
    return trainer_main("runs", *words, cwd=folder)


def out(folder: Path, *words: str) -> str:
    ran = runs(folder, *words)
    assert ran.code == 0, ran.err
    return ran.out


def listed(folder: Path, *words: str) -> list[str]:
    """The last words of the names of the listed runs, in their order."""
    return [
        run["name"].rpartition("-")[2] for run in json.loads(out(folder, "ls", "--json", *words))
    ]


def id_of(folder: Path, path: str) -> str:
    return find_run(str(folder / path), root=folder / "runs").id


# ls


@pytest.mark.parametrize("words", [(), ("ls",)])
def test_ls_has_a_line_for_each_run_the_newest_first(words: tuple[str, ...], folder: Path) -> None:
    write_notes(folder / MLP, Notes(tags=("good", "paper"), note="\nthe first line\nthe second"))
    title, *lines = out(folder, *words).splitlines()
    assert title.split() == [
        *("ID", "STARTED", "NAME", *KEYS, "STATUS", "BEST", "TEST", "TAGS", "NOTE")
    ]
    assert [line.split()[0] for line in lines] == [id_of(folder, path) for path in (CUT, MLP, CNN)]
    assert re.search(r"x-cut +cnn +0.05 +0 +128 +interrupted +- +-$", lines[0])
    assert re.search(
        r"2026-01-01 +10-05-00-mnist-mlp +mlp +0.1 +1 +\[512, 512\] +done +val/accuracy 0.8000 "
        r"+- +good,paper +the first line$",
        lines[1],
    )
    assert re.search(r"mnist-cnn +cnn .* done +val/accuracy 0.9000 +accuracy 0.8900$", lines[2])
    assert "\x1b" not in "".join(lines)


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("columns", "titles"),
    [
        (120, ["ID", "STARTED", "NAME", *KEYS, "STATUS", "BEST", "TEST"]),
        (100, ["ID", "NAME", *KEYS, "STATUS", "BEST"]),
        (80, ["ID", "NAME", *KEYS[:3], "STATUS", "BEST"]),
        (64, ["ID", "NAME", "STATUS", "BEST"]),
        (40, ["ID", "NAME", "STATUS"]),
        (25, ["ID", "NAME"]),
    ],
)
def test_a_narrow_list_leaves_columns_out(
    columns: int, titles: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed before: up to 99 columns on a terminal of 80."""
    monkeypatch.setenv("COLUMNS", str(columns))
    title, *lines = out(folder).splitlines()
    assert title.split() == titles
    assert max(map(len, [title, *lines])) <= columns
    assert [line.split()[0] for line in lines] == [id_of(folder, path) for path in (CUT, MLP, CNN)]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["cut", "mlp", "cnn"]),
        (("status=done",), ["mlp", "cnn"]),
        (("status=interrupted,failed",), ["cut"]),
        (("status=running",), []),
        (("tag=good",), ["mlp"]),
        (("tag=bad",), []),
        (("model=mlp",), ["mlp"]),
        (("model.name=mlp",), ["mlp"]),
        (("model=mlp,cnn", "status=done"), ["mlp", "cnn"]),
        (("optimizer.lr=0.1",), ["mlp"]),
        (("optimizer.lr=1e-1",), ["mlp"]),
        (("seed=0",), ["cut", "cnn"]),
        (("model.hidden=[512,512]",), ["mlp"]),
        (("trainer.max_steps=null",), ["cut", "mlp", "cnn"]),
        (("mnist",), ["mlp", "cnn"]),
        (("name=mnist",), ["mlp", "cnn"]),
        (("name=bs",), []),
        (("mnist", "seed=0"), ["cnn"]),
        (("sort=name",), ["cnn", "mlp", "cut"]),
        (("sort=val/accuracy",), ["cnn", "mlp", "cut"]),
        (("sort=val/loss",), ["mlp", "cnn", "cut"]),
        (("sort=status",), ["mlp", "cnn", "cut"]),
        (("limit=1",), ["cut"]),
        (("limit=0",), ["cut", "mlp", "cnn"]),
    ],
)
def test_ls_filters_sorts_and_limits(
    words: tuple[str, ...], names: list[str], folder: Path
) -> None:
    write_notes(folder / MLP, Notes(tags=("good",)))
    assert listed(folder, *words) == names
    assert len(out(folder, "ls", "-q", *words).split()) == len(names)


def test_ls_says_what_it_leaves_out(folder: Path) -> None:
    ran = runs(folder, "ls", "limit=1")
    assert len(ran.out.splitlines()) == 2
    assert ran.err == "2 more: limit=0 shows all.\n"


def test_ls_for_programs(folder: Path) -> None:
    write_notes(folder / CNN, Notes(tags=("good",), note="größer"))
    found: list[dict[str, Any]] = json.loads(out(folder, "ls", "--json"))
    assert found[2] == {
        "id": id_of(folder, CNN),
        "path": CNN,
        "name": "10-00-00-mnist-cnn",
        "status": "done",
        "started": "2026-01-01T10:00:00.000+00:00",
        "ended": "2026-01-01T10:01:23+00:00",
        "config": {"model.name": "cnn", "optimizer.lr": 0.05, "seed": 0, "model.hidden": 128},
        "monitor": "val/accuracy",
        "best": 0.9,
        "metrics": {"val/accuracy": 0.9, "val/loss": 0.5, "test/accuracy": 0.89},
        "tags": ["good"],
        "note": "größer",
    }
    assert out(folder, "ls", "-q").split() == [run["id"] for run in found]


def test_no_run_at_all(tmp_path: Path) -> None:
    ran = runs(tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, "", "There is no run in runs.\n")
    assert json.loads(out(tmp_path, "ls", "--json")) == []
    assert runs(tmp_path, "best").code == 2
    for verb in ("show", "rm", "tag", "note"):
        ran = runs(tmp_path, verb, "last")
        assert (ran.code, ran.out) == (3, "")
        assert "There is no run" in ran.err


def test_damaged_files_do_not_stop_the_list(folder: Path) -> None:
    for name in ("run.json", "config.yaml", "metrics.jsonl", "notes.json"):
        (folder / CNN / name).write_bytes(b"\xff\x00{[")
    assert re.search("mnist-cnn +- +- +- +- +damaged +- +-$", out(folder), flags=re.MULTILINE)
    assert listed(folder, "status=damaged") == ["cnn"]
    assert listed(folder, "model=cnn") == ["cut"]
    assert "its run.json cannot be read" in out(folder, "show", "mnist-cnn")
    ran = runs(folder, "compare", "mnist-cnn", "mnist-mlp")
    assert ran.code == 0
    assert "cannot be read" in ran.err


def test_a_name_cannot_drive_the_terminal(folder: Path) -> None:
    (folder / CNN).rename(folder / "runs/2026-01-01/a\x1b[31m[bold]b")
    shown = out(folder) + out(folder, "show", "a\x1b") + out(folder, "compare", "a\x1b", "mlp")
    assert "\x1b" not in shown
    assert "a?[31m[bold]b" in shown


def test_a_real_run_is_read_from_its_checkpoint_too(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    folder = tmp_path / "copy"
    before = out(folder)
    assert before.count("val/accuracy 0.") == 3
    for path in folder.glob("runs/**/config.yaml"):
        path.unlink()
    assert len(listed(folder, "model=mlp", "optimizer.lr=0.02")) == 1
    assert "optimizer    sgd (lr " in out(folder, "show")
    for record in folder.glob("runs/**/run.json"):
        content = json.loads(record.read_text()) | {"metrics": {}, "status": "running"}
        record.write_text(json.dumps(content))
    assert out(folder).count("interrupted") == 3
    assert out(folder).count("val/accuracy 0.") == 3, "the best checkpoint says it"


def test_all_of_five_hundred_runs_are_listed(tmp_path: Path) -> None:
    first = make_run(tmp_path / "runs/2026-01-01/run-0", metrics={"val/accuracy": 0.5})
    for number in range(1, 500):
        shutil.copytree(first, tmp_path / f"runs/2026-01-{1 + number % 28:02d}/run-{number}")
    for words in ((), ("sort=val/accuracy", "status=done")):
        assert len(out(tmp_path, "ls", *words).splitlines()) == 21
        assert len(set(out(tmp_path, "ls", "-q", *words).split())) == 500
    assert len({entry.id for entry in read_index(tmp_path / "runs")}) == 500


# best, show, compare, diff


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        ((), CNN, "val/accuracy  0.9000"),
        (("val/loss",), MLP, "val/loss  0.4000"),
        (("test/accuracy",), CNN, "test/accuracy  0.8900"),
        (("model=mlp",), MLP, "val/accuracy  0.8000"),
        (("val/loss", "model=cnn"), CNN, "val/loss  0.5000"),
    ],
)
def test_best(words: tuple[str, ...], path: str, value: str, folder: Path) -> None:
    shown = out(folder, "best", *words)
    assert value in shown
    assert f"trainer eval ckpt={path}\n" in shown
    assert re.search("repeat +trainer fit", shown)
    assert out(folder, "best", "-q", *words).strip() == id_of(folder, path)
    assert json.loads(out(folder, "best", "--json", *words))["path"] == path


def test_show_says_what_a_run_is(trained: Path) -> None:
    shown = out(trained, "show", "last")
    for name in (
        "status",
        "path",
        "command",
        "started",
        "took",
        "seed",
        "versions",
        "data",
        "optimizer",
        "checkpoints",
    ):
        assert re.search(rf"^  {name} +\S", shown, flags=re.MULTILINE), name
    assert re.search(r"^train/loss +\d\.\d{4} +[▁-█]+$", shown, flags=re.MULTILINE)
    assert re.search(r"^test/loss +\d\.\d{4}$", shown, flags=re.MULTILINE)
    assert shown == out(trained, "show"), "the newest is meant"
    whole = json.loads(out(trained, "show", "--json"))
    assert whole["config"]["model.name"] == "mlp"
    assert whole["record"]["status"] == "done"


def test_show_of_a_run_that_was_cut_has_its_curves_tags_and_note(folder: Path) -> None:
    write_notes(folder / CUT, Notes(tags=("odd",), note="why?\nno power"))
    shown = out(folder, "show", "x-cut")
    assert "interrupted: it says running, but no process trains in it" in shown
    assert re.search(r"^val/accuracy +0.5000 +▄$", shown, flags=re.MULTILINE)
    assert re.search(r"tags +odd\n +note +why\?\n +no power\n", shown)


def test_compare_shows_only_what_differs(folder: Path) -> None:
    table = {
        line[:30].split("  ")[0]: line for line in out(folder, "compare", "cnn", "mlp").splitlines()
    }
    assert table["optimizer.lr"].split() == ["optimizer.lr", "0.05", "0.1"]
    assert table["model.name"].split() == ["model.name", "cnn", "mlp"]
    assert table["model.channels"].split(None, 1)[1].split("  ")[-1].strip() == "-"
    assert table["val/accuracy"].split() == ["val/accuracy", "0.9000", "*", "0.8000"]
    assert table["val/loss"].split() == ["val/loss", "0.5000", "0.4000", "*"]
    assert table["val/loss over steps"].split()[-1] == "█▁"
    assert "data.batch_size" not in table
    both = json.loads(out(folder, "compare", "cnn", "mlp", "--json"))
    assert [run["config"]["model.name"] for run in both] == ["cnn", "mlp"]


def test_compare_of_three_has_three_columns(folder: Path) -> None:
    title = out(folder, "compare", "cnn", "mlp", "x-cut").splitlines()[0]
    assert title.split() == [id_of(folder, path) for path in (CNN, MLP, CUT)]


def test_diff_is_that_of_git(folder: Path) -> None:
    lines = out(folder, "diff", "cnn", "mlp").splitlines()
    assert lines[:2] == [
        f"--- {id_of(folder, CNN)} 10-00-00-mnist-cnn",
        f"+++ {id_of(folder, MLP)} 10-05-00-mnist-mlp",
    ]
    assert lines[lines.index("- optimizer.lr: 0.05") + 1] == "+ optimizer.lr: 0.1"
    assert "+ model.dropout: 0.0" in lines
    assert not any("batch_size" in line for line in lines)
    assert runs(folder, "diff", "cnn", "mlp", "--exit-code").code == 1
    same = runs(folder, "diff", "cnn", "x-cut", "--exit-code")
    assert (same.code, same.out) == (0, ""), "where it was written is no difference"


# rm


def test_rm_needs_a_word_where_nobody_can_be_asked(folder: Path) -> None:
    ran = run_trainer("runs", "rm", "mlp", cwd=folder)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert MLP in ran.out, "it shows what would go"
    assert (folder / MLP / "config.yaml").exists()


@pytest.mark.parametrize("yes", ["--yes", "-y"])
def test_rm_removes_the_run_and_what_is_empty_then(yes: str, folder: Path) -> None:
    shown = out(folder, "rm", id_of(folder, CUT), yes)
    assert re.search(r"x-cut +\d+\.\d kB\nRemoved 1 run.\n", shown)
    assert not (folder / CUT).parent.exists()
    assert out(folder, "rm", "cnn", "mlp", CNN, yes).endswith("Removed 2 runs.\n")
    assert list((folder / "runs").iterdir()) == [], "the root itself stays"


def test_rm_keeps_what_is_running(folder: Path) -> None:
    with held(folder / CUT):
        ran = runs(folder, "rm", "x-cut", "mlp", "--yes")
        assert ran.code == 2
        assert "is in use by process" in ran.err and "It was kept" in ran.err
        assert listed(folder) == ["cut", "cnn"]
    assert runs(folder, "rm", "x-cut", "--yes").code == 0


def test_rm_follows_no_link(folder: Path) -> None:
    outside = make_run(folder / "outside")
    (folder / CNN / "data").symlink_to(outside)
    link = folder / "runs/2026-01-01/linked"
    link.symlink_to(outside)
    assert runs(folder, "rm", "linked", "mnist-cnn", "--yes").code == 0
    assert not os.path.lexists(link) and not (folder / CNN).exists()
    assert (outside / "config.yaml").exists() and not (outside / ".lock").exists()


def test_rm_removes_nothing_that_is_no_run(folder: Path) -> None:
    for reference in ("runs", "runs/2026-01-01", CNN + "/config.yaml", "mnist", "nothing"):
        assert runs(folder, "rm", reference, "--yes").code == 2
    assert listed(folder) == ["cut", "mlp", "cnn"]


def test_rm_tidies_what_a_killed_removal_left(folder: Path) -> None:
    left = make_run(folder / CNN.replace("10-00-00-mnist-cnn", ".10-00-00-mnist-cnn.old"))
    assert runs(folder, "rm", "cnn", "--yes").code == 0
    assert not left.exists() and not (folder / CNN).exists()


def test_rm_of_a_run_elsewhere_leaves_the_folders_above(folder: Path) -> None:
    make_run(folder / "other/day/run")
    assert runs(folder, "rm", "other/day/run", "--yes").code == 0
    assert list((folder / "other/day").iterdir()) == []


def test_columns_are_aligned_whatever_the_letters(tmp_path: Path) -> None:
    for name in ("größe", "日本", "plain"):
        make_run(tmp_path / "runs/day" / name)
    places = {line.split("  ")[2]: line.index("done") for line in out(tmp_path).splitlines()[1:]}
    assert places["größe"] == places["plain"] == places["日本"] + 2, (
        "each of these two takes two columns"
    )


def on_a_terminal(folder: Path, *words: str, answer: str = "", columns: int = 100) -> str:
    """What `trainer runs …` shows on a terminal where `answer` is typed."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", "runs", *words],
        cwd=folder,
        env=quiet_environment(folder, {"TERM": "xterm-256color", "COLUMNS": str(columns)}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how a terminal says that nobody is there any more
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(HANG_S) == 0, shown
    return shown.decode()


def test_rm_asks_on_a_terminal(folder: Path) -> None:
    for answer in ("n\n", "\n"):
        shown = on_a_terminal(folder, "rm", "mlp", answer=answer)
        assert "Remove 1 run, " in shown and "[y/N]" in shown
        assert "Nothing was removed." in shown
        assert (folder / MLP).exists()
    assert "Removed 1 run." in on_a_terminal(folder, "rm", "mlp", answer="y\n")
    assert not (folder / MLP).exists()


def test_on_a_terminal_the_list_is_cut_to_its_width_and_has_colours(folder: Path) -> None:
    write_notes(folder / MLP, Notes(note="w" * 55))
    shown = on_a_terminal(folder)
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert all(len(line) <= 100 for line in plain.splitlines())
    assert all(id_of(folder, path) in plain for path in (CNN, MLP, CUT))
    assert "w" * 55 in out(folder), "in a pipe nothing is cut"


# tag, note


def test_tags_come_and_go(folder: Path) -> None:
    mlp = folder / MLP
    before = (mlp / "run.json").read_bytes()
    out(folder, "tag", "mlp", "good", "+paper", "good")
    assert read_notes(mlp).tags == ("good", "paper")
    out(folder, "tag", "mlp", "-good", "seed:1")
    assert read_notes(mlp).tags == ("paper", "seed:1")
    assert out(folder, "tag", "mlp") == "paper seed:1\n"
    out(folder, "untag", "mlp", "paper", "nothing")
    assert read_notes(mlp).tags == ("seed:1",)
    assert (mlp / "run.json").read_bytes() == before, "a running process may write there"


@pytest.mark.parametrize("word", ["a b", "a,b", "a=b", "--good", "+", "x" * 41, "a\x1bb"])
def test_what_is_no_tag(word: str, folder: Path) -> None:
    assert runs(folder, "tag", "mlp", word).code == 2
    assert read_notes(folder / MLP).tags == ()


def test_notes_come_and_go_beside_the_tags(folder: Path) -> None:
    out(folder, "tag", "mlp", "good")
    out(folder, "note", "mlp", "the lr", "of -x y=1 --help")
    assert read_notes(folder / MLP) == Notes(tags=("good",), note="the lr of -x y=1 --help")
    assert out(folder, "note", "mlp") == "the lr of -x y=1 --help\n"
    out(folder, "note", "mlp", "")
    assert read_notes(folder / MLP) == Notes(tags=("good",))


def test_a_note_is_no_damage(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    out(tmp_path / "copy", "note", "last", "mine")
    ran = trainer_main("check-run", "last", cwd=tmp_path / "copy")
    assert ran.code == 0, ran.err


# Short ids everywhere, and what is wrong.


def test_an_id_is_taken_wherever_a_run_is(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy", symlinks=True)
    folder = tmp_path / "copy"
    short = json.loads(out(folder, "ls", "--json", "optimizer.lr=0.02"))[0]
    digits, path = short["id"][:5], short["path"]
    ran = trainer_main("check-run", digits, cwd=folder)
    assert ran.code == 0 and path in ran.out, ran.err
    ran = trainer_main("eval", f"ckpt={digits}", "--json", cwd=folder)
    assert ran.code == 0, ran.err
    assert trainer_main("eval", digits, "--json", cwd=folder).out == ran.out
    ran = trainer_main("fit", f"resume={digits}", "trainer.epochs=3", cwd=folder)
    assert ran.code == 0, ran.err
    assert path in ran.out and "Resumed at step" in ran.out
    ran = trainer_main("tb", digits, cwd=folder)
    assert ran.code == 3 and f"{path} holds no records" in ran.err


@pytest.mark.parametrize(
    ("words", "needles"),
    [
        ("lst", ("no verb lst", "Did you mean ls?")),
        ("list", ("Did you mean ls?", "Verbs:")),
        ("ls --jsn", ("no flag --jsn", "Did you mean --json?")),
        ("ls --sort=name", ("no flag --sort", "sort=")),
        ("ls --json=true", ("--json takes no value",)),
        ("ls --yes", ("no flag --yes",)),
        ("ls sort=val/acc", ("sort=val/acc", "Did you mean val/accuracy?")),
        ("ls limit=many", ("limit=many", "limit=50")),
        ("ls limit=-1", ("limit=-1",)),
        ("ls status=dne", ("status=dne", "Did you mean done?")),
        ("ls status=cut", ("status=cut: there is no such status", "interrupted")),
        ("ls optimizr.lr=1", ("No run has the key optimizr.lr", "Did you mean optimizer.lr?")),
        ("ls lr=0.1", ("No run has the key lr", "Did you mean optimizer.lr?")),
        ("ls bs=64", ("No run has the key bs", "Did you mean data.batch_size?")),
        ("best accuracy", ("no metric accuracy", "Did you mean val/accuracy?")),
        ("best test_acc", ("no metric test_acc", "Did you mean test/accuracy?")),
        ("best val/loss zzz", ("No run in runs passes zzz", "val/loss")),
        ("best name=zzz", ("No run in runs passes name=zzz",)),
        ("ls zzzzzz=1", ("No run has the key zzzzzz", "status=")),
        ("best val/acc", ("no metric val/acc", "Did you mean val/accuracy?")),
        ("best train/accuracy", ("No run in runs", "train/accuracy")),
        ("rm", ("run is missing", "trainer runs rm last")),
        ("compare", ("runs are missing", "trainer runs compare last <run>")),
        ("compare last", ("second run is missing",)),
        ("diff last", ("second run is missing",)),
        ("diff cnn cnn", ("two different ones",)),
        ("diff cnn mlp x-cut", ("one too many", "trainer runs compare cnn mlp x-cut")),
        ("show nothing", ("nothing does not exist, and no run in runs has that name",)),
        ("show mnist", ("mnist may mean 2 runs",)),
        ("show ''", ("A word is empty",)),
        ("tag", ("run is missing",)),
        ("note", ("run is missing",)),
    ],
)
def test_what_is_wrong_is_told_in_three_lines(
    words: str, needles: tuple[str, ...], folder: Path
) -> None:
    ran = runs(folder, *(word.strip("'") for word in words.split()))
    assert (ran.code, ran.out) == (2, "")
    assert all(needle in ran.err for needle in needles), ran.err
    assert len(ran.err.splitlines()) <= 3
    assert "Traceback" not in ran.err


# Lines.


def test_a_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([1.0]) == sparkline([0.0]) == "▄"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, 1, 3]) == "█▁█"
    assert sparkline(list(range(1000)), width=4) == "▁▃▆█"


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        *((0, "0 seconds ago"), (1, "1 second ago"), (59, "59 seconds ago"), (61, "1 minute ago")),
        *(
            (7300, "2 hours ago"),
            (86400 * 14, "14 days ago"),
            (86400 * 20, "2026-"),
            (-50, "2026-"),
        ),
    ],
)
def test_how_long_ago(passed: float, text: str) -> None:
    now = 1_790_000_000.0
    assert ago(now - passed, now=now).startswith(text)
    assert ago(0.0, now=now) == "-"


def test_times_sizes_and_columns() -> None:
    assert [duration_text(seconds) for seconds in (0.25, 59.9, 83, 3723)] == [
        "0.2 s",
        "59.9 s",
        "0:01:23",
        "1:02:03",
    ]
    assert [size_text(size) for size in (0, 999, 1500, 2.5e6, 3e9, 4e12)] == [
        *("0 B", "999 B", "1.5 kB", "2.5 MB", "3.0 GB", "4.0 TB")
    ]
