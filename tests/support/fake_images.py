"""A tiny image set with its own checksums, for tests without network and real data."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

from trainer.data.image_sets.catalog import DataFile, ImageSet

SHAPES = {
    "train_images": (6, 4, 4),
    "train_labels": (6,),
    "test_images": (3, 4, 4),
    "test_labels": (3,),
}
NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx_bytes(shape: tuple[int, ...], values: bytes, *, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


def contents(*, label: int = 1) -> dict[str, bytes]:
    """The unpacked bytes of the four files by file name; the last training label is `label`."""
    return {
        NAMES["train_images"]: idx_bytes((6, 4, 4), bytes(range(96))),
        NAMES["train_labels"]: idx_bytes((6,), bytes([0, 1, 0, 1, 0, label])),
        NAMES["test_images"]: idx_bytes((3, 4, 4), bytes(range(100, 148))),
        NAMES["test_labels"]: idx_bytes((3,), bytes([1, 0, 1])),
    }


def fake_set(
    *,
    label: int = 1,
    mirrors: tuple[str, ...] = (),
    os_folder: Path | None = None,
    package: str | None = None,
) -> ImageSet:
    found = contents(label=label)
    files = {
        role: DataFile(
            name=name, sha256=hashlib.sha256(found[name]).hexdigest(), shape=SHAPES[role]
        )
        for role, name in NAMES.items()
    }
    return ImageSet(
        name="fake",
        title="Fake-MNIST",
        folder="Fake",
        train_images=files["train_images"],
        train_labels=files["train_labels"],
        test_images=files["test_images"],
        test_labels=files["test_labels"],
        classes=("even", "odd"),
        mean=0.5,
        std=0.25,
        mirrors=mirrors,
        os_folder=None if os_folder is None else str(os_folder),
        debian_package=package,
    )


def write_set(folder: Path, *, is_gzip: bool = True, label: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents(label=label).items():
        if is_gzip:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def debian_package(members: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    """A .deb that holds `members`, by path, and symbolic `links`, by path and target."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, target in (links or {}).items():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with io.BytesIO() as nothing:
        with tarfile.open(fileobj=nothing, mode="w"):
            pass
        control = nothing.getvalue()
    parts = {"debian-binary": b"2.0\n", "control.tar": control, "data.tar": packed.getvalue()}
    return b"!<arch>\n" + b"".join(_ar_member(name, content) for name, content in parts.items())


def _ar_member(name: str, content: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)
