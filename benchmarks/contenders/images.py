"""Fashion-MNIST the way people load it: torchvision's class, its transforms, a DataLoader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import FashionMNIST

from benchmarks.contenders.setting import BATCH_SIZE, EVAL_BATCH_SIZE, MEAN, STD


def make_loader(
    root: Path, *, num_workers: int, limit: int | None = None, train: bool = True
) -> DataLoader[Any]:
    """The shuffled training set (its first `limit` samples), or the test set in larger batches."""
    dataset = make_dataset(root, limit=limit, train=train)
    size = BATCH_SIZE if train else EVAL_BATCH_SIZE
    return DataLoader(dataset, batch_size=size, shuffle=train, num_workers=num_workers)


def make_dataset(
    root: Path, *, first: int = 0, limit: int | None = None, train: bool = True
) -> FashionMNIST:
    """The samples `first` up to `limit` of the training or of the test set."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    dataset = FashionMNIST(str(root), train=train, transform=transform)
    # Cut inside: a Subset around it would cost a little on every sample.
    dataset.data, dataset.targets = dataset.data[first:limit], dataset.targets[first:limit]
    return dataset


@torch.inference_mode()
def evaluate(model: nn.Module, loader: DataLoader[Any]) -> tuple[float, float]:
    """Mean loss and accuracy, as people write it."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for inputs, targets in loader:
        outputs = model(inputs)
        loss += nn.functional.cross_entropy(outputs, targets, reduction="sum").item()
        correct += int((outputs.argmax(1) == targets).sum().item())
        count += len(targets)
    return loss / count, correct / count


def test_accuracy(model: nn.Module, root: Path) -> float:
    """Accuracy on the test set, outside of any timing."""
    return evaluate(model, make_loader(root, num_workers=0, train=False))[1]
