"""The file system refuses: full, read-only, unreadable, something in the way. Group B of the plan
of faults.

The full disks are real ones, of two megabytes: see disks.py.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
from disks import Disk, events_in, fsync_fails, in_turn
from fake_images import contents, fake_set, names_in, write_set
from killing import in_save
from loopback import CERTIFICATE, Loopback, serve
from running import PLAIN, Outcome, Run

KILLED = -9
# 18 updates; a checkpoint takes about 200 kB, and there are six.
WORDS = (
    *PLAIN,
    "model.hidden=[1024]",
    "trainer.save_every=3steps",
    "trainer.keep=99",
    "logger.log_every=3",
)
IMAGES = (
    "data=mnist", "model=linear", "data.val_size=2", "data.batch_size=2", "trainer.epochs=1",
    "logger=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same training, undisturbed."""
    cwd = tmp_path_factory.mktemp("whole")
    assert processes.run("fit", *WORDS, "run.dir=run", cwd=cwd).code == 0
    return Run(cwd / "run")


def told(outcome: Outcome, *, code: int = 4) -> list[str]:
    """The lines of an error, as the rules for all faults want them."""
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    lines = outcome.err[outcome.err.index("Error: ") :].splitlines()
    assert len(lines) <= 3, "what, where, and what to do now"
    return lines


def assert_nothing_half(run: Path) -> None:
    """Only whole checkpoints, and nothing that was being written."""
    assert [path.name for path in run.glob("checkpoints/.*")] == []
    for step in run.glob("checkpoints/step-*"):
        assert names_in(step) == ["model.safetensors", "state.safetensors"]


@pytest.mark.fault("B")
@pytest.mark.parametrize("what", ["names", "bytes"])
def test_disk_full_at_the_run_folder(tmp_path: Path, disk: Disk, what: str) -> None:
    if what == "names":
        disk.remount("nr_inodes=1")
    else:
        disk.fill(but=0)
    lines = told(processes.run("fit", *WORDS, "run.dir=disk/run", cwd=tmp_path, prepare=disk.enter))
    assert "disk/run: No space left on device." in lines[0]
    assert not (disk.inside / "run").exists(), "the same command must work when there is space"


@pytest.mark.fault("B")
def test_disk_full_at_the_first_checkpoint(tmp_path: Path, disk: Disk, whole: Run) -> None:
    disk.fill(but=130_000)
    words = (*WORDS, "run.dir=disk/run")
    lines = told(processes.run("fit", *words, cwd=tmp_path, prepare=disk.enter))
    assert lines[0].startswith(
        "Error: Could not save step 3 in disk/run: No space left on device (need 0.2 MB, 0."
    )
    assert lines[1] == "No checkpoint was saved yet."
    assert_nothing_half(disk.inside / "run")
    disk.free()
    again = processes.run("fit", *words, "resume=auto", cwd=tmp_path, prepare=disk.enter)
    assert again.code == 0, again.err
    assert Run(disk.inside / "run").digest() == whole.digest()


@pytest.mark.fault("B")
def test_disk_full_at_a_later_checkpoint(tmp_path: Path, disk: Disk, whole: Run) -> None:
    disk.fill(but=600_000)
    lines = told(processes.run("fit", *WORDS, "run.dir=disk/run", cwd=tmp_path, prepare=disk.enter))
    good = Run(disk.inside / "run").steps[-1]
    failed = int(good[-6:]) + 3
    assert lines[0].startswith(
        f"Error: Could not save step {failed} in disk/run: No space left on device (need 0.2 MB,"
    )
    assert lines[1] == f"Last good checkpoint: disk/run/checkpoints/{good}."
    assert_nothing_half(disk.inside / "run")
    assert (
        processes.run(
            "eval", f"ckpt=disk/run/checkpoints/{good}", cwd=tmp_path, prepare=disk.enter
        ).code
        == 0
    )
    disk.free()
    printed = lines[2].partition(": trainer ")[2].split()
    assert printed == ["fit", "resume=disk/run"]
    again = processes.run(*printed, cwd=tmp_path, prepare=disk.enter)
    assert again.code == 0 and f"Resumed at step {failed - 3} of" in again.out, again.err
    assert Run(disk.inside / "run").digest() == whole.digest()


