"""What a sweep varies, as it is typed or written in an experiment file, and what is said when
that is wrong.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commandline import Ran
from composing import choices_of
from running import SMALL, Run, Trainer
from swept import TINY, only_sweep
from wrong_commands import Outcome, check, run_commands

from trainer.cli.arguments import Arguments
from trainer.cli.compose import sweep_request
from trainer.cli.verbs import VERBS
from trainer.commands.sweep import plan
from trainer.config import to_plain
from trainer.config.sweep import Axis, SweepRequest

# Each test composes configs with Hydra, 60 ms a time.
pytestmark = pytest.mark.long

BASE = "data=dirichlet model=mlp"
GRID = """# @package _global_
defaults:
  - override /data: dirichlet
  - override /model: mlp

sweep:
  params:
    optimizer.lr: 0.1,0.01
    seed: [0, 1]
    model.hidden:
      - [8]
      - [8, 4]
    trainer.max_steps: [null, 1]
"""
SEARCH = """# @package _global_
defaults:
  - override /data: dirichlet
  - override /model: mlp
  - override /sweep: random

sweep:
  trials: 3
  params:
    optimizer.lr: tag(log,interval(1e-4,1))
    data.batch_size: int(interval(8,64))
"""


@contextlib.contextmanager
def asked(words: str, *, mine: str = "") -> Iterator[SweepRequest]:
    with sweep_request(Arguments.parse(VERBS["fit"], shlex.split(f"{mine} {words}"))) as request:
        yield request


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A folder of a person's own YAML, as it is named on the command line."""
    folder = tmp_path / "mine/experiment"
    folder.mkdir(parents=True)
    (folder / "grid.yaml").write_text(GRID)
    (folder / "search.yaml").write_text(SEARCH)
    return "--config-dir mine"


# Words -> the values of each key that is varied, as they are typed for a job.
VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    f"{BASE} seed=0,1": {"seed": ("0", "1")},
    f"{BASE} 'seed=range(0,5)'": {"seed": ("0", "1", "2", "3", "4")},
    f"{BASE} 'seed=range(5,0,-2)'": {"seed": ("5", "3", "1")},
    f"{BASE} 'optimizer.lr=choice(0.1,1e-3)'": {"optimizer.lr": ("0.1", "0.001")},
    f"{BASE} 'optimizer.lr=sort(0.2,0.1)'": {"optimizer.lr": ("0.1", "0.2")},
    f"{BASE} 'optimizer=glob(ada*)'": {
        "optimizer": tuple(name for name in choices_of("optimizer") if name.startswith("ada"))
    },
    "data=dirichlet 'model=glob([l*,m*],exclude=lenet5)'": {"model": ("linear", "mlp")},
    f"{BASE} 'model.hidden=[8],[8,4],[]'": {"model.hidden": ("[8]", "[8,4]", "[]")},
    "data=mnist 'data.transforms=[random_horizontal_flip],[]'": {
        "data.transforms": ("[random_horizontal_flip]", "[]")
    },
    f"{BASE} trainer.max_steps=null,1": {"trainer.max_steps": ("null", "1")},
    f"{BASE} optimizer.lr=0.1,0.2 seed=1,0": {"optimizer.lr": ("0.1", "0.2"), "seed": ("1", "0")},
    "data=dirichlet model=custom model.target=own.Net model.kwargs.width=1,2": {
        "model.kwargs.width": ("1", "2")
    },
    "data=dirichlet model=custom model.target=own.Net +model.kwargs.width=1,2": {
        "model.kwargs.width": ("1", "2")
    },
    "data=dirichlet model=custom model.target=own.Net 'model.kwargs={a: 1},{a: 2}'": {
        "model.kwargs": ("{a:1}", "{a:2}")
    },
}


@pytest.mark.parametrize("words", VALUES)
def test_the_values_of_a_grid(words: str) -> None:
    with asked(f"-m {words}") as request:
        assert {axis.key: axis.values for axis in request.axes} == VALUES[words]
        jobs = plan.grid(request.axes)
        configs = [plan.config_of(request, job) for job in jobs]
    assert len({plan.config_hash(config) for config in configs}) == len(jobs)


