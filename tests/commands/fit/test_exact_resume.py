"""Exact resume: killed by SIGKILL, a run goes on as if nothing had happened. Group A of the plan of
faults.

Equal means: the tensors and the state of the last checkpoint, the weights of the best one, every
row of metrics.jsonl and every point in TensorBoard, bit for bit, times aside.
"""

from __future__ import annotations

import functools
import itertools
import random
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from comparing import OWN_DATA, STREAMED, assert_equal, evidence
from killing import POINTS, at_batch, in_save
from processes import Prepare
from running import PLAIN, Run

KILLED = -9
# 9 updates an epoch; saves fall within epochs and at their ends.
BASE = (*PLAIN, "trainer.epochs=3", "trainer.save_every=2steps")


def train(*argv: str, cwd: Path, prepare: Prepare | None = None, code: int = 0) -> str:
    outcome = processes.run("fit", *argv, cwd=cwd, prepare=prepare)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    return outcome.out


def has_checkpoint(folder: Path) -> bool:
    return any(folder.glob("checkpoints/step-*"))


def go_on(
    folder: Path, *, words: tuple[str, ...], cwd: Path, prepare: Prepare | None = None
) -> int:
    """`resume=`; for a run that was killed before its first checkpoint the whole command again."""
    argv = (
        (*words, f"run.dir={folder}", "resume=auto")
        if not has_checkpoint(folder)
        else (f"resume={folder}",)
    )
    outcome = processes.run("fit", *argv, cwd=cwd, prepare=prepare)
    assert outcome.code in (0, KILLED), outcome.err
    return outcome.code


@pytest.fixture(scope="module")
def wholes() -> dict[tuple[str, ...], Path]:
    """The uninterrupted runs, by their words: each is made once."""
    return {}


