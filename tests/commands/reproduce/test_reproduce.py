"""`trainer reproduce`: the same run again is the same bit for bit, and what is not the same is
told, with why.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commandline import trainer_main
from composing import config_of
from fake_images import fake_set, write_set
from runfolders import held
from running import SMALL, Fit, Outcome, Run, Trainer

from trainer import device
from trainer.commands.reproduce.compare import weights_difference
from trainer.commands.reproduce.original import read_original, with_original_machine
from trainer.data.image_sets.catalog import IMAGE_SETS
from trainer.errors import TrainerError
from trainer.run.index import entry_of

NAME = "10-00-00-dirichlet-mlp"
SAME = "Bit-identical: all 4 tensors of step 18 and all 6 metrics."
QUIET = (*SMALL, "logger=none")
NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self, width=4, scale=SCALE):
        super().__init__()
        self.first, self.second = torch.nn.Linear(10, width), torch.nn.Linear(width, 10)
        self.first.weight.data.mul_(scale)
    def forward(self, inputs):
        return self.second(self.first(inputs).relu())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to copy, with a step folder every nine updates."""
    folder = tmp_path_factory.mktemp("made")
    ran = trainer_main("fit", *QUIET, "model.dropout=0.2", f"run.dir={NAME}", cwd=folder)
    assert ran.code == 0, ran.err
    return folder / NAME


@pytest.fixture
def original(made: Path, tmp_path: Path) -> Run:
    """A copy of that run, the only one in runs/."""
    folder = tmp_path / "runs" / "2026-01-01" / NAME
    shutil.copytree(made, folder, symlinks=True)
    return Run(folder)


def edit(run: Run, **fields: Any) -> None:
    """Change fields of a run.json."""
    (run.folder / "run.json").write_text(json.dumps(run.record | fields))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def folders(tmp_path: Path) -> list[Path]:
    """All run folders below runs/, the copied one first."""
    return sorted(path.parent for path in (tmp_path / "runs").rglob("run.json"))


def assert_same(outcome: Outcome, *, same: str = SAME) -> None:
    """It is the same run, and the last line has that."""
    assert outcome.code == 0, outcome.out + outcome.err
    assert outcome.out.splitlines()[-1] == same


def assert_refused(outcome: Outcome, *said: str, code: int = 2) -> None:
    """Refused in three lines at most, before anything was printed or made."""
    assert outcome.code == code, outcome.out + outcome.err
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) <= 3
    assert [text for text in said if text not in outcome.err] == [], outcome.err


def told(outcome: Outcome) -> dict[str, str]:
    """The table and the facts after `Not identical:`, by their first column."""
    assert outcome.code == 1, outcome.out + outcome.err
    lines = [
        re.split(r"\s{2,}", line.strip(), maxsplit=1)
        for line in outcome.out.split("Not identical:\n")[1].splitlines()
    ]
    return {line[0]: line[1] if len(line) > 1 else "" for line in lines}


@pytest.mark.parametrize("name", ["last", "id", "part", "path"])
def test_a_run_is_the_same_again(
    name: str, original: Run, trainer: Trainer, tmp_path: Path
) -> None:
    before = contents(original.folder)
    references = {
        "id": entry_of(original.folder).id,
        "part": "dirichlet",
        "path": f"runs/2026-01-01/{NAME}",
    }
    assert_same(trainer("reproduce", references.get(name, name)))
    assert contents(original.folder) == before
    [_, again] = folders(tmp_path)
    assert Run(again).digest() == original.digest()
    assert Run(again).record["command"] == f"trainer reproduce {references.get(name, name)}"
    assert again.name.endswith("-dirichlet-mlp")


