"""A temporary folder with Fashion-MNIST unpacked, where torchvision's class looks for it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def unpack(data_root: Path, target: Path) -> None:
    """Write the four IDX files below `target`, as trainer finds them (or fetches them) for
    `data_root`.
    """
    from trainer.data.image_sets.download import QuietReport
    from trainer.data.image_sets.locate import load_image_set

    images = load_image_set("fashion_mnist", root=data_root, report=QuietReport())
    folder = target / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for split, inputs, labels in (
        ("train", images.train_images, images.train_labels),
        ("t10k", images.test_images, images.test_labels),
    ):
        _write(folder / f"{split}-images-idx3-ubyte", inputs)
        _write(folder / f"{split}-labels-idx1-ubyte", labels)


def _write(path: Path, values: Tensor) -> None:
    """As IDX: 0, 0, the type (8 = uint8), the number of axes, each axis as a big-endian 32-bit
    integer, the bytes.
    """
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.numpy().tobytes())
