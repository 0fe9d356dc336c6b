"""A sweep as people write it with Hydra alone: its sweeper, its basic launcher, the plain
DataLoader loop as the job.

The basic launcher runs the jobs one after the other in this process, so torch is loaded once.
"""

from __future__ import annotations

import time
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.contenders.images import evaluate, make_dataset, make_loader
from benchmarks.contenders.models import make_model, make_optimizer
from benchmarks.contenders.setting import EVAL_BATCH_SIZE, NUM_TRAIN, READ_EVERY, print_result


@hydra.main(version_base="1.3", config_path=".", config_name="hydra_sweep")
def main(config: DictConfig) -> None:
    """Train one epoch, validate, test; the threads are as torch chooses. A JSON line a job."""
    start = time.perf_counter()
    torch.manual_seed(config.seed)
    model = make_model(config.model)
    optimizer = make_optimizer(model, lr=config.lr)
    criterion, root = nn.CrossEntropyLoss(), Path(config.data_root)
    loader = make_loader(root, num_workers=config.workers, limit=config.limit)
    held_out = make_dataset(root, first=NUM_TRAIN - config.val_size)
    began = time.perf_counter()
    model.train()
    for number, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if number % READ_EVERY == 0:
            loss.item()
    trained = time.perf_counter()
    _, val_accuracy = evaluate(model, DataLoader(held_out, batch_size=EVAL_BATCH_SIZE))
    _, test_accuracy = evaluate(model, make_loader(root, num_workers=0, train=False))
    print_result(
        {
            "lr": config.lr,
            "seed": config.seed,
            "val_accuracy": val_accuracy,
            "test_accuracy": test_accuracy,
            "training_seconds": trained - began,
            "seconds": time.perf_counter() - start,
        }
    )


if __name__ == "__main__":
    main()
