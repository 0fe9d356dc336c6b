"""`resume=`: a run that was cut goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import processes
import pytest
from runfolders import held
from running import PLAIN, Fit, Run, Trainer
from waiting import HANG_S, wait_until

from trainer.checkpoint import file as checkpoint_file
from trainer.commands.fit import run as fit_command
from trainer.commands.fit.resume import open_saved
from trainer.config import FitConfig
from trainer.data.load import Data
from trainer.engine.progress import Limits, Progress
from trainer.errors import UsageError
from trainer.tracking.console import Terminal


def timeless(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "second" not in key} for row in run.rows]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let SIGTERM arrive when `steps` updates are made."""
    reached = Limits.are_reached
    is_sent = False

    def with_signal(self: Limits, progress: Progress) -> bool:
        nonlocal is_sent
        if progress.step == steps and not is_sent:
            is_sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return reached(self, progress)

    monkeypatch.setattr(Limits, "are_reached", with_signal)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model.dropout=0.3", "optimizer=adamw", "scheduler=one_cycle"),
        ("trainer.accumulate=2", "scheduler=plateau", "scheduler.patience=0"),
        ("trainer.ema=0.9", "optimizer=rmsprop", "scheduler=step", "scheduler.step_size=1"),
        ("trainer.patience=3", "scheduler=cosine", "scheduler.warmup_steps=8"),
    ],
    ids=lambda value: ",".join(value) or "defaults",
)
@pytest.mark.parametrize("step", [3, 9, 11])
def test_a_stopped_run_goes_on_bit_for_bit(
    fit: Fit,
    trainer: Trainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: tuple[str, ...],
    step: int,
) -> None:
    base = (*PLAIN, "trainer.epochs=4", *overrides)
    whole = fit(base=base)
    folder = tmp_path / "cut"
    with monkeypatch.context() as patched:
        stop_after(patched, step)
        outcome = trainer("fit", *base, f"run.dir={folder}")
    assert outcome.code == 143
    assert f"Stopped at step {step}. Saved." in outcome.err
    assert f"trainer fit resume={folder}" in outcome.err
    cut = Run(folder)
    assert cut.record["status"] == "interrupted"
    resumed = trainer("fit", f"resume={folder}")
    assert resumed.code == 0, resumed.err
    assert f"Resumed at step {step} of" in resumed.out
    assert cut.digest() == whole.digest()
    assert cut.digest("best") == whole.digest("best")
    assert timeless(cut) == timeless(whole)
    assert cut.record["status"] == "done"


def test_a_finished_run_trains_longer(fit: Fit, trainer: Trainer) -> None:
    run = fit("scheduler=constant")
    longer = fit("scheduler=constant", "trainer.epochs=4")
    outcome = trainer("fit", f"resume={run.folder}", "trainer.epochs=4")
    assert outcome.code == 0, outcome.err
    assert run.digest() == longer.digest()


def test_a_finished_run_is_not_trained_again_by_accident(fit: Fit, trainer: Trainer) -> None:
    run = fit()
    before = run.digest()
    outcome = trainer("fit", f"resume={run.folder}")
    assert outcome.code == 2
    assert "is complete" in outcome.err and "trainer.epochs=" in outcome.err
    assert run.digest() == before and run.record["status"] == "done"


def test_fewer_epochs_than_are_done_are_told_how_many_would_be_more(
    fit: Fit, trainer: Trainer
) -> None:
    run = fit()
    for word, more in (
        ("trainer.epochs=1", "trainer.epochs=4"),
        ("trainer.max_steps=5", "trainer.max_steps=36"),
    ):
        outcome = trainer("fit", f"resume={run.folder}", word)
        assert outcome.code == 2 and outcome.err.endswith(f"To train longer, add {more}\n"), (
            outcome.err
        )


