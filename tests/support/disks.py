"""Small disks of a test's own, to be full or read-only; event files that are put on one; a disk
that fails.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import of_a_save
from processes import Prepare


class Disk:
    """A small disk at `place`, real to whoever is in its mount namespace, which lives as long as a
    shell in it.

    `enter`, as the `prepare` of a process, takes it there; `inside` is the way in for the test,
    which is not.
    """

    def __init__(self, place: Path, *, flags: str) -> None:
        self._place, self._kinds = place, ("user", "mnt") if "r" in flags else ("mnt",)
        self._shell = subprocess.Popen(
            ["unshare", flags, "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.inside = Path(f"/proc/{self._shell.pid}/root{place}")
        self.is_mounted = self.do(f"mount -t tmpfs -o size=2m none '{place}'")

    def close(self) -> None:
        self._shell.communicate()

    def do(self, command: str) -> bool:
        """Run a command of the shell in the namespace; whether it worked."""
        assert self._shell.stdin is not None and self._shell.stdout is not None
        try:
            self._shell.stdin.write(f"{command} && echo yes || echo no\n")
            self._shell.stdin.flush()
        except BrokenPipeError:  # no namespace, no shell
            return False
        return self._shell.stdout.readline() == "yes\n"

    def remount(self, options: str) -> None:
        assert self.do(f"mount -o remount,{options} '{self._place}'"), options

    def fill(self, *, but: int) -> None:
        """Leave `but` bytes."""
        free = os.statvfs(self.inside)
        (self.inside / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - but))

    def free(self) -> None:
        (self.inside / "filler").unlink()

    @property
    def enter(self) -> Prepare:
        return functools.partial(_enter, self._shell.pid, self._kinds, self._place.parent)


def _enter(shell: int, kinds: tuple[str, ...], cwd: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    handles = [os.open(f"/proc/{shell}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
    for handle in handles:
        if libc.setns(handle, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    os.chdir(cwd)


def small_disk(place: Path) -> Iterator[Disk]:
    """A disk at `place`: as root, or where any person may have namespaces of their own; skips
    elsewhere.
    """
    if shutil.which("unshare") is None:
        pytest.skip("a disk of a test's own needs unshare")
    place.mkdir()
    for flags in ("-m", "-rm"):
        disk = Disk(place, flags=flags)
        if disk.is_mounted:
            yield disk
            disk.close()
            return
        disk.close()
    pytest.skip("this machine permits no mount namespace")


def in_turn(*prepares: Prepare) -> Prepare:
    return functools.partial(_in_turn, prepares)


def _in_turn(prepares: tuple[Prepare, ...]) -> None:
    for prepare in prepares:
        prepare()


def fsync_fails(after: int) -> None:
    """Let every call that follows the first `after` of saves report an error of the disk."""
    fsync, calls = os.fsync, 0

    def failing(handle: int) -> None:
        nonlocal calls
        calls += of_a_save(handle)
        if calls > after:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    os.fsync = failing  # type: ignore[assignment]


def events_in(folder: Path, *, gone_at: int | None) -> None:
    """Let a run write its events alone to `folder`, which is removed when `gone_at` batches have
    been trained on.
    """
    from trainer.engine.progress import Progress
    from trainer.tracking.tensorboard import tracker

    make, count, batches = tracker.EventWriter, Progress.count_batch, 0  # type: ignore[attr-defined]

    def make_elsewhere(_: Path, **options: Any) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        writer = make(folder, **options)
        if gone_at == 0:
            shutil.rmtree(folder)
        return writer

    def count_and_remove(*arguments: Any, **options: Any) -> None:
        nonlocal batches
        batches += 1
        if batches == gone_at:
            shutil.rmtree(folder)
        count(*arguments, **options)

    setattr(tracker, "EventWriter", make_elsewhere)  # noqa: B010 (not exported, says mypy)
    Progress.count_batch = count_and_remove  # type: ignore[method-assign]
