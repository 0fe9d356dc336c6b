"""Finds the files of an image set, nearest source first, and gives them as tensors."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.image_sets.cache import Cache, cache_folder, read_verified
from trainer.data.image_sets.catalog import IMAGE_SETS, DataFile, ImageSet
from trainer.data.image_sets.debian import fetch_from_package
from trainer.data.image_sets.download import (
    DEFAULT_TIMEOUTS,
    DownloadFailed,
    Report,
    Verify,
    download,
    exclusive,
)
from trainer.data.image_sets.https import Timeouts
from trainer.data.image_sets.idx import Bytes, size_of
from trainer.errors import (
    ConfigError,
    DataError,
    EnvironmentFault,
    TrainerError,
    listing,
    printable,
    reason_of,
    suggestion,
)

_MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedImages:
    """An image set in memory: images uint8 (N, H, W), labels uint8 (N,).

    `checksums` has the SHA-256 of each file by its name.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    checksums: dict[str, str]


def load_image_set(name: str, *, root: Path, report: Report) -> LoadedImages:
    """The image set `name` of the catalog, from `root` (torchvision's layout), or fetched into it.

    Every file is verified by the SHA-256 of its unpacked bytes. Raises ConfigError for an unknown
    name and for a `root` with a person's own files, DataError when a file is damaged and no source
    has a right one, EnvironmentFault when there is no source or `root` refuses.
    """
    if name not in IMAGE_SETS:
        raise ConfigError(
            f"There is no image set {name}.", hint=suggestion(name, IMAGE_SETS, label="Image sets")
        )
    return load_images(IMAGE_SETS[name], root=root, report=report)


