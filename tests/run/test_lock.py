"""One writer a run folder: the lock holds between processes, and ends with the one that has it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainer.errors import EnvironmentFault, UsageError
from trainer.run.folder import LOCK_FILE
from trainer.run.lock import is_locked, locked

HOLD = """
import os, sys
from pathlib import Path
from trainer.run.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork() if len(sys.argv) > 2 else None
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    print("locked", child or "", flush=True)
    sys.stdin.readline()
print("released", flush=True)
sys.stdin.read()
"""

Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Holder]:
    """`hold(run)` starts a process that holds the lock of `run` until it is sent a line."""
    started: list[subprocess.Popen[str]] = []

    def start(run: Path, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(run), *more]
        started.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_told_who_has_it(tmp_path: Path, hold: Holder) -> None:
    holder = hold(tmp_path)
    assert said(holder) == "locked"
    assert is_locked(tmp_path)
    with pytest.raises(UsageError) as caught, locked(tmp_path):
        pytest.fail("both have it")
    assert (
        caught.value.what
        == f"{tmp_path} is in use by process {holder.pid} on host {socket.gethostname()}."
    )
    assert caught.value.exit_code == 2 and len(str(caught.value).splitlines()) == 2
    assert is_locked(tmp_path), "asking does not take it away"


def test_it_ends_with_the_block(tmp_path: Path, hold: Holder) -> None:
    holder = hold(tmp_path)
    assert said(holder) == "locked"
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert said(holder) == "released"
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()


def test_it_ends_with_a_block_that_raises(tmp_path: Path, hold: Holder) -> None:
    with pytest.raises(ValueError, match="ours"), locked(tmp_path):
        raise ValueError("ours")
    assert said(hold(tmp_path)) == "locked"


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path, hold: Holder) -> None:
    holder = hold(tmp_path)
    assert said(holder) == "locked"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists() and not is_locked(tmp_path)
    assert said(hold(tmp_path)) == "locked"


def test_a_forked_child_does_not_keep_it(tmp_path: Path, hold: Holder) -> None:
    """A worker that outlives a killed run must not lock it."""
    holder = hold(tmp_path, "fork")
    child = int(said(holder).removeprefix("locked "))
    assert is_locked(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    os.kill(child, 0)  # it lives
    assert not is_locked(tmp_path)


def test_a_copy_is_not_locked(tmp_path: Path, hold: Holder) -> None:
    (tmp_path / "run").mkdir()
    assert said(hold(tmp_path / "run")) == "locked"
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert is_locked(tmp_path / "run") and not is_locked(tmp_path / "copy")
    with locked(tmp_path / "copy"):
        pass


def test_a_run_that_never_had_a_lock(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == [], "asking leaves nothing"
    assert not is_locked(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"process": "x", "host": "h"}', '{"host": "h"}']
)
def test_a_lock_file_that_says_nothing(tmp_path: Path, hold: Holder, content: str) -> None:
    assert said(hold(tmp_path)) == "locked"
    (tmp_path / LOCK_FILE).write_text(content)
    with pytest.raises(UsageError, match="is in use by another process"), locked(tmp_path):
        pass


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.write_text("canary")
    (run / LOCK_FILE).symlink_to(outside)
    with pytest.raises(EnvironmentFault, match="cannot be locked"), locked(run):
        pass
    assert not is_locked(run)
    assert outside.read_text() == "canary"


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentFault, match="cannot be locked: No such file or directory"),
        locked(tmp_path / "no"),
    ):
        pass


def test_a_full_disk_locks_all_the_same(
    tmp_path: Path, hold: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path):
        other = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert "is in use by another process" in other.stderr
