"""Fashion-MNIST as NumPy arrays in memory, as Keras and JAX programs have it. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.setting import MEAN, STD

Images = NDArray[np.float32]
Labels = NDArray[np.int32]


def load_arrays(
    root: Path, *, limit: int | None = None, train: bool = True
) -> tuple[Images, Labels]:
    """Normalised images (N, 28, 28, 1) and labels (N,) of the first `limit` training samples, or
    of the test set.
    """
    folder, split = root / "FashionMNIST" / "raw", "train" if train else "t10k"
    pixels = _read(folder / f"{split}-images-idx3-ubyte", header=16).reshape(-1, 28, 28, 1)[:limit]
    labels = _read(folder / f"{split}-labels-idx1-ubyte", header=8)[:limit]
    images = pixels.astype(np.float32)
    images /= 255
    images -= MEAN
    images /= STD
    return images, labels.astype(np.int32)


def _read(path: Path, *, header: int) -> NDArray[np.uint8]:
    content: NDArray[Any] = np.frombuffer(path.read_bytes(), np.uint8, offset=header)
    return content
