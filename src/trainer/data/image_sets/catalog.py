"""The known image sets: files, checksums, classes, statistics, addresses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One IDX file of uint8 values, of `shape` (N, H, W) for images and (N,) for labels.

    `name` is without `.gz`; `sha256` is that of the unpacked bytes, header included, so that it
    does not depend on how the file was packed.
    """

    name: str
    sha256: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSet:
    """Grey images in four IDX files, under `<root>/<folder>/raw/` in torchvision's layout."""

    name: str
    title: str
    folder: str
    train_images: DataFile
    train_labels: DataFile
    test_images: DataFile
    test_labels: DataFile
    classes: tuple[str, ...]
    # Of the training images, pixels scaled to 0..1.
    mean: float
    std: float
    # Base addresses, each ending in a slash; `<mirror><file name>.gz` is fetched.
    mirrors: tuple[str, ...]
    # The package that has the files, and where it puts them.
    debian_package: str | None = None
    os_folder: str | None = None

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The four files, the small ones first: a wrong source is then found early."""
        return (self.train_labels, self.test_labels, self.test_images, self.train_images)


def _images(name: str, num: int, sha256: str) -> DataFile:
    return DataFile(name=f"{name}-images-idx3-ubyte", sha256=sha256, shape=(num, 28, 28))


def _labels(name: str, num: int, sha256: str) -> DataFile:
    return DataFile(name=f"{name}-labels-idx1-ubyte", sha256=sha256, shape=(num,))


IMAGE_SETS: dict[str, ImageSet] = {
    "mnist": ImageSet(
        name="mnist",
        title="MNIST",
        folder="MNIST",
        train_images=_images(
            "train", 60_000, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        train_labels=_labels(
            "train", 60_000, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        test_images=_images(
            "t10k", 10_000, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        test_labels=_labels(
            "t10k", 10_000, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
        classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        mean=0.1307,
        std=0.3081,
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/",),
    ),
    "fashion_mnist": ImageSet(
        name="fashion_mnist",
        title="Fashion-MNIST",
        folder="FashionMNIST",
        train_images=_images(
            "train", 60_000, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        train_labels=_labels(
            "train", 60_000, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        test_images=_images(
            "t10k", 10_000, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        test_labels=_labels(
            "t10k", 10_000, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        mean=0.2860,
        std=0.3530,
        mirrors=(
            # The bucket torchvision names, by the address that serves https (its website does not).
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        debian_package="dataset-fashion-mnist",
        os_folder="/usr/share/datasets/fashion-mnist",
    ),
}