def load_images(
    image_set: ImageSet,
    *,
    root: Path,
    report: Report,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> LoadedImages:
    """As `load_image_set`, for any set."""
    root = root.expanduser()
    search = _Search(image_set, folder=root / image_set.folder / "raw", report=report)
    # From near to far: no network where the files lie on this machine already.
    search.look_in(search.folder)
    if search.missing:
        # Before any other source: who names a folder of pictures means to train on them.
        _check_root(image_set, root)
    if search.missing and image_set.os_folder is not None:
        search.look_in(Path(image_set.os_folder))
    if search.missing:
        search.fetch(timeouts=timeouts)
    if search.cache.problem is not None:
        report.note(search.cache.problem)
    return _as_tensors(image_set, search.found)


def _check_root(image_set: ImageSet, root: Path) -> None:
    """Raise ConfigError when nothing of the set is in `root`, and a person's own files are."""
    others = _others(root)
    # In this order: another process may make the folder of the set meanwhile.
    if not others or _holds_sets(image_set, root):
        return
    elsewhere = _flat_files(image_set, root)
    if elsewhere is not None:
        raise ConfigError(
            f"{image_set.title} is not in {root / image_set.folder / 'raw'}; its files are in "
            f"{elsewhere}.",
            hint=_right_root(image_set, elsewhere),
        )
    raise ConfigError(
        f"data.root={root} holds other files ({listing(others, most=_MAX_NAMED)}), and nothing of "
        f"{image_set.title}.",
        where="To train on them, write a Dataset and choose it with data=custom: docs/custom.md "
        "has an example.",
        hint=f"To have {image_set.title} fetched, name a new or an empty folder: "
        f"data.root={root / image_set.name}",
    )


def _holds_sets(image_set: ImageSet, root: Path) -> bool:
    """Whether `root` is one of torchvision's layout, perhaps with more in it."""
    if (root / image_set.folder / "raw").is_dir():
        return True
    return any((root / known.folder / "raw").is_dir() for known in IMAGE_SETS.values())


def _others(root: Path) -> list[str]:
    """What is in the folder `root` but hidden names; empty where there is no such folder."""
    found: list[str] = []
    with suppress(OSError):
        for path in sorted(root.iterdir()):
            # A disk that is mounted there brings a folder lost+found.
            if path.name.startswith(".") or path.name == "lost+found":
                continue
            if not path.is_dir():
                found.append(path.name)
            elif any(path.iterdir()):
                found.append(f"{path.name}/")
    return found


def _flat_files(image_set: ImageSet, root: Path) -> Path | None:
    """The folder at or below `root` that has files of the set, though not in the right place."""
    for folder in (root, root / "raw", root / image_set.folder):
        for file in image_set.files:
            if (folder / file.name).is_file() or (folder / f"{file.name}.gz").is_file():
                return folder
    return None


def _right_root(image_set: ImageSet, folder: Path) -> str:
    """What to write where the files of the set are in `folder`."""
    full = folder.absolute()
    if full.name == "raw" and full.parent.name == image_set.folder:
        return f"Name the folder above them: data.root={full.parent.parent}"
    return f"Move them into a folder {image_set.folder}/raw, and name the folder above it."


class _Search:
    """One walk down the chain of sources: what was found, what was wrong, what was tried."""

    def __init__(self, image_set: ImageSet, *, folder: Path, report: Report) -> None:
        self.folder = folder
        self.found: dict[str, Bytes] = {}
        self.cache = Cache(cache_folder(os.environ))
        self._set = image_set
        self._report = report
        self._faults: dict[Path, TrainerError] = {}
        self._tried: list[str] = []

    @property
    def missing(self) -> list[DataFile]:
        return [file for file in self._set.files if file.name not in self.found]

    def look_in(self, folder: Path) -> None:
        """Take what is missing from `folder`, gzip or plain; warn once of each wrong file there."""
        num_before = len(self.found)
        for file in self.missing:
            # gzip first: a download is gzip, so from then on a damaged plain file is not read.
            for path in (folder / f"{file.name}.gz", folder / file.name):
                if file.name not in self.found and self._is_there(path):
                    self._load(path, file)
        if folder == self.folder:
            return
        if len(self.found) > num_before:
            self._report.note(f"{self._set.title}: using the copy in {folder}.")
        else:
            self._tried.append(f"{folder} (nothing of use)")

    def fetch(self, *, timeouts: Timeouts) -> None:
        """Fetch what is missing into the set's folder; raises when that cannot be done."""
        with exclusive(self.folder / self._set.title, report=self._report) as locked:
            self.look_in(self.folder)  # another process may have fetched it while we waited
            self._download(timeouts=timeouts)
            if self.missing:
                self._unpack_package(locked=locked)
        if self.missing:
            raise self._failure()

    def _is_there(self, path: Path) -> bool:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._warn(path, EnvironmentFault(f"{path} cannot be read: {reason_of(error)}."))
            return False
        return True

    def _load(self, path: Path, file: DataFile) -> None:
        try:
            self.found[file.name] = self.cache.load(path, file)
        except (DataError, EnvironmentFault) as fault:
            self._warn(path, fault)

    def _warn(self, path: Path, fault: TrainerError) -> None:
        # Once: a folder is looked into again after a wait, a download or a package.
        if path not in self._faults:
            self._report.warn(printable(f"{fault.what} (in {path.parent}; looking further for it)"))
        self._faults[path] = fault

    def _download(self, *, timeouts: Timeouts) -> None:
        for file in self.missing:
            target = self.folder / f"{file.name}.gz"
            unpacked = size_of(file.shape)
            # gzip adds less than this to what it cannot shrink.
            max_bytes = unpacked + unpacked // 100 + (1 << 16)
            try:
                download(
                    [mirror + target.name for mirror in self._set.mirrors],
                    target,
                    verify=partial(read_verified, file=file),
                    max_bytes=max_bytes,
                    report=self._report,
                    timeouts=timeouts,
                )
            except DownloadFailed as fault:
                # The others would fail alike, each after the same wait.
                self._tried.append(fault.what.rstrip("."))
                return
            self._load(target, file)

    def _unpack_package(self, *, locked: bool) -> None:
        if self._set.debian_package is None or self._set.os_folder is None:
            return
        members: dict[str, tuple[Path, Verify]] = {}
        for file in self.missing:
            verify = partial(read_verified, file=file)
            for name in (f"{file.name}.gz", file.name):
                members[f"{self._set.os_folder}/{name}"] = (self.folder / name, verify)
        try:
            fetch_from_package(
                self._set.debian_package, members, report=self._report, locked=locked
            )
        except DownloadFailed as fault:
            self._tried.append(fault.what.rstrip("."))
        self.look_in(self.folder)

    def _failure(self) -> TrainerError:
        """What to raise: the damage of a missing file where one was found, else its absence."""
        names = [file.name for file in self.missing]
        tried = f"Tried: {'; '.join([str(self.folder), *self._tried])}."
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        address = self._set.mirrors[0] if self._set.mirrors else "its publisher"
        hint = (
            f"Get {names[0]}.gz{more} from {address} into {self.folder.absolute()} (SHA-256 is "
            "checked)."
        )
        for path, fault in self._faults.items():
            if isinstance(fault, DataError) and path.name.removesuffix(".gz") in names:
                return DataError(fault.what, where=tried, hint=hint)
        return EnvironmentFault(
            f"{self._set.title} is not in {self.folder} and could not be fetched.",
            where=tried,
            hint=hint,
        )


def _as_tensors(image_set: ImageSet, found: dict[str, Bytes]) -> LoadedImages:
    # The checksums are right, so only the catalog can be wrong. Found here, because a label out of
    # range would end a run on a GPU in an assertion of CUDA.
    for file in (image_set.train_labels, image_set.test_labels):
        highest = int(found[file.name].max(initial=0))
        num_classes = len(image_set.classes)
        if highest >= num_classes:
            raise DataError(
                f"{file.name}: found label {highest}, but {image_set.title} has {num_classes} "
                "classes.",
                hint="The file is the published one, so the fault is in trainer's catalog: please "
                "report it.",
            )

    tensors = {file.name: torch.from_numpy(found[file.name]) for file in image_set.files}
    return LoadedImages(
        train_images=tensors[image_set.train_images.name],
        train_labels=tensors[image_set.train_labels.name],
        test_images=tensors[image_set.test_images.name],
        test_labels=tensors[image_set.test_labels.name],
        checksums={file.name: file.sha256 for file in image_set.files},
    )
