from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from fake_images import idx_bytes
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.image_sets.idx import Bytes, items_of, read_idx_bytes, size_of
from trainer.errors import DataError, EnvironmentFault, TrainerError

LABELS = idx_bytes((5,), b"\0\1\2\3\4")
IMAGES = idx_bytes((2, 3, 2), bytes(range(12)))
PACKED = gzip.compress(LABELS)


def read_idx(path: Path, *, shape: tuple[int, ...]) -> Bytes:
    return items_of(read_idx_bytes(path, shape=shape), shape=shape)


def write(tmp_path: Path, content: bytes, *, name: str = "labels-idx1-ubyte") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_reads_gzip_and_plain_whatever_the_name(
    tmp_path: Path, pack: type[bytes], name: str
) -> None:
    path = write(tmp_path, pack(IMAGES), name=name)

    values = read_idx(path, shape=(2, 3, 2))

    assert values.dtype == np.uint8
    assert values.tolist() == np.arange(12).reshape(2, 3, 2).tolist()
    assert values.flags.writeable
    assert read_idx_bytes(path, shape=(2, 3, 2)).tobytes() == IMAGES


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "one byte": (b"\0", "within its header"),
    "half a header": (LABELS[:6], "within its header"),
    "magic": (b"\1" + LABELS[1:], "is not an IDX file"),
    "unknown type": (idx_bytes((5,), b"\0" * 5, code=0x07), "is not an IDX file"),
    "other type": (idx_bytes((5,), b"\0" * 20, code=0x0C), "expected uint8 values, found int32"),
    "dimensions": (idx_bytes((5, 1), b"\0" * 5), "expected 1 dimensions, found 2"),
    "fewer labels": (idx_bytes((3,), b"\0" * 3), "expected 5 labels, found 3."),
    "more labels": (idx_bytes((9,), b"\0" * 9), "expected 5 labels, found 9."),
    "no labels": (idx_bytes((0,), b""), "expected 5 labels, found 0."),
    "billions of labels": (
        idx_bytes((2**32 - 1,), b"\0" * 5),
        "expected 5 labels, found 4294967295.",
    ),
    "cut short": (LABELS[:-2], "is truncated: expected 5 labels, found 3."),
    "trailing byte": (LABELS + b"\0", "continues after its 5 labels"),
    "web page": (b"<!DOCTYPE html><html>", "looks like a web page"),
    "zip": (b"PK\3\4" + b"\0" * 40, "is not an IDX file"),
    "gzip cut in the header": (PACKED[:5], "is damaged gzip"),
    "gzip cut short": (PACKED[:-9], "is damaged gzip"),
    "gzip without its end": (PACKED[:-3], "is damaged gzip"),
    "gzip magic only": (PACKED[:2], "is damaged gzip"),
    "gzip checksum": (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "is damaged gzip"),
    "gzip length": (PACKED[:-1] + b"\1", "is damaged gzip"),
    "gzip trailing byte": (PACKED + b"\0", "there is more after its end"),
    "second gzip member": (PACKED + gzip.compress(b""), "there is more after its end"),
    "gzip of nothing": (gzip.compress(b""), "is empty"),
    "gzip of too little": (gzip.compress(LABELS[:-1]), "is truncated"),
    "gzip of too much": (gzip.compress(LABELS + b"\0" * 99), "continues after its 5 labels"),
    "gzip in gzip": (gzip.compress(PACKED), "is not an IDX file"),
}


# As cases of the plan these two are counted where whole sets are loaded.
COUNTED_ELSEWHERE = ("fewer labels", "no labels")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=[] if name in COUNTED_ELSEWHERE else [pytest.mark.fault("E")])
        for name in WRONG
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, case: str) -> None:
    content, text = WRONG[case]
    path = write(tmp_path, content)

    with pytest.raises(DataError, match=r"^labels-idx1-ubyte") as caught:
        read_idx(path, shape=(5,))

    assert text in caught.value.what
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3
    assert caught.value.exit_code == 3


