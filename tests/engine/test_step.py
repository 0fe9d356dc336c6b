"""One training step: what each of its arguments does to the maths."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.engine.step import NonFiniteError, Precision, Step, UpdateOptions
from trainer.losses import cross_entropy, make_loss, mse

CPU = torch.device("cpu")


def make_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def make_batch(num: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 6, generator=generator), torch.randint(
        0, 3, (num,), generator=generator
    )


def make_step(
    net: nn.Module,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    autocast: torch.dtype | None = None,
    ema: AveragedModel | None = None,
    **options: Any,
) -> Step:
    return Step(
        net,
        make_loss("cross_entropy", label_smoothing=0.0),
        optimizer=optimizer or torch.optim.SGD(net.parameters(), lr=0.1),
        device=CPU,
        counts_correct=True,
        options=UpdateOptions(**options),
        precision=Precision(autocast=autocast),
        ema=ema,
    )


def values(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_a_plain_step_is_the_textbook_loop() -> None:
    net, twin = make_net(), make_net()
    inputs, targets = make_batch(8)
    make_step(net)(inputs, targets, is_update=True)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    nn.functional.cross_entropy(twin(inputs), targets).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert torch.equal(values(net), values(twin))


@pytest.mark.parametrize("parts", [(8,), (4, 4), (5, 3), (1, 2, 5)])
def test_accumulation_equals_one_large_batch_also_when_batches_are_uneven(
    parts: tuple[int, ...],
) -> None:
    net, twin = make_net(), make_net()
    inputs, targets = make_batch(8)
    step = make_step(net, accumulate=len(parts) + 1)
    pieces = list(
        zip(torch.split(inputs, list(parts)), torch.split(targets, list(parts)), strict=True)
    )
    for number, piece in enumerate(pieces, 1):
        step(*piece, is_update=number == len(pieces))
    make_step(twin)(inputs, targets, is_update=True)
    torch.testing.assert_close(values(net), values(twin), rtol=1e-6, atol=1e-7)


def test_no_update_before_the_window_is_full() -> None:
    net = make_net()
    before = values(net)
    step = make_step(net, accumulate=2)
    step(*make_batch(4), is_update=False)
    assert torch.equal(values(net), before)
    step(*make_batch(4), is_update=True)
    assert not torch.equal(values(net), before)


def test_clipping_bounds_the_update() -> None:
    net = make_net()
    before = values(net)
    step = make_step(net, clip_norm=0.01)
    step(*make_batch(8), is_update=True)
    assert (values(net) - before).norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)
    norm = step.read_grad_norm()
    assert norm is not None and norm > 0.01, "the norm is the one before clipping"


def test_the_norm_is_measured_only_when_asked() -> None:
    net, twin = make_net(), make_net()
    batch = make_batch(8)
    step = make_step(net)
    step(*batch, is_update=True, measure_norm=True)
    cross_entropy(twin(batch[0]), batch[1], label_smoothing=0.0).backward()  # type: ignore[no-untyped-call]
    expected = (
        torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None]).norm().item()
    )
    assert step.read_grad_norm() == pytest.approx(expected, rel=1e-5)
    step(*batch, is_update=True)
    assert step.read_grad_norm() is None


def test_l1_adds_the_sign_of_each_weight_to_its_gradient() -> None:
    net, twin = make_net(), make_net()
    batch = make_batch(8)
    make_step(net, l1=0.01)(*batch, is_update=True)
    make_step(twin)(*batch, is_update=True)
    torch.testing.assert_close(values(net), values(twin) - 0.1 * 0.01 * values(make_net()).sign())


def test_l1_is_not_part_of_the_recorded_loss() -> None:
    with_l1, without = make_step(make_net(), l1=10.0), make_step(make_net())
    for step in (with_l1, without):
        step(*make_batch(8), is_update=True)
    assert with_l1.read_sums() == without.read_sums()


def test_the_moving_average_follows_the_formula() -> None:
    net = make_net()
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]
    step = make_step(net, ema=average)
    expected = None
    for seed in range(4):
        step(*make_batch(8, seed), is_update=True)
        # The first update copies the weights; from then on average = 0.9 average + 0.1 weights.
        expected = values(net) if expected is None else 0.9 * expected + 0.1 * values(net)
    assert expected is not None
    torch.testing.assert_close(values(average.module), expected)


def test_sums_are_weighted_by_samples_and_start_anew_when_read() -> None:
    net = make_net()
    step = make_step(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.0))
    expected_loss, expected_correct = 0.0, 0
    for num, seed in ((8, 1), (3, 2)):
        inputs, targets = make_batch(num, seed)
        step(inputs, targets, is_update=True)
        with torch.no_grad():
            outputs = net(inputs)
        expected_loss += num * nn.functional.cross_entropy(outputs, targets).item()
        expected_correct += int((outputs.argmax(1) == targets).sum())
    loss, correct, samples = step.read_sums()
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert (correct, samples) == (expected_correct, 11)
    assert step.read_sums() == (0.0, 0.0, 0)


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    net = make_net()
    before = values(net)
    inputs, targets = make_batch(8)
    with pytest.raises(NonFiniteError) as caught:
        make_step(net)(inputs * float("inf"), targets, is_update=True)
    assert caught.value.what == "Loss"
    assert torch.equal(values(net), before)


def test_an_infinite_gradient_of_a_finite_loss_stops_before_the_update() -> None:
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, 1))

        def forward(self, inputs: Tensor) -> Tensor:
            return (self.weight.abs() + 0.0).sqrt() * inputs  # d sqrt(w) / dw is infinite at 0

    net = Steep()
    step = Step(
        net,
        mse,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        device=CPU,
        counts_correct=False,
        options=UpdateOptions(clip_norm=1.0),
    )
    with pytest.raises(NonFiniteError) as caught:
        step(torch.ones(2, 1), torch.ones(2, 1), is_update=True)
    assert caught.value.what == "Gradient norm"
    assert net.weight.item() == 0.0


def test_lbfgs_evaluates_several_times_and_records_once() -> None:
    net = make_net()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=10)
    step = make_step(net, optimizer=optimizer)
    batch = make_batch(16)
    losses = []
    for _ in range(5):
        step(*batch, is_update=True)
        loss, _, samples = step.read_sums()
        assert samples == 16
        losses.append(loss / samples)
    assert losses[-1] < 0.5 * losses[0]


def test_bf16_autocast_keeps_weights_in_fp32_and_comes_close() -> None:
    net, twin = make_net(), make_net()
    batch = make_batch(64)
    make_step(net, autocast=torch.bfloat16)(*batch, is_update=True)
    make_step(twin)(*batch, is_update=True)
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    torch.testing.assert_close(values(net), values(twin), rtol=0.05, atol=0.005)
    assert not torch.equal(values(net), values(twin))


def test_state_goes_on_with_unread_sums() -> None:
    net = make_net()
    step = make_step(net)
    step(*make_batch(8), is_update=True)
    other = make_step(copy.deepcopy(net))
    other.load_state_dict(step.state_dict())
    assert other.read_sums() == step.read_sums()


@pytest.mark.parametrize("clip_norm", [None, 0.01])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_kept_update_tells_what_was_before_it_and_changes_nothing(
    clip_norm: float | None, accumulate: int
) -> None:
    net, twin = make_net(), make_net()
    batches = [make_batch(8, seed) for seed in range(4)]
    keeping = make_step(net, clip_norm=clip_norm, accumulate=accumulate)
    plain = make_step(twin, clip_norm=clip_norm, accumulate=accumulate)
    for number, batch in enumerate(batches, 1):
        before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        updates = number % accumulate == 0
        keeping(*batch, is_update=updates, keep_update=True)
        plain(*batch, is_update=updates)
        update = keeping.pop_update()
        assert (update is not None) == updates and keeping.pop_update() is None
        if update is None:
            continue
        assert (
            update.inputs is batch[0] and update.targets is batch[1] and update.loss_scale is None
        )
        assert all(torch.equal(update.before[name], value) for name, value in before.items())
        norm = torch.cat([gradient.flatten() for gradient in update.gradients.values()]).norm()
        step = values(net) - torch.cat([value.flatten() for value in before.values()])
        scale = 1.0 if clip_norm is None else clip_norm / norm.item()
        assert step.norm().item() == pytest.approx(0.1 * scale * norm.item(), rel=1e-4)
    assert torch.equal(values(net), values(twin))


def test_an_update_of_lbfgs_can_be_kept() -> None:
    net = make_net()
    step = make_step(net, optimizer=torch.optim.LBFGS(net.parameters(), lr=0.1))
    before = values(net).clone()
    step(*make_batch(8), is_update=True, keep_update=True)
    update = step.pop_update()
    assert update is not None and torch.equal(
        torch.cat([v.flatten() for v in update.before.values()]), before
    )
    assert set(update.gradients) == {name for name, _ in net.named_parameters()}
