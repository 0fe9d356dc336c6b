"""Many small runs: a sweep of two hundred, with the memory of its parent, and how long listing
five hundred takes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.startup import Seconds, time_command

NUM_JOBS, NUM_LISTED = 200, 500
# A job of about a second, most of it in the default logger.
SMALL = (
    "data=dirichlet",
    "data.train_size=4000",
    "model=mlp",
    "trainer.device=cpu",
    "trainer.epochs=1",
)
_BY_METRIC = ("sort=val/accuracy", "status=done")
LISTINGS = {"trainer runs ls": (), " ".join(["trainer runs ls", *_BY_METRIC]): _BY_METRIC}
_EVERY = 0.2
_OUTPUT = "output.txt"


def sweep(folder: Path) -> dict[str, Any]:
    """A sweep of NUM_JOBS below `folder`/runs: `seconds`, what it left, and `memory`.

    `statuses` are those of its run folders, `listed` the paths that `trainer runs ls` names,
    `memory` the bytes that the parent is resident in, by how many run folders there are; empty
    where the system does not know.
    """
    words = ["fit", "-m", *SMALL, f"seed=range(0,{NUM_JOBS})", "sweep.jobs=2", "run.name=many"]
    memory: dict[int, int] = {}
    start = time.perf_counter()
    with (
        (folder / _OUTPUT).open("w", encoding="utf-8") as output,
        subprocess.Popen(
            [sys.executable, "-m", "trainer", *words], cwd=folder, stdout=output, stderr=output
        ) as process,
    ):
        while process.poll() is None:
            resident = _resident(process.pid)
            if resident:
                memory[len(list(folder.glob("runs/*/*/[0-9]*-*")))] = resident
            time.sleep(_EVERY)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError((folder / _OUTPUT).read_text(encoding="utf-8")[-2000:])
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("runs/*/*/*/run.json")
    ]
    _, done = time_command(_listing(folder, "--json", "limit=0"))
    listed = [entry["path"] for entry in json.loads(done.stdout)]
    return {
        "seconds": seconds,
        "statuses": Counter(record["status"] for record in records),
        "listed": listed,
        "memory": memory,
    }


def num_right(found: dict[str, Any]) -> int:
    """The number of runs done and listed once; 0 where one is listed twice or not of the sweep."""
    listed = Counter(found["listed"])
    is_right = max(listed.values(), default=0) == 1 and len(listed) == found["statuses"].total()
    return int(found["statuses"]["done"]) if is_right else 0


def parent_bytes(found: dict[str, Any]) -> tuple[float, float] | None:
    """The median of the parent's memory over the second twentieth of the jobs, and over the
    last; None if unknown.
    """
    early = [
        value
        for count, value in found["memory"].items()
        if NUM_JOBS // 20 < count <= NUM_JOBS // 10
    ]
    late = [value for count, value in found["memory"].items() if count > NUM_JOBS - NUM_JOBS // 20]
    return (statistics.median(early), statistics.median(late)) if early and late else None


def as_rows(found: dict[str, Any]) -> list[list[str]]:
    """Seconds of the whole command, runs done, runs listed, megabytes of the parent."""
    early_and_late = [f"{value / 1e6:.1f}" for value in parent_bytes(found) or ()] or ["", ""]
    counts = [str(found["statuses"]["done"]), str(len(set(found["listed"])))]
    return [
        [f"{NUM_JOBS} jobs, two at a time", f"{found['seconds']:.0f}", *counts, *early_and_late]
    ]


def listing(folder: Path, *, rounds: int) -> Seconds:
    """Seconds of the commands that list NUM_LISTED runs, copies of one below `folder`/runs,
    after one unmeasured.
    """
    first = min(path.parent for path in folder.glob("runs/*/*/*/run.json"))
    with tempfile.TemporaryDirectory(prefix="listed-") as place:
        for number in range(NUM_LISTED):
            run = Path(place) / "runs" / f"2026-01-{1 + number % 28:02d}" / f"run-{number}"
            shutil.copytree(
                first, run, symlinks=True, ignore=shutil.ignore_patterns("events.*", "*.lock")
            )
        took: Seconds = {name: [] for name in LISTINGS}
        for number in range(rounds + 1):
            for name, words in LISTINGS.items():
                seconds, done = time_command(_listing(Path(place), *words))
                if number:
                    took[name].append(seconds)
        _, done = time_command(_listing(Path(place), "-q"))
        if len(set(done.stdout.split())) != NUM_LISTED:
            raise RuntimeError(f"{len(set(done.stdout.split()))} of {NUM_LISTED} runs are listed.")
    return took


def _listing(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "trainer", "runs", "ls", f"run.root={folder / 'runs'}", *words]


def _resident(process: int) -> int | None:
    """Bytes; None where the system does not know, or the process is gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
