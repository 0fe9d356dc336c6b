"""Lightning with all that costs time switched off: no logger, no progress bar, no checkpoints,
no summary.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import Any

from torch import Tensor, nn

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
    """Train one epoch; the variant is the number of workers. Without Lightning it prints that."""
    arguments = parse_arguments()
    try:
        pl = importlib.import_module("lightning.pytorch")
    except ImportError as error:
        print_result({"absent": str(error)})
        return
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    prepare(arguments)
    model, clock = make_model(arguments.model), Clock()
    loader = make_loader(
        arguments.data_root, num_workers=int(arguments.variant), limit=arguments.limit
    )
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(_make_module(pl, model, lr=learning_rate(arguments.model), clock=clock), loader)
    print_result(
        {
            **clock.result(num_parameters=count_parameters(model)),
            "test_accuracy": test_accuracy(model, arguments.data_root),
        }
    )


def _make_module(pl: Any, model: nn.Module, *, lr: float, clock: Clock) -> Any:
    """The model as a LightningModule: the step of `dataloader`, in Lightning's words."""

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.criterion = model, nn.CrossEntropyLoss()

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            inputs, targets = batch
            loss: Tensor = self.criterion(self.model(inputs), targets)
            if number % READ_EVERY == 0:
                loss.item()
            return loss

        def configure_optimizers(self) -> Any:
            return make_optimizer(self.model, lr=lr)

        def on_train_batch_end(
            self, outputs: Any, batch: tuple[Tensor, Tensor], number: int
        ) -> None:
            clock.count(outputs["loss"].detach(), len(batch[1]))

        def on_train_epoch_end(self) -> None:
            clock.stop()

    return Module()


if __name__ == "__main__":
    main()
