"""`trainer runs compare`: one scale for the curves, and sweeps of two and of sixty runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from commandline import Ran, trainer_main
from runfolders import make_run, val_row

from trainer.cli.completion import candidates
from trainer.commands.runs.read import scale_of, sparkline
from trainer.run.find import find_path

SWEEP = "runs/2026-01-03/09-00-00-lr"


def compare(folder: Path, *words: str) -> Ran:
    return trainer_main("runs", "compare", *words, cwd=folder)


def table(ran: Ran) -> dict[str, list[list[str]]]:
    """The cells of each row by its first one, for each part of the table."""
    assert ran.code == 0, ran.err
    found: dict[str, list[list[str]]] = {}
    for line in ran.out.partition("\n  curves")[0].splitlines():
        first, *cells = re.split(r" {2,}", line) if line else [""]
        found.setdefault(first.strip(), []).append(cells)
    return found


def make_sweep(root: Path, accuracies: Sequence[float], *words: str, name: str = SWEEP) -> Path:
    """A sweep over the learning rate with these accuracies; its jobs are called after it."""
    sweep = root / name
    for number, accuracy in enumerate(accuracies):
        lr = f"optimizer.lr={(number % 4 + 1) / 100}"
        make_run(
            sweep / f"{number:03}-lr",
            *(lr, *words),
            minutes=number,
            metrics={"val/accuracy": accuracy, "val/loss": 1 - accuracy},
            rows=[val_row(1, 1.0, 0.0), val_row(2, 1 - accuracy, accuracy)],
        )
    (sweep / "sweep.json").write_text("{}")
    return sweep


@pytest.mark.fault("N")
def test_curves_of_a_metric_have_one_scale(tmp_path: Path) -> None:
    """Failed before: each curve had a scale of its own, so every one went from █ to ▁."""
    curves = {"steep": (1.0, 0.65, 0.2), "flat": (0.55, 0.45, 0.35), "one": (0.2,)}
    for name, losses in curves.items():
        rows = [val_row(step, loss, 0.5) for step, loss in enumerate(losses, 1)]
        make_run(tmp_path / "runs/day" / name, rows=rows)
    make_run(tmp_path / "runs/day/none")
    ran = compare(tmp_path, *curves, "none")
    # Eight blocks from 0.2 to 1.0, by hand: 0.1 a block.
    expected = {"steep": "█▅▁", "flat": "▄▃▂", "one": "▁"}
    [cells] = table(ran)["val/loss over steps"]
    assert cells == list(expected.values())
    [cells] = table(ran)["val/accuracy over steps"]
    assert cells == ["▄▄▄", "▄▄▄", "▄"], "one value is in the middle"
    assert ran.out.endswith(
        "\n  curves  one scale for all runs, from ▁ to █: val/accuracy 0.5000 to 0.5000, "
        "val/loss 0.2000 to 1.0000\n"
    )


def test_a_scale() -> None:
    assert scale_of([3, 1, 2]) == (1, 3)
    assert scale_of([0, 2, 4, 8], width=2) == (1, 6), "of what is drawn"
    assert sparkline([1, 2], scale=(0, 8)) == "▂▃"
    assert sparkline([-5, 50], scale=(0, 8)) == "▁█"
    assert sparkline([-1e308, 1e308]) == "▁█"


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    "word",
    [
        SWEEP,
        f"./{SWEEP}/",
        "09-00-00-lr",
        "00-00-lr",
        "lr",
        "sweep=lr",
        "optimizer.lr=0.01,0.02",
    ],
)
def test_a_sweep_is_compared_by_its_name(word: str, tmp_path: Path) -> None:
    """Failed before: a sweep was refused, and its name did not exist."""
    make_sweep(tmp_path, (0.5, 0.9))
    make_run(tmp_path / "runs/2026-01-01/other", "seed=7", minutes=99)
    ran = compare(tmp_path, word)
    rows = table(ran)
    assert rows["name"] == [["001-lr", "000-lr"]], "the best first"
    assert rows["optimizer.lr"] == [["0.02", "0.01"]]
    assert rows["val/accuracy"] == [["0.9000 *", "0.5000"]]
    assert "seed" not in rows and ran.err == ""
    assert [run["name"] for run in json.loads(compare(tmp_path, word, "--json").out)] == [
        *("001-lr", "000-lr")
    ]


@pytest.mark.fault("N")
def test_of_sixty_jobs_the_best_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sweep(tmp_path, [number / 100 for number in range(60)])
    for columns in (60, 80, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        ran = compare(tmp_path, "09-00-00-lr")
        names = [name for part in table(ran)["name"] for name in part]
        assert names == [f"{number:03}-lr" for number in range(59, 51, -1)]
        assert max(map(len, ran.out.splitlines())) <= columns
    assert ran.err == (
        "These are the best 8 of 60 runs by val/accuracy. limit=0 compares all; trainer runs ls "
        "sweep=09-00-00-lr sort=val/accuracy limit=0 lists all.\n"
    )
    words = ran.err.split("trainer runs ")[1].split(" lists all")[0].split()
    listed = trainer_main("runs", *words, cwd=tmp_path)
    assert len(listed.out.splitlines()) == 61, "the command can be copied"
    three = compare(tmp_path, "lr", "limit=3")
    assert sum(map(len, table(three)["name"])) == 3
    assert "the best 3 of 60" in three.err
    assert sum(map(len, table(compare(tmp_path, "lr", "limit=0"))["name"])) == 60
    assert len(json.loads(compare(tmp_path, "lr", "--json").out)) == 60
    assert len(json.loads(compare(tmp_path, "lr", "--json", "limit=2").out)) == 2


@pytest.mark.fault("N")
def test_keys_that_differ_among_runs_without_a_column_are_there(tmp_path: Path) -> None:
    make_sweep(tmp_path, (0.1, 0.2, 0.3, 0.4, 0.5))
    rows = table(compare(tmp_path, "lr", "limit=1"))
    assert rows["optimizer.lr"] == [["0.01"]], "the best has that one, which others have not"
    assert rows["val/accuracy"] == [["0.5000"]]


@pytest.mark.fault("N")
def test_what_a_metric_does_not_rank_has_no_best(tmp_path: Path) -> None:
    """Failed before: an asterisk at the smaller loss, of mse or of l1."""
    sweep = tmp_path / SWEEP
    for number, (loss, value) in enumerate((("mse", 4.0), ("l1", 2.0), ("mse", 3.0))):
        words = ("data=line", "model=linear", f"loss={loss}", "data.val_size=1")
        make_run(
            sweep / f"00{number}-a", *words, minutes=number,
            metrics={"val/loss": value, "train/accuracy": 0.5 + number / 10},
        )  # fmt: skip
    (sweep / "sweep.json").write_text("{}")
    ran = compare(tmp_path, "lr")
    rows = table(ran)
    assert rows["name"] == [["000-a", "001-a", "002-a"]], "the order of their start"
    assert rows["val/loss"] == [["4.0000", "2.0000", "3.0000"]]
    assert rows["train/accuracy"] == [["0.5000", "0.6000", "0.7000 *"]]
    assert ran.err == "There is no * for val/loss: the losses differ.\n"
    ran = compare(tmp_path, "lr", "limit=2")
    assert ran.err.splitlines()[1].startswith("These are the first 2 of 3 runs. limit=0")
    both = compare(tmp_path, "000-a", "002-a")
    assert table(both)["val/loss"] == [["4.0000", "3.0000 *"]] and both.err == ""


@pytest.mark.fault("N")
def test_runs_and_sweeps_are_compared_together(tmp_path: Path) -> None:
    make_sweep(tmp_path, (0.5, 0.9))
    make_sweep(tmp_path, (0.7,), "seed=1", name="runs/2026-01-03/10-00-00-more")
    make_run(tmp_path / "runs/day/single", minutes=99, metrics={"val/accuracy": 0.8})
    ran = compare(tmp_path, "single", "09-00-00-lr", "more", "001-lr")
    assert table(ran)["name"] == [["single", "001-lr", "000-lr", "000-lr"]], "each once"


def test_a_sweep_is_found_below_another_root(tmp_path: Path) -> None:
    make_sweep(tmp_path, [number / 100 for number in range(9)], name="my results/lr")
    ran = compare(tmp_path, "lr", "run.root=my results")
    assert table(ran)["name"][0][0] == "008-lr"
    assert "trainer runs ls sweep=lr sort=val/accuracy limit=0 'run.root='\"'\"'my" in ran.err


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("words", "needles"),
    [
        ("", ("runs are missing", "compare last <run>")),
        ("single", ("A second run is missing",)),
        ("last", ("A second run is missing",)),
        ("empty", ("empty does not exist", "a sweep by its folder")),
        ("runs/day/empty", ("The sweep runs/day/empty has no run",)),
        ("10-00-00-more", ("one run, runs/day/10-00-00-more/000-lr", "runs show")),
        ("09-00-00-lx", ("does not exist", "Did you mean 09-00-00-lr?")),
        ("00-00", ("may mean 2 sweeps", "runs/2026-01-03/09-00-00-lr")),
        ("r", ("may mean", "runs and sweeps")),
        ("sweep=zzz", ("No run in runs passes sweep=zzz",)),
        ("single sweep=lr", ("single names a run, and sweep=lr is a filter",)),
        ("optimizr.lr=1", ("Did you mean optimizer.lr?",)),
        ("lr limit=-1", ("limit=-1",)),
        ("lr sort=name", ("sort=name",)),
        ("lr --csv", ("no flag --csv",)),
        ("runs/day", ("runs/day is not a run folder",)),
    ],
)
def test_a_wrong_comparison_is_a_sentence(
    words: str, needles: tuple[str, ...], tmp_path: Path
) -> None:
    make_sweep(tmp_path, (0.5, 0.9))
    make_sweep(tmp_path, (0.7,), name="runs/day/10-00-00-more")
    make_run(tmp_path / "runs/day/single", minutes=99)
    (tmp_path / "runs/day/empty").mkdir()
    (tmp_path / "runs/day/empty/sweep.json").write_text("{}")
    ran = compare(tmp_path, *words.split())
    assert (ran.code, ran.out) == (2, "")
    assert all(needle in ran.err for needle in needles), ran.err
    assert len(ran.err.splitlines()) <= 3


@pytest.mark.fault("N")
def test_the_name_of_a_sweep_is_taken_and_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(tmp_path, (0.5, 0.9))
    root = tmp_path / "runs"
    assert find_path(sweep.name, root=root) == sweep
    ran = trainer_main("check-run", sweep.name, cwd=tmp_path)
    assert ran.code != 0 and "There are runs in it" in ran.err
    ran = trainer_main("runs", "rm", "lr", "--yes", cwd=tmp_path)
    assert ran.code == 2 and "may mean 2 runs" in ran.err, "a part of its name removes none"
    monkeypatch.chdir(tmp_path)

    for verb in ("runs compare", "runs rm", "tb"):
        assert candidates(f"trainer {verb} 09")[sweep.name] == "a sweep"
        assert sweep.name in candidates(f"trainer {verb} ")
    assert sweep.name not in candidates("trainer check-run ")
    assert trainer_main("runs", "rm", sweep.name, "--yes", cwd=tmp_path).code == 0
    assert not sweep.exists()


def test_a_sweep_elsewhere_is_not_listed_by_a_filter(tmp_path: Path) -> None:
    """Failed before: the printed command found no run."""
    make_sweep(tmp_path, [0.5, 0.6, 0.7])
    ran = compare(tmp_path, SWEEP, "limit=2", "run.root=elsewhere")
    assert ran.code == 0
    assert ran.err.endswith("runs by val/accuracy. limit=0 compares all.\n")