@pytest.mark.fault("B")
@pytest.mark.parametrize(
    ("is_gone", "reason"), [(False, "No space left on device"), (True, "No such file")]
)
def test_disk_full_at_the_event_file(
    tmp_path: Path, disk: Disk, whole: Run, is_gone: bool, reason: str
) -> None:
    """The events alone are put on the full disk, or lose their folder: a run writes them beside
    its other files.
    """
    disk.fill(but=4096)
    prepare = in_turn(
        disk.enter,
        functools.partial(events_in, tmp_path / "disk/events", gone_at=0 if is_gone else None),
    )
    outcome = processes.run("fit", *WORDS, "run.dir=run", cwd=tmp_path, prepare=prepare)
    assert outcome.code == 0, outcome.err
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"Warning: TensorBoard gets no more records ({reason}"), line
    run = Run(tmp_path / "run")
    assert timeless(run) == timeless(whole)
    assert run.digest() == whole.digest()


def timeless(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if "second" not in key} for row in run.rows]


def _fake_images(*mirrors: str) -> None:
    """`data=mnist` means six images of a server on this machine."""
    from trainer.data.image_sets.catalog import IMAGE_SETS

    IMAGE_SETS["mnist"] = dataclasses.replace(
        fake_set(mirrors=mirrors), name="mnist", folder="MNIST"
    )
    os.environ["SSL_CERT_FILE"] = str(CERTIFICATE)


@pytest.mark.fault("B")
def test_disk_full_at_a_download(tmp_path: Path, disk: Disk) -> None:
    disk.fill(but=8192)  # two of the four files
    raw = disk.inside / "data/MNIST/raw"
    command = ("fit", *IMAGES, "data.root=disk/data", "run.dir=run")
    with Loopback() as server:
        packed = write_set(tmp_path / "packed")
        server.answers = {
            f"/{name}.gz": serve((packed / f"{name}.gz").read_bytes()) for name in contents()
        }
        prepare = in_turn(disk.enter, functools.partial(_fake_images, server.base))
        lines = told(processes.run(*command, cwd=tmp_path, prepare=prepare))
        assert "must be fetched, but cannot be written: No space left on device." in lines[0]
        assert lines[1] == f"Folder: {tmp_path / 'disk/data/MNIST/raw'}"
        assert [name for name in names_in(raw) if not name.endswith("ubyte.gz")] == []
        assert all(
            (raw / name).read_bytes() == (packed / name).read_bytes() for name in names_in(raw)
        )
        assert not (tmp_path / "run").exists()
        disk.free()
        assert processes.run(*command, cwd=tmp_path, prepare=prepare).code == 0
        assert len(server.requests) == 5, "what had been stored was not fetched again"


@pytest.mark.fault("B")
def test_read_only_output(tmp_path: Path, disk: Disk) -> None:
    disk.remount("ro")
    lines = told(
        processes.run("fit", *WORDS, "run.root=disk/runs", cwd=tmp_path, prepare=disk.enter)
    )
    assert lines[0].startswith("Error: Could not make the run folder disk/runs/")
    assert lines[0].endswith(": Read-only file system.") and "run.root=" in lines[1]


@pytest.mark.fault("B")
def test_read_only_data_that_is_complete(tmp_path: Path, disk: Disk) -> None:
    write_set(disk.inside / "MNIST/raw")
    disk.remount("ro")
    prepare = in_turn(disk.enter, _fake_images)
    outcome = processes.run(
        "fit", *IMAGES, "data.root=disk", "run.dir=run", cwd=tmp_path, prepare=prepare
    )
    assert (outcome.code, outcome.err) == (0, "")


def _without_privileges() -> None:
    """Root may read anything, unless it has given up its capabilities."""
    version_3, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(version_3, none) == 0


@pytest.mark.fault("B")
@pytest.mark.parametrize(
    "command", ["eval ckpt=run/checkpoints/last", "fit resume=run trainer.epochs=3"]
)
def test_unreadable_checkpoint(tmp_path: Path, command: str) -> None:
    assert processes.run("fit", *WORDS, "run.dir=run", cwd=tmp_path).code == 0
    file = tmp_path / "run/checkpoints/step-000018/model.safetensors"
    file.chmod(0)
    lines = told(processes.run(*command.split(), cwd=tmp_path, prepare=_without_privileges))
    assert lines[0].endswith(
        "run/checkpoints/step-000018/model.safetensors cannot be read: Permission denied."
    )
    before = processes.run(
        "eval", "ckpt=run/checkpoints/step-000015", cwd=tmp_path, prepare=_without_privileges
    )
    assert before.code == 0, before.err


