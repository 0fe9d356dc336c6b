"""What a training run is made of, built from a config before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.checkpoint.store import Stateful
from trainer.commands.build import (
    build_data,
    build_loss,
    build_model,
    evaluate_split,
    options,
    prepare_device,
)
from trainer.config import FitConfig
from trainer.config.compatibility import monitored_metric
from trainer.data.image_sets.download import Report
from trainer.data.load import Data
from trainer.device import Machine, RandomState, autocast_dtype, seed_everything
from trainer.engine.evaluate import Evaluation
from trainer.engine.fit import Limits
from trainer.engine.loop_state import Standing
from trainer.engine.progress import Monitor, Progress
from trainer.engine.step import Step
from trainer.errors import EnvironmentFault
from trainer.optim import OptimizerState, make_optimizer
from trainer.schedule import Schedule
from trainer.tracking.observer import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything a run trains with. `evaluated` holds the weights that count: the moving average
    where there is one.

    `table` is the state that a checkpoint keeps beside those weights.
    """

    config: FitConfig
    device: torch.device
    data: Data
    model: nn.Module
    evaluated: nn.Module
    step: Step
    schedule: Schedule
    progress: Progress
    monitor: Monitor
    limits: Limits
    standing: Standing
    machine: Machine
    table: dict[str, Stateful]

    def evaluate(
        self, split: str, *, should_stop: Callable[[], bool], watch: Watch | None
    ) -> Evaluation:
        """Evaluate the weights that count on `val` or `test`; raises EvaluationStopped when asked to stop."""
        return evaluate_split(
            self.config,
            self.evaluated,
            self.data,
            split,
            device=self.device,
            should_stop=should_stop,
            watch=watch,
        )


def build_parts(
    config: FitConfig,
    report: Report,
    *,
    check: Callable[[FitConfig, Data], None] = lambda *_: None,
    judge: Callable[[float], bool] = lambda value: False,
) -> Parts:
    """Build all of it; raises what is wrong with the config, the data or the machine.

    `check` is asked before memory is taken for the model: the sizes in it may be a stranger's.
    `judge` is for the monitor.
    """
    trainer = config.trainer
    device = prepare_device(config)
    if trainer.precision == "fp16" and device.type == "cpu":
        raise EnvironmentFault(
            "trainer.precision=fp16 needs a GPU, and there is none.",
            hint="Use trainer.precision=bf16 or fp32.",
        )
    data = build_data(config, device=device, report=report)
    check(config, data)
    seed_everything(config.seed)
    model = build_model(config, input_shape=data.input_shape, num_outputs=data.num_outputs).to(
        device
    )
    average = None
    if trainer.ema is not None:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(trainer.ema))  # type: ignore[no-untyped-call]
    scaler = torch.amp.GradScaler(device.type) if trainer.precision == "fp16" else None
    optimizer = make_optimizer(model, **options(config.optimizer))
    limits = Limits(
        epochs=trainer.epochs, max_steps=trainer.max_steps, accumulate=trainer.accumulate
    )
    monitor = Monitor(monitored_metric(config), patience=trainer.patience, judge=judge)
    progress, standing, machine = Progress(), Standing(), Machine(device, threads=trainer.threads)
    num_steps = limits.num_updates(data.train.num_batches)
    schedule = Schedule(
        optimizer, **options(config.scheduler), num_steps=num_steps, maximize=monitor.maximize
    )
    step = Step(
        model,
        build_loss(config),
        optimizer=optimizer,
        device=device,
        counts_correct=data.classes is not None,
        autocast=autocast_dtype(trainer.precision),
        scaler=scaler,
        accumulate=trainer.accumulate,
        clip_norm=trainer.clip_norm,
        l1=trainer.l1,
        ema=average,
    )
    table: dict[str, Stateful] = {
        "optimizer": OptimizerState(optimizer),
        "schedule": schedule,
        "progress": progress,
        "monitor": monitor,
        "unread_sums": step,
        "journal": standing,
        "random": RandomState(),
        "machine": machine,
    }
    if scaler is not None:
        table["scaler"] = scaler
    if average is not None:
        # The moving average goes to model.safetensors, so the weights in training need a place of
        # their own.
        table |= {"model": model, "ema": average}
    return Parts(
        config=config,
        device=device,
        data=data,
        model=model,
        evaluated=model if average is None else average.module,
        step=step,
        schedule=schedule,
        progress=progress,
        monitor=monitor,
        limits=limits,
        standing=standing,
        machine=machine,
        table=table,
    )
