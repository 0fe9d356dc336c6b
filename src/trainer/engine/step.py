"""One training step: everything that changes the maths of an update is an argument here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trainer.device import sum_dtype
from trainer.engine.outputs import OutputCheck
from trainer.losses import Loss, l1_norm
from trainer.optim import unwrapped_step
from trainer.state_checks import NUMBER, Count, StateDict, check
from trainer.tracking.observer import Update

# How the model is run: as it is, or compiled.
Forward = Callable[[Tensor], Tensor]
# Batches whose correct predictions are counted together. Their outputs stay in memory until then.
_UNREAD = 16


class NonFiniteError(Exception):
    """The loss (or the norm of the gradient) is not finite; the update was not made.

    `step` is the update after which that was found; None when it was found before the next one.
    """

    def __init__(self, what: str, value: float, *, step: int | None = None) -> None:
        super().__init__(what, value)
        self.what = what
        self.value = value
        self.step = step


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOptions:
    """Batches per update, the bound of the gradient's norm, and the weight of the L1 penalty."""

    accumulate: int = 1
    clip_norm: float | None = None
    l1: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The number format of the forward pass, and the loss scaler that half precision needs."""

    autocast: torch.dtype | None = None
    scaler: torch.amp.GradScaler | None = None


class Step:
    """Forward, backward and, when the accumulation window is full, the update.

        loss = loss(model(inputs), targets) + l1 * |parameters|
        gradient += d loss / d parameters, weighted by samples
        if the window is full: unscale, clip, update, zero, moving average

    Sums for the metrics stay on the device until `read_sums`. On a CPU the loss is checked before
    every update; on a GPU that would cost a sync a step, so a flag is kept there and read once a
    window and before every save.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        counts_correct: bool,
        options: UpdateOptions = UpdateOptions(),
        precision: Precision = Precision(),
        ema: AveragedModel | None = None,
    ) -> None:
        self.counts_correct = counts_correct
        self._check = OutputCheck("In training", is_training=True)
        self._model = model
        self._loss = loss
        self._optimizer = optimizer
        self._device = device
        self._accumulates = options.accumulate > 1
        self._clip_norm = options.clip_norm
        self._l1 = options.l1
        self._autocast = precision.autocast
        self._scaler = precision.scaler
        self._ema = ema
        self._run: Forward = model
        # A frozen parameter has no gradient to clip or to keep, and its value stays finite.
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names = list(trained)
        self._parameters = list(trained.values())
        self._unwrapped_step = unwrapped_step(optimizer)
        self._needs_closure = isinstance(optimizer, torch.optim.LBFGS)
        self._window_samples = 0
        self._grad_norm: Tensor | None = None
        self._kept: Update | None = None
        self._is_finite = torch.ones((), dtype=torch.bool, device=device)
        self._reset_sums()

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        is_update: bool,
        measure_norm: bool = False,
        keep_update: bool = False,
    ) -> None:
        """Train on a batch; with `is_update` the window is full and the optimizer steps.

        With `measure_norm` the gradient's norm is measured, with `keep_update` `pop_update` returns
        what the update did. Raises NonFiniteError before the update, and ConfigError when the
        outputs do not fit the targets.
        """
        kept = (inputs, targets) if keep_update and is_update else None
        if self._needs_closure:
            self._step_with_closure(inputs, targets, keep_update=kept is not None)
            return
        outputs, loss = self._forward(inputs, targets)
        self._record(outputs, loss, targets)
        total = self._penalized(loss)
        if self._accumulates:
            # Summed over samples here and divided by their number at the update, so that uneven
            # batches weigh right.
            total = total * len(targets)
        if self._scaler is not None:
            total = self._scaler.scale(total)
        total.backward()  # type: ignore[no-untyped-call]
        self._window_samples += len(targets)
        if is_update:
            self._update(measure_norm=measure_norm, kept=kept)

    def expect_outputs(self, num_outputs: int) -> None:
        """Refuse outputs with another number of values a sample from now on."""
        self._check.num_outputs = num_outputs

    def set_forward(self, forward: Forward) -> None:
        """Run the model in another, equivalent way from now on."""
        self._run = forward

    def time_pass(self, forward: Forward, inputs: Tensor, targets: Tensor) -> None:
        """One forward and backward pass by `forward`, to be timed.

        Nothing is recorded; the gradients stay.
        """
        before = self._run
        self._run = forward
        try:
            _, loss = self._forward(inputs, targets)
            loss.backward()  # type: ignore[no-untyped-call]
        finally:
            self._run = before

    def read_sums(self) -> tuple[float, float, int]:
        """Sums of loss and correct predictions, and samples, since the last call; a sync."""
        self._count_correct()
        sums = float(self._loss_sum), float(self._correct), self._samples
        self._reset_sums()
        return sums

    def read_grad_norm(self) -> float | None:
        """The norm of the last update's gradient before clipping; None when it was not measured."""
        return None if self._grad_norm is None else float(self._grad_norm)

    def pop_update(self) -> Update | None:
        """The last kept update, once; None when there is none."""
        update, self._kept = self._kept, None
        return update

    @property
    def is_finite(self) -> bool:
        """Whether every loss so far was finite; waits for the device."""
        return bool(self._is_finite)

    def has_finite_weights(self) -> bool:
        """Whether the last update left every trained weight finite; waits for the device."""
        # One norm each, and one wait: a NaN or an infinity in a tensor makes its norm one.
        norms = torch._foreach_norm([parameter.detach() for parameter in self._parameters])
        return bool(torch.stack(list(norms)).isfinite().all())

    def unfrozen(self) -> list[str]:
        """The parameters that the model has unfrozen since: the optimizer does not have them."""
        return [
            name
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad and name not in self._names
        ]

    def state_dict(self) -> StateDict:
        """The metric sums that were not read yet."""
        self._count_correct()
        return {
            "loss": float(self._loss_sum),
            "correct": int(self._correct),
            "samples": self._samples,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore what `state_dict` returned; raises ValueError for anything else."""
        check(state, loss=NUMBER, correct=Count, samples=Count)
        self._reset_sums()
        self._loss_sum += state["loss"]
        self._correct += state["correct"]
        self._samples = state["samples"]

    def _reset_sums(self) -> None:
        # On a CPU the loss is read at every step anyway, so it is added up on the host.
        self._loss_sum: float | Tensor = 0.0
        if self._device.type != "cpu":
            self._loss_sum = torch.zeros((), dtype=sum_dtype(self._device), device=self._device)
        self._correct = torch.zeros((), dtype=torch.int64, device=self._device)
        self._unread: list[tuple[Tensor, Tensor]] = []
        self._samples = 0

    def _forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if self._autocast is None:
            outputs = self._run(inputs)
            self._check(outputs, targets)
            return outputs, self._loss(outputs, targets)
        # The forward pass only: backward takes the types of its forward operations.
        with torch.autocast(self._device.type, dtype=self._autocast):
            outputs = self._run(inputs)
        self._check(outputs, targets)
        # The loss in full precision: its sums overflow or lose digits in half.
        outputs = outputs.float()
        return outputs, self._loss(outputs, targets)

    def _penalized(self, loss: Tensor) -> Tensor:
        return loss + self._l1 * l1_norm(self._parameters) if self._l1 else loss

    @torch.no_grad()
    def _record(self, outputs: Tensor, loss: Tensor, targets: Tensor) -> None:
        """Check the loss and add to the sums."""
        num = len(targets)
        if self._device.type == "cpu":
            value = loss.item()
            if not math.isfinite(value):
                raise NonFiniteError("Loss", value)
            self._loss_sum += value * num
        else:
            self._is_finite &= torch.isfinite(loss)
            self._loss_sum += loss.to(sum_dtype(self._device)) * num
        if self.counts_correct:
            self._unread.append((outputs.detach(), targets))
            if len(self._unread) == _UNREAD:
                self._count_correct()
        self._samples += num

    def _count_correct(self) -> None:
        """Count the correct predictions of several batches: it saves 4 operations a step."""
        if self._unread:
            outputs, targets = (torch.cat(tensors) for tensors in zip(*self._unread, strict=True))
            self._correct += (outputs.argmax(1) == targets).sum()
            self._unread.clear()

    def _update(self, *, measure_norm: bool, kept: tuple[Tensor, Tensor] | None) -> None:
        scaler = self._scaler
        needs_norm = measure_norm or self._clip_norm is not None
        if scaler is not None and (needs_norm or kept is not None or self._accumulates):
            scaler.unscale_(self._optimizer)
        gradients = self._gradients()
        if self._accumulates:
            torch._foreach_div_(gradients, self._window_samples)
        if kept is not None:
            self._keep(*kept)
        self._grad_norm = self._clip(gradients) if needs_norm else None
        if scaler is None:
            # What torch wraps around the step would do it.
            with torch.no_grad():
                self._unwrapped_step()
        else:
            scaler.step(self._optimizer)
            scaler.update()
        self._end_window()

    def _gradients(self) -> list[Tensor]:
        for parameter in self._parameters:
            # Of a sparse gradient a row may come several times: its norm counts their sum.
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _clip(self, gradients: list[Tensor]) -> Tensor:
        """Scale the gradients down to `clip_norm`, if any; returns their norm before that."""
        norm = nn.utils.get_total_norm(gradients)
        # Overflow under the loss scaler is not an error: the scaler skips the update and lowers its
        # scale.
        if self._scaler is None and self._device.type == "cpu":
            value = norm.item()
            if not math.isfinite(value):
                raise NonFiniteError("Gradient norm", value)
        if self._clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
        return norm

    @torch.no_grad()
    def _keep(self, inputs: Tensor, targets: Tensor) -> None:
        """Keep the batch, the gradients and the weights that the coming update starts from."""
        named = zip(self._names, self._parameters, strict=True)
        trained = {name: p for name, p in named if p.grad is not None}
        gradients = {name: p.grad for name, p in trained.items() if p.grad is not None}
        if self._clip_norm is not None:
            # Only clipping changes gradients in place.
            gradients = {name: gradient.clone() for name, gradient in gradients.items()}
        # Only a sparse one is copied.
        gradients = {name: gradient.to_dense() for name, gradient in gradients.items()}
        self._kept = Update(
            inputs=inputs,
            targets=targets,
            gradients=gradients,
            before={name: p.detach().clone() for name, p in trained.items()},
            loss_scale=None if self._scaler is None else self._scaler.get_scale(),
        )

    def _end_window(self) -> None:
        # None, not zeros: the next backward then writes the gradients instead of adding to them.
        for parameter in self._parameters:
            parameter.grad = None
        self._window_samples = 0
        if self._ema is not None:
            self._ema.update_parameters(self._model)

    def _step_with_closure(self, inputs: Tensor, targets: Tensor, *, keep_update: bool) -> None:
        """L-BFGS evaluates the loss as often as it likes; only the first evaluation is recorded."""
        is_first = True

        def closure() -> Tensor:
            nonlocal is_first
            self._optimizer.zero_grad(set_to_none=True)
            outputs, loss = self._forward(inputs, targets)
            if is_first:
                self._record(outputs, loss, targets)
            total = self._penalized(loss)
            total.backward()  # type: ignore[no-untyped-call]
            if is_first and keep_update:
                self._keep(inputs, targets)
            norm = nn.utils.get_total_norm(self._gradients())
            if self._clip_norm is not None:
                nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
            if is_first:
                self._grad_norm = norm
            is_first = False
            return total

        with torch.no_grad():  # L-BFGS itself allows gradients around the closure
            self._unwrapped_step(closure)
        self._end_window()
