"""Numbers that are not finite: training stops before the update, and the last checkpoint is a good
one.

Group H of the plan of faults.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from comparing import OWN_DATA, STREAMED
from running import PLAIN, Fit, Outcome, Run
from torch import Tensor, nn

from trainer.commands import build
from trainer.engine.step import Precision, Step
from trainer.losses import make_loss

# 9 updates an epoch; the norm of the gradient is measured every 4.
BASE = (
    *PLAIN,
    "trainer.epochs=3",
    "trainer.eval_every=3epoch",
    "trainer.save_every=5steps",
    "optimizer.lr=0.1",
    "scheduler=constant",
    "run.dir=run",
)


def nan(loss: Tensor, outputs: Tensor) -> Tensor:
    return loss * torch.nan


def steep(loss: Tensor, outputs: Tensor) -> Tensor:
    """The same value: the root of 0 is 0, and its slope there is infinite."""
    return loss + (outputs - outputs.detach()).sum().sqrt()


def spoil(how: Any, *, call: int, training: bool = True) -> None:
    """Spoil the loss of the `call`-th batch that is trained on, or of all that are evaluated
    from there on.
    """
    calls = 0

    def make(**options: Any) -> Any:
        loss = make_loss(**options)

        def spoiled(outputs: Tensor, targets: Tensor) -> Tensor:
            nonlocal calls
            value = loss(outputs, targets)
            if torch.is_grad_enabled() != training:
                return value
            calls += 1
            return (
                how(value, outputs) if calls == call or (calls > call and not training) else value
            )

        return spoiled

    build.make_loss = make  # type: ignore[assignment, attr-defined]


def at_batch(how: Any, call: int) -> Any:
    return functools.partial(spoil, how, call=call)


SMALLER_RATE = "Try a smaller optimizer.lr, trainer.clip_norm=1 or scheduler.warmup_steps=100."


def assert_failed(
    outcome: Outcome, said: str, *, last: str, cwd: Path, advice: str = SMALLER_RATE
) -> None:
    """It said so, its last checkpoint is a good one, and from there it goes on with a smaller
    learning rate.
    """
    run = Run(cwd / "run")
    assert outcome.code == 1
    *warnings, what, where, hint = outcome.err.splitlines()
    assert all(line.startswith("Warning: ") for line in warnings)
    assert what == f"Error: {said}"
    assert where.startswith("Last good checkpoint: ") and where.endswith(f"run/checkpoints/{last}.")
    assert hint == advice
    assert run.record["status"] == "failed" and run.record["error"] == said
    assert run.steps[-1] == last == (run.folder / "checkpoints/last").resolve().name
    assert all(tensor.isfinite().all() for tensor in run.weights().values())


def assert_goes_on(*words: str, cwd: Path) -> None:
    outcome = processes.run("fit", "resume=run", "optimizer.lr=0.01", *words, cwd=cwd)
    assert outcome.code == 0, outcome.err
    assert Run(cwd / "run").record["status"] == "done"


@pytest.mark.fault("H")
@pytest.mark.parametrize(
    ("how", "call", "said"),
    [
        pytest.param(nan, 17, "Loss became nan at step 17 (learning rate 0.1).", id="loss"),
        pytest.param(
            steep, 16, "Gradient norm became nan at step 16 (learning rate 0.1).", id="gradient"
        ),
        pytest.param(
            nan, 20, "Loss became nan at step 20 (learning rate 0.1).", id="loss at a save"
        ),
    ],
)
def test_stops_before_the_update(tmp_path: Path, how: Any, call: int, said: str) -> None:
    outcome = processes.run("fit", *BASE, cwd=tmp_path, prepare=at_batch(how, call))
    assert_failed(outcome, said, last="step-000015", cwd=tmp_path)
    assert_goes_on(cwd=tmp_path)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (17, "Loss became nan at step 18 (learning rate 0.1)."),
        (20, "A weight became nan at step 20 (learning rate 0.1)."),
    ],
)
def test_a_gradient_that_nobody_measured_spoils_no_checkpoint(
    tmp_path: Path, call: int, said: str
) -> None:
    words = (*BASE, "logger.log_every=7")
    outcome = processes.run("fit", *words, cwd=tmp_path, prepare=at_batch(steep, call))
    assert_failed(outcome, said, last="step-000015", cwd=tmp_path)


@pytest.mark.fault("H")
def test_a_sample_that_is_not_a_number(tmp_path: Path) -> None:
    own, words = (
        tmp_path / "own_data.py",
        ("trainer.save_every=1steps", "scheduler=constant", "optimizer.lr=0.1", "run.dir=run"),
    )
    # Of the 90 training samples only: it is not among those by which a resume knows the data.
    spoiled = "torch.eye(3)[label] / (index != 37 or self.size < 90)"
    own.write_text(OWN_DATA.replace("torch.eye(3)[label]", spoiled))
    outcome = processes.run("fit", *STREAMED, *words, cwd=tmp_path)
    (step,) = map(int, re.findall(r"Loss became nan at step (\d+) ", outcome.err))
    assert 1 < step <= 9, "in the first epoch, and not at once"
    said = f"Loss became nan at step {step} (learning rate 0.1)."
    advice = (
        "In the training set the input of sample 37 has a value that is not finite: correct it or "
        "leave the sample out."
    )
    assert_failed(outcome, said, last=f"step-{step - 1:06d}", cwd=tmp_path, advice=advice)
    own.write_text(OWN_DATA)
    assert_goes_on("data=custom", "data.target=own_data.Noisy", cwd=tmp_path)


@pytest.mark.fault("H")
def test_a_validation_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    """Training continues, since its own loss is sound. Each validation has three batches."""
    words = (*BASE, "trainer.eval_every=1epoch", "trainer.monitor=val/loss")
    prepare = functools.partial(spoil, nan, call=4, training=False)
    outcome = processes.run("fit", *words, cwd=tmp_path, prepare=prepare)
    run = Run(tmp_path / "run")
    assert outcome.code == 0, outcome.err
    (warning,) = outcome.err.splitlines()
    assert warning.startswith("Warning: val/loss is nan at step 18: look for "), (
        "once, though step 27 has one too"
    )
    losses = [row["loss"] for row in run.split("val")]
    assert losses[0] is not None and losses[1:] == [None, None]
    assert (run.folder / "checkpoints/best").resolve().name == "step-000009"
    assert run.record["metrics"]["val/loss"] == losses[0]


@pytest.mark.fault("H")
def test_too_large_a_learning_rate(tmp_path: Path) -> None:
    """The first epoch is sound; then the person goes on with 1e30."""
    words = (*PLAIN, "trainer.epochs=1", "scheduler=constant", "run.dir=run")
    assert processes.run("fit", *words, cwd=tmp_path).code == 0
    outcome = processes.run(
        "fit", "resume=run", "trainer.epochs=3", "optimizer.lr=1e30", cwd=tmp_path
    )
    (step,) = Run(tmp_path / "run").steps
    said = f"Loss became nan at step {int(step[5:]) + 2} (learning rate 1e+30)."
    assert_failed(outcome, said, last=step, cwd=tmp_path)
    assert_goes_on("trainer.epochs=3", cwd=tmp_path)


@pytest.mark.fault("H")
def test_an_overflow_under_the_loss_scaler_is_not_an_error() -> None:
    """The update is left out, and the scale lowered, until the gradients are finite."""
    net, device = nn.Linear(4, 3), torch.device("cpu")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = make_loss("cross_entropy", label_smoothing=0.0)
    step = Step(
        net,
        loss,
        optimizer=optimizer,
        device=device,
        counts_correct=True,
        precision=Precision(scaler=scaler),
    )
    before = net.weight.detach().clone()
    for number in range(10):
        step(100 * torch.ones(6, 4), torch.arange(6) % 3, is_update=True, measure_norm=True)
        assert step.has_finite_weights()
        if number == 0:
            assert torch.equal(net.weight, before)
    assert not torch.equal(net.weight, before) and scaler.get_scale() < 2.0**127


@pytest.mark.gpu
def test_an_overflow_in_half_precision_is_not_an_error(fit: Fit) -> None:
    run = fit("trainer.device=cuda", "trainer.precision=fp16", "optimizer.lr=0.01")
    assert run.record["status"] == "done"
