"""Damaged checkpoints: whatever was done to the bytes, nothing of them is used. Group C of the
plan of faults.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from forging import Forged, assert_refused, contents, make_run, write_sealed
from restoring import restore
from running import Run
from safetensors.torch import save_file

from trainer.checkpoint.file import SEAL_KEY, is_intact
from trainer.checkpoint.header import read_description
from trainer.checkpoint.load import load_weights
from trainer.errors import InputError
from trainer.run.folder import MODEL_FILE, STATE_FILE

LAST, OLDER = "step-000018", "step-000012"
FILES = (MODEL_FILE, STATE_FILE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A run of its own for each test."""
    return Run(Path(shutil.copytree(trained, tmp_path / "run", symlinks=True)))


@pytest.fixture
def step(run: Run) -> Path:
    return run.folder / "checkpoints" / LAST


class Entry:
    """An entry of the state table that says when something is loaded into it."""

    def __init__(self) -> None:
        self.is_loaded = False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.is_loaded = True


def is_accepted(step: Path, names: list[str]) -> bool:
    """Whether anything takes the files of a step folder for intact, or goes as far as loading
    from both.
    """
    table = {name: Entry() for name in names}
    try:
        load_weights(step, read_description(step / MODEL_FILE).aliases)
        restore(step, table)
    except InputError:
        return is_intact(step) or any(entry.is_loaded for entry in table.values())
    return True


def table_of(step: Path) -> list[str]:
    return list(Forged.of(step / STATE_FILE).description["table"])


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_an_intact_step_is_accepted(step: Path) -> None:
    assert is_intact(step) and is_accepted(step, table_of(step))


@pytest.mark.fault("C", cases=50)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_is_accepted(step: Path, name: str, seed: int) -> None:
    names, chosen, undetected = table_of(step), random.Random(f"{name} {seed}"), []
    size = (step / name).stat().st_size
    for _ in range(50):
        place, bit = chosen.randrange(size), chosen.randrange(8)
        flip(step / name, place, bit)
        if is_accepted(step, names):
            undetected.append((place, bit))
        flip(step / name, place, bit)
    assert undetected == []


VERBS = (("eval", "ckpt", MODEL_FILE), ("fit", "resume", MODEL_FILE), ("fit", "resume", STATE_FILE))


@pytest.mark.parametrize("place", [3, 40, 700, -1], ids=lambda place: f"byte {place}")
@pytest.mark.parametrize(("verb", "key", "name"), VERBS)
def test_a_flipped_bit_as_the_user_sees_it(
    run: Run, step: Path, verb: str, key: str, name: str, place: int
) -> None:
    flip(step / name, place)
    before = contents(run.folder)
    assert_refused(
        processes.run(verb, f"{key}={step}", cwd=run.folder.parent),
        f"{name} is damaged",
        "Nothing was",
    )
    assert contents(run.folder) == before


def length_of_header(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


@pytest.mark.fault("C")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(lambda content: 0, id="nothing left"),
        pytest.param(lambda content: 7, id="in the length"),
        pytest.param(lambda content: length_of_header(content) // 2, id="in the header"),
        pytest.param(length_of_header, id="behind the header"),
        pytest.param(lambda content: len(content) - 1, id="the last byte"),
    ],
)
def test_a_truncated_file(run: Run, step: Path, name: str, size: Callable[[bytes], int]) -> None:
    content = (step / name).read_bytes()
    (step / name).write_bytes(content[: size(content)])
    before = contents(run.folder)
    assert_refused(
        processes.run("fit", f"resume={step}", cwd=run.folder.parent),
        f"{name} is damaged",
        "Nothing was",
    )
    assert contents(run.folder) == before


def zero_data(path: Path) -> None:
    end = length_of_header(path.read_bytes())
    path.write_bytes(path.read_bytes()[:end].ljust(path.stat().st_size, b"\0"))


