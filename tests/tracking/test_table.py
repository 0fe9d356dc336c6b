"""Tables on terminals of any width: columns give way, numbers stay whole."""

from __future__ import annotations

import pytest

from trainer.tracking.console import Terminal
from trainer.tracking.table import Narrow, write_table, write_table_in_parts

TITLES = ("ID", "NAME", "VALUE", "TAGS")
ROWS = (("a1", "a name of thirty characters - -", "0.1234", ""), ("b2", "short", "1234.5678", "-"))


def written(columns: int | None, narrow: Narrow, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    write_table(TITLES, ROWS, terminal=terminal, right=("VALUE",), narrow=narrow)
    return terminal


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            None,
            [
                "ID  NAME                                 VALUE  TAGS",
                "a1  a name of thirty characters - -     0.1234",
                "b2  short                            1234.5678  -",
            ],
        ),
        (
            48,
            [
                "ID  NAME                                 VALUE",
                "a1  a name of thirty characters - -     0.1234",
                "b2  short                            1234.5678",
            ],
        ),
        (
            33,
            [
                "ID  NAME                    VALUE",
                "a1  a name of thirty …     0.1234",
                "b2  short               1234.5678",
            ],
        ),
        (22, ["ID  NAME", "a1  a name of thirty …", "b2  short"]),
        (5, ["ID  NAME", "a1  a name of thirt…", "b2  short"]),
    ],
)
def test_a_table_fits(
    columns: int | None,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(columns, Narrow(cut=("NAME",), leave_out=("VALUE",)), monkeypatch)
    assert capsys.readouterr().out.splitlines() == lines


def test_the_text_of_the_last_column_goes_on_below(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    rows = [("one", "a text of some words"), ("two", "short")]
    write_table(("what", "detail"), rows, terminal=Terminal(), narrow=Narrow(fold="detail"))
    assert capsys.readouterr().out.splitlines() == [
        "what  detail",
        "one   a text of some",
        "      words",
        "two   short",
    ]


@pytest.mark.parametrize(("columns", "num_parts"), [(80, 1), (30, 2), (20, 4)])
def test_columns_that_do_not_fit_beside_are_written_below(
    columns: int,
    num_parts: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    runs = ["run 1 ...", "run 2 ...", "run 3 ...", "run 4 ..."]
    rows = [["loss", "0.1", "0.2", "0.3", "0.4"]]
    write_table_in_parts(["", *runs], rows, terminal=Terminal())
    out = capsys.readouterr().out
    parts = out.split("\n\n")
    assert len(parts) == num_parts and all(len(line) <= columns for line in out.splitlines())
    assert [part.splitlines()[1].split()[0] for part in parts] == ["loss"] * num_parts
    assert all(run in out for run in runs)
