"""Step folders: complete or not there, verified when read, the right ones kept."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from restoring import restore
from torch import nn

from trainer.checkpoint import store as store_module
from trainer.checkpoint.header import VERSION, read_description
from trainer.checkpoint.load import load_into, load_weights
from trainer.checkpoint.store import CheckpointStore
from trainer.config import FitConfig, to_plain
from trainer.errors import CheckpointError, EnvironmentFault, InputError
from trainer.optim import OptimizerState, make_optimizer
from trainer.run.find import find_checkpoint
from trainer.run.folder import MODEL_FILE, STATE_FILE, step_folders

SGD: dict[str, Any] = {"lr": 0.1, "momentum": 0.9}


class Saved:
    """A small run with a store."""

    def __init__(self, run: Path, config: FitConfig, *, keep: int = 1) -> None:
        torch.manual_seed(0)
        self.run = run
        self.net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.optimizer = make_optimizer(self.net, name="sgd", **SGD)
        description = {
            "version": VERSION,
            "config": to_plain(config),
            "input_shape": [4],
            "num_outputs": 3,
            "checksums": {},
        }
        table = {"optimizer": OptimizerState(self.optimizer)}
        self.store = CheckpointStore(
            run, weights=self.net, table=table, description=description, keep=keep
        )

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.net(torch.randn(8, 4)).square().mean().backward()
        self.optimizer.step()

    def save(self, step: int, *, is_best: bool = False) -> Path:
        self.train()
        self.store.save(step, progress={"step": step}, metrics={"val/loss": 1.0}, is_best=is_best)
        assert self.store.last is not None
        return self.store.last


@pytest.fixture
def saved(tmp_path: Path, compose: Any) -> Saved:
    return Saved(tmp_path / "run", compose("data=dirichlet", "model=mlp"))


def test_weights_and_description_come_back(saved: Saved) -> None:
    folder = saved.save(5)
    description = read_description(folder / MODEL_FILE)
    assert (description.progress, description.input_shape, description.num_outputs) == (
        {"step": 5},
        (4,),
        3,
    )
    weights = load_weights(folder, description.aliases)
    assert set(weights) == set(saved.net.state_dict())
    assert all(
        torch.equal(weights[name], tensor) for name, tensor in saved.net.state_dict().items()
    )


def test_state_goes_on_exactly(saved: Saved, tmp_path: Path, compose: Any) -> None:
    folder = saved.save(5)
    other = Saved(tmp_path / "other", compose("data=dirichlet", "model=mlp"))
    load_into(other.net, load_weights(folder, {}), source=folder)
    restore(folder, other.store._table)
    for run in (saved, other):
        torch.manual_seed(1)
        run.train()
    assert all(
        torch.equal(a, b)
        for a, b in zip(saved.net.parameters(), other.net.parameters(), strict=True)
    )


def test_settings_come_from_the_config_not_from_the_checkpoint(saved: Saved) -> None:
    folder = saved.save(5)
    saved.optimizer.param_groups[0]["lr"] = 0.3
    restore(folder, saved.store._table)
    assert saved.optimizer.param_groups[0]["lr"] == 0.3


def test_best_last_and_the_newest_others_are_kept(saved: Saved) -> None:
    for step in range(1, 8):
        saved.save(step, is_best=step == 2)
    assert [path.name for path in step_folders(saved.run)] == [
        "step-000002",
        "step-000006",
        "step-000007",
    ]
    assert (saved.run / "checkpoints/best").resolve().name == "step-000002"
    assert (saved.run / "checkpoints/last").resolve().name == "step-000007"
    assert (
        sorted(
            path.name for path in (saved.run / "checkpoints").iterdir() if path.name.startswith(".")
        )
        == []
    )


def test_files_have_the_rights_of_the_umask(saved: Saved) -> None:
    before = os.umask(0o027)
    try:
        folder = saved.save(1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / MODEL_FILE).stat().st_mode) == 0o640


def test_tied_weights_are_saved_once_and_tied_again(saved: Saved) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)
            self.second.weight = self.first.weight

    net = Tied()
    saved.store._weights = net
    saved.store.save(1, progress={}, metrics={}, is_best=False)
    folder = saved.store.last
    assert folder is not None
    description = read_description(folder / MODEL_FILE)
    assert description.aliases == {"second.weight": "first.weight"}
    twin = Tied()
    load_into(twin, load_weights(folder, description.aliases), source=folder)
    assert torch.equal(twin.second.weight, net.first.weight)


@pytest.mark.parametrize("file", [MODEL_FILE, STATE_FILE])
def test_no_flipped_bit_is_accepted(saved: Saved, file: str) -> None:
    folder = saved.save(1)
    path = folder / file
    intact = path.read_bytes()
    chosen = random.Random(0)
    undetected = []
    for _ in range(200):
        place = chosen.randrange(len(intact))
        damaged = bytearray(intact)
        damaged[place] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        try:
            if file == MODEL_FILE:
                load_weights(folder, read_description(path).aliases)
            else:
                restore(folder, saved.store._table)
        except InputError:
            continue
        undetected.append(place)
    assert not undetected


@pytest.mark.parametrize("size", [0, 4, 8, 100, 1000])
def test_a_truncated_file_is_refused(saved: Saved, size: int) -> None:
    folder = saved.save(1)
    path = folder / MODEL_FILE
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError):
        load_weights(folder, read_description(path).aliases)


def test_a_full_disk_leaves_what_was_saved(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    good = saved.save(1)

    def full(path: Path, content: bytes) -> str:
        path.write_bytes(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_file", full)
    with pytest.raises(EnvironmentFault, match="No space left") as caught:
        saved.save(2)
    assert caught.value.exit_code == 4
    assert "step-000001" in str(caught.value)
    assert [
        path.name for path in (saved.run / "checkpoints").iterdir() if path.name.startswith("step")
    ] == [good.name]
    assert not list((saved.run / "checkpoints").glob(".step*"))
    load_weights(good, {})


def test_a_branch_that_cannot_save_names_the_step_that_it_began_with(
    saved: Saved, tmp_path: Path, compose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = saved.save(1)
    branch = Saved(tmp_path / "branch", compose("data=dirichlet", "model=mlp"))
    branch.store.adopt(good, best_step=1)

    def full(path: Path, content: bytes) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_file", full)
    with pytest.raises(EnvironmentFault) as caught:
        branch.save(2)
    assert caught.value.where == f"Last good checkpoint: {good}."
    assert caught.value.hint == "Correct that, and start it again."


def test_a_model_of_other_shape_is_refused_by_naming_the_tensors(saved: Saved) -> None:
    folder = saved.save(1)
    with pytest.raises(CheckpointError) as caught:
        load_into(
            nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(3)),
            load_weights(folder, {}),
            source=folder,
        )
    assert "0.bias: checkpoint 3, model 2; 0.weight: checkpoint 3x4, model 2x4" in str(caught.value)


def test_a_copy_without_links_still_knows_its_best(saved: Saved, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        saved.save(step, is_best=step == 2)
    (saved.run / "run.json").write_text(
        json.dumps({"checkpoints": {"best": "step-000002", "last": "step-000003"}})
    )
    copy = tmp_path / "copy"
    shutil.copytree(saved.run, copy, symlinks=True)
    for link in ("best", "last"):
        (copy / "checkpoints" / link).unlink()
    assert find_checkpoint(str(copy), root=tmp_path).name == "step-000002"
    assert find_checkpoint(str(copy), root=tmp_path, prefer="last").name == "step-000003"
    assert find_checkpoint(str(copy / "checkpoints/best"), root=tmp_path).name == "step-000002"
