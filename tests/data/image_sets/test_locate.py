from __future__ import annotations

import dataclasses
import gzip
import multiprocessing
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fake_images import NAMES, contents, debian_package, fake_set, idx_bytes, names_in, write_set
from loopback import Loopback, hang, serve, status
from running import Trainer
from waiting import HANG_S

from trainer.data.image_sets import locate as sources
from trainer.data.image_sets.catalog import IMAGE_SETS, ImageSet
from trainer.data.image_sets.download import QuietReport
from trainer.data.image_sets.https import Timeouts
from trainer.data.image_sets.locate import LoadedImages, load_image_set, load_images
from trainer.errors import ConfigError, DataError, EnvironmentFault

REAL = Path(__file__).parents[4] / "shared" / "datasets"
PATIENT = Timeouts(connect=HANG_S, idle=HANG_S, backoff=0.001)
GZIP_NAMES = sorted(f"{name}.gz" for name in NAMES.values())


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, no proxy, and no program on the path, so no apt-get."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def report() -> QuietReport:
    return QuietReport()


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


def publish(server: Loopback, *, label: int = 1) -> None:
    for name, content in contents(label=label).items():
        server.answers[f"/{name}.gz"] = serve(gzip.compress(content))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "data" / "Fake" / "raw"


def load(
    image_set: ImageSet, raw: Path, report: QuietReport, *, timeouts: Timeouts = PATIENT
) -> LoadedImages:
    root = raw.parent.parent
    return load_images(image_set, root=root, report=report, timeouts=timeouts)


def assert_right(images: LoadedImages) -> None:
    assert images.train_images.tolist() == torch.arange(96).reshape(6, 4, 4).tolist()
    assert images.train_labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert images.test_images.tolist() == torch.arange(100, 148).reshape(3, 4, 4).tolist()
    assert images.test_labels.tolist() == [1, 0, 1]
    tensors = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    assert {tensor.dtype for tensor in tensors} == {torch.uint8}
    assert images.checksums == {file.name: file.sha256 for file in fake_set().files}


@pytest.mark.parametrize("is_gzip", [True, False])
def test_loads_from_the_root(raw: Path, report: QuietReport, is_gzip: bool) -> None:
    write_set(raw, is_gzip=is_gzip)
    before = names_in(raw)
    for _ in range(2):
        assert_right(load(fake_set(), raw, report))
    assert (report.notes, report.warnings) == ([], [])
    assert names_in(raw) == before


