"""What a training run is made of, built from a config before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from trainer.checkpoint.modules import ModuleState
from trainer.checkpoint.store import Stateful
from trainer.commands.build import (
    build_data,
    build_loss,
    evaluate_split,
    options,
    prepare_device,
    prepare_model,
    user_code_errors,
)
from trainer.commands.fit.own_model import make_average, report_modules
from trainer.config import FitConfig, is_custom
from trainer.config.compatibility import monitored_metric
from trainer.config.model import CustomModelConfig
from trainer.data.image_sets.download import Report
from trainer.data.load import Data
from trainer.device import Machine, RandomState, autocast_dtype, seed_everything
from trainer.engine.evaluate import Evaluation
from trainer.engine.loop_state import LoopState, TrainState
from trainer.engine.progress import Limits, Monitor, Progress
from trainer.engine.step import Precision, Step, UpdateOptions
from trainer.engine.trial import training_pass
from trainer.errors import EnvironmentFault
from trainer.optim import OptimizerState, make_optimizer
from trainer.schedule import Schedule
from trainer.tracking.observer import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Everything a run trains with.

    `evaluated` is the model with the weights that count: the moving average where there is one.
    `table` is the state that a checkpoint saves beside those weights.
    """

    config: FitConfig
    device: torch.device
    data: Data
    model: nn.Module
    evaluated: nn.Module
    state: TrainState
    machine: Machine
    table: dict[str, Stateful]

    def evaluate(
        self, split: str, *, should_stop: Callable[[], bool], watch: Watch | None
    ) -> Evaluation:
        """Evaluate the weights that count on `val` or `test`; raises EvaluationStopped."""
        return evaluate_split(
            self.config,
            self.evaluated,
            self.data,
            split,
            device=self.device,
            should_stop=should_stop,
            watch=watch,
        )

    @property
    def num_updates(self) -> int:
        """Updates of the whole run, those included that are done."""
        return self.state.limits.num_updates(self.data.train.num_batches, self.state.progress)

    def place_schedule(self) -> None:
        """Place the schedule where the share of the run is that its progress has done."""
        limits = self.state.limits
        done = self.state.progress
        num_batches = self.data.train.num_batches
        by = 0
        if not limits.is_ended_by_steps(done, num_batches):
            by = limits.place(done, num_batches) - done.step
        self.state.schedule.move(by=by, num_steps=by + self.num_updates)


def build_components(
    config: FitConfig,
    report: Report,
    *,
    check: Callable[[FitConfig, Data], None] = lambda *_: None,
    should_prune: Callable[[float], bool] | None = None,
) -> Components:
    """Build all of it; raises what is wrong with the config, the data or the machine.

    `check` is called before memory is taken for the model: a stranger's config may have any sizes.
    `should_prune` is for the monitor.
    """
    trainer = config.trainer
    device = prepare_device(config)
    _check_precision(config, device)
    data = build_data(config, device=device, report=report)
    check(config, data)
    model, average = _build_models(config, data, device=device, report=report)
    # bf16 has the range of fp32, so only the gradients of fp16 underflow.
    scaler = torch.amp.GradScaler(device.type) if trainer.precision == "fp16" else None
    optimizer = _build_optimizer(config, model, data)
    step = Step(
        model,
        build_loss(config),
        optimizer=optimizer,
        device=device,
        counts_correct=data.classes is not None,
        options=UpdateOptions(
            accumulate=trainer.accumulate, clip_norm=trainer.clip_norm, l1=trainer.l1
        ),
        precision=Precision(autocast=autocast_dtype(trainer.precision), scaler=scaler),
        ema=average,
    )
    step.expect_outputs(data.num_outputs)
    state = _build_state(config, data, step=step, optimizer=optimizer, should_prune=should_prune)
    # An entry of the table, because a resume sets the threads that the run had.
    machine = Machine(device, threads=trainer.threads)
    table = _state_table(state, optimizer=optimizer, machine=machine)
    if scaler is not None:
        table["scaler"] = scaler
    if average is not None:
        # model.safetensors has the moving average, so the weights in training need another place.
        table |= {"model": ModuleState(model), "ema": ModuleState(average)}
    return Components(
        config=config,
        device=device,
        data=data,
        model=model,
        evaluated=model if average is None else average.module,
        state=state,
        machine=machine,
        table=table,
    )


def _build_models(
    config: FitConfig, data: Data, *, device: torch.device, report: Report
) -> tuple[nn.Module, AveragedModel | None]:
    """The model in training, and the moving average of its weights, if any."""
    # After the data: whatever a person's data set draws, the first weights are the same.
    seed_everything(config.seed)
    # On its device before the optimizer, which keeps the parameters that it is given.
    model = prepare_model(config, data, device=device, report=report)
    if isinstance(config.model, CustomModelConfig):
        report_modules(config.model, model, report)
    if config.trainer.ema is None:
        return model, None
    return model, make_average(config, model, data, device=device)


def _build_optimizer(config: FitConfig, model: nn.Module, data: Data) -> torch.optim.Optimizer:
    has_sparse_gradients = False
    if is_custom(config.model):
        with user_code_errors(config):
            inputs = data.train.first(2)[0]
            has_sparse_gradients = training_pass(model, inputs).has_sparse_gradients
    return make_optimizer(
        model, has_sparse_gradients=has_sparse_gradients, **options(config.optimizer)
    )


def _check_precision(config: FitConfig, device: torch.device) -> None:
    if config.trainer.precision == "fp16" and device.type == "cpu":
        raise EnvironmentFault(
            "trainer.precision=fp16 needs a GPU, and there is none.",
            hint="Use trainer.precision=bf16 or fp32.",
        )


def _build_state(
    config: FitConfig,
    data: Data,
    *,
    step: Step,
    optimizer: torch.optim.Optimizer,
    should_prune: Callable[[float], bool] | None,
) -> TrainState:
    trainer = config.trainer
    limits = Limits(
        epochs=trainer.epochs, max_steps=trainer.max_steps, accumulate=trainer.accumulate
    )
    monitor = Monitor(
        monitored_metric(config), patience=trainer.patience, should_prune=should_prune
    )
    schedule = Schedule(
        optimizer,
        **options(config.scheduler),
        # Of the whole run: a schedule depends on where the run is to end.
        num_steps=limits.num_updates(data.train.num_batches),
        maximize=monitor.maximize,
    )
    return TrainState(
        step=step,
        schedule=schedule,
        progress=Progress(),
        monitor=monitor,
        limits=limits,
        loop_state=LoopState(),
    )


def _state_table(
    state: TrainState, *, optimizer: torch.optim.Optimizer, machine: Machine
) -> dict[str, Stateful]:
    """What a checkpoint saves beside the weights, by its name on the disk."""
    # The names stay when the code renames its own: a step with another set of names is refused,
    # and check-run reads `journal`.
    return {
        "optimizer": OptimizerState(optimizer),
        "schedule": state.schedule,
        "progress": state.progress,
        "monitor": state.monitor,
        "unread_sums": state.step,
        "journal": state.loop_state,
        "random": RandomState(),
        "machine": machine,
    }
