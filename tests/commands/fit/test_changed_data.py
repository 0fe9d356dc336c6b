"""A person's own data that was changed under a run: a resume notices."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forging import forge_model
from running import Fit, Run, Trainer

OWN = """
import json
from pathlib import Path

import torch
from torch.utils.data import Dataset


class Rows(Dataset):
    def __init__(self, path="rows.json", noise="none"):
        content = json.loads(Path(path).read_text())
        self.classes = content["classes"]
        self.rows = torch.tensor(content["rows"])
        self.noise = noise
        self.own = torch.Generator().manual_seed(0)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        if self.noise == "global":
            row = row + torch.rand(3)
        if self.noise == "own":
            row = row + torch.rand(3, generator=self.own)
        if self.noise == "wild":
            row = row + torch.rand(3, generator=torch.Generator().manual_seed(torch.seed()))
        return row, index % 2
"""
BASE = (
    "data=custom",
    "data.target=changed_own.Rows",
    "data.batch_size=8",
    "model=linear",
    "logger=none",
    "scheduler=constant",
    "trainer.epochs=1",
)
NAMED = ("data=custom", "data.target=changed_own.Rows")
MORE = "trainer.epochs=2"


@pytest.fixture(autouse=True)
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "changed_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path)
    yield
    sys.modules.pop("changed_own", None)


def write(
    folder: Path,
    *,
    num: int = 60,
    classes: tuple[str, ...] = ("a", "b"),
    changed: int | None = None,
    name: str = "rows.json",
) -> None:
    """The file of the data set; with `changed` that row is another."""
    rows = [[float(row), float(row + (row == changed)), 1.0] for row in range(num)]
    (folder / name).write_text(json.dumps({"classes": classes, "rows": rows}))


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num": 50}, "train had 60 samples, and has 50"),
        ({"num": 61}, "train had 60 samples, and has 61"),
        ({"classes": ("b", "a")}, "train had other classes"),
        ({"changed": 0}, "samples of train are not as they were"),
        ({"changed": 37}, "samples of train are not as they were"),
        ({"changed": 59}, "samples of train are not as they were"),
    ],
)
def test_a_resume_of_changed_data_is_refused(
    fit: Fit, trainer: Trainer, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    run = fit(base=BASE)
    before = (run.folder / "run.json").read_bytes()
    write(tmp_path, **change)  # type: ignore[arg-type]
    outcome = trainer("fit", f"resume={run.folder}", *NAMED, MORE)
    assert outcome.code == 3 and words in outcome.err and "run.dir=" in outcome.err
    assert len(outcome.err.splitlines()) <= 3
    assert (run.folder / "run.json").read_bytes() == before


@pytest.mark.fault("N")
def test_within_an_epoch_no_branch_takes_other_data(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    run = fit("trainer.max_steps=5", base=BASE)
    write(tmp_path, num=50)
    words = (f"resume={run.folder}", *NAMED, "trainer.max_steps=7", f"run.dir={tmp_path / 'new'}")
    outcome = trainer("fit", *words)
    assert outcome.code == 3 and "can only begin with an epoch" in outcome.err


@pytest.mark.fault("N")
def test_a_branch_takes_other_data_with_a_warning(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    run = fit(base=BASE)
    write(tmp_path, num=80)
    branch = Run(tmp_path / "new")
    outcome = trainer("fit", f"resume={run.folder}", *NAMED, MORE, f"run.dir={branch.folder}")
    assert outcome.code == 0 and "train had 60 samples, and has 80" in outcome.err
    assert branch.record["data_sha256"]["train length"] == "80"


@pytest.mark.fault("N")
def test_data_that_is_named_anew_is_a_change_on_purpose(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    run = fit(base=BASE)
    write(tmp_path, num=80, name="more.json")
    words = (*NAMED, MORE, "+data.kwargs.path=more.json")
    outcome = trainer("fit", f"resume={run.folder}", *words)
    assert outcome.code == 0 and "Warning" not in outcome.err


@pytest.mark.fault("N")
def test_a_changed_test_set_is_noticed(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    write(tmp_path, num=20, name="test.json")
    run = fit("data.test_kwargs={path: test.json}", base=BASE)
    write(tmp_path, num=20, name="test.json", changed=3)
    words = (*NAMED, "data.test_kwargs={path: test.json}", MORE)
    outcome = trainer("fit", f"resume={run.folder}", *words)
    assert outcome.code == 3 and "samples of test are not as they were" in outcome.err


@pytest.mark.fault("N")
@pytest.mark.parametrize("noise", ["none", "global", "own", "wild"])
def test_data_that_is_random_is_no_other_data(fit: Fit, trainer: Trainer, noise: str) -> None:
    run = fit(f"+data.kwargs.noise={noise}", base=BASE)
    words = (*NAMED, f"+data.kwargs.noise={noise}", MORE)
    outcome = trainer("fit", f"resume={run.folder}", *words)
    assert outcome.code == 0, outcome.err
    reproduced = trainer("reproduce", str(run.folder), *NAMED, f"+data.kwargs.noise={noise}")
    assert "not what the run was trained on" not in reproduced.err


@pytest.mark.fault("N")
def test_a_checkpoint_of_before_kept_nothing_to_compare(fit: Fit, trainer: Trainer) -> None:
    run = fit(base=BASE)
    for step in run.folder.glob("checkpoints/step-*"):
        forge_model(step, lambda file: file.description.update(checksums={}))
    assert trainer("fit", f"resume={run.folder}", *NAMED, MORE).code == 0


@pytest.mark.fault("N")
def test_reproduce_does_not_train_on_other_data(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    run = fit(base=BASE)
    write(tmp_path, changed=5)
    outcome = trainer("reproduce", str(run.folder), *NAMED)
    assert outcome.code == 3 and "samples of train are not as they were" in outcome.err