@pytest.mark.fault("E")
def test_says_the_size_of_images_and_cuts_between_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images of 3x3, found 3x2"):
        read_idx(write(tmp_path, IMAGES), shape=(2, 3, 3))
    with pytest.raises(DataError, match="expected 2 images, found 1"):
        read_idx(write(tmp_path, IMAGES[:-1]), shape=(2, 3, 2))


def test_a_download_in_progress_has_its_final_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^x\.gz is empty"):
        read_idx(write(tmp_path, b"", name="x.gz.part"), shape=(5,))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is not a regular file"):
        read_idx(tmp_path, shape=(5,))
    with pytest.raises(DataError, match="is not a regular file"):
        read_idx(tmp_path / "pipe", shape=(5,))
    with pytest.raises(DataError, match="is not there"):
        read_idx(tmp_path / "nothing", shape=(5,))


def test_a_path_the_machine_refuses_is_the_environments_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be read: File name too long"):
        read_idx(tmp_path / ("x" * 300), shape=(5,))


@pytest.mark.fault("E")
@pytest.mark.parametrize(
    "head", [b"", idx_bytes((5,), b"")], ids=["of zeros", "behind a right header"]
)
def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, head: bytes) -> None:
    packer = zlib.compressobj(wbits=31)
    blank = bytes(1 << 20)
    path = write(
        tmp_path,
        packer.compress(head)
        + b"".join(packer.compress(blank) for _ in range(64))
        + packer.flush(),
    )

    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read_idx(path, shape=(5,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 << 20


def test_a_file_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, LABELS)
    os.truncate(path, 1 << 36)  # sparse: it takes no room on disk
    with pytest.raises(DataError, match="continues after"):
        read_idx(path, shape=(5,))


def test_unpacks_more_than_one_chunk(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3000, 28, 28), np.uint8)
    values[1000:] = 0
    path = write(tmp_path, gzip.compress(idx_bytes(values.shape, values.tobytes()), 1))
    assert np.array_equal(read_idx(path, shape=values.shape), values)


READ_ALL = """
import sys
from pathlib import Path
from trainer.data.image_sets.idx import read_idx_bytes
from trainer.errors import DataError
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_idx_bytes(path, shape=(5,))
    except DataError as error:
        print(path.name, error.what)
"""


@pytest.mark.fault("E")
def test_checks_hold_without_asserts(tmp_path: Path) -> None:
    for name, (content, _) in WRONG.items():
        write(tmp_path, content, name=name)
    expected = ""
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError) as caught:
            read_idx(path, shape=(5,))
        expected += f"{path.name} {caught.value.what}\n"
    command = [sys.executable, "-O", "-c", READ_ALL, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == expected


def is_read_or_refused(content: bytes, shape: tuple[int, ...]) -> bool:
    """Whether the file is exactly of that shape, or the error is ours and fits three lines."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            return read_idx(Path(file.name), shape=shape).shape == shape
        except TrainerError as error:
            return type(error) is DataError and len(str(error).splitlines()) <= 3


@given(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\0\0\x08", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\3"]),
)
def test_random_bytes_are_refused_in_words(tail: bytes, head: bytes) -> None:
    assert is_read_or_refused(head + tail, (5,))


@given(st.integers(0, len(IMAGES) - 1), st.integers(0, 255), st.booleans())
def test_mutated_bytes_are_read_or_refused(place: int, value: int, is_gzip: bool) -> None:
    content = bytearray(gzip.compress(IMAGES) if is_gzip else IMAGES)
    content[place % len(content)] = value
    assert is_read_or_refused(bytes(content), (2, 3, 2))


@given(st.lists(st.integers(0, 2**32 - 1), max_size=6), st.integers(0, 255), st.binary(max_size=16))
def test_mutated_headers_are_read_or_refused(dims: list[int], code: int, values: bytes) -> None:
    assert is_read_or_refused(idx_bytes(tuple(dims), values, code=code), (2, 3, 2))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_what_was_written_is_read(dims: list[int]) -> None:
    shape = tuple(dims)
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    with tempfile.NamedTemporaryFile() as file:
        file.write(idx_bytes(shape, values.tobytes()))
        file.flush()
        assert np.array_equal(read_idx(Path(file.name), shape=shape), values)
        assert Path(file.name).stat().st_size == size_of(shape)
