"""`trainer runs ls --csv`: a row a run with everything, which a spreadsheet opens and runs not."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from commandline import Ran, trainer_main
from runfolders import make_run

from trainer.files import write_json
from trainer.run.index import Notes, write_notes
from trainer.tracking.csv_text import csv_text

DAY = "runs/2026-01-01"
FIXED = ["id", "path", "name", "status", "started", "ended"]


def ls(folder: Path, *words: str) -> Ran:
    return trainer_main("runs", "ls", *words, cwd=folder)


def read(text: str) -> list[list[str]]:
    """The rows as another program reads them: a cell may not end a line."""
    found = list(csv.reader(io.StringIO(text)))
    assert len(found) == text.count("\n")
    return found


@pytest.mark.fault("N")
def test_a_run_is_a_row_with_all_that_the_json_has(tmp_path: Path) -> None:
    """Failed before: there was no --csv."""
    first = {"val/loss": 0.125, "train/loss": 1e-9, "own": 2.0, "test/loss": None}
    make_run(tmp_path / DAY / "one", "optimizer.lr=0.1", metrics=first)
    run = make_run(
        tmp_path / DAY / "two", "seed=1", minutes=1, metrics={"val/accuracy": 0.9, "val/loss": 0.25}
    )
    write_notes(run, Notes(tags=("good", "paper"), note='the "lr",\nof the paper'))
    make_run(tmp_path / DAY / "cut", status="running", minutes=2)
    ran = ls(tmp_path, "--csv")
    assert (ran.code, ran.err) == (0, "")
    titles, *rows = read(ran.out)
    metrics = ["val/accuracy", "val/loss", "test/loss", "train/loss", "own"]
    assert titles == [*FIXED, "optimizer.lr", "seed", *metrics, "tags", "note"]
    for row, whole in zip(rows, json.loads(ls(tmp_path, "--json").out), strict=True):
        cells = dict(zip(titles, row, strict=True))
        assert [cells[name] for name in FIXED] == [str(whole[name] or "") for name in FIXED]
        config = {key: str(value) for key, value in whole["config"].items()}
        assert {key: cells[key] for key in ("optimizer.lr", "seed")} == config
        values = {name: float(cells[name]) for name in metrics if cells[name]}
        known = {name: value for name, value in whole["metrics"].items() if value is not None}
        assert values == known
        assert cells["tags"] == ",".join(whole["tags"])
        assert cells["note"] == " ".join(whole["note"].splitlines())
    assert rows[1][-2:] == ["good,paper", 'the "lr", of the paper']


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0",
        "+1+1",
        "@SUM(A1)",
        "-2+3",
        " =1",
        "\t=1",
        "\n=1+1",
        'a"b',
        "a,b;c",
        "line\nbreak\r\nand\x0bmore\u2028",
        "\x1b[31mred",
        "größe 日本",
        os.fsdecode(b"\xff\xfe"),
        "'quoted'",
        "-1e5",
    ],
)
def test_nothing_in_a_run_becomes_a_formula_or_another_cell(text: str, tmp_path: Path) -> None:
    """As the name of a folder, a tag, a note, a value of the config, a metric and a time."""
    run = make_run(tmp_path / DAY / f"{text}-run")
    other = make_run(tmp_path / DAY / "other", minutes=1)
    content = json.loads((run / "run.json").read_text())
    write_json(
        run / "run.json", content | {"ended": text.encode(errors="replace").decode(),
                                     "metrics": {text.encode(errors="replace").decode(): 1.0}}
    )  # fmt: skip
    plain = text.encode(errors="replace").decode()
    write_notes(run, Notes(tags=(plain,), note=plain))
    for each, name in ((run, plain), (other, "cnn")):
        yaml = (each / "config.yaml").read_text().replace("name: cnn", f"name: {json.dumps(name)}")
        (each / "config.yaml").write_text(yaml)
    ran = ls(tmp_path, "--csv", "columns=model,model.hidden")
    assert ran.code == 0
    titles, _, row = read(ran.out)
    assert titles[6] == "model.name" and len(row) == len(titles) == 11
    assert not any(ord(char) < 32 for cell in (*titles, *row) for char in cell)
    for cell in (*titles, *row):
        is_formula = cell.lstrip()[:1] in ("=", "+", "-", "@") and cell != ""
        assert not is_formula or float(cell) == -1e5
    letters = "".join(filter(str.isalnum, plain))
    assert all("".join(filter(str.isalnum, row[place])) == letters for place in (5, 6, 9, 10))


@pytest.mark.fault("N")
def test_only_the_table_is_written(tmp_path: Path) -> None:
    assert ls(tmp_path, "--csv").out == "id,path,name,status,started,ended,tags,note\n"
    for number in range(30):
        make_run(tmp_path / DAY / f"run-{number}", minutes=number)
    (tmp_path / DAY / "run-3" / "run.json").write_bytes(b"\xff")
    ran = ls(tmp_path, "--csv")
    assert (ran.code, ran.err) == (0, "")
    assert len(read(ran.out)) == 31, "a program gets all, the damaged one too"
    assert len(read(ls(tmp_path, "--csv", "limit=2").out)) == 3
    assert [row[3] for row in read(ls(tmp_path, "--csv", "status=damaged").out)] == [
        *("status", "damaged")
    ]
    for flag in ("--json", "-q"):
        ran = ls(tmp_path, "--csv", flag)
        assert (ran.code, ran.out) == (2, "")
        assert "do not go together" in ran.err


def test_a_cell_is_one_line_and_no_formula() -> None:
    rows: list[list[object]] = [["=a", -1.5, None], ["+1", "- 1", 'x"y\nz'], ["inf", "-inf", "nan"]]
    text = csv_text(["@b", "c", "d"], rows)
    assert text.splitlines() == [
        "'@b,c,d",
        "'=a,-1.5,",
        '+1,\'- 1,"x""y z"',
        "inf,-inf,nan",
    ]
