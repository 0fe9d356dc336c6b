"""The loop's collaborators as small fakes: nothing is trained, and the calls are counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from trainer.config.checks import Cadence
from trainer.engine.evaluate import Evaluation, EvaluationStopped
from trainer.engine.fit import fit
from trainer.engine.loop_state import LoopState, TrainState
from trainer.engine.periodic import Cadences, Periodic
from trainer.engine.progress import CadenceTimer, Limits, Monitor, Progress, StopReason
from trainer.engine.step import NonFiniteError, Step
from trainer.errors import CustomCodeError
from trainer.run.record import RunStatus
from trainer.schedule import Schedule
from trainer.tracking.observer import Update, Watch
from trainer.tracking.records import EpochRecord, EvalRecord, Record, TrainRecord

BATCH_SIZE = 2
AN_UPDATE = cast(Update, object())
RISING = tuple(number / 100 for number in range(1, 100))


@dataclass
class FakeStep:
    """Notes the flags of each call; every sample has loss 1, every second prediction is correct."""

    counts_correct: bool = True
    is_finite: bool = True
    has_weights: bool = True
    nan_at_call: int = 0
    flags: list[tuple[bool, bool, bool]] = field(default_factory=list)
    samples: int = 0

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        is_update: bool,
        measure_norm: bool,
        keep_update: bool,
    ) -> None:
        assert len(inputs) == len(targets)
        self.flags.append((is_update, measure_norm, keep_update))
        if len(self.flags) == self.nan_at_call:
            raise NonFiniteError("Loss", math.nan)
        self.samples += len(targets)

    def read_sums(self) -> tuple[float, float, int]:
        num, self.samples = self.samples, 0
        return float(num), num / 2, num

    def read_grad_norm(self) -> float:
        return 1.0

    def pop_update(self) -> Update | None:
        is_kept = self.flags[-1][2]
        return AN_UPDATE if is_kept else None

    def has_finite_weights(self) -> bool:
        return self.has_weights


@dataclass
class FakeBatches:
    """`num_batches` of 2 samples an epoch; `epochs` lists the calls.

    A worker dies before batch `dies_at` of the first epoch, after a call of `before_dying`.
    """

    num_batches: int
    dies_at: int | None = None
    before_dying: Callable[[], None] = lambda: None
    epochs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def num_samples(self) -> int:
        return BATCH_SIZE * self.num_batches

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        self.epochs.append((epoch, start))
        for batch in range(start, self.num_batches):
            if self.dies_at == batch:
                self.before_dying()
                raise CustomCodeError("A worker died.")
            yield self.first(BATCH_SIZE)

    def first(self, num: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(num), torch.zeros(num)

    def sample_index(self, epoch: int, *, batch: int, place: int) -> int:
        return epoch * self.num_samples + batch * BATCH_SIZE + place


@dataclass
class FakeTracker:
    """Keeps the records; `calls` has everything in order."""

    calls: list[str] = field(default_factory=list)
    train_records: list[TrainRecord] = field(default_factory=list)
    eval_records: list[EvalRecord] = field(default_factory=list)
    epoch_records: list[EpochRecord] = field(default_factory=list)

    def record(self, record: Record) -> None:
        match record:
            case TrainRecord():
                self.calls.append(f"train {record.step}")
                self.train_records.append(record)
            case EvalRecord():
                self.calls.append(f"eval {record.step}")
                self.eval_records.append(record)
            case EpochRecord():
                self.calls.append(f"epoch {record.step}")
                self.epoch_records.append(record)

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self, _outcome: RunStatus, _metrics: Mapping[str, float | None] | None, /) -> None:
        raise AssertionError("the loop does not close a run")


@dataclass
class FakeStore:
    """Keeps what was saved, and the loop state as a checkpoint would have it."""

    state: TrainState
    calls: list[str]
    saved: list[int] = field(default_factory=list)
    best: list[int] = field(default_factory=list)
    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    num_checks: int = 0

    def save(
        self,
        step: int,
        *,
        progress: dict[str, int],
        metrics: Mapping[str, float | None],
        is_best: bool,
    ) -> None:
        assert progress["step"] == step
        self.calls.append(f"save {step}")
        self.saved.append(step)
        self.metrics[step] = dict(metrics)
        self.table = {
            "progress": self.state.progress.state_dict(),
            "monitor": self.state.monitor.state_dict(),
            "journal": self.state.loop_state.state_dict(),
        }
        if is_best:
            self.best.append(step)

    def raise_failure(self) -> None:
        self.num_checks += 1


@dataclass
class FakeObserver:
    """Wants every update whose step is in `wanted`."""

    wanted: tuple[int, ...]
    updates: list[int] = field(default_factory=list)

    def wants_update(self, step: int) -> bool:
        return step in self.wanted

    def update(self, step: int, update: Update) -> None:
        assert update is AN_UPDATE
        self.updates.append(step)

    def watch(self, split: str) -> Watch | None:
        assert split == "val"
        return None


class Training:
    """A run of fakes; its learning rate is the number of the update, its accuracies are given.

    `stop_at` is the step after which a stop signal has come, `stops_evaluation` the number of the
    evaluation that one interrupts, `save_requests` the steps at which a save was requested.
    """

    def __init__(
        self,
        *,
        num_batches: int = 5,
        epochs: int = 2,
        max_steps: int | None = None,
        accumulate: int = 1,
        log_every: int = 4,
        eval_every: str = "1epoch",
        save_every: str = "1epoch",
        accuracies: tuple[float, ...] = RISING,
        patience: int | None = None,
        should_prune: Callable[[float], bool] = lambda _: False,
        stop_at: int | None = None,
        stops_evaluation: int | None = None,
        save_requests: tuple[int, ...] = (),
        observer: FakeObserver | None = None,
        has_validation: bool = True,
    ) -> None:
        self.step = FakeStep()
        self.batches = FakeBatches(num_batches)
        self.tracker = FakeTracker()
        self.profiled: list[int] = []
        self.num_evaluations = 0
        self.stop_at = stop_at
        self._accuracies = accuracies
        self._stops_evaluation = stops_evaluation
        self._save_requests = list(save_requests)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1000.0)
        monitored = "val/accuracy" if has_validation else "train/loss"
        self.state = TrainState(
            step=cast(Step, self.step),
            # Warm-up alone: the rate of update n is n.
            schedule=Schedule(
                optimizer, "constant", num_steps=1000, warmup_steps=1000, maximize=True
            ),
            progress=Progress(),
            monitor=Monitor(monitored, patience=patience, should_prune=should_prune),
            limits=Limits(epochs=epochs, max_steps=max_steps, accumulate=accumulate),
            loop_state=LoopState(),
        )
        self.store = FakeStore(self.state, self.tracker.calls)
        self._has_validation = has_validation
        self._observer = observer
        self._cadences = Cadences(
            log_every=log_every,
            eval_every=CadenceTimer(Cadence.parse("eval_every", eval_every)),
            save_every=CadenceTimer(Cadence.parse("save_every", save_every)),
        )
        self.periodic = self.make_periodic()

    def make_periodic(self) -> Periodic:
        """Make what logs, evaluates and saves; its clock begins now."""
        return Periodic(
            self.state,
            validate=self._validate if self._has_validation else None,
            tracker=self.tracker,
            observer=self._observer,
            profile=self.profiled.append,
            store=self.store,
            should_save=self._pop_save_request,
            cadences=self._cadences,
        )

    def fit(self) -> StopReason:
        return fit(self.state, self.batches, periodic=self.periodic, should_stop=self._should_stop)

    def stop(self) -> None:
        """Send the stop signal now."""
        self.stop_at = 0

    def resume(self, table: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.state.progress.load_state_dict(table["progress"])
        self.state.monitor.load_state_dict(table["monitor"])
        self.state.loop_state.load_state_dict(table["journal"])

    def steps(self, kind: str) -> list[int]:
        """The steps of the `train`, `eval`, `epoch` and `save` calls."""
        calls = [call.split() for call in self.tracker.calls if " " in call]
        return [int(step) for name, step in calls if name == kind]

    def _should_stop(self) -> bool:
        return self.stop_at is not None and self.state.progress.step >= self.stop_at

    def _pop_save_request(self) -> bool:
        if self.state.progress.step not in self._save_requests:
            return False
        self._save_requests.remove(self.state.progress.step)
        return True

    def _validate(self, watch: Watch | None) -> Evaluation:
        assert watch is None
        self.num_evaluations += 1
        if self.num_evaluations == self._stops_evaluation:
            self.stop()
            raise EvaluationStopped
        accuracy = self._accuracies[self.num_evaluations - 1]
        return Evaluation(1 - accuracy, accuracy, count=10, by_class=None)
