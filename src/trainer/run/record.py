"""run.json: what ran, with which versions, seed and data, how it ended; the status of a run.

Nothing in it is read to train.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from trainer import __version__
from trainer.errors import printable
from trainer.files import (
    JsonObject,
    as_list,
    as_table,
    finite_or_null,
    read_json,
    write_json,
)
from trainer.run.folder import CHECKPOINTS, RECORD_FILE
from trainer.run.lock import is_locked

# Digits of a commit that are printed; a commit with changed files ends in `+changes`.
COMMIT_LENGTH = 12
# A stranger's file may have more.
_MAX_VERSION = 40

_PACKAGES = (
    "trainer",
    "torch",
    "torchvision",
    "hydra-core",
    "omegaconf",
    "tensorboard",
    "safetensors",
)


class RunStatus(StrEnum):
    """How a run is: what run.json says, checked against the lock and the disk."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    PRUNED = "pruned"  # a search ended it early
    INTERRUPTED = "interrupted"  # stopped or killed; `fit resume=` continues it
    DAMAGED = "damaged"  # run.json cannot be read


def status_of(run: Path, record: Mapping[str, object] | None = None) -> RunStatus:
    """The status of `run` by its lock and its `record`, which is read from run.json if not given.

    A run that says running is interrupted when no process holds its lock: it was killed.
    """
    if record is None:
        record = read_json(run / RECORD_FILE)
    try:
        status = RunStatus(str(record.get("status")))
    except ValueError:
        return RunStatus.DAMAGED
    if status is RunStatus.RUNNING and not is_locked(run):
        return RunStatus.INTERRUPTED
    return status


def has_saved_nothing(run: Path) -> bool:
    """Whether `run` is a run of trainer that ended, but not well, before its first checkpoint."""
    record = read_json(run / RECORD_FILE)
    # Another program's run.json has no such key, and its folder must not be cleared.
    if "data_sha256" not in record:
        return False
    if status_of(run, record) in (RunStatus.DONE, RunStatus.DAMAGED):
        return False
    # With .step-…: a step that was being written or replaced counts as saved.
    return not any((run / CHECKPOINTS).glob("*step-*"))


def changes_of(record: Mapping[str, object]) -> list[JsonObject]:
    """What each resume of a run changed, as run.json has it: `[before, after]` by key."""
    return [as_table(as_table(resume).get("changes")) for resume in as_list(record.get("resumed"))]


def writer_of(run: Path, *, step: int) -> str | None:
    """The version of trainer that trained `run` up to `step`, by its run.json; None if unknown."""
    parts = _parts_of(read_json(run / RECORD_FILE))
    trained = [part for part in parts if part["from"] < step] or parts[:1]
    version = trained[-1].get("trainer")
    return None if version is None else printable(version)[:_MAX_VERSION]


def _parts_of(record: JsonObject) -> list[JsonObject]:
    """Who trained a run, part after part; a record of before has one part."""
    parts = [
        part
        for part in as_list(record.get("trained_by"))
        if isinstance(part, dict) and isinstance(part.get("from"), int)
    ]
    if parts:
        return parts
    versions = as_table(record.get("versions"))
    known = {name: versions.get(name) for name in ("trainer", "torch")}
    return [{"from": 0, **known, "git_commit": record.get("git_commit")}]


class RunRecord:
    """The run.json of one run, written when it starts, at each checkpoint, and when it ends."""

    def __init__(
        self,
        run: Path,
        *,
        command: Sequence[str],
        seed: int,
        checksums: Mapping[str, str],
        compiling: Mapping[str, object],
        steps: int,
        resumed: JsonObject | None = None,
    ) -> None:
        # For all that writes during the run: a person's code may change the working folder.
        self.folder = run.absolute()
        self._path = self.folder / RECORD_FILE
        self._is_done = False
        before = read_json(self._path)
        versions = _versions()
        commit = git_commit()
        part = {"trainer": __version__, "torch": versions.get("torch"), "git_commit": commit}
        parts = _earlier_parts(before, resumed)
        if not parts or {**parts[-1], **part} != parts[-1]:
            parts.append({"from": resumed["step"] if resumed else 0, **part})
        self._content: JsonObject = {
            "status": RunStatus.RUNNING,
            "command": shlex.join(command),
            "started": before.get("started", now()),  # a resume keeps the first start, so the id
            "ended": None,
            "seed": seed,
            "data_sha256": dict(checksums),
            "compile": dict(compiling),
            "steps": steps,
            "git_commit": commit,
            "versions": versions,
            "trained_by": parts,
            "host": socket.gethostname(),
            "process": os.getpid(),
            # Of a damaged record nothing is taken over: it must not stop the run.
            "checkpoints": as_table(before.get("checkpoints")),
            "metrics": as_table(before.get("metrics")),
        }
        if before.get("events_lost") is True:
            self._content["events_lost"] = True
        if resumed is not None:
            earlier = as_list(before.get("resumed"))
            self._content["resumed"] = [*earlier, {"at": now(), **resumed}]
        self._write()

    def end(
        self,
        status: RunStatus,
        *,
        metrics: Mapping[str, float | None] | None = None,
        error: str | None = None,
    ) -> None:
        """Record how it ended, and the final metrics (null where not finite) or the error."""
        self._content |= {"status": status, "ended": now()}
        if metrics is not None:
            self._content["metrics"] = {
                name: finite_or_null(value) for name, value in metrics.items()
            }
        if error is not None:
            self._content["error"] = error
        self._write()
        # After the write, which may fail: a run is done when its record says so.
        self._is_done = status in (RunStatus.DONE, RunStatus.PRUNED)

    @property
    def is_done(self) -> bool:
        """Whether it ended well, and that is on the disk."""
        return self._is_done

    def lose_events(self) -> None:
        """Record that some of TensorBoard's events could not be written."""
        self._content["events_lost"] = True
        with contextlib.suppress(OSError):  # it may be the same full disk
            self._write()

    def lose_output(self, sentence: str) -> None:
        """Record that lines for the terminal could not be written, and why."""
        self._content["output_lost"] = sentence
        with contextlib.suppress(OSError):  # it may be the same full disk
            self._write()

    def checkpoints(self, **names: str | None) -> None:
        """Record the step folders that are `best` and `last`."""
        self._content["checkpoints"] = {
            key: name for key, name in names.items() if name is not None
        }
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._content)


def _earlier_parts(before: JsonObject, resumed: JsonObject | None) -> list[JsonObject]:
    """Who trained what a resume continues: in `before`, or where it branches off."""
    if resumed is None:
        return []
    record = before or read_json(Path(str(resumed["from"])).parent.parent / RECORD_FILE)
    return [part for part in _parts_of(record) if part["from"] < resumed["step"]]


def git_commit() -> str | None:
    """The commit of the working directory, with `+changes` when files differ from it, if any."""
    import subprocess

    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit


def _git(*arguments: str) -> str:
    import subprocess

    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, timeout=5, check=True
    )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    # Here, not at the top: every list of runs imports this module.
    import importlib.metadata
    import platform

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def now() -> str:
    """The local time with its zone, to the millisecond, as run.json writes it."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
