"""The plain loop with Accelerate around it, as its documentation adds it to a script: `prepare`
and `backward`.
"""

from __future__ import annotations

import importlib

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
    """Train one epoch; the variant is the number of workers. Without Accelerate it prints that."""
    arguments = parse_arguments()
    try:
        accelerate = importlib.import_module("accelerate")
    except ImportError as error:
        print_result({"absent": str(error)})
        return
    prepare(arguments)
    accelerator = accelerate.Accelerator(cpu=True)
    plain = make_model(arguments.model)
    loader = make_loader(
        arguments.data_root, num_workers=int(arguments.variant), limit=arguments.limit
    )
    model, optimizer, loader = accelerator.prepare(
        plain, make_optimizer(plain, lr=learning_rate(arguments.model)), loader
    )
    criterion, clock = nn.CrossEntropyLoss(), Clock()
    model.train()
    for number, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        accelerator.backward(loss)
        optimizer.step()
        if number % READ_EVERY == 0:
            loss.item()
        clock.count(loss.detach(), len(targets))
    clock.stop()
    result = clock.result(num_parameters=count_parameters(plain))
    print_result({**result, "test_accuracy": test_accuracy(plain, arguments.data_root)})


if __name__ == "__main__":
    main()
