"""Linear regression of five points, 1,000 updates, as people write it: a DataLoader of one batch
and the plain loop.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contenders.setting import print_result


def main() -> None:
    """Fit y = 2 x + 1 and print the last loss."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    inputs = torch.arange(1.0, 6.0).unsqueeze(1)
    loader = DataLoader(TensorDataset(inputs, 2 * inputs + 1), batch_size=5, shuffle=True)
    model, criterion = nn.Linear(1, 1), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(1000):
        for batch, targets in loader:
            optimizer.zero_grad()
            loss = criterion(model(batch), targets)
            loss.backward()
            optimizer.step()
    print_result({"loss": loss.item()})


if __name__ == "__main__":
    main()
