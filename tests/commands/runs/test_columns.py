"""`trainer runs ls` and the keys of the configs: which differ, are named, or have no room."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import Ran, trainer_main
from runfolders import make_run

from trainer.commands.runs import row as rows
from trainer.commands.runs.read import quick_config_of
from trainer.run.index import Entry

DAY = "runs/2026-01-01"


def ls(folder: Path, *words: str) -> Ran:
    return trainer_main("runs", "ls", *words, cwd=folder)


def configs(folder: Path, *words: str) -> list[dict[str, Any]]:
    """The table `config` of each run, the oldest first."""
    ran = ls(folder, "--json", *words)
    assert ran.code == 0, ran.err
    return [run["config"] for run in reversed(json.loads(ran.out))]


def titles(folder: Path, *words: str) -> list[str]:
    """The titles between NAME and STATUS."""
    ran = ls(folder, *words)
    assert ran.code == 0, ran.err
    found = ran.out.splitlines()[0].split()
    return found[found.index("NAME") + 1 : found.index("STATUS")]


def set_values(run: Path, values: Mapping[str, object]) -> None:
    """Set dotted keys in the config.yaml of a run, whether trainer would take them or not."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for key, value in values.items():
        group, _, name = key.partition(".")
        (config[group] if name else config)[name or group] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [
        ("optimizer.lr=0.1", "optimizer.lr=0.01", {"optimizer.lr": (0.1, 0.01)}),
        ("seed=0", "seed=1", {"seed": (0, 1)}),
        ("data.val_size=10", "data.val_size=20", {"data.val_size": (10, 20)}),
        ("trainer.clip_norm=null", "trainer.clip_norm=1.0", {"trainer.clip_norm": (None, 1.0)}),
        ("data.eval_limit=9", "data.eval_limit=null", {"data.eval_limit": (9, None)}),
        ("trainer.precision=fp32", "trainer.precision=bf16", {"trainer.precision": "fp32 bf16"}),
        ("run.name=a", "run.name=b", {}),
        ("logger.log_every=1", "logger.log_every=2", {}),
        ("logger=none", "logger=tensorboard", {}),
        ("data.root=a", "data.root=b", {}),
        ("trainer.save_every=2epochs", "trainer.save_every=1epoch", {}),
        ("seed=3", "seed=3", {}),
    ],
)
def test_the_keys_that_differ_are_those_of_the_result(
    one: str, other: str, keys: dict[str, Any], tmp_path: Path
) -> None:
    """Failed before: neither the list nor its JSON had a key of the config."""
    make_run(tmp_path / DAY / "one", one)
    make_run(tmp_path / DAY / "two", other, minutes=1)
    pairs = {key: v.split() if isinstance(v, str) else list(v) for key, v in keys.items()}
    expected = [{key: both[place] for key, both in pairs.items()} for place in (0, 1)]
    assert configs(tmp_path) == expected
    assert titles(tmp_path) == [key.rpartition(".")[2] for key in keys]


@pytest.mark.fault("N")
def test_a_key_that_another_choice_lacks_is_no_difference(tmp_path: Path) -> None:
    make_run(tmp_path / DAY / "one", "model=linear")
    make_run(tmp_path / DAY / "two", "model=mlp", minutes=1)
    assert configs(tmp_path) == [{"model.name": "linear"}, {"model.name": "mlp"}]
    assert titles(tmp_path) == ["model"]
    assert titles(tmp_path, "columns=model.hidden") == ["hidden"]
    assert configs(tmp_path, "columns=model.hidden,model") == [
        {"model.name": "linear"},
        {"model.hidden": [512, 512], "model.name": "mlp"},
    ]


