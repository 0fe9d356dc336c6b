"""`trainer.profile`: the trace, the table, where they are, and that they change no result."""

from __future__ import annotations

import json
import re
from pathlib import Path

import processes
import pytest
from commandline import run_trainer
from disks import Disk
from running import PLAIN, SMALL, Fit, Run, Trainer

from trainer.commands.fit.profile import OperatorTime, ProfileResult, print_operators
from trainer.tracking.console import Terminal

# 18 updates in all.
WORDS = ("trainer.profile=true", "trainer.profile_from=4", "trainer.profile_steps=6")
MORE = (
    "model.dropout=0.2",
    "trainer.save_every=5steps",
    "trainer.eval_every=5steps",
    "logger=none",
)


def num_updates(path: Path) -> int:
    """How many updates are in a trace."""
    events = json.loads(path.read_text())["traceEvents"]
    return sum(event.get("name") == "aten::_fused_sgd_" and event["ph"] == "X" for event in events)


def test_a_profile_is_a_trace_and_a_table(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer("fit", *PLAIN, *WORDS, "run.dir=run")
    assert (outcome.code, outcome.err) == (0, "")
    assert num_updates(tmp_path / "run/trace.json") == 6
    lines = outcome.out.splitlines()
    at = next(
        number
        for number, line in enumerate(lines)
        if line.startswith("Profile of updates 4 to 9: ")
    )
    table = lines[at + 2 : at + 14]
    assert table[0].split() == ["operator", "calls", "total", "ms", "share", "ms", "an", "update"]
    rows = [line.split() for line in table[2:]]
    shares = [float(row[-2].rstrip("%")) for row in rows]
    assert len(rows) == 10 and shares == sorted(shares, reverse=True) and sum(shares) <= 100.5
    assert lines[at + 15].split() == ["trace", "run/trace.json"]
    assert "https://ui.perfetto.dev or chrome://tracing" in lines[at + 16]


@pytest.mark.parametrize(
    "more", [(), ("optimizer=adam", "trainer.accumulate=3"), ("trainer.profile_from=1",)]
)
def test_a_profile_changes_no_result(fit: Fit, more: tuple[str, ...]) -> None:
    plain, profiled = fit(*MORE, *more), fit(*MORE, *WORDS, *more)
    assert (profiled.folder / "trace.json").exists() and not (plain.folder / "trace.json").exists()
    assert profiled.digest() == plain.digest()
    without_clock = [
        [{key: value for key, value in row.items() if "second" not in key} for row in run.rows]
        for run in (plain, profiled)
    ]
    assert without_clock[0] == without_clock[1]


def test_a_process_of_its_own_says_nothing_but_ours(tmp_path: Path) -> None:
    """What torch's profiler writes by itself comes from C++, once a process."""
    ran = run_trainer(
        "fit", *PLAIN, *WORDS, "run.dir=run", cwd=tmp_path, env={"PYTHONWARNINGS": "default"}
    )
    assert (ran.code, ran.err) == (0, "")


def test_a_run_that_is_gone_on_with(fit: Fit, trainer: Trainer) -> None:
    run = fit("scheduler=constant", "trainer.max_steps=5", "trainer.profile_from=4")
    inside = trainer("fit", f"resume={run.folder}", "trainer.max_steps=8", "trainer.profile=true")
    assert inside.code == 0 and "Profile of updates 6 to 8: " in inside.out
    assert num_updates(run.folder / "trace.json") == 3
    past = trainer("fit", f"resume={run.folder}", "trainer.max_steps=12", "trainer.profile_steps=2")
    assert past.code == 0 and "Profile of" not in past.out
    assert (
        "Warning: Nothing was profiled: the run continued from step 8, past update 5."
        in past.err.splitlines()
    )
    assert num_updates(run.folder / "trace.json") == 3, "the trace of before is still there"


def test_a_run_too_short_says_so(trainer: Trainer) -> None:
    outcome = trainer("fit", *PLAIN, *WORDS, "trainer.max_steps=2")
    assert outcome.code == 0
    assert (
        outcome.err
        == "Warning: Nothing was profiled: the run ended after 2 updates, before update 4.\n"
    )


def test_every_job_of_a_sweep_has_its_own(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer("fit", "-m", *PLAIN, *WORDS, "seed=0,1,2", "run.dir=sweep")
    assert outcome.code == 0, outcome.err
    assert [num_updates(path) for path in sorted((tmp_path / "sweep").glob("*/trace.json"))] == [
        6,
        6,
        6,
    ]


def test_a_failing_run_has_a_profile(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer(
        "fit", *PLAIN, *WORDS, "trainer.profile_from=1", "optimizer.lr=1e30", "run.dir=run"
    )
    assert outcome.code == 1 and "Profile of update" in outcome.out
    assert num_updates(tmp_path / "run/trace.json") >= 1


def test_a_full_disk_is_a_sentence_and_training_goes_on(tmp_path: Path, disk: Disk) -> None:
    words = (
        *SMALL,
        *WORDS,
        "trainer.profile_steps=1000",
        "trainer.epochs=12",
        "logger=none",
        "run.dir=disk/run",
    )
    disk.fill(but=600_000)
    ran = processes.run("fit", *words, cwd=tmp_path, prepare=disk.enter)
    assert ran.code == 0, ran.err
    assert (
        "Warning: The trace of the profile was not written to disk/run/trace.json (No space left "
        "on device). "
        "Training continues."
    ) in ran.err.splitlines()
    assert re.search(r"^Profile of updates 4 to 108: ", ran.out, re.MULTILINE)
    run = Run(disk.inside / "run")
    assert run.record["status"] == "done" and not list(run.folder.glob("*trace*")) + list(
        run.folder.glob(".trace*")
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "trainer.profile=maybe",
            "trainer.profile=maybe has the wrong type: true or false is expected",
        ),
        ("trainer.profile_from=0", "trainer.profile_from=0 is out of range: it must be at least 1"),
        (
            "trainer.profile_steps=0",
            "trainer.profile_steps=0 is out of range: it must lie in [1, 1000]",
        ),
        (
            "trainer.profile_steps=1001",
            "trainer.profile_steps=1001 is out of range: it must lie in [1, 1000]",
        ),
    ],
)
def test_wrong_values_are_told(trainer: Trainer, word: str, said: str) -> None:
    outcome = trainer("fit", word)
    assert outcome.code == 2 and said in outcome.err


def test_a_name_with_brackets_is_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = OperatorTime(
        operator="[bold]mm[/]" * 9, calls=1234, total_ms=1.0, share=1.0, ms_per_update=0.5
    )
    found = ProfileResult(
        first=1, last=2, on_gpu=False, rows=(row,), total_ms=1.0, wall_ms=2.0, trace=None
    )
    monkeypatch.setenv("COLUMNS", "66")
    print_operators(found, Terminal())
    line = capsys.readouterr().out.splitlines()[3]
    assert line.strip().startswith("[bold]mm[/][bold]") and "…" in line
    assert line.split()[-4:] == ["1,234", "1.00", "100.0%", "0.500"], "the figures are never cut"


@pytest.mark.slow
def test_a_compiled_model_is_profiled(fit: Fit) -> None:
    words = ("trainer.compile=on", "trainer.epochs=1")
    plain, profiled = fit(*words), fit(*words, *WORDS)
    assert num_updates(profiled.folder / "trace.json") == 6
    assert profiled.digest() == plain.digest()
