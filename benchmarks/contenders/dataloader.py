"""The plain loop people write: torchvision's dataset, a DataLoader, forward, backward, step, a
look at the loss.
"""

from __future__ import annotations

from torch import nn

from benchmarks.contenders.images import make_loader, test_accuracy
from benchmarks.contenders.models import count_parameters, make_model, make_optimizer, prepare
from benchmarks.contenders.setting import (
    READ_EVERY,
    Clock,
    learning_rate,
    parse_arguments,
    print_result,
)


def main() -> None:
    """Train one epoch; the variant is the number of workers."""
    arguments = parse_arguments()
    prepare(arguments)
    model = make_model(arguments.model)
    optimizer = make_optimizer(model, lr=learning_rate(arguments.model))
    criterion, clock = nn.CrossEntropyLoss(), Clock()
    loader = make_loader(
        arguments.data_root, num_workers=int(arguments.variant), limit=arguments.limit
    )
    model.train()
    for number, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if number % READ_EVERY == 0:
            loss.item()
        clock.count(loss.detach(), len(targets))
    clock.stop()
    print_result(
        {
            **clock.result(num_parameters=count_parameters(model)),
            "test_accuracy": test_accuracy(model, arguments.data_root),
        }
    )


if __name__ == "__main__":
    main()
