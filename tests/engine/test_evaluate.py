"""One evaluation: weighted over uneven batches, and nothing of the model changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainer.data.batches import TensorBatches
from trainer.engine.evaluate import evaluate
from trainer.losses import make_loss, mse

CPU = torch.device("cpu")


def as_it_is(batch: Tensor, own: torch.Generator | None) -> Tensor:
    return batch


def make_split(num: int = 23) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 6, generator=generator), torch.randint(
        0, 3, (num,), generator=generator
    )


@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_uneven_batches_weigh_right(batch_size: int) -> None:
    inputs, targets = make_split()
    net = nn.Linear(6, 3)
    batches = TensorBatches(inputs, targets, batch_size=batch_size, prepare=as_it_is)
    loss = make_loss("cross_entropy", label_smoothing=0.0)
    result = evaluate(net, batches, loss, device=CPU, num_classes=3)
    outputs = net(inputs)
    assert result.loss == pytest.approx(
        nn.functional.cross_entropy(outputs, targets).item(), rel=1e-6
    )
    assert result.accuracy == (outputs.argmax(1) == targets).sum().item() / 23
    assert result.by_class is not None
    predictions = outputs.argmax(1)
    for true in range(3):
        is_right = (targets == true) & (predictions == true)
        assert result.by_class.right[true] == is_right.sum()
        assert result.by_class.support[true] == (targets == true).sum()
        assert result.by_class.predicted[true] == (predictions == true).sum()


def test_values_have_no_accuracy() -> None:
    inputs = torch.arange(6.0).unsqueeze(1)
    batches = TensorBatches(inputs, 2 * inputs, batch_size=4, prepare=as_it_is)
    result = evaluate(nn.Identity(), batches, mse, device=CPU, num_classes=None)
    assert (result.accuracy, result.by_class, result.count) == (None, None, 6)
    assert result.loss == pytest.approx((inputs**2).mean().item())


@pytest.mark.fault("N")
@pytest.mark.parametrize("name", ["mse", "l1", "huber"])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_errors_of_values_do_not_depend_on_the_loss(name: str, batch_size: int) -> None:
    """Failed before: there was the loss alone. Compared with NumPy in float64."""
    inputs = make_split()[0]
    targets = 5 * torch.randn(23, 2, generator=torch.Generator().manual_seed(1))
    net = nn.Linear(6, 2)
    batches = TensorBatches(inputs, targets, batch_size=batch_size, prepare=as_it_is)
    options = {"delta": 0.1} if name == "huber" else {}
    loss = make_loss(name, **options)
    result = evaluate(net, batches, loss, device=CPU, num_classes=None)
    x, y, weight, bias = (
        tensor.detach().double().numpy() for tensor in (inputs, targets, net.weight, net.bias)
    )
    errors = x @ weight.T + bias - y
    assert result.mse == pytest.approx(np.mean(errors**2), rel=1e-6)
    assert result.mae == pytest.approx(np.mean(np.abs(errors)), rel=1e-6)
    same = {"mse": result.mse, "l1": result.mae}
    assert name not in same or result.loss == same[name], "to the last bit"
    assert result.metrics("val") == {
        "val/loss": result.loss, "val/accuracy": None, "val/mse": result.mse, "val/mae": result.mae,
    }  # fmt: skip


def test_they_are_summed_in_the_wide_type() -> None:
    """In float32 a million small errors after a large one would be lost."""
    inputs = torch.zeros(4096, 1)
    targets = torch.full((4096, 1), 0.25)
    targets[0] = 3e4
    batches = TensorBatches(inputs, targets, batch_size=1, prepare=as_it_is)
    result = evaluate(nn.Identity(), batches, mse, device=CPU, num_classes=None)
    assert result.mse == (3e4**2 + 4095 * 0.0625) / 4096


def test_classes_have_an_accuracy_alone() -> None:
    batches = TensorBatches(*make_split(), batch_size=4, prepare=as_it_is)
    loss = make_loss("cross_entropy", label_smoothing=0.0)
    result = evaluate(nn.Linear(6, 3), batches, loss, device=CPU, num_classes=3)
    assert (result.mse, result.mae) == (None, None)
    assert list(result.metrics("test")) == ["test/loss", "test/accuracy"]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back_also_after_an_error(training: bool) -> None:
    class Failing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            assert not self.training
            raise ValueError("no")

    net = Failing().train(training)
    batches = TensorBatches(*make_split(), batch_size=4, prepare=as_it_is)
    with pytest.raises(ValueError, match="no"):
        evaluate(
            net, batches, make_loss("cross_entropy", label_smoothing=0.0), device=CPU, num_classes=3
        )
    assert net.training is training


def test_evaluation_draws_nothing_from_the_global_generator() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
    batches = TensorBatches(*make_split(), batch_size=4, prepare=as_it_is)
    before = torch.get_rng_state()
    evaluate(
        net, batches, make_loss("cross_entropy", label_smoothing=0.0), device=CPU, num_classes=3
    )
    assert torch.equal(torch.get_rng_state(), before)
