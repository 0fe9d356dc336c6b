"""Running trainer's command line in tests: as a process of its own, or in this one where that is
not the point.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import HANG_S

from trainer.cli.main import main

ROOT = Path(__file__).parents[2]
DATASETS = ROOT.parent / "shared" / "datasets"
needs_datasets = pytest.mark.skipif(
    not DATASETS.is_dir(), reason=f"the image data is not in {DATASETS}"
)


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def quiet_environment(cwd: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a process of ours: a cache of its own, one thread, no debugging."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TRAINER_DEBUG", "COMP_LINE")
    }
    ours = {"XDG_CACHE_HOME": str(cwd / ".cache"), "OMP_NUM_THREADS": "1"}
    return {**kept, **ours, **(more or {})}


def run_trainer(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ran:
    """`python -m trainer …` in a new process."""
    return run_python("-m", "trainer", *words, cwd=cwd, env=env)


def run_python(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None, text: str | None = None
) -> Ran:
    """`python …` in a new process, with `text` on its standard input."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=quiet_environment(cwd, env),
        input=text,
        capture_output=True,
        encoding="utf-8",
        timeout=HANG_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def trainer_main(*words: str, cwd: Path) -> Ran:
    """`trainer …` in this process, in the folder `cwd`."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main(words)
    signal.signal(signal.SIGTERM, on_sigterm)
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read())
    return Ran(int(ended.value.code or 0), *texts)
