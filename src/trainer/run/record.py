"""run.json: what ran, with which versions, seed and data, how it stands and how it ended. Never
read to train.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from trainer.files import finite_or_null, read_json, write_json

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


class RunRecord:
    """The run.json of one run: written when it starts, at each checkpoint it is told of, and
    when it ends.
    """

    def __init__(
        self,
        run: Path,
        *,
        command: Sequence[str],
        seed: int,
        checksums: Mapping[str, str],
        compiling: Mapping[str, Any],
        steps: int,
        resumed: Mapping[str, Any] | None = None,
    ) -> None:
        self._path, self._is_done = run / "run.json", False
        before = read_json(self._path)
        self._content: dict[str, Any] = {
            "status": "running",
            "command": shlex.join(command),
            "started": before.get("started", now()),
            "ended": None,
            "seed": seed,
            "data_sha256": dict(checksums),
            "compile": dict(compiling),
            "steps": steps,
            "git_commit": git_commit(),
            "versions": {"python": platform.python_version(), **_versions()},
            "host": socket.gethostname(),
            "process": os.getpid(),
            "checkpoints": _of_kind(dict, before.get("checkpoints")),
            "metrics": _of_kind(dict, before.get("metrics")),
        }
        if before.get("events_lost") is True:
            self._content["events_lost"] = True
        if resumed is not None:
            self._content["resumed"] = [
                *_of_kind(list, before.get("resumed")),
                {"at": now(), **resumed},
            ]
        self._write()

    def end(
        self,
        status: str,
        *,
        metrics: Mapping[str, float | None] | None = None,
        error: str | None = None,
    ) -> None:
        """Record how it ended: `done`, `failed` or `interrupted`, with the final metrics (null
        where not finite).
        """
        self._content |= {"status": status, "ended": now()}
        if metrics is not None:
            self._content["metrics"] = {
                name: finite_or_null(value) for name, value in metrics.items()
            }
        if error is not None:
            self._content["error"] = error
        self._write()
        self._is_done = status in ("done", "pruned")

    @property
    def is_done(self) -> bool:
        """Whether it ended well, and that is on the disk."""
        return self._is_done

    def lose_events(self) -> None:
        """Record that TensorBoard's events could not be written from some step on, as a warning has said."""
        self._content["events_lost"] = True
        with contextlib.suppress(OSError):  # the same disk, it may be
            self._write()

    def checkpoints(self, **names: str | None) -> None:
        """Record the step folders that are `best` and `last`."""
        self._content["checkpoints"] = {
            key: name for key, name in names.items() if name is not None
        }
        self._write()

    def _write(self) -> None:
        write_json(self._path, self._content)


def _of_kind(kind: type, value: Any) -> Any:
    """`value`, or an empty one: a record may have been damaged, and a run goes on without it."""
    return value if isinstance(value, kind) else kind()


def git_commit() -> str | None:
    """The commit of the working directory, with `+changes` when files differ from it; None
    outside a repository.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + (
            "+changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, timeout=5, check=True
    )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The time with its zone, as records have it."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
