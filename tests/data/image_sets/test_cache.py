from __future__ import annotations

import errno
import gzip
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_images import NAMES, contents, fake_set, names_in

from trainer.data.image_sets import cache as cache_module
from trainer.data.image_sets.cache import Cache, cache_folder
from trainer.errors import DataError

FILE = fake_set().train_images
CONTENT = contents()[FILE.name]
VALUES = np.frombuffer(CONTENT, np.uint8)[16:].reshape(FILE.shape)
# Right in form, so that only the checksum can tell it from the right content.
OTHER = CONTENT[:-1] + b"\xff"


class Reads:
    """Counts the files that were read in full and hashed."""

    def __init__(self) -> None:
        self.num = 0


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    counted, original = Reads(), cache_module.read_verified

    def counting(*args: object) -> object:
        counted.num += 1
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module, "read_verified", counting)
    return counted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "xdg" / "trainer"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / f"{FILE.name}.gz"
    path.write_bytes(gzip.compress(CONTENT))
    return path


def load(folder: Path | None, path: Path) -> None:
    """Loads through a fresh cache, as the next start of the program would."""
    cache = Cache(folder)
    assert np.array_equal(cache.load(path, FILE), VALUES)
    assert cache.problem is None or folder is None


def test_the_second_load_neither_unpacks_nor_hashes(
    folder: Path, packed: Path, reads: Reads
) -> None:
    load(folder, packed)
    load(folder, packed)
    load(folder, packed)
    assert reads.num == 1
    assert names_in(folder) == [f"{FILE.sha256}.idx", f"{FILE.sha256}.json"]
    assert (folder / f"{FILE.sha256}.idx").read_bytes() == CONTENT


def test_a_plain_file_is_stamped_and_not_copied(folder: Path, tmp_path: Path, reads: Reads) -> None:
    path = tmp_path / FILE.name
    path.write_bytes(CONTENT)
    load(folder, path)
    load(folder, path)
    assert reads.num == 1
    assert names_in(folder) == [f"{FILE.sha256}.json"]


def test_two_sources_of_one_content_are_both_known(
    folder: Path, packed: Path, tmp_path: Path, reads: Reads
) -> None:
    other = tmp_path / "other.gz"
    other.write_bytes(packed.read_bytes())
    for path in (packed, other, packed, other):
        load(folder, path)
    assert reads.num == 2


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_source_that_changed_into_something_wrong_is_refused(
    folder: Path, tmp_path: Path, pack: type[bytes]
) -> None:
    path = tmp_path / FILE.name
    path.write_bytes(pack(CONTENT))
    load(folder, path)
    path.write_bytes(pack(OTHER))
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="the content is not the published one"):
        Cache(folder).load(path, FILE)


@pytest.mark.parametrize("change", ["time", "inode"])
def test_a_touched_source_is_hashed_again(
    folder: Path, packed: Path, reads: Reads, change: str
) -> None:
    load(folder, packed)
    found = packed.stat()
    if change == "inode":
        packed.with_name("new").write_bytes(packed.read_bytes())
        packed.with_name("new").replace(packed)
    os.utime(packed, ns=(found.st_mtime_ns, found.st_mtime_ns + (change == "time")))
    load(folder, packed)
    assert reads.num == 2
    load(folder, packed)
    assert reads.num == 2


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "directory", "unseen"])
def test_a_damaged_cache_is_made_again(
    folder: Path, packed: Path, reads: Reads, damage: str
) -> None:
    load(folder, packed)
    kept = folder / f"{FILE.sha256}.idx"
    if damage == "changed":
        kept.write_bytes(OTHER)
        os.utime(kept, ns=(1, 1))
    elif damage == "unseen":
        found = kept.stat()
        with kept.open("r+b") as stream:
            stream.write(b"bad")
        os.utime(kept, ns=(found.st_atime_ns, found.st_mtime_ns))
    elif damage == "cut":
        kept.write_bytes(CONTENT[:-1])
    else:
        kept.unlink()
    if damage == "directory":
        kept.mkdir()
        assert np.array_equal(Cache(folder).load(packed, FILE), VALUES)
        return
    load(folder, packed)
    assert reads.num == 2
    load(folder, packed)
    assert reads.num == 2


@pytest.mark.parametrize(
    "stamp", [b"", b"{", b"[]", b'{"sources": 1, "cached": {}}', b"[" * 100_000, b"\xff"]
)
def test_a_damaged_stamp_only_costs_time(
    folder: Path, packed: Path, reads: Reads, stamp: bytes
) -> None:
    load(folder, packed)
    (folder / f"{FILE.sha256}.json").write_bytes(stamp)
    load(folder, packed)
    load(folder, packed)
    assert reads.num == 2


