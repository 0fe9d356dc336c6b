"""Evaluation of the 10,000 test images: trainer's own, or the usual loop over a DataLoader."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
import yaml
from torch import nn

from benchmarks.contenders.images import evaluate as evaluate_plainly
from benchmarks.contenders.images import make_loader
from benchmarks.contenders.models import make_model, prepare
from benchmarks.contenders.setting import parse_arguments, print_result
from trainer.cli.configs import configs_folder
from trainer.config.data import ImagesConfig
from trainer.data.image_sets.download import QuietReport
from trainer.data.load import load_data
from trainer.engine.evaluate import evaluate
from trainer.losses import make_loss
from trainer.models import make_model as trainer_model

REPEATS = 3


def main() -> None:
    """Evaluate one untrained model several times; the variant is `trainer`, or the loop's number
    of workers.
    """
    arguments = parse_arguments()
    prepare(arguments)
    run = (
        _trainer(arguments)
        if arguments.variant == "trainer"
        else _loop(make_model(arguments.model), arguments)
    )
    run()  # once to warm up
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        loss = run()
        seconds.append(time.perf_counter() - start)
    print_result(
        {"seconds": min(seconds), "samples_per_second": 10_000 / min(seconds), "loss": loss}
    )


def _trainer(arguments: argparse.Namespace) -> Callable[[], float]:
    """What `trainer eval` does with the shipped values: its model in its layout, its batch size."""
    device = torch.device("cpu")
    shipped = [_shipped(f"model/{arguments.model}"), _shipped("data/fashion_mnist")]
    model = trainer_model(**shipped[0], input_shape=(1, 28, 28), num_outputs=10).to(
        memory_format=torch.channels_last
    )
    sizes = {"batch_size": 64, "val_size": 0}
    config = ImagesConfig(**{**shipped[1], **sizes, "root": str(arguments.data_root)})
    data = load_data(config, seed=arguments.seed, device=device, report=QuietReport())
    assert data.test is not None
    test, loss = data.test, make_loss("cross_entropy", label_smoothing=0.0)
    return lambda: evaluate(model, test, loss, device=device, num_classes=10).loss


def _shipped(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(
        (configs_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return content


def _loop(model: nn.Module, arguments: argparse.Namespace) -> Callable[[], float]:
    loader = make_loader(arguments.data_root, num_workers=int(arguments.variant), train=False)
    return lambda: evaluate_plainly(model, loader)[0]


if __name__ == "__main__":
    main()