def test_a_key_that_is_left_out_is_left_out_of_every_job() -> None:
    """`~` takes a part of an open table, for all jobs."""
    words = (
        "model=custom data=dirichlet model.target=own.Net "
        "model.kwargs.width=1,2 model.kwargs.depth=3"
    )
    with asked(f"-m {words} ~model.kwargs.depth") as request:
        configs = [plan.config_of(request, job) for job in plan.grid(request.axes)]
    assert [to_plain(config)["model"]["kwargs"] for config in configs] == [
        {"width": 1},
        {"width": 2},
    ]


@pytest.mark.parametrize("kind", ["random", "optuna"])
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optimizer.lr=interval(0.01,0.1)", Axis(key="optimizer.lr", low=0.01, high=0.1)),
        (
            "optimizer.lr=tag(log,interval(1e-4,1))",
            Axis(key="optimizer.lr", low=1e-4, high=1.0, log=True),
        ),
        (
            "data.batch_size=int(interval(8,64))",
            Axis(key="data.batch_size", low=8, high=64, is_int=True),
        ),
        (
            "seed=tag(log,int(interval(8,64)))",
            Axis(key="seed", low=8, high=64, is_int=True, log=True),
        ),
        ("optimizer.lr=0.1,0.2", Axis(key="optimizer.lr", values=("0.1", "0.2"))),
        (
            "seed=range(0,6,2)",
            Axis(key="seed", values=("0", "2", "4"), low=0, high=4, step=2, is_int=True),
        ),
    ],
)  # fmt: skip
def test_what_a_search_may_draw_from(kind: str, word: str, expected: Axis) -> None:
    with asked(f"-m {BASE} sweep={kind} '{word}'") as request:
        assert request.axes == [expected]
        assert len(plan.check(request, [])) == 1