def zero_file(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def add_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def overlap(path: Path) -> None:
    file = Forged.of(path)
    file.tensors["fc2.bias"]["data_offsets"] = [0, 40]
    file.write(path)


def repeat_a_key(path: Path) -> None:
    file = Forged.of(path)
    again = '"fc1.bias":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}'
    assert again in file.header
    write_sealed(path, f"{file.header[:-1]},{again}}}", file.data)


def replace_by_a_foreign_file(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def make_newer(path: Path) -> None:
    file = Forged.of(path)
    file.description["version"] += 1
    file.write(path)


def take_the_checksum(path: Path) -> None:
    file = Forged.of(path)
    write_sealed(path, file.header.replace(SEAL_KEY, "md5"), file.data)


def nest_deeply(path: Path) -> None:
    write_sealed(path, '{"a":' + "[" * 100_000)


def inflate(path: Path) -> None:
    file = Forged.of(path)
    write_sealed(path, file.header + " " * 8_000_000, file.data)


@pytest.mark.fault("C")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (zero_data, "is damaged (its checksum differs)"),
        (zero_file, "is damaged (it is truncated, or not a safetensors file)"),
        (add_byte, "is damaged (it is longer or shorter than its tensors)"),
        (overlap, "is damaged (its tensors overlap or leave a hole)"),
        (repeat_a_key, "is damaged (its header is not JSON: the key 'fc1.bias' occurs twice)"),
        (replace_by_a_foreign_file, "not one that trainer wrote"),
        (make_newer, "has format version 3; this trainer reads version 2"),
        (take_the_checksum, "is damaged (it has no checksum)"),
        (nest_deeply, "is damaged (its header is not JSON: "),
        (inflate, "larger than any of trainer's"),
    ],
)
def test_other_damage(run: Run, step: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(step / MODEL_FILE)
    before = contents(run.folder)
    assert_refused(processes.run("eval", f"ckpt={step}", cwd=run.folder.parent), said)
    assert contents(run.folder) == before
    assert not is_intact(step) or spoil is make_newer


@pytest.mark.parametrize("seal", ["\\ud800" * 64, "é" * 64, "F" * 64, "0" * 63, ""], ids=ascii)
def test_a_seal_of_other_letters(step: Path, seal: str) -> None:
    file = Forged.of(step / MODEL_FILE)
    write_sealed(step / MODEL_FILE, file.header.replace("0" * 64, seal), file.data)
    assert not is_accepted(step, [])


@pytest.mark.fault("C")
def test_of_a_run_the_newest_intact_step_is_gone_on_from(run: Run, step: Path) -> None:
    flip(step / STATE_FILE, -1)
    outcome = processes.run(
        "fit", f"resume={run.folder}", "trainer.epochs=3", cwd=run.folder.parent
    )
    assert outcome.code == 0, outcome.err
    assert (
        outcome.err
        == f"Warning: {LAST} of {run.folder} is damaged; continuing from {OLDER}, an intact one.\n"
    )
    assert "Resumed at step 12 of 27" in outcome.out
    assert run.record["status"] == "done"
    assert all(is_intact(run.folder / "checkpoints" / name) for name in run.steps)


@pytest.mark.fault("C")
def test_of_a_run_without_an_intact_step_nothing_is_used(run: Run) -> None:
    for name in run.steps:
        flip(run.folder / "checkpoints" / name / STATE_FILE, -1)
    before = contents(run.folder)
    assert_refused(
        processes.run("fit", f"resume={run.folder}", cwd=run.folder.parent), f"{LAST}/{STATE_FILE}"
    )
    assert contents(run.folder) == before


@pytest.mark.fault("C")
def test_a_step_that_was_named_is_never_replaced_by_another(run: Run, step: Path) -> None:
    flip(step / MODEL_FILE, -1)
    intact = ", ".join(name for name in run.steps if name != LAST)
    for words in (
        ("eval", f"ckpt={step}"),
        ("eval", f"ckpt={step / MODEL_FILE}"),
        ("fit", f"resume={step}"),
    ):
        assert_refused(
            processes.run(*words, cwd=run.folder.parent),
            f"{LAST}/{MODEL_FILE}",
            f"Intact: {intact}.",
        )


@pytest.mark.fault("C")
def test_a_damaged_best_is_not_replaced_by_another(run: Run) -> None:
    best = (run.folder / "checkpoints/best").resolve()
    flip(best / MODEL_FILE, -1)
    intact = ", ".join(name for name in run.steps if name != best.name)
    outcome = processes.run("eval", f"ckpt={run.folder}", cwd=run.folder.parent)
    assert_refused(outcome, f"{best.name}/{MODEL_FILE} is damaged", f"Intact: {intact}.")
