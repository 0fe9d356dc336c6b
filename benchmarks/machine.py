"""What the machine is, and how much of it others used while we measured."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


def facts(threads: int) -> dict[str, str | int]:
    """The machine, the versions and the date, for the head of a report."""
    names = ("torch", "torchvision", "lightning", "accelerate", "keras", "jax", "trainer")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
    }


QUIET = 0.1  # of the machine: below this, others do not count as a disturbance


@dataclass
class Watch:
    """Seconds of CPU that processes other than our children used since it was made, as a share of
    all cores.

    None where the system does not know (/proc/stat is Linux's).
    """

    _wall: float = field(default_factory=time.perf_counter)
    _busy: float | None = field(default_factory=lambda: _busy_seconds())
    _ours: float = field(default_factory=lambda: _children_seconds())

    def others_share(self) -> float | None:
        """The share, called when our child has ended."""
        busy = _busy_seconds()
        if busy is None or self._busy is None:
            return None
        others = (busy - self._busy) - (_children_seconds() - self._ours)
        return max(0.0, others / (time.perf_counter() - self._wall) / (os.cpu_count() or 1))


_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Let processes that outlive their parent become our children: else a Watch takes them for
    others. Linux only.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(patience: float = 10.0) -> None:
    """Wait for those that a command left behind, such as the process that forked a sweep's jobs."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def wait_for_quiet(patience: float) -> None:
    """Return when others use less than QUIET of the machine, or after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        watch = Watch()
        time.sleep(0.5)
        if (watch.others_share() or 0.0) < QUIET:
            return


def _busy_seconds() -> float | None:
    """CPU seconds of the whole machine that were not idle, those taken by the host (steal) too."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, *more = map(int, first[1:9])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    name = found.get("model name", platform.machine())
    return (
        f"{name} (family {found['cpu family']}, model {found['model']})"
        if "cpu family" in found
        else name
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