def test_last_means_the_newest_run(trainer: Trainer, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert trainer("fit", *PLAIN, f"run.name={name}").code == 0
    outcome = trainer("fit", "resume=last", "trainer.epochs=3")
    assert outcome.code == 0, outcome.err
    assert "-b" in outcome.out
    assert len(list((tmp_path / "runs").glob("*/*"))) == 2


def test_a_branch_goes_to_a_new_folder(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    run = fit()
    before = run.digest()
    outcome = trainer(
        "fit", f"resume={run.folder}", "trainer.epochs=3", f"run.dir={tmp_path / 'branch'}"
    )
    assert outcome.code == 0, outcome.err
    assert run.digest() == before and Run(tmp_path / "branch").digest() != before


def test_no_folder_by_name_is_in_place_and_never_without_the_lock(
    fit: Fit, trainer: Trainer
) -> None:
    run = fit("scheduler=constant")
    before = run.digest()
    with held(run.folder):
        outcome = trainer("fit", f"resume={run.folder}", "run.dir=null", "trainer.epochs=3")
    assert outcome.code == 2 and "in use" in outcome.err, outcome.out + outcome.err
    assert run.digest() == before
    assert trainer("fit", f"resume={run.folder}", "run.dir=null", "trainer.epochs=3").code == 0
    assert run.steps[-1] == "step-000027"


def test_another_model_is_refused_by_naming_the_tensors(fit: Fit, trainer: Trainer) -> None:
    run = fit()
    outcome = trainer("fit", f"resume={run.folder}", "model.hidden=[8]", "trainer.epochs=3")
    assert outcome.code == 3
    assert "fc1.weight: checkpoint 16x10, model 8x10" in outcome.err
    assert run.record["status"] == "done"


def test_weights_alone_cannot_be_resumed(fit: Fit, trainer: Trainer, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes((fit().folder / "checkpoints/last/model.safetensors").read_bytes())
    outcome = trainer("fit", f"resume={file}")
    assert outcome.code == 3 and "weights only" in outcome.err


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_to_a_real_process_saves_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "trainer",
        "fit",
        *PLAIN,
        "trainer.epochs=100000",
        f"run.dir={folder}",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: list(folder.glob("checkpoints/step-*")))
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 128 + number, err
    assert "Stopped at step" in err and "Traceback" not in err
    assert Run(folder).record["status"] == "interrupted"
    # The command it printed is one that works.
    printed = next(line for line in err.splitlines() if "trainer fit resume=" in line).partition(
        "Continue with: "
    )[2]
    limit = f"trainer.max_steps={Run(folder).rows[-1]['step'] + 20}"
    words = printed.partition("trainer ")[2].split()
    resumed = processes.run(*words, limit, cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert "Resumed at step" in resumed.out
    assert "epoch" in out


@pytest.mark.parametrize("word", ["optimizer=adam", "trainer.ema=0.9"])
def test_a_refused_resume_leaves_the_run_as_it_was(fit: Fit, trainer: Trainer, word: str) -> None:
    run = fit()
    files = {
        name: (run.folder / name).read_bytes()
        for name in ("run.json", "config.yaml", "metrics.jsonl")
    }
    assert trainer("fit", f"resume={run.folder}", "trainer.epochs=3", word).code == 3
    assert files == {name: (run.folder / name).read_bytes() for name in files}


def test_an_older_step_is_gone_on_from_only_in_a_new_folder(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    run = fit("trainer.epochs=3", "trainer.keep=9")
    older = f"resume={run.folder}/checkpoints/step-000009"
    outcome = trainer("fit", older)
    assert outcome.code == 2 and "run.dir=" in outcome.err
    assert trainer("fit", older, f"run.dir={tmp_path / 'branch'}").code == 0
    branch = Run(tmp_path / "branch")
    assert (branch.folder / "checkpoints/best").resolve().parent.parent == branch.folder
    assert branch.digest() == run.digest()


AUTO = (*PLAIN, "trainer.epochs=4", "resume=auto")


def test_auto_begins_a_run_goes_on_with_it_when_it_was_cut_and_begins_another_when_it_is_done(
    fit: Fit, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(base=AUTO[:-1])
    with monkeypatch.context() as patched:
        stop_after(patched, 11)
        assert trainer("fit", *AUTO).code == 143
    (cut,) = (tmp_path / "runs").glob("*/*")
    other = trainer("fit", *AUTO, "optimizer.lr=0.5")
    assert other.code == 0 and "Resumed" not in other.out
    outcome = trainer("fit", *AUTO)
    assert outcome.code == 0, outcome.err
    assert "Resumed at step 11 of" in outcome.out
    assert Run(cut).digest() == whole.digest() and timeless(Run(cut)) == timeless(whole)
    assert "Resumed" not in trainer("fit", *AUTO).out
    assert len(list((tmp_path / "runs").glob("*/*"))) == 3


def test_auto_in_a_folder_means_that_folder(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*AUTO, f"run.dir={tmp_path / 'mine'}")
    with monkeypatch.context() as patched:
        stop_after(patched, 11)
        assert trainer("fit", *words).code == 143
    other = trainer("fit", *words, "optimizer.lr=0.5")
    assert other.code == 2 and "is a run of another config" in other.err
    assert "Resumed at step 11 of" in trainer("fit", *words).out
    done = trainer("fit", *words)
    assert done.code == 2 and f"{tmp_path / 'mine'} is complete." in done.err


def test_a_change_on_purpose_is_used_printed_and_recorded(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    run = fit("scheduler=constant")
    words = ("optimizer.lr=0.001", "trainer.epochs=3")
    outcome = trainer("fit", f"resume={run.folder}", *words)
    assert outcome.code == 0, outcome.err
    assert (
        "Changed since it was saved: optimizer.lr 0.05 -> 0.001, trainer.epochs 2 -> 3"
        in outcome.out
    )
    assert [row["learning_rate"] for row in run.rows if row["split"] == "train"][-1] == 0.001
    (resumed,) = run.record["resumed"]
    assert resumed["changes"]["optimizer.lr"] == [0.05, 0.001]
    assert resumed["step"] == 18 and resumed["from"].endswith("step-000018")


def test_a_branch_is_what_the_run_itself_would_have_become(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    words = ("scheduler=constant", "trainer.epochs=4")
    whole = fit(*words)
    run = fit("scheduler=constant")
    branch = Run(tmp_path / "branch")
    before = {
        path: path.read_bytes()
        for path in run.folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    assert trainer("fit", f"resume={run.folder}", words[1], f"run.dir={branch.folder}").code == 0
    assert branch.digest() == whole.digest()
    assert {path: path.read_bytes() for path in before} == before
    # Its own rows begin where it branched off.
    assert [row for row in timeless(whole) if row["step"] > 18] == timeless(branch)


def test_what_decides_the_order_cannot_change_within_an_epoch(
    fit: Fit, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cut"
    with monkeypatch.context() as patched:
        stop_after(patched, 11)
        trainer("fit", *PLAIN, f"run.dir={folder}")
    outcome = trainer("fit", f"resume={folder}", "seed=5")
    assert outcome.code == 2
    assert (
        "seed can change between two epochs only; step-000011 is at batch 2 of epoch 2."
        in outcome.err
    )
    assert trainer("fit", f"resume={folder}", "data.eval_batch_size=7").code == 0


def test_killed_before_its_test_a_run_keeps_what_it_had_measured(
    fit: Fit, trainer: Trainer, tmp_path: Path
) -> None:
    whole = fit()
    run = fit()
    record = run.record
    # As a run is that was killed after its last checkpoint.
    (run.folder / "run.json").write_text(
        json.dumps({**record, "status": "running", "metrics": None})
    )
    files = {path: path.read_bytes() for path in run.folder.rglob("*.safetensors")}
    assert trainer("fit", f"resume={run.folder}").code == 0
    assert run.record["metrics"] == whole.record["metrics"] == record["metrics"]
    assert timeless(run) == timeless(whole)
    assert {path: path.read_bytes() for path in files} == files, "nothing was saved again"


@pytest.mark.parametrize("is_relative", [False, True])
def test_the_files_of_the_step_are_read_once(
    fit: Fit, trainer: Trainer, monkeypatch: pytest.MonkeyPatch, is_relative: bool
) -> None:
    """A large model takes seconds to hash: it is found, verified and loaded from one reading."""
    run = fit("scheduler=constant")
    reference = Path(os.path.relpath(run.folder)) if is_relative else run.folder
    read: list[str] = []
    verify = checkpoint_file._verify

    def counted(path: Path, *take: Any) -> Any:
        read.append(path.name)
        return verify(path, *take)

    before_training: list[list[str]] = []

    def begin(self: Limits, progress: Progress) -> bool:
        before_training.append(list(read))
        return reached(self, progress)

    reached = Limits.are_reached
    monkeypatch.setattr(checkpoint_file, "_verify", counted)
    monkeypatch.setattr(Limits, "are_reached", begin)
    assert trainer("fit", f"resume={reference}", "trainer.epochs=3").code == 0
    assert sorted(before_training[-1]) == ["model.safetensors", "state.safetensors"]


def test_the_data_is_checked_on_a_resume_too(fit: Fit) -> None:
    """What a caller checks before anything is written, it checks of a run that continues."""
    run = fit("scheduler=constant")
    checked: list[tuple[int, ...]] = []

    def check(config: FitConfig, data: Data) -> None:
        checked.append(data.input_shape)
        raise UsageError("it is another data set")

    with open_saved(str(run.folder), root=run.folder, in_place=True) as saved:
        config = saved.description.config
        config.resume = str(saved.folder)
        with pytest.raises(UsageError, match="another data set"):
            fit_command.run(config, command=[], terminal=Terminal(), saved=saved, check=check)
    assert checked == [(10,)]