@pytest.mark.fault("N")
def test_arguments_of_a_class_of_ones_own_are_keys(tmp_path: Path) -> None:
    """Failed before: `model.kwargs.width=64` was no filter."""
    words = ("model=custom", "model.target=my.Net")
    for minutes, kwargs in enumerate(({"width": 64}, {"width": 128, "deep": {"er": 1}}, {})):
        run = make_run(tmp_path / DAY / f"run-{minutes}", *words, minutes=minutes)
        set_values(run, {"model.kwargs": kwargs})
    width, deep = "model.kwargs.width", "model.kwargs.deep.er"
    assert configs(tmp_path) == [{width: 64}, {width: 128, deep: 1}, {}]
    assert titles(tmp_path) == ["width", "er"]
    assert titles(tmp_path, f"columns={width}") == ["width"]
    assert configs(tmp_path, f"{width}=64,128", "columns=seed") == [{"seed": 0}] * 2
    assert configs(tmp_path, "model.kwargs={}", "columns=seed") == [{"seed": 0}]


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("word", "keys", "expected"),
    [
        ("optimizer.lr,model", ["optimizer.lr", "model.name"], ["lr", "model"]),
        ("model.name", ["model.name"], ["model"]),
        (" model , seed ", ["model.name", "seed"], ["model", "seed"]),
        ("seed,data.seed", ["seed", "data.seed"], ["seed", "data.seed"]),
        ("model,model.name,model", ["model.name"], ["model"]),
        ("run.root,logger", ["run.root", "logger.name"], ["root", "logger"]),
        ("trainer.max_steps,", ["trainer.max_steps"], ["max_steps"]),
    ],
)
def test_columns_names_keys(
    word: str, keys: list[str], expected: list[str], tmp_path: Path
) -> None:
    run = make_run(tmp_path / DAY / "one", "seed=3")
    content = yaml.safe_load((run / "config.yaml").read_text())
    whole = {f"{group}.{key}": v for group in ("model", "optimizer", "data", "trainer", "run",
             "logger") for key, v in content[group].items()} | {"seed": 3}  # fmt: skip
    assert titles(tmp_path, f"columns={word}") == expected
    assert configs(tmp_path, f"columns={word}") == [{key: whole[key] for key in keys}]
    cells = ls(tmp_path, f"columns={word}").out.splitlines()[1].split()
    shown = ["null" if whole[key] is None else str(whole[key]) for key in keys]
    assert cells[3 : 3 + len(keys)] == shown


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("word", "needles"),
    [
        ("columns=lr", ("no run has the key lr", "Did you mean optimizer.lr?")),
        ("columns=optimizr.lr", ("the key optimizr.lr", "Did you mean optimizer.lr?")),
        ("columns=modl,seed", ("the key modl", "Did you mean model?")),
        ("columns=batch_size", ("Did you mean data.batch_size?",)),
        ("columns=bs", ("Did you mean data.batch_size?",)),
        ("columns=[optimizer.lr]", ("Did you mean optimizer.lr?",)),
        ("columns=trainer", ("Did you mean a key in it, such as trainer.epochs?",)),
        ("columns=zzzzzz", ("the key zzzzzz", "columns=optimizer.lr,model")),
        ("columns=sweep.trials", ("the key sweep.trials",)),
        ("columns=", ("columns= is empty", "columns=optimizer.lr,model")),
        ("columns=,", ("columns= is empty",)),
        ("columns=val/loss", ("a metric is no key", "sort=val/loss", "--csv")),
        ("columns=NAME", ("has this column anyway",)),
        ("columns=status", ("has this column anyway",)),
        ("colums=seed", ("No run has the key colums",)),
        ("--columns=seed", ("no flag --columns", "columns=")),
        ("trainer=default", ("No run has the key trainer", "such as trainer.epochs?")),
    ],
)
def test_a_wrong_key_is_a_sentence(word: str, needles: tuple[str, ...], tmp_path: Path) -> None:
    make_run(tmp_path / DAY / "one")
    for more in ((), ("--json",), ("-q",)):
        ran = ls(tmp_path, word, *more)
        assert (ran.code, ran.out) == (2, "")
        assert all(needle in ran.err for needle in needles), ran.err
        assert len(ran.err.splitlines()) <= 3


@pytest.mark.fault("N")
def test_a_list_has_few_columns_and_says_what_else_differs(tmp_path: Path) -> None:
    words = ("optimizer.lr={}", "seed={}", "data.batch_size={}", "model.dropout=0.{}",
             "trainer.epochs={}", "optimizer.momentum=0.{}")  # fmt: skip
    for number in (1, 2):
        run = [word.format(number) for word in words]
        make_run(tmp_path / DAY / f"run-{number}", "model=mlp", *run, minutes=number)
    ran = ls(tmp_path)
    assert titles(tmp_path) == ["lr", "batch_size", "epochs", "seed"], "the most used ones"
    assert ran.err == (
        "The runs also differ in optimizer.momentum, model.dropout; columns=optimizer.momentum "
        "shows that.\n"
    )
    assert len(configs(tmp_path)[0]) == len(words), "a program gets all"
    assert ls(tmp_path, "columns=seed").err == ""


@pytest.mark.fault("N")
@pytest.mark.parametrize("columns", [30, 60, 80, 140])
@pytest.mark.parametrize("word", ["", "columns=model.target,optimizer.lr,model.kwargs"])
def test_no_list_is_wider_than_the_terminal(
    columns: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        run = make_run(tmp_path / DAY / f"{'n' * 30 * number}-run", minutes=number)
        hostile = {"width": "x" * 300, "a\nb": "\x1b[31m" * 9 * number, "größe": "日本" * number}
        values = {"model.name": "custom", "model.target": "my.Net" * 20, "model.kwargs": hostile}
        set_values(run, {**values, "optimizer.lr": 0.012345678901234567 / (number + 1)})
    monkeypatch.setenv("COLUMNS", str(columns))
    ran = ls(tmp_path, *filter(None, [word]))
    assert ran.code == 0 and "\x1b" not in ran.out
    lines = ran.out.splitlines()
    # A letter of Chinese takes two columns.
    widths = [sum(1 + (char in "日本") for char in line) for line in lines]
    assert len(lines) == 4 and max(widths) <= columns
    if word and columns <= 60:
        assert "There is no room for" in ran.err
    if columns > 60:
        assert "0.01235" in ran.out and "0.012345678901234567" not in ran.out
    assert configs(tmp_path, "columns=optimizer.lr")[0] == {"optimizer.lr": 0.012345678901234567}


@pytest.mark.fault("N")
def test_only_the_runs_of_the_list_have_their_configs_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        make_run(tmp_path / DAY / f"run-{number}", f"seed={number % 3}", minutes=number)
    read: list[str] = []

    def counting(entry: Entry, description: Mapping[str, object]) -> dict[str, object]:
        read.append(entry.name)
        return quick_config_of(entry, description)

    monkeypatch.setattr(rows, "quick_config_of", counting)
    assert titles(tmp_path) == ["seed"]
    assert sorted(read) == sorted(f"run-{number}" for number in range(10, 30)), "each once"
    read.clear()
    assert ls(tmp_path, "-q").code == 0
    assert read == []


def test_no_run_has_no_keys(tmp_path: Path) -> None:
    assert configs(tmp_path) == []
    ran = ls(tmp_path, "columns=optimizer.lr")
    assert (ran.code, ran.out, ran.err) == (0, "", "There is no run in runs.\n")
    assert ls(tmp_path, "columns=lr").code == 2
