"""Run folders made by hand: what `trainer runs` reads of a run, without training one."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from composing import config_of

from trainer.config import to_plain
from trainer.files import write_json
from trainer.run.folder import step_folder_name

STARTED = datetime(2026, 1, 1, 10, tzinfo=UTC)


@functools.cache
def _config_text(*overrides: str) -> str:
    """The YAML of the shipped config with these overrides; composing takes a tenth of a second."""
    return yaml.safe_dump(to_plain(config_of(*overrides)), sort_keys=False)


def make_run(
    folder: Path,
    *overrides: str,
    status: str = "done",
    minutes: int = 0,
    metrics: Mapping[str, float | None] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """A run started `minutes` after STARTED, with the shipped config and these overrides."""
    folder.mkdir(parents=True)
    started = STARTED + timedelta(minutes=minutes)
    record = {
        "status": status,
        "command": " ".join(["trainer fit", *overrides]),
        "started": started.isoformat(timespec="milliseconds"),
        "ended": (started + timedelta(seconds=83)).isoformat() if status != "running" else None,
        "seed": 0,
        "versions": {"python": "3.11.7", "trainer": "0.1.0"},
        "host": "box",
        "process": 4711,
        "checkpoints": {},
        "metrics": dict(metrics or {}),
    }
    write_json(folder / "run.json", record)
    (folder / "config.yaml").write_text(_config_text(*overrides))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_saved_run(
    folder: Path, *steps: int, best: int | None = None, started: str = "", has_links: bool = True
) -> Path:
    """A run folder with complete step folders; `best` and the last are recorded, and linked."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    for step in steps:
        (checkpoints / step_folder_name(step)).mkdir()
        (checkpoints / step_folder_name(step) / "model.safetensors").write_bytes(b"model")
        (checkpoints / step_folder_name(step) / "state.safetensors").write_bytes(b"state")
    record: dict[str, Any] = {"started": started, "checkpoints": {}}
    if steps:
        names = {"best": step_folder_name(best or steps[-1]), "last": step_folder_name(steps[-1])}
        record["checkpoints"] = names
        for link, name in names.items() if has_links else ():
            (checkpoints / link).symlink_to(name)
    write_json(folder / "run.json", record)
    return folder


def val_row(step: int, loss: float, accuracy: float) -> dict[str, Any]:
    """A row of metrics.jsonl, as an evaluation writes it."""
    row = {
        "split": "val",
        "epoch": step,
        "step": step,
        "samples": step,
        "seconds": 1.0,
        "loss": loss,
    }
    return {**row, "accuracy": accuracy, "count": 10}


_HOLDING = """
import sys
from pathlib import Path
from trainer.run.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(run: Path) -> Iterator[None]:
    """A process that holds the lock of `run`, as one that trains in it does."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDING, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.stdin.close()
