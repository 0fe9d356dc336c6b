"""The eager limit: the plain step on one resident batch, over and over, with nothing to fetch
and nothing to log.
"""

from __future__ import annotations

from torch import nn

from benchmarks.contenders.images import make_loader
from benchmarks.contenders.models import count_parameters, make_model, make_optimizer, prepare
from benchmarks.contenders.setting import BATCH_SIZE, Clock, parse_arguments, print_result


def main() -> None:
    """Take as many steps as an epoch has; the variant `fused` is torch's one-pass optimizer."""
    arguments = parse_arguments()
    prepare(arguments)
    model = make_model(arguments.model)
    # The same work without learning: one batch seen for ever is learned until gradients are
    # denormal, and slow.
    optimizer = make_optimizer(model, lr=0.0, fused=True if arguments.variant == "fused" else None)
    criterion, clock = nn.CrossEntropyLoss(), Clock()
    inputs, targets = next(
        iter(make_loader(arguments.data_root, num_workers=0, limit=arguments.limit))
    )
    model.train()
    for _ in range(arguments.limit // BATCH_SIZE):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        clock.count(loss.detach(), len(targets))
    clock.stop()
    print_result(clock.result(num_parameters=count_parameters(model)))


if __name__ == "__main__":
    main()