def test_an_experiment_may_be_a_sweep(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    everything = {
        "optimizer.lr": ("0.1", "0.01"),
        "seed": ("0", "1"),
        "model.hidden": ("[8]", "[8,4]"),
        "trainer.max_steps": ("null", "1"),
    }
    for flag in ("", "-m"):
        with asked(f"{flag} experiment=grid", mine=mine) as request:
            assert {axis.key: axis.values for axis in request.axes} == everything
            first = plan.config_of(request, plan.grid(request.axes)[0])
            assert (first.optimizer.lr, first.seed, to_plain(first)["model"]["hidden"]) == (
                0.1,
                0,
                [8],
            )
        with asked(f"{flag} experiment=search", mine=mine) as request:
            lr, batch_size = request.axes
            assert (lr.log, lr.low, lr.high) == (True, 1e-4, 1.0)
            assert (batch_size.is_int, batch_size.low, batch_size.high) == (True, 8, 64)
            assert request.sweep.trials == 3  # type: ignore[attr-defined]


def test_a_key_on_the_command_line_wins_over_an_experiment(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with asked(
        "experiment=grid seed=7 optimizer.lr=1,2 'model.hidden=[3]' trainer.max_steps=5", mine=mine
    ) as request:
        assert {axis.key: axis.values for axis in request.axes} == {"optimizer.lr": ("1", "2")}
        configs = [plan.config_of(request, job) for job in plan.grid(request.axes)]
    assert [config.optimizer.lr for config in configs] == [1.0, 2.0]
    assert [(config.seed, config.trainer.max_steps) for config in configs] == [(7, 5)] * 2


def test_a_sweep_of_an_experiment_runs_without_a_flag(
    mine: str, trainer: Trainer, tmp_path: Path
) -> None:
    words = (
        *mine.split(),
        "experiment=grid",
        "optimizer.lr=0.1",
        "model.hidden=[8]",
        "trainer.max_steps=1",
    )
    outcome = trainer(
        "fit", *words, "logger=none", "data.train_size=80", "data.val_size=16", "data.test_size=16"
    )
    assert outcome.code == 0, outcome.err
    assert [job["values"] for job in only_sweep(tmp_path).jobs] == [{"seed": "0"}, {"seed": "1"}]
    # With every key given, what is left is a single run.
    assert trainer(*only_sweep(tmp_path).jobs[1]["command"][1:], "run.dir=alone").code == 0
    assert Run(tmp_path / "alone").digest() == only_sweep(tmp_path).runs[1].digest()


def test_a_persons_own_keys_in_an_experiment(mine: str, trainer: Trainer, tmp_path: Path) -> None:
    """They need a + on the command line of each job, and none in the file."""
    (tmp_path / "own.py").write_text(
        "from torch import nn\n\n\ndef net(width: int) -> nn.Module:\n"
        "    return nn.Sequential(nn.Linear(10, width), nn.Linear(width, 10))\n"
    )
    experiment = GRID.replace("model: mlp", "model: custom").partition("sweep:")[0]
    params = "sweep:\n  params:\n    model.kwargs.width: [3, 5]\n"
    text = f"{experiment}model:\n  target: own.net\n{params}"
    (tmp_path / "mine/experiment/own.yaml").write_text(text)
    small = [word for word in TINY if not word.startswith(("data=", "model"))]
    outcome = trainer("fit", *mine.split(), "experiment=own", *small)
    assert outcome.code == 0, outcome.err
    sweep = only_sweep(tmp_path)
    assert [len(run.weights()["0.weight"]) for run in sweep.runs] == [3, 5]
    outcome = trainer(*sweep.jobs[1]["command"][1:], "run.dir=alone")
    assert outcome.code == 0, outcome.err
    assert Run(tmp_path / "alone").digest() == sweep.runs[1].digest()


def test_a_search_draws_within_its_ranges(trainer: Trainer, tmp_path: Path) -> None:
    words = (
        "sweep=random",
        "sweep.trials=4",
        "optimizer.lr=tag(log,interval(1e-4,1))",
        "model=mlp,linear",
    )
    base = [word for word in TINY if not word.startswith("model")]
    outcome = trainer("fit", "-m", *base, *words, "data.batch_size=int(interval(8,64))")
    assert outcome.code == 0, outcome.err
    sweep = only_sweep(tmp_path)
    assert sweep.statuses == ["done"] * 4
    values = [job["values"] for job in sweep.jobs]
    assert all(1e-4 <= float(value["optimizer.lr"]) <= 1 for value in values)
    assert all(8 <= int(value["data.batch_size"]) <= 64 for value in values)
    assert {value["model"] for value in values} == {"mlp", "linear"}
    configs = [(run.folder / "config.yaml").read_text() for run in sweep.runs]
    assert all(
        f"batch_size: {value['data.batch_size']}\n" in text
        for value, text in zip(values, configs, strict=True)
    )
    again = trainer("fit", "-m", *base, *words, "data.batch_size=int(interval(8,64))")
    assert again.code == 0 and "4 of 4 jobs are done" in again.err


# Command -> exit code and words that must be in the message.
WRONG: dict[str, tuple[int, tuple[str, ...]]] = {
    f"-m {BASE} 'optimizer.lr=interval(0.1,0.2)'": (2, ("a grid needs values", "sweep=random")),
    f"-m {BASE} sweep=optuna 'optimizer.lr=interval(1,0.1)'": (
        2,
        ("interval(1,0.1)", "below its end"),
    ),
    f"-m {BASE} sweep=optuna 'optimizer.lr=tag(log,interval(0,1))'": (
        2,
        ("interval(0,1)", "above 0"),
    ),
    f"-m {BASE} sweep=random 'seed=interval(0,5)'": (2, ("seed=", "whole number")),
    f"-m {BASE} sweep=optuna seed=0": (2, ("nothing to vary", "interval(")),
    f"-m {BASE} 'seed=range(0,0)'": (2, ("range(0,0) has no values",)),
    f"-m {BASE} 'seed=range(0,5,0)'": (2, ("range(0,5,0)", "step must not be 0")),
    f"-m {BASE} 'seed=range(0,1000000000)'": (2, ("more than 100,000 values",)),
    f"-m {BASE} 'seed=range(0,5001)'": (2, ("5,001 jobs", "sweep=random")),
    "-m data=dirichlet 'model=glob(zz*)'": (2, ("model=glob(zz*) has no values",)),
    f"-m {BASE} seed=0,": (2, ("seed=0, cannot be read",)),
    f"-m {BASE} 'seed=choice('": (2, ("seed=choice( cannot be read",)),
    f"-m {BASE} seed=0,0": (2, ("seed has the value 0 more than once",)),
    f"-m {BASE} optimizer.lr=0.1,1e-1": (2, ("optimizer.lr has the value 0.1 more than once",)),
    f"-m {BASE} seed=0,1 seed=2,3": (2, ("seed is given more than once",)),
    f"-m {BASE} seed=0,1 seed=2": (2, ("seed is given more than once",)),
    f"-m {BASE} +seed=0,1": (2, ("seed exists already", "Leave out the +")),
    f"-m {BASE} seed=0,1 ~model.dropout": (2, ("model.dropout is missing",)),
    f"-m {BASE} trainer.epochs=many,few": (2, ("trainer.epochs=many", "whole number")),
    f"-m {BASE} optimizer.l=1,2": (2, ("no key l", "Did you mean lr?")),
    "-m data=dirichlet model=mlp,lenet": (2, ("Did you mean lenet5?",)),
    # About the sweep itself.
    f"-m {BASE} seed=0,1 sweep.jobs=1,2": (2, ("sweep.jobs cannot be varied",)),
    f"-m {BASE} seed=0,1 sweep=grid,random": (2, ("sweep cannot be varied",)),
    f"-m {BASE} seed=0,1 run.name=a,b": (2, ("run.name cannot be varied",)),
    f"-m {BASE} seed=0,1 run.name=a/b": (2, ("run.name", "run.dir")),
    f"-m {BASE} seed=0,1 sweep.jobs=many": (2, ("sweep.jobs=many", "auto")),
    f"-m {BASE} seed=0,1 sweep.jobs=0": (2, ("sweep.jobs=0",)),
    f"-m {BASE} seed=0,1 sweep.jobs=\"'{'9' * 5000}'\"": (2, ("is not known", "auto")),
    f"-m {BASE} seed=0,1 sweep.devices=[]": (2, ("sweep.devices=[]", "[0,1]")),
    f"-m {BASE} seed=0,1 sweep=optun": (2, ("Did you mean optuna?",)),
    f"-m {BASE} seed=0,1 sweep.trials=3": (2, ("sweep=grid has no key trials",)),
    f"-m {BASE} seed=0,1 launcher=slrum": (2, ("Did you mean slurm?",)),
    f"-m {BASE} seed=0,1 resume=last": (2, ("resume and -m do not go together",)),
    f"-m --config-dir nowhere {BASE} seed=0,1": (2, ("nowhere is not a folder",)),
    f"{BASE} sweep.jobs=2": (2, ("sweep.jobs=2 has an effect in a sweep only", "-m")),
    f"{BASE} launcher=slurm": (2, ("launcher=slurm has an effect in a sweep only", "-m")),
    f"{BASE} seed=0,1": (2, ("seed=0,1 has several values", "-m")),
    "-m experiment=lr_sweep,line": (2, ("cannot be varied",)),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("wrong")
    found = run_commands([f"fit {words}" for words in WRONG], folder)
    return dict(zip(WRONG, found.values(), strict=True))


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_sweep_is_refused_without_torch_and_leaves_no_file(
    words: str, outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes[words]
    check(outcome.ran, *WRONG[words])
    assert [path for path in outcome.made if not path.startswith(".cache")] == [], (
        "but what matplotlib keeps"
    )
    assert not outcome.has_torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_gpu_is_reported_before_a_job_is_started(
    trainer: Trainer, tmp_path: Path
) -> None:
    outcome = trainer("fit", "-m", *SMALL, "seed=0,1", "sweep.devices=[7]")
    check(Ran(outcome.code, "", outcome.err), 4, ("no GPU 7",))
    assert not list(tmp_path.glob("runs/*"))