def _make_folder(place: Path, outside: Path) -> None:
    place.mkdir()
    (place / "model.safetensors").write_text("half")


def _make_device(place: Path, outside: Path) -> None:
    try:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:  # only root may
        os.mkfifo(place)


def _make_link(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def identity(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_mtime_ns


@pytest.mark.fault("B")
@pytest.mark.parametrize("place", ["step-000009", ".step-000009.part"])
@pytest.mark.parametrize("make", [_make_folder, _make_device, _make_link])
def test_something_is_where_a_checkpoint_goes(
    tmp_path: Path, whole: Run, make: Callable[[Path, Path], None], place: str
) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    kill = functools.partial(in_save, "before open", 3)
    assert processes.run("fit", *WORDS, "run.dir=run", cwd=tmp_path, prepare=kill).code == KILLED
    outside.mkdir()
    (outside / "model.safetensors").write_text("canary")
    shutil.rmtree(run / "checkpoints" / place, ignore_errors=True)
    make(run / "checkpoints" / place, outside)
    before = identity(run / "checkpoints" / place)
    outcome = processes.run("fit", "resume=run", cwd=tmp_path)
    if make is _make_device:
        lines = told(outcome)
        assert lines[0].startswith(f"Error: Could not save step 9 in run: {place} is in the way")
        assert lines[1] == "Last good checkpoint: run/checkpoints/step-000006."
        assert identity(run / "checkpoints" / place) == before, "neither written nor replaced"
        (run / "checkpoints" / place).unlink()
        outcome = processes.run("fit", "resume=run", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert_nothing_half(run)
    assert Run(run).digest() == whole.digest()
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [
        ("model.safetensors", "canary")
    ]


@pytest.mark.fault("B")
@pytest.mark.parametrize("make", [_make_folder, _make_device, _make_link])
def test_something_is_where_the_checkpoints_go(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    kill = functools.partial(in_save, "before open", 1)
    assert processes.run("fit", *WORDS, "run.dir=run", cwd=tmp_path, prepare=kill).code == KILLED
    outside.mkdir()
    (outside / "model.safetensors").write_text("canary")
    shutil.rmtree(run / "checkpoints")
    make(run / "checkpoints", outside)
    before = identity(run / "checkpoints")
    lines = told(processes.run("fit", *WORDS, "run.dir=run", "resume=auto", cwd=tmp_path), code=2)
    assert "run.dir=run exists and is not empty" in lines[0]
    assert identity(run / "checkpoints") == before
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [
        ("model.safetensors", "canary")
    ]


@pytest.mark.fault("B")
def test_fsync_fails(tmp_path: Path, whole: Run) -> None:
    # Four a save: two files, the folder with them, and the one with the folder.
    prepare = functools.partial(fsync_fails, 5)
    lines = told(processes.run("fit", *WORDS, "run.dir=run", cwd=tmp_path, prepare=prepare))
    assert lines[0] == "Error: Could not save step 6 in run: Input/output error."
    assert lines[1] == "Last good checkpoint: run/checkpoints/step-000003."
    assert_nothing_half(tmp_path / "run")
    again = processes.run("fit", "resume=run", cwd=tmp_path)
    assert again.code == 0, again.err
    assert Run(tmp_path / "run").digest() == whole.digest()


def _usual_umask() -> None:
    os.umask(0o022)


@pytest.mark.fault("B")
def test_files_have_the_rights_of_the_umask(tmp_path: Path) -> None:
    assert processes.run("fit", *PLAIN, "run.dir=run", cwd=tmp_path, prepare=_usual_umask).code == 0
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [path.name for path in files if stat.S_IMODE(path.stat().st_mode) != 0o644] == []


@pytest.mark.fault("B")
def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    kill = functools.partial(in_save, "half written", 2)
    assert processes.run("fit", *WORDS, "run.dir=run", cwd=tmp_path, prepare=kill).code == KILLED
    run = tmp_path / "run"
    assert (run / "checkpoints/.step-000006.part").is_dir()
    (run / "checkpoints/.step-000003.old").mkdir()
    (run / ".run.json.part").write_text("{")
    assert processes.run("fit", "resume=run", cwd=tmp_path).code == 0
    assert_nothing_half(run)
    assert [path.name for path in run.glob(".*")] == [".lock"]