def test_nothing_is_written_beside_complete_data(
    raw: Path, report: QuietReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As root, a folder's rights stop nobody: so whatever would write is made to fail.
    write_set(raw)
    monkeypatch.setattr(
        sources, "exclusive", lambda *_, **__: pytest.fail("wrote to a complete root")
    )
    assert_right(load(fake_set(), raw, report))


def test_uses_the_operating_systems_copy_for_what_is_missing(
    tmp_path: Path, raw: Path, report: QuietReport
) -> None:
    os_folder = write_set(tmp_path / "usr")
    write_set(raw)
    (raw / f"{NAMES['train_images']}.gz").unlink()
    assert_right(load(fake_set(os_folder=os_folder), raw, report))
    assert report.notes == [f"Fake-MNIST: using the copy in {os_folder}."]
    assert len(names_in(raw)) == 3


def test_downloads_into_the_root_what_is_missing(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    write_set(raw)
    (raw / f"{NAMES['test_labels']}.gz").unlink()
    assert_right(load(fake_set(mirrors=(server.base,)), raw, report))
    assert server.requests == [f"/{NAMES['test_labels']}.gz"]
    assert names_in(raw) == GZIP_NAMES
    assert_right(load(fake_set(), raw, report))


# What lies in a root -> words of the message.
OWN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pictures": (("b.png", "a.png"), ("holds other files (a.png, b.png)", "data=custom")),
    "folders of pictures": (
        ("cat/1.png", "dog/1.png"),
        ("(cat/, dog/)", "docs/custom.md", "data.root="),
    ),
    "a table": (("measured.csv",), ("measured.csv", "data=custom")),
    "more than can be named": (
        tuple(f"{index}.png" for index in range(7)),
        ("0.png, 1.png, 2.png and 4 more",),
    ),
    "the set as folders of pictures": (("Fake/0/1.png", "Fake/1/2.png"), ("(Fake/)",)),
    "another of torchvision's sets": (("cifar-10-batches-py/data_batch_1",), ("cifar-10",)),
    "the files, but flat": (
        (f"{NAMES['train_images']}.gz", "notes.txt"),
        ("its files are in", "Fake/raw"),
    ),
}


@pytest.mark.fault("N")
@pytest.mark.parametrize("case", OWN)
@pytest.mark.parametrize("source", ["mirror", "system"])
def test_nothing_is_fetched_into_a_folder_of_ones_own(
    tmp_path: Path, raw: Path, report: QuietReport, server: Loopback, case: str, source: str
) -> None:
    names, words = OWN[case]
    root = tmp_path / "data"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    before = sorted(root.rglob("*"))
    publish(server)
    image_set = fake_set(mirrors=(server.base,))
    if source == "system":
        image_set = fake_set(os_folder=write_set(tmp_path / "usr"))
    with pytest.raises(ConfigError) as caught:
        load(image_set, raw, report)
    assert [word for word in words if word not in str(caught.value)] == []
    assert len(str(caught.value).splitlines()) <= 3
    assert sorted(root.rglob("*")) == before
    assert server.requests == []


@pytest.mark.parametrize("inner", ["Fake", "Fake/raw", "Fake/raw/Fake"])
def test_a_root_below_the_right_one(
    tmp_path: Path, raw: Path, report: QuietReport, inner: str
) -> None:
    write_set(raw)
    root = tmp_path / "data" / inner
    root.mkdir(exist_ok=True)
    if inner.endswith("raw/Fake"):  # an empty folder is one to fetch into
        with pytest.raises(EnvironmentFault):
            load_images(fake_set(), root=root, report=report)
        return
    with pytest.raises(ConfigError, match=r"data\.root=") as caught:
        load_images(fake_set(), root=root, report=report)
    assert str(caught.value).endswith(f"data.root={tmp_path / 'data'}")


@pytest.mark.parametrize("name", [".gitkeep", "lost+found/x", "MNIST/raw/x", "Fake/raw/x"])
def test_a_root_that_is_empty_or_of_torchvisions_layout_is_fetched_into(
    tmp_path: Path, raw: Path, report: QuietReport, server: Loopback, name: str
) -> None:
    publish(server)
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert_right(load(fake_set(mirrors=(server.base,)), raw, report))


def test_downloads_into_a_root_that_is_not_there_yet(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    assert_right(load(fake_set(mirrors=(server.base,)), raw, report))
    assert names_in(raw) == GZIP_NAMES
    assert (report.notes, report.warnings) == ([], [])


def test_of_two_mirrors_the_wrong_one_is_passed_over(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    server.answers |= {f"/bad/{name}": serve(b"<html>") for name in GZIP_NAMES}
    assert_right(load(fake_set(mirrors=(f"{server.base}bad/", server.base)), raw, report))
    assert names_in(raw) == GZIP_NAMES


OFFERS = {
    "wrong checksum": (
        gzip.compress(contents(label=0)[NAMES["train_labels"]]),
        "the content is not the published one",
    ),
    "a web page instead of gzip": (b"<!DOCTYPE html><html>", "it looks like a web page"),
}


@pytest.mark.fault("F")
@pytest.mark.parametrize("offer", OFFERS)
def test_a_mirror_that_offers_something_else(
    raw: Path, report: QuietReport, server: Loopback, offer: str
) -> None:
    publish(server)
    content, text = OFFERS[offer]
    server.answers[f"/{NAMES['train_labels']}.gz"] = serve(content)
    with pytest.raises(
        EnvironmentFault, match=r"^Fake-MNIST is not in .* and could not be fetched\."
    ) as caught:
        load(fake_set(mirrors=(server.base,)), raw, report)
    assert caught.value.exit_code == 4
    assert text in str(caught.value).splitlines()[1]
    assert len(str(caught.value).splitlines()) == 3
    assert len(server.requests) == 1
    assert names_in(raw) == []


DAMAGE = {
    "three labels": gzip.compress(idx_bytes((3,), b"\0\1\0")),
    "no labels": gzip.compress(idx_bytes((0,), b"")),
    "checksum": gzip.compress(contents(label=0)[NAMES["train_labels"]]),
    "interrupted": gzip.compress(contents()[NAMES["train_labels"]])[:-9],
    "empty": b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_repairs_a_damaged_file_by_a_download(
    raw: Path, report: QuietReport, server: Loopback, damage: str
) -> None:
    publish(server)
    bad = write_set(raw) / f"{NAMES['train_labels']}.gz"
    bad.write_bytes(DAMAGE[damage])
    assert_right(load(fake_set(mirrors=(server.base,)), raw, report))
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("train-labels-idx1-ubyte.gz")
    assert f"(in {raw}; looking further for it)" in report.warnings[0]
    assert_right(load(fake_set(), raw, QuietReport()))
    assert len(server.requests) == 1


@pytest.mark.fault("E")
def test_repairs_what_an_interrupted_extraction_left(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    write_set(raw, is_gzip=False)
    name = NAMES["train_images"]
    (raw / name).write_bytes(contents()[name][:50])
    assert_right(load(fake_set(mirrors=(server.base,)), raw, report))
    assert len(report.warnings) == 1
    again = QuietReport()
    assert_right(load(fake_set(), raw, again))
    assert again.warnings == []


def test_a_right_plain_file_stands_in_for_a_damaged_gzip(raw: Path, report: QuietReport) -> None:
    write_set(raw, is_gzip=False)
    (raw / f"{NAMES['train_labels']}.gz").write_bytes(b"x")
    assert_right(load(fake_set(), raw, report))
    assert len(report.warnings) == 1


@pytest.mark.fault("E")
def test_a_file_that_changed_after_it_was_cached_is_repaired(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    write_set(raw)
    assert_right(load(fake_set(), raw, report))
    (raw / f"{NAMES['train_labels']}.gz").write_bytes(DAMAGE["checksum"])
    os.utime(raw / f"{NAMES['train_labels']}.gz", ns=(1, 1))
    assert_right(load(fake_set(mirrors=(server.base,)), raw, report))
    assert "the content is not the published one" in report.warnings[0]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_that_nothing_can_replace_is_a_data_error(
    raw: Path, report: QuietReport, damage: str
) -> None:
    bad = write_set(raw) / f"{NAMES['train_labels']}.gz"
    bad.write_bytes(DAMAGE[damage])
    with pytest.raises(DataError, match=r"^train-labels-idx1-ubyte\.gz") as caught:
        load(fake_set(), raw, report)
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) == 3
    assert bad.read_bytes() == DAMAGE[damage]
    assert names_in(raw) == GZIP_NAMES


@pytest.mark.fault("E")
@pytest.mark.parametrize(("damage", "num_labels"), [("three labels", 3), ("no labels", 0)])
def test_says_how_many_labels_were_found(
    raw: Path, report: QuietReport, damage: str, num_labels: int
) -> None:
    (write_set(raw) / f"{NAMES['train_labels']}.gz").write_bytes(DAMAGE[damage])
    with pytest.raises(DataError) as caught:
        load(fake_set(), raw, report)
    assert (
        caught.value.what == f"train-labels-idx1-ubyte.gz: expected 6 labels, found {num_labels}."
    )


def test_a_directory_in_place_of_a_file_is_not_overwritten(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    write_set(raw)
    path = raw / f"{NAMES['train_labels']}.gz"
    path.unlink()
    path.mkdir()
    with pytest.raises(EnvironmentFault, match="something that is not a file is in its place"):
        load(fake_set(mirrors=(server.base,)), raw, report)
    assert path.is_dir()


def test_complete_data_needs_no_network(raw: Path, report: QuietReport, server: Loopback) -> None:
    write_set(raw)
    assert_right(load(fake_set(mirrors=(server.base,)), raw, report))
    assert server.requests == []


@pytest.mark.fault("F")
def test_offline_with_what_was_fetched_before(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    image_set = fake_set(mirrors=(server.base,))
    load(image_set, raw, report)
    server.__exit__()
    assert_right(load(image_set, raw, report))
    assert (report.notes, report.warnings) == ([], [])


@pytest.mark.fault("F")
def test_offline_and_nothing_found_says_what_was_tried_and_what_to_do(
    tmp_path: Path, raw: Path, report: QuietReport, server: Loopback
) -> None:
    base = server.base
    server.__exit__()
    image_set = fake_set(mirrors=(base,), os_folder=tmp_path / "usr", package="dataset-fake")
    with pytest.raises(
        EnvironmentFault, match=r"^Fake-MNIST is not in .* and could not be fetched\."
    ) as caught:
        load(image_set, raw, report)
    assert caught.value.exit_code == 4
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for tried in (
        str(raw),
        str(tmp_path / "usr"),
        "cannot be reached",
        "apt-get: not on this machine",
    ):
        assert tried in lines[1]
    assert lines[2] == (
        f"Get train-labels-idx1-ubyte.gz and 3 more from {base} into {raw} (SHA-256 is checked)."
    )
    assert names_in(raw) == []


def test_after_one_failed_download_the_others_are_not_tried(
    raw: Path, report: QuietReport, server: Loopback
) -> None:
    publish(server)
    server.answers[f"/{NAMES['train_labels']}.gz"] = hang
    hasty = dataclasses.replace(PATIENT, idle=0.2)
    with pytest.raises(EnvironmentFault, match="without data"):
        load(fake_set(mirrors=(server.base,)), raw, report, timeouts=hasty)
    assert server.requests == [f"/{NAMES['train_labels']}.gz"] * 3


def test_a_root_that_cannot_be_written_is_said(
    tmp_path: Path, raw: Path, report: QuietReport
) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(
        EnvironmentFault, match="Fake-MNIST must be fetched, but cannot be written: Not a dir"
    ) as caught:
        load(fake_set(), raw, report)
    assert str(raw) in str(caught.value)
    assert "data.root" in str(caught.value)


def test_a_root_that_cannot_be_written_is_not_needed(
    tmp_path: Path, raw: Path, report: QuietReport
) -> None:
    (tmp_path / "data").touch()
    assert_right(load(fake_set(os_folder=write_set(tmp_path / "usr")), raw, report))


def test_works_without_a_cache_and_says_so_once(
    raw: Path, report: QuietReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(raw)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    assert_right(load(fake_set(), raw, report))
    assert len(report.notes) == 1
    assert report.notes[0].startswith("Working without a cache")


@pytest.mark.fault("E")
def test_a_label_beyond_the_classes_is_refused(raw: Path, report: QuietReport) -> None:
    write_set(raw, label=2)
    with pytest.raises(DataError) as caught:
        load(fake_set(label=2), raw, report)
    assert (
        caught.value.what == "train-labels-idx1-ubyte: found label 2, but Fake-MNIST has 2 classes."
    )
    assert caught.value.exit_code == 3
    assert caught.value.hint is not None


OFFLINE: dict[str, tuple[bytes | None, int, str]] = {
    "damaged data": (
        gzip.compress(idx_bytes((3,), b"\0\1\2")),
        3,
        "expected 60000 labels, found 3.",
    ),
    "no data": (None, 4, "MNIST is not in data/MNIST/raw and could not be fetched."),
}


@pytest.mark.parametrize("case", OFFLINE)
def test_what_the_command_says_offline_of(
    tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    content, code, text = OFFLINE[case]
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    if content is not None:
        (raw / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        ran = trainer("fit", "model=mlp", "data=mnist")
    *warnings, what, tried, hint = ran.err.splitlines()
    assert ran.code == code, ran.err
    assert len(warnings) == (content is not None)
    assert what.startswith("Error: ") and text in what
    assert "cannot be reached" in tried
    assert "train-labels-idx1-ubyte.gz" in hint
    assert not (tmp_path / "runs").exists()


def test_a_name_cannot_drive_the_terminal(tmp_path: Path, report: QuietReport) -> None:
    raw = tmp_path / "\x1b[31m" / "Fake" / "raw"
    (write_set(raw) / f"{NAMES['train_labels']}.gz").write_bytes(b"\x1b")
    with pytest.raises(DataError) as caught:
        load(fake_set(), raw, report)
    assert "\x1b" not in str(caught.value) + "".join(report.warnings)


def load_eight_times_at_once(image_set: ImageSet, raw: Path) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            assert_right(load(image_set, raw, QuietReport()))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_many_at_once_share_one_download(raw: Path, server: Loopback) -> None:
    publish(server)
    load_eight_times_at_once(fake_set(mirrors=(server.base,)), raw)
    assert names_in(raw) == GZIP_NAMES
    assert sorted(server.requests) == sorted(f"/{name}" for name in GZIP_NAMES)


class Apt:
    """Stand-ins for apt-get and apt-cache, beside the real dpkg-deb; `log` has their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log_path = folder, folder / "log"
        self.package = folder / "package"
        (folder / "known").touch()

    @property
    def log(self) -> list[str]:
        return self.log_path.read_text().splitlines() if self.log_path.exists() else []

    def hold(self, members: dict[str, bytes], *, links: dict[str, str] | None = None) -> None:
        self.package.write_bytes(debian_package(members, links=links))


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    real = shutil.which("dpkg-deb", path="/usr/bin:/bin")
    if real is None:
        pytest.skip("dpkg-deb is not on this machine")
    folder = tmp_path / "bin"
    (folder / "dpkg-deb").symlink_to(real)
    scripts = {
        "apt-cache": f'echo "cache $*" >> {folder}/log; [ -e {folder}/known ] && echo Package: x',
        "apt-get": f"""
            for last; do :; done
            case "$*" in
                *update*)
                   echo update >> {folder}/log
                   if [ -e {folder}/empty ]; then : > {folder}/known; fi ;;
                *) echo "download $last" >> {folder}/log
                   read -r line < {folder}/fails && echo "E: $line" >&2 && exit 100
                   PATH=/usr/bin:/bin cp {folder}/package ./x_1_all.deb ;;
            esac""",
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "fails").touch()
    os.environ["PATH"] += ":/usr/bin:/bin"
    return Apt(folder)


def packed(*, prefix: str = "./usr/share/fake") -> dict[str, bytes]:
    return {f"{prefix}/{name}.gz": gzip.compress(content) for name, content in contents().items()}


PACKAGED = fake_set(os_folder=Path("/usr/share/fake"), package="dataset-fake")


def test_takes_the_files_out_of_the_debian_package(
    raw: Path, report: QuietReport, apt: Apt
) -> None:
    apt.hold(packed() | {"./usr/share/fake/README": b"x", "./../../../../evil": b"x"})
    assert_right(load(PACKAGED, raw, report))
    assert names_in(raw) == GZIP_NAMES
    assert apt.log == ["cache show --no-all-versions dataset-fake", "download dataset-fake"]
    assert report.notes == [
        "Fetching the Debian package dataset-fake with apt-get; it is not installed."
    ]
    assert_right(load(fake_set(), raw, report))


def unpack_and_die(raw: Path) -> None:
    def deadly(_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = deadly  # type: ignore[assignment]
    load(PACKAGED, raw, QuietReport())


@pytest.mark.fault("E")
def test_kill_9_while_unpacking_the_package(
    tmp_path: Path, raw: Path, report: QuietReport, apt: Apt, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt.hold(packed())
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the package itself is left
    process = multiprocessing.get_context("spawn").Process(target=unpack_and_die, args=(raw,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [name.rpartition(".")[2] for name in names_in(raw)] == ["lock", "part"]
    assert_right(load(PACKAGED, raw, report))
    assert names_in(raw) == GZIP_NAMES


@pytest.mark.parametrize("is_gzip", [True, False])
def test_many_at_once_share_one_package(raw: Path, apt: Apt, is_gzip: bool) -> None:
    plain = {f"./usr/share/fake/{name}": content for name, content in contents().items()}
    apt.hold(packed() if is_gzip else plain)
    load_eight_times_at_once(PACKAGED, raw)
    assert names_in(raw) == (GZIP_NAMES if is_gzip else sorted(NAMES.values()))
    assert apt.log.count("download dataset-fake") == 1


def test_takes_only_what_is_missing_and_only_by_its_full_path(
    raw: Path, report: QuietReport, apt: Apt
) -> None:
    apt.hold({f"./other/{name}": b"x" for name in GZIP_NAMES} | packed())
    kept = write_set(raw) / f"{NAMES['train_labels']}.gz"
    (raw / f"{NAMES['test_labels']}.gz").unlink()
    inode = kept.stat().st_ino
    assert_right(load(PACKAGED, raw, report))
    assert kept.stat().st_ino == inode


def test_a_link_in_the_package_is_not_followed(
    tmp_path: Path, raw: Path, report: QuietReport, apt: Apt
) -> None:
    name = NAMES["train_labels"]
    secret = tmp_path / "secret"
    secret.write_bytes(gzip.compress(contents()[name]))
    members = packed()
    del members[f"./usr/share/fake/{name}.gz"]
    apt.hold(members, links={f"./usr/share/fake/{name}.gz": str(secret)})
    with pytest.raises(EnvironmentFault):
        load(PACKAGED, raw, report)
    assert len(names_in(raw)) == 3


def test_a_wrong_file_in_the_package_is_not_kept(raw: Path, report: QuietReport, apt: Apt) -> None:
    apt.hold(packed() | {f"./usr/share/fake/{NAMES['train_labels']}.gz": DAMAGE["checksum"]})
    with pytest.raises(EnvironmentFault, match="the content is not the published one"):
        load(PACKAGED, raw, report)
    assert f"{NAMES['train_labels']}.gz" not in names_in(raw)


def test_a_damaged_package_is_said(raw: Path, report: QuietReport, apt: Apt) -> None:
    apt.package.write_bytes(b"!<arch>\nnonsense")
    with pytest.raises(EnvironmentFault, match=r"x_1_all\.deb"):
        load(PACKAGED, raw, report)
    assert names_in(raw) == []


def test_apts_own_reason_is_passed_on(raw: Path, report: QuietReport, apt: Apt) -> None:
    (apt.folder / "fails").write_text("Failed to fetch: 403 Forbidden\n")
    with pytest.raises(EnvironmentFault, match="apt-get: Failed to fetch: 403 Forbidden"):
        load(PACKAGED, raw, report)


def test_the_package_is_the_last_resort(
    raw: Path, report: QuietReport, apt: Apt, server: Loopback
) -> None:
    apt.hold(packed())
    publish(server)
    image_set = fake_set(
        mirrors=(server.base,), os_folder=Path("/usr/share/fake"), package="dataset-fake"
    )
    assert_right(load(image_set, raw, report))
    assert apt.log == []
    shutil.rmtree(raw)
    server.answers |= {path: status(404) for path in server.answers}
    assert_right(load(image_set, raw, report))
    assert len(apt.log) == 2


@pytest.mark.parametrize("can_update", [True, False])
def test_refreshes_apts_empty_lists_as_root(
    raw: Path, report: QuietReport, apt: Apt, monkeypatch: pytest.MonkeyPatch, can_update: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    apt.hold(packed())
    (apt.folder / "known").unlink()
    if can_update:
        (apt.folder / "empty").touch()
        assert_right(load(PACKAGED, raw, report))
        assert [line.split()[0] for line in apt.log] == ["cache", "update", "cache", "download"]
    else:
        with pytest.raises(EnvironmentFault, match="apt-get: knows no package dataset-fake"):
            load(PACKAGED, raw, report)


def test_leaves_apts_lists_alone_without_the_right_to_them(
    raw: Path, report: QuietReport, apt: Apt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (apt.folder / "known").unlink()
    with pytest.raises(EnvironmentFault, match="sudo apt-get update may help"):
        load(PACKAGED, raw, report)
    assert [line.split()[0] for line in apt.log] == ["cache"]


def test_an_unknown_name_gets_a_suggestion(tmp_path: Path, report: QuietReport) -> None:
    with pytest.raises(ConfigError, match="Did you mean fashion_mnist"):
        load_image_set("fashion-mnist", root=tmp_path, report=report)


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_loads_the_real_data(name: str, report: QuietReport) -> None:
    image_set = IMAGE_SETS[name]
    if not (REAL / image_set.folder).is_dir():
        pytest.skip(f"{REAL} is not there")
    images = load_image_set(name, root=REAL, report=report)
    assert images.train_images.shape == (60_000, 28, 28)
    assert images.train_labels.shape == (60_000,)
    assert images.test_images.shape == (10_000, 28, 28)
    assert images.test_labels.bincount().tolist()[5:] == (
        [892, 958, 1028, 974, 1009] if name == "mnist" else [1000] * 5
    )
    pixels = images.train_images.double() / 255
    assert pixels.mean().item() == pytest.approx(image_set.mean, abs=5e-5)
    assert pixels.std().item() == pytest.approx(image_set.std, abs=5e-5)
    assert (report.notes, report.warnings) == ([], [])
    again = load_image_set(name, root=REAL, report=report)
    assert torch.equal(again.train_images, images.train_images)


@pytest.mark.parametrize("image_set", IMAGE_SETS.values(), ids=list(IMAGE_SETS))
def test_the_catalog_is_sound(image_set: ImageSet) -> None:
    assert IMAGE_SETS[image_set.name] is image_set
    assert len(image_set.classes) == 10
    assert all(
        mirror.startswith("https://") and mirror.endswith("/") for mirror in image_set.mirrors
    )
    assert len({file.sha256 for file in image_set.files}) == 4
    assert all(len(file.sha256) == 64 for file in image_set.files)
