"""Checkpoints that are intact but do not fit: told by naming what differs. Group L of the plan
of faults.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from forging import Forged, assert_refused, contents, forge_model, make_run

from trainer.run.folder import MODEL_FILE

STEP = Path("run/checkpoints/step-000018")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trained")).parent


@pytest.fixture
def cwd(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "cwd", symlinks=True))


def assert_refuses(*words: str, said: str, cwd: Path) -> None:
    before = contents(cwd / "run")
    assert_refused(processes.run(*words, cwd=cwd), said)
    assert contents(cwd / "run") == before


@pytest.mark.fault("L")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(
            ("model.hidden=[8]",),
            "fc1.bias: checkpoint 16, model 8; fc1.weight: checkpoint 16x10, model 8x10; "
            "fc2.weight: checkpoint 10x16, model 10x8\n",
            id="another width",
        ),
        pytest.param(
            ("data.features=7",),
            "fc1.weight: checkpoint 16x10, model 16x7; fc2.bias: checkpoint 10, model 7; "
            "fc2.weight: checkpoint 10x16, model 7x16\n",
            id="another number of classes",
        ),
        pytest.param(
            ("optimizer=sgd",),
            "step-000018 holds the state of adam.\nContinue with optimizer=adam",
            id="optimizer",
        ),
    ],
)
def test_going_on_with_other_settings(cwd: Path, words: tuple[str, ...], said: str) -> None:
    assert_refuses("fit", f"resume={STEP}", "trainer.epochs=3", *words, said=said, cwd=cwd)


def test_only_three_differences_are_named(cwd: Path) -> None:
    said = (
        "fc1.bias: checkpoint 16, model 8; fc1.weight: checkpoint 16x10, model 8x10; "
        "fc2.bias: checkpoint 10, model 8"
    )
    words = ("fit", f"resume={STEP}", "trainer.epochs=3", "model.hidden=[8,8,8]")
    assert_refuses(*words, said=f"{said} (+5 more)\n", cwd=cwd)


def take_a_tensor(file: Forged) -> None:
    file.remove("fc2.bias")


def add_a_tensor(file: Forged) -> None:
    file.add("fc3.bias", 2, data=bytes(8))


def double(file: Forged) -> None:
    file.remove("fc2.bias")
    file.add("fc2.bias", 10, data=bytes(80), dtype="F64")


@pytest.mark.fault("L")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (take_a_tensor, "fc2.bias: checkpoint none, model 10\n"),
        (add_a_tensor, "fc3.bias: checkpoint 2, model none\n"),
        (double, "fc2.bias: checkpoint 10 float64, model 10\n"),
    ],
)
def test_other_tensors(cwd: Path, change: Callable[[Forged], None], said: str) -> None:
    forge_model(cwd / STEP, change)
    said = f"does not fit the model.\n{said}"
    assert_refuses("eval", f"ckpt={STEP}", said=said, cwd=cwd)
    assert_refuses("fit", f"resume={STEP}", "trainer.epochs=3", said=said, cwd=cwd)


@pytest.mark.fault("L")
def test_a_newer_version(cwd: Path) -> None:
    forge_model(cwd / STEP, lambda file: file.description.update(version=3, new=True))
    said = (
        "has format version 3; this trainer reads version 2.\n"
        "Use the version of trainer that wrote it"
    )
    assert_refuses("eval", f"ckpt={STEP}", said=said, cwd=cwd)
    assert_refuses("fit", f"resume={STEP}", said=said, cwd=cwd)


@pytest.mark.fault("L")
def test_weights_only(cwd: Path) -> None:
    shutil.copy(cwd / STEP / MODEL_FILE, cwd / "mine.safetensors")
    said = (
        "mine.safetensors holds weights only, and a resume needs the optimizer's state beside "
        "them.\nGive a run"
    )
    assert_refuses("fit", "resume=mine.safetensors", said=said, cwd=cwd)