def test_a_source_that_changes_while_it_is_read_is_not_stamped(
    folder: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = cache_module.read_verified

    def disturbed(*args: object) -> object:
        raw = original(*args)  # type: ignore[arg-type]
        packed.write_bytes(gzip.compress(OTHER))
        return raw

    monkeypatch.setattr(cache_module, "read_verified", disturbed)
    load(folder, packed)
    monkeypatch.undo()
    with pytest.raises(DataError):
        Cache(folder).load(packed, FILE)


def test_what_was_loaded_does_not_change_with_the_file(folder: Path, packed: Path) -> None:
    load(folder, packed)
    values = Cache(folder).load(packed, FILE)
    with (folder / f"{FILE.sha256}.idx").open("r+b") as stream:
        stream.write(bytes(len(CONTENT)))
    assert np.array_equal(values, VALUES)


def test_works_without_a_folder_and_says_so(packed: Path) -> None:
    cache = Cache(None)
    assert np.array_equal(cache.load(packed, FILE), VALUES)
    assert cache.problem == (
        "Working without a cache (neither XDG_CACHE_HOME nor HOME is set); "
        "every start unpacks and checks the data again."
    )


def test_works_where_the_folder_cannot_be_made_and_says_so(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "trainer")
    for _ in range(2):
        assert np.array_equal(cache.load(packed, FILE), VALUES)
    assert cache.problem is not None and "Not a directory" in cache.problem


def test_a_full_disk_leaves_no_partial_file(
    folder: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cache = Cache(folder)
    assert np.array_equal(cache.load(packed, FILE), VALUES)
    assert cache.problem is not None and "No space left on device" in cache.problem
    assert names_in(folder) == []


def test_what_a_killed_process_left_is_removed(folder: Path, packed: Path) -> None:
    folder.mkdir(parents=True)
    old, new = folder / ".a.idx.x.tmp", folder / ".b.idx.x.tmp"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    load(folder, packed)
    assert not old.exists()
    assert new.exists()


# Where a process that fills the cache is killed: the function, whether once it is done, and the
# final names that are there by then. The first file it writes is the unpacked copy, the second the
# stamp.
DEATHS: dict[str, tuple[object, str, bool, list[str]]] = {
    "before the copy is on disk": (os, "fsync", False, []),
    "before the copy has its name": (Path, "replace", False, []),
    "between the copy and its stamp": (Path, "replace", True, [f"{FILE.sha256}.idx"]),
}


def load_and_die(death: str, folder: Path, path: Path) -> None:
    owner, name, is_after, _ = DEATHS[death]
    original = getattr(owner, name)

    def deadly(*arguments: object) -> None:
        if is_after:
            original(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)
    Cache(folder).load(path, FILE)


@pytest.mark.fault("E")
@pytest.mark.parametrize("death", DEATHS)
def test_kill_9_while_unpacking(folder: Path, packed: Path, reads: Reads, death: str) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=load_and_die, args=(death, folder, packed)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    temporary = list(folder.glob(".*.tmp"))
    final = [path for path in folder.iterdir() if path not in temporary]
    assert [path.name for path in final] == DEATHS[death][3]
    assert all(path.read_bytes() == CONTENT for path in final)
    assert len(temporary) + len(final) == 1

    for left in temporary:
        os.utime(left, (1, 1))  # an hour later
    load(folder, packed)
    load(folder, packed)
    assert reads.num == 1
    assert names_in(folder) == [f"{FILE.sha256}.idx", f"{FILE.sha256}.json"]
    assert (folder / f"{FILE.sha256}.idx").read_bytes() == CONTENT


def test_many_at_once_all_load_and_leave_a_whole_cache(
    folder: Path, packed: Path, reads: Reads
) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            load(folder, packed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert names_in(folder) == [f"{FILE.sha256}.idx", f"{FILE.sha256}.json"]
    assert (folder / f"{FILE.sha256}.idx").read_bytes() == CONTENT


def test_forgets_the_oldest_sources(
    folder: Path, packed: Path, tmp_path: Path, reads: Reads
) -> None:
    paths = [tmp_path / f"{number}.gz" for number in range(33)]
    for path in paths:
        path.write_bytes(packed.read_bytes())
        load(folder, path)
    load(folder, paths[-1])
    assert reads.num == 33
    load(folder, paths[0])
    assert reads.num == 34


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, Path("/x/trainer")),
        ({"HOME": "/h"}, Path("/h/.cache/trainer")),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, Path("/h/.cache/trainer")),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, Path("/h/.cache/trainer")),
        ({}, None),
    ],
)
def test_finds_its_folder(environ: dict[str, str], expected: Path | None) -> None:
    assert cache_folder(environ) == expected


def test_the_fake_set_has_all_files() -> None:
    assert sorted(contents()) == sorted(NAMES.values())