@pytest.mark.parametrize(
    "words",
    [
        ("trainer.ema=0.9", "optimizer=adamw", "scheduler=plateau", "scheduler.patience=0"),
        ("trainer.accumulate=2", "trainer.patience=1", "optimizer.lr=0.9", "seed=7"),
        ("trainer.eval_every=5steps", "trainer.max_steps=13", "scheduler=one_cycle"),
    ],
    ids=",".join,
)
def test_every_key_of_the_config_is_as_it_was(
    words: tuple[str, ...], fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    run = fit(*words, base=QUIET)
    outcome = trainer("reproduce", str(run.folder), "run.dir=again")
    assert outcome.code == 0 and "Bit-identical: " in outcome.out, outcome.out + outcome.err
    [was, now] = [
        yaml.safe_load((folder / "config.yaml").read_text())
        for folder in (run.folder, tmp_path / "again")
    ]
    assert (
        now["trainer"].pop("threads") == torch.get_num_threads()
        and was["trainer"].pop("threads") is None
    )
    assert {**now, "run": None} == {**was, "run": None}


def test_a_run_that_was_cut_and_went_on_is_the_same(original: Run, trainer: Trainer) -> None:
    shutil.rmtree(original.folder / "checkpoints" / "step-000018")
    edit(original, status="interrupted", metrics={}, checkpoints={})
    assert_refused(
        trainer("reproduce", "last"),
        "is not done (interrupted)",
        f"trainer fit resume=runs/2026-01-01/{NAME}",
    )
    assert trainer("fit", f"resume={original.folder}").code == 0
    assert original.record["resumed"][0]["changes"] == {}
    assert_same(trainer("reproduce", str(original.folder)))


def test_a_reproduction_can_be_reproduced(original: Run, trainer: Trainer) -> None:
    assert_same(trainer("reproduce", "last", "run.dir=again"))
    assert_same(trainer("reproduce", "again"))


def test_as_many_threads_as_then(
    fit: Fit, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = device._default_threads() + 1
    with monkeypatch.context() as patched:
        patched.setattr(device, "_default_threads", lambda: default)
        run = fit(base=QUIET)
    assert_same(trainer("reproduce", str(run.folder), "run.dir=again"))
    assert (
        yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())["trainer"]["threads"]
        == default
    )
    torch.set_num_threads(default - 1)


@pytest.mark.parametrize(
    ("asked", "variant", "expected"),
    [
        ("auto", "eager", "off"),
        ("auto", "compiled", "on"),
        ("on", "compiled", "on"),
        ("off", "eager", "off"),
    ],
)
def test_the_model_is_run_in_the_way_of_then(asked: str, variant: str, expected: str) -> None:
    config = config_of(*SMALL, f"trainer.compile='{asked}'", "trainer.threads=3")
    again = with_original_machine(config, {"threads": 2, "variant": variant})
    assert (again.trainer.compile, again.trainer.threads) == (expected, 3)
    assert dataclasses.replace(again, trainer=config.trainer) == config


# What is not the same.


def test_other_metrics_and_versions_are_told(original: Run, trainer: Trainer) -> None:
    metrics = original.record["metrics"]
    loss = metrics["val/loss"]
    versions = original.record["versions"] | {"hydra-core": "1.3.8-old"}
    edit(
        original,
        metrics=metrics | {"val/loss": loss + 0.25},
        versions=versions,
        host="elsewhere",
        git_commit="0" * 40,
    )
    rows = told(trainer("reproduce", "last"))
    assert rows["METRIC"].split() == ["THEN", "NOW", "DIFFERENCE"]
    then, now, difference = map(float, rows["val/loss"].split())
    assert (then, now, difference) == pytest.approx((loss + 0.25, loss, -0.25), rel=1e-6)
    assert rows["test/loss"].split()[2] == "0"
    assert rows["weights"] == "all 4 tensors of the last step are the same"
    assert rows["hydra-core"].startswith("1.3.8-old -> ")
    assert rows["host"].startswith("elsewhere -> ")
    assert rows["commit"].startswith("000000000000 -> ")
    assert "torch" not in rows and "threads" not in rows and "device" not in rows
    assert not any("does not explain it" in name for name in rows)


def test_where_nothing_known_differs_that_is_said(original: Run, trainer: Trainer) -> None:
    edit(original, metrics=original.record["metrics"] | {"test/accuracy": None})
    outcome = trainer("reproduce", "last")
    assert told(outcome)["test/accuracy"].split()[::2] == ["-", "-"]
    assert "what is known does not explain it" in outcome.out
    assert "own classes" not in outcome.out and "Files differed from the commit" not in outcome.out


def test_changes_that_no_commit_holds_are_told(original: Run, trainer: Trainer) -> None:
    edit(original, metrics={}, git_commit="1" * 40 + "+changes")
    outcome = trainer("reproduce", "last")
    assert told(outcome)["commit"].startswith("111111111111+changes -> ")
    assert "Files differed from the commit" in outcome.out


def test_how_weights_difference() -> None:
    then = {"a": torch.tensor([0.0, 1.0]), "b": torch.ones(2, 3), "c": torch.tensor(1)}
    assert weights_difference(then, {name: tensor.clone() for name, tensor in then.items()}) == ""
    apart = {"a": torch.tensor([0.0, 1.5]), "b": torch.ones(2, 3) - 2, "c": torch.tensor(1)}
    assert weights_difference(then, apart) == "2 of 3 tensors differ, by 2 at most (b)"
    assert (
        weights_difference(then, then | {"a": torch.tensor([-0.0, 1.0])})
        == "1 of 3 tensors differ, by 0 at most (a)"
    )
    assert "by inf at most (a)" in weights_difference(
        then, then | {"a": torch.tensor([math.nan, 1.0])}
    )
    assert weights_difference(*2 * ({"a": torch.tensor([math.nan])},)) == ""
    other = {"a": then["a"], "b": torch.ones(3, 2), "d": torch.ones(0)}
    assert (
        weights_difference(then, other)
        == "3 of 4 tensors differ, of another shape or on one side only: b, c, d"
    )
    assert weights_difference({"a": torch.ones(0)}, {"a": torch.ones(0, dtype=torch.int64)}) != ""
    assert "by 0 at most" in weights_difference(
        {"a": torch.ones(2)}, {"a": torch.ones(2, dtype=torch.float64)}
    )


def test_evaluating_by_the_clock_is_warned_about(fit: Fit, trainer: Trainer) -> None:
    run = fit("trainer.eval_every=60min", base=QUIET)
    outcome = trainer("reproduce", str(run.folder))
    assert outcome.code == 0
    assert "trainer.eval_every=60min goes by the clock" in outcome.err


# Data.


Images = Callable[[int], None]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    """`images(label)` makes data=mnist a tiny set of files whose checksums are known; one label
    of it is `label`.
    """

    def make(label: int) -> None:
        monkeypatch.setitem(
            IMAGE_SETS, "mnist", dataclasses.replace(fake_set(label=label), name="mnist")
        )
        write_set(tmp_path / "data" / "Fake" / "raw", label=label)

    return make


SMALL_IMAGES = (
    "data=mnist",
    "data.val_size=2",
    "data.batch_size=2",
    "model=mlp",
    "model.hidden=[3]",
    "logger=none",
)


def test_other_data_is_refused_before_anything_is_written(
    images: Images, trainer: Trainer, tmp_path: Path
) -> None:
    images(1)
    assert trainer("fit", *SMALL_IMAGES).code == 0
    before = contents(tmp_path / "runs")
    images(0)
    outcome = trainer("reproduce", "last")
    assert_refused(
        outcome, "train-labels-idx1-ubyte is not what the run was trained on", "data.root=", code=3
    )
    assert contents(tmp_path / "runs") == before


@pytest.mark.parametrize(("now", "words"), [("elsewhere", ("data.root=elsewhere",)), ("data", ())])
def test_data_that_was_moved_is_the_same(
    now: str, words: tuple[str, ...], images: Images, trainer: Trainer, tmp_path: Path
) -> None:
    images(1)
    (tmp_path / "data").rename(tmp_path / "then")
    assert trainer("fit", *SMALL_IMAGES, "data.root=then").code == 0
    (tmp_path / "then").rename(tmp_path / now)
    outcome = trainer("reproduce", "last", *words)
    assert outcome.code == 0 and "Bit-identical" in outcome.out, outcome.out + outcome.err
    assert not (tmp_path / "then").exists()


# A person's own classes.


@pytest.fixture
def own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: Trainer
) -> Callable[[float], None]:
    """`own(scale)` writes the module own_net, whose class begins with weights of that scale."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "mine"
    for group, text in {
        "model": "defaults: [custom]\ntarget: own_net.Net\nkwargs: {width: 6}\n",
        "experiment": "# @package _global_\ndefaults:\n  - override /model: own\noptimizer:\n  lr: "
        "5.0\n",
    }.items():
        (folder / group).mkdir(parents=True)
        (folder / group / "own.yaml").write_text(text)

    def write(scale: float) -> None:
        (tmp_path / "own_net.py").write_text(NET.replace("SCALE", str(scale)))
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        monkeypatch.delitem(sys.modules, "own_net", raising=False)

    write(1.0)
    data = [word for word in QUIET if not word.startswith("model")]
    outcome = trainer("fit", *data, "--config-dir", "mine", "model=own", "run.dir=own")
    assert outcome.code == 0, outcome.err
    write(1.0)
    return write


OWN_WORDS = ("model=custom", "model.target=own_net.Net")


@pytest.mark.usefixtures("own")
def test_own_classes_must_be_named_again(trainer: Trainer) -> None:
    assert_refused(
        trainer("reproduce", "own"), "needs your own class own_net.Net", "model=custom", code=3
    )
    assert "own_net" not in sys.modules
    for words in (
        OWN_WORDS,
        ("--config-dir", "mine", "model=own"),
        ("-cd", "mine", "experiment=own"),
    ):
        assert_same(trainer("reproduce", *words, "own"))
    assert_same(trainer("reproduce", "own", *OWN_WORDS, "model.kwargs={width: 6}"))
    wrong = trainer("reproduce", "own", *OWN_WORDS, "model.kwargs={width: 5}")
    assert_refused(wrong, "model.kwargs is {'width': 5} here, and was {'width': 6} in the run")
    assert_refused(
        trainer("reproduce", "own", "model=custom", "model.target=own_net.Other"),
        "model.target is own_net.Other",
    )
    assert_refused(
        trainer("reproduce", "own", "data=custom", "data.target=own_net.Net"),
        "data cannot be set here",
    )


def test_a_class_that_was_changed_gives_other_weights(
    own: Callable[[float], None], trainer: Trainer
) -> None:
    own(0.5)
    outcome = trainer("reproduce", "own", *OWN_WORDS)
    rows = told(outcome)
    assert re.match(
        r"4 of 4 tensors differ, by 0\.\d+ at most \((first|second)\.(weight|bias)\)$",
        rows["weights"],
    )
    assert float(rows["train/loss"].split()[2]) != 0
    assert "The code of your own classes (model.target) is not compared." in outcome.out


# What is no run to reproduce.


@pytest.mark.parametrize("status", ["failed", "interrupted", "pruned"])
def test_a_run_that_is_not_done(status: str, original: Run, trainer: Trainer) -> None:
    edit(original, status=status)
    assert_refused(
        trainer("reproduce", "last"),
        f"is not done ({status})",
        f"trainer fit resume=runs/2026-01-01/{NAME}",
    )


def test_a_run_that_is_running_was_killed_or_is_damaged(original: Run, trainer: Trainer) -> None:
    with held(original.folder):  # done, and a resume has just begun
        assert_refused(trainer("reproduce", "last"), "is still running")
        edit(original, status="running")
        assert_refused(trainer("reproduce", "last"), "is still running")
    assert_refused(trainer("reproduce", "last"), "is not done (interrupted)")
    (original.folder / "run.json").write_text("{")
    assert_refused(
        trainer("reproduce", "last"), "run.json", "is damaged", "trainer check-run", code=3
    )


def test_a_run_that_a_resume_changed(original: Run, trainer: Trainer) -> None:
    assert trainer("fit", f"resume={original.folder}", "trainer.epochs=3").code == 0
    assert_refused(
        trainer("reproduce", "last"),
        "was changed when it was resumed at step 18: trainer.epochs 2 -> 3.",
    )


def test_a_run_that_branched_off(original: Run, trainer: Trainer) -> None:
    step = f"runs/2026-01-01/{NAME}/checkpoints/step-000009"
    assert trainer("fit", f"resume={step}", "run.dir=branch").code == 0
    assert_refused(
        trainer("reproduce", "branch"),
        "continued from a step of",
        f"trainer reproduce {original.folder}",
    )


def test_what_a_resume_may_have_changed(original: Run, tmp_path: Path) -> None:
    step = str(original.folder / "checkpoints" / "step-000009")
    resume = {
        "from": step,
        "step": 9,
        "changes": {"data.root": ["a", "b"], "data.num_workers": [0, 2]},
    }
    edit(original, resumed=[resume])
    assert read_original(str(original.folder), root=tmp_path).step.name == "step-000018"
    for resumed in (
        [resume, {"from": step}],
        "once",
        [{**resume, "changes": {"trainer.device": ["cpu", "cuda"]}}],
    ):
        edit(original, resumed=resumed)
        with pytest.raises(
            TrainerError, match=r"resumes cannot be read|trainer\.device cpu -> cuda"
        ):
            read_original(str(original.folder), root=tmp_path)


def test_a_last_checkpoint_that_is_gone_renamed_or_damaged(
    original: Run, trainer: Trainer, tmp_path: Path
) -> None:
    newest = original.folder / "checkpoints" / "step-000018"
    aside = newest.rename(tmp_path / "aside")
    assert_refused(
        trainer("reproduce", "last"), "step-000009 is not the last checkpoint of the run", code=3
    )
    aside.rename(newest.with_name("step-000020"))
    edit(original, checkpoints={"last": "step-000020"})
    assert_refused(trainer("reproduce", "last"), "step-000020 is not the last checkpoint", code=3)
    shutil.rmtree(original.folder / "checkpoints")
    assert_refused(trainer("reproduce", "last"), "holds no checkpoint", code=3)


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors"])
def test_damage_is_told_before_training(
    name: str, original: Run, trainer: Trainer, tmp_path: Path
) -> None:
    path = original.folder / "checkpoints" / "step-000018" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_refused(trainer("reproduce", "last"), name, "checksum", code=3)
    assert len(folders(tmp_path)) == 1


@pytest.mark.parametrize("machine", [{"threads": 5000}, {"threads": 1.5}, {"device": None}])
def test_a_machine_that_there_is_not(
    machine: dict[str, Any], fit: Fit, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dict = device.Machine.state_dict
    with monkeypatch.context() as patched:
        patched.setattr(device.Machine, "state_dict", lambda self: state_dict(self) | machine)
        run = fit(base=QUIET)
    assert_refused(trainer("reproduce", str(run.folder)), "state.safetensors", code=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("optimizer.lr=1",),
            (
                "optimizer.lr cannot be set here",
                "It may set data.root",
                "start from what was run: trainer",
            ),
        ),
        (("seed=1",), ("seed cannot be set here",)),
        (("model=mlp",), ("model cannot be set here",)),
        (("experiment=line",), ("experiment cannot be set here",)),
        (("data.batch_size=8",), ("data.batch_size cannot be set here",)),
        (("trainer.epochs=4",), ("trainer.epochs cannot be set here",)),
        (("~trainer.epochs",), ("takes one run",)),
        (("+model.width=3",), ("model.width cannot be set here",)),
        (("resume=last",), ("reproduce has no key resume", "trainer reproduce last")),
        (("data.root=elsewhere",), ("data=dirichlet has no key root",)),
        (("trainer.device=gpu",), ("trainer.device=gpu is not a device",)),
        (("-m",), ("There is no flag -m",)),
        (("--cfg", "job"), ("There is no flag --cfg",)),
        (("--config-dir",), ("--config-dir needs a value",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_would_be_another_run(
    words: tuple[str, ...], said: tuple[str, ...], original: Run, trainer: Trainer, tmp_path: Path
) -> None:
    assert_refused(trainer("reproduce", "last", *words), *said)
    assert folders(tmp_path) == [original.folder]


def test_where_the_new_run_goes(original: Run, trainer: Trainer, tmp_path: Path) -> None:
    assert_same(trainer("reproduce", "run.name=again", "trainer.device=cpu", "last"))
    assert folders(tmp_path)[-1].name.endswith("-again")
    outcome = trainer("reproduce", "again", "run.dir=runs")
    assert outcome.code == 2 and "run.dir=runs exists and is not empty" in outcome.err
    (tmp_path / "runs").rename(tmp_path / "results")
    assert_refused(trainer("reproduce", "last"), "no run", code=3)
    assert_same(trainer("reproduce", NAME, "run.root=results"))
    assert len(list((tmp_path / "results").rglob("run.json"))) == 3