@pytest.fixture
def whole(wholes: dict[tuple[str, ...], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    def run(*words: str) -> Path:
        if words not in wholes:
            cwd = tmp_path_factory.mktemp("whole")
            (cwd / "own_data.py").write_text(OWN_DATA)
            train(*words, f"run.dir={cwd / 'run'}", cwd=cwd)
            wholes[words] = cwd / "run"
        return wholes[words]

    return run


TRIPLES = {
    "sgd": ("model.dropout=0.2",),
    "adamw, one_cycle": (
        "optimizer=adamw",
        "scheduler=one_cycle",
        "model.dropout=0.2",
        "trainer.accumulate=2",
    ),
    "rmsprop, plateau": (
        "optimizer=rmsprop",
        "scheduler=plateau",
        "scheduler.patience=0",
        "trainer.ema=0.9",
    ),
}


@pytest.mark.fault("A")
@pytest.mark.parametrize("occurrence", [1, 5])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    "triple",
    [
        pytest.param(name, marks=[pytest.mark.slow] if index else [])
        for index, name in enumerate(TRIPLES)
    ],
)
def test_killed_at_a_named_point_of_a_save(
    tmp_path: Path, whole: Any, triple: str, point: str, occurrence: int
) -> None:
    words = (*BASE, *TRIPLES[triple])
    folder = tmp_path / "run"
    train(
        *words,
        f"run.dir={folder}",
        cwd=tmp_path,
        prepare=functools.partial(in_save, point, occurrence),
        code=KILLED,
    )
    assert go_on(folder, words=words, cwd=tmp_path) == 0
    assert_equal(folder, whole(*words))


@pytest.mark.slow
@pytest.mark.fault("A")
@pytest.mark.parametrize("seed", range(30))
def test_killed_again_and_again_at_random_steps(tmp_path: Path, whole: Any, seed: int) -> None:
    """At least 3 and on average 4 kills a run: 100 in all."""
    chosen = random.Random(seed)
    words = (
        *BASE,
        *chosen.choice(list(TRIPLES.values())),
        f"trainer.save_every={chosen.choice([1, 2, 3])}steps",
    )
    folder, kills = tmp_path / "run", 0
    train(
        *words,
        f"run.dir={folder}",
        cwd=tmp_path,
        prepare=functools.partial(at_batch, chosen.randint(1, 6)),
        code=KILLED,
    )
    while True:
        kills += 1
        prepare = functools.partial(at_batch, chosen.randint(1, 6)) if kills < 4 else None
        if go_on(folder, words=words, cwd=tmp_path, prepare=prepare) == 0:
            break
    assert kills == 4
    assert_equal(folder, whole(*words))


@pytest.mark.slow
@pytest.mark.fault("A")
@pytest.mark.parametrize("step", range(1, 21))
def test_saved_and_killed_at_each_step_of_an_epoch(tmp_path: Path, whole: Any, step: int) -> None:
    words = (
        *PLAIN,
        "data.batch_size=27",
        "model.dropout=0.2",
        "trainer.save_every=1epoch",
        "logger.log_every=3",
    )
    folder = tmp_path / "run"
    every = (f"trainer.save_every={step}steps", "trainer.keep=0")
    killed = functools.partial(in_save, "after prune", 1)
    train(*words, *every, f"run.dir={folder}", cwd=tmp_path, prepare=killed, code=KILLED)
    out = train(f"resume={folder}", "trainer.save_every=1epoch", "trainer.keep=1", cwd=tmp_path)
    assert f"Resumed at step {step} of " in out
    got, wanted = evidence(folder), evidence(whole(*words))
    assert [
        key for key in wanted if key not in ("steps", "best") and got.get(key) != wanted[key]
    ] == []


@pytest.mark.slow
@pytest.mark.fault("A")
@pytest.mark.parametrize(("before", "after"), list(itertools.product([0, 1, 2, 4], repeat=2)))
def test_any_number_of_workers_before_and_after(
    tmp_path: Path, whole: Any, before: int, after: int
) -> None:
    (tmp_path / "own_data.py").write_text(OWN_DATA)
    folder, own = (
        tmp_path / "run",
        ("data=custom", "data.target=own_data.Noisy", "data.test_kwargs={size: 40}"),
    )
    train(
        *STREAMED, f"data.num_workers={before}", f"run.dir={folder}",
        cwd=tmp_path, prepare=functools.partial(at_batch, 13), code=KILLED,
    )  # fmt: skip
    train(f"resume={folder}", *own, f"data.num_workers={after}", cwd=tmp_path)
    assert_equal(folder, whole(*STREAMED))


OPTIMIZERS = [
    ("sgd", "optimizer.momentum=0"), ("sgd", "optimizer.momentum=0.9"),
    ("sgd", "optimizer.nesterov=true"), ("sgd", "optimizer.weight_decay=0.01"), ("adam",),
    ("adam", "optimizer.amsgrad=true"), ("adam", "optimizer.weight_decay=0.01"), ("adamw",),
    ("adamw", "optimizer.amsgrad=true"), ("adamw", "optimizer.decay_all=false"), ("adamax",),
    ("nadam",), ("nadam", "optimizer.weight_decay=0.01"), ("radam",), ("rmsprop",),
    ("rmsprop", "optimizer.centered=true"), ("rmsprop", "optimizer.momentum=0.9"), ("adagrad",),
    ("adagrad", "optimizer.lr_decay=0.01"), ("adadelta",), ("adafactor",), ("asgd",), ("rprop",),
    ("lbfgs",),
]  # fmt: skip
SCHEDULERS = [
    ("constant",), ("constant", "scheduler.warmup_steps=15"), ("step", "scheduler.step_size=1"),
    ("step", "scheduler.step_size=1", "scheduler.warmup_steps=15"),
    ("multistep", "scheduler.milestones=[1,2]"),
    ("multistep", "scheduler.milestones=[1]", "scheduler.warmup_steps=15"), ("exponential",),
    ("exponential", "scheduler.warmup_steps=15"), ("cosine",),
    ("cosine", "scheduler.warmup_steps=15"), ("one_cycle",),
    ("one_cycle", "scheduler.anneal_strategy=linear"), ("plateau", "scheduler.patience=0"),
    ("plateau", "scheduler.patience=0", "scheduler.cooldown=1", "scheduler.warmup_steps=15"),
]  # fmt: skip
SETTINGS = [
    *(("optimizer", *words) for words in OPTIMIZERS),
    *(("scheduler", *words) for words in SCHEDULERS),
]


@pytest.mark.slow
@pytest.mark.fault("A")
@pytest.mark.parametrize("setting", SETTINGS, ids=" ".join)
def test_every_optimizer_and_scheduler(tmp_path: Path, setting: tuple[str, ...]) -> None:
    group, name, *more = setting
    words = (*BASE, f"{group}={name}", *more)
    train(*words, f"run.dir={tmp_path / 'whole'}", cwd=tmp_path)
    folder = tmp_path / "run"
    train(
        *words,
        f"run.dir={folder}",
        cwd=tmp_path,
        prepare=functools.partial(at_batch, 14),
        code=KILLED,
    )
    train(f"resume={folder}", cwd=tmp_path)
    assert_equal(folder, tmp_path / "whole")


@pytest.mark.fault("A")
def test_more_epochs_on_purpose(tmp_path: Path, whole: Any) -> None:
    folder = tmp_path / "run"
    words = (*BASE, "scheduler=constant")  # one whose curve does not depend on where the run ends
    train(*words, "trainer.epochs=2", f"run.dir={folder}", cwd=tmp_path)
    out = train(f"resume={folder}", "trainer.epochs=3", cwd=tmp_path)
    assert "Changed since it was saved: trainer.epochs 2 -> 3." in out
    got, wanted = evidence(folder), evidence(whole(*words))
    # Evaluated and saved at its first end as well.
    assert [key for key in wanted if key != "steps" and got.get(key) != wanted[key]] == []


@pytest.mark.fault("A")
def test_what_a_data_set_draws_moves_no_other_generator(tmp_path: Path) -> None:
    """A data set without randomness of its own and one that draws: dropout must take the same
    units in both.
    """
    quiet = OWN_DATA.replace(
        "0.3 * torch.randn(3) + 0.1 * random.random()", "0.3 * torch.sin(torch.arange(3.) + index)"
    )
    drawn = quiet.replace("label = (", "_ = torch.randn(5), random.random()\n        label = (")
    for name, source in (("quiet", quiet), ("drawn", drawn)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own_data.py").write_text(source)
        train(*STREAMED, f"run.dir={tmp_path / name / 'run'}", cwd=tmp_path / name)
    assert_equal(tmp_path / "quiet/run", tmp_path / "drawn/run")


@pytest.mark.fault("A")
def test_the_number_of_threads_is_put_back_and_a_wanted_change_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(
        *BASE,
        "trainer.threads=3",
        f"run.dir={folder}",
        cwd=tmp_path,
        prepare=functools.partial(at_batch, 14),
        code=-9,
    )
    again = processes.run("fit", f"resume={folder}", cwd=tmp_path)
    assert again.code == 0 and "cpu (3 threads)" in again.out and "bit-identical" not in again.err
    other = processes.run(
        "fit", f"resume={folder}", "trainer.threads=2", "trainer.epochs=4", cwd=tmp_path
    )
    assert other.code == 0
    assert (
        "Warning: saved with 3 CPU threads, now 2; results will not be bit-identical." in other.err
    )


@pytest.mark.fault("A")
def test_the_same_command_twice(tmp_path: Path, whole: Any) -> None:
    train(*BASE, f"run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert_equal(tmp_path / "run", whole(*BASE))


@pytest.mark.slow
@pytest.mark.fault("A")
@pytest.mark.parametrize("kill", [7, 30, 45])
def test_augmentation_of_real_images(tmp_path: Path, datasets_root: Path, kill: int) -> None:
    words = (
        "data=fashion_mnist", f"data.root={datasets_root}", "data.train_limit=1200",
        "data.eval_limit=200",
        "data.val_size=200", "data.transforms=[random_horizontal_flip,{name: random_crop, size: "
                             "28, padding: 2}]",
        "model=lenet5", "trainer.epochs=3", "trainer.save_every=3steps", "logger.log_every=5",
    )  # fmt: skip
    train(*words, f"run.dir={tmp_path / 'whole'}", cwd=tmp_path)
    folder = tmp_path / "run"
    train(
        *words,
        f"run.dir={folder}",
        cwd=tmp_path,
        prepare=functools.partial(at_batch, kill),
        code=KILLED,
    )
    train(f"resume={folder}", cwd=tmp_path)
    assert_equal(folder, tmp_path / "whole")


def test_evidence_can_tell_a_difference(tmp_path: Path, whole: Any) -> None:
    train(*BASE, "seed=1", f"run.dir={tmp_path / 'run'}", cwd=tmp_path)
    with pytest.raises(AssertionError):
        assert_equal(tmp_path / "run", whole(*BASE))
    assert not torch.equal(
        Run(tmp_path / "run").weights()["fc1.weight"], Run(whole(*BASE)).weights()["fc1.weight"]
    )
