"""People's own models: what a plain loop of torch trains, this trains, and says what is odd."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_code import Curve, Pictures, Points, Words, evaluate, resume, train
from torch import Tensor, nn

from trainer.errors import ConfigError, CustomCodeError

# Each test trains.
pytestmark = pytest.mark.long

fault = pytest.mark.fault("N")
Captured = pytest.CaptureFixture[str]


class Net(nn.Module):
    """Two layers with batch norm and dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.drop(self.norm(self.body(inputs))))
        return outputs


# The mode of each module.


class Asleep(Net):
    def __init__(self) -> None:
        super().__init__()
        self.eval()


class Frozen(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm.eval()


class FrozenByTrain(Net):
    """The usual way to freeze batch norm; `train` returns nothing."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.norm.eval()


class Forgetful(Net):
    """Overrides that do not return the model."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        super().to(*args, **kwargs)


def batches_of_norm(folder: Path, model: type, *words: str) -> int:
    return int(train(folder, model, *words).weights()["norm.num_batches_tracked"])


@fault
@pytest.mark.parametrize(
    ("model", "batches"), [(Net, 4), (Asleep, 4), (Forgetful, 4), (Frozen, 0), (FrozenByTrain, 0)]
)
@pytest.mark.parametrize("words", [(), ("trainer.ema=0.9",)], ids=["plain", "ema"])
def test_modules_train_in_the_mode_of_a_plain_loop(
    tmp_path: Path, model: type, batches: int, words: tuple[str, ...]
) -> None:
    # 32 samples in batches of 8, with an evaluation after the first.
    assert batches_of_norm(tmp_path / "r", model, "trainer.eval_every=1steps", *words) == batches


@fault
def test_a_mode_that_is_not_the_usual_is_reported(tmp_path: Path, capsys: Captured) -> None:
    train(tmp_path / "asleep", Asleep)
    assert "leaves the model in evaluation mode" in capsys.readouterr().err
    train(tmp_path / "frozen", Frozen)
    assert "in evaluation mode as its class leaves them: norm." in capsys.readouterr().err
    train(tmp_path / "plain", Net)
    assert capsys.readouterr().err == ""


# Memory layout.


class Tutorial(nn.Module):
    """A convolution, and `view` instead of `flatten`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(64, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(self.conv(inputs).relu(), 2)
        outputs: Tensor = self.fc(pooled.view(-1, 64))
        return outputs


class Flattened(Tutorial):
    def forward(self, inputs: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(self.conv(inputs).relu(), 2)
        outputs: Tensor = self.fc(pooled.flatten(1))
        return outputs


class ByMemory(Tutorial):
    """Takes the values as they lie in memory: in another layout it computes something else."""

    def forward(self, inputs: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(self.conv(inputs).relu(), 2)
        outputs: Tensor = self.fc(torch.as_strided(pooled, (len(inputs), 64), (64, 1)))
        return outputs


class ViewInTraining(Tutorial):
    def forward(self, inputs: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(self.conv(inputs).relu(), 2)
        outputs: Tensor = self.fc(pooled.view(-1, 64) if self.training else pooled.flatten(1))
        return outputs


class Volume(nn.Module):
    """A 3-d convolution, a 5-d buffer, and a picture of positions that is viewed."""

    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(1, 1, 1, 8, 8))
        self.positions = nn.Parameter(torch.zeros(1, 2, 4, 8))
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.fc = nn.Linear(64, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        volume = self.conv(inputs.unsqueeze(1) + self.place)
        outputs: Tensor = self.fc(volume.view(-1, 64) + self.positions.view(1, 64))
        return outputs


def layout(folder: Path, model: type, capsys: Captured) -> str:
    """What is reported of the layout; the run and its evaluation agree."""
    run = train(folder, model, data=Pictures)
    reported = capsys.readouterr().err
    evaluate(folder, model, data=Pictures)
    assert json.loads(capsys.readouterr().out)["loss"] == run.record["metrics"]["test/loss"]
    return reported


@fault
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Flattened, ""),
        (Tutorial, "view size is not compatible"),
        (ViewInTraining, "view size is not compatible"),
        (ByMemory, "the outputs differ"),
        (Volume, ""),
    ],
)
def test_a_fast_layout_is_for_models_that_take_it(
    tmp_path: Path, capsys: Captured, model: type, reason: str
) -> None:
    reported = layout(tmp_path / "r", model, capsys)
    assert (reason in reported and "usual memory layout" in reported) if reason else not reported


# The trial pass.


class Bag(nn.Module):
    """The mean of the embeddings of words; the last layer takes its shape from the first batch."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8, sparse=sparse)
        self.head = nn.LazyLinear(3)

    def forward(self, words: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.table(words).mean(1))
        return outputs


class Hard(Net):
    """Made for batches of 8 alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.view(8, -1))


class Counting(Net):
    """The learning of a plain loop depends on how often it was called."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            self.seen.append(len(inputs))
            assert len(self.seen) == int(self.calls)
        return super().forward(inputs)


@fault
def test_the_trial_uses_samples_of_the_data_set(tmp_path: Path) -> None:
    run = train(tmp_path / "r", Bag, data=Words)
    assert run.weights()["head.weight"].shape == (3, 8)


@fault
def test_a_model_for_one_size_of_batches_trains(tmp_path: Path) -> None:
    words = ("data.eval_batch_size=8", "data.test_kwargs={size: 16}", "data.drop_last=true")
    assert train(tmp_path / "r", Hard, *words).record["status"] == "done"


@fault
def test_trials_leave_no_trace(tmp_path: Path) -> None:
    assert train(tmp_path / "r", Counting).weights()["calls"] == 4


# Evaluation, optimizer and average.


class Caching(Net):
    """Keeps a tensor from whichever pass comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        if self.scale is None and not self.training:
            self.scale = torch.ones(3) * 2
        outputs = super().forward(inputs)
        return outputs if self.scale is None else outputs * self.scale


class Energy(nn.Module):
    """The outputs are a gradient; `enables` says whether it cares for evaluation itself."""

    def __init__(self, enables: bool = False) -> None:
        super().__init__()
        self.enables = enables
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.enables or torch.is_grad_enabled()):
            inputs = inputs.requires_grad_()
            energy = self.body(inputs).tanh().sum()
            (force,) = torch.autograd.grad(energy, inputs, create_graph=True)
        outputs: Tensor = self.head(force)
        return outputs


class Locked(Net):
    """Has a lock and a generator, which cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.numbers = iter(number for number in range(1000))

    def forward(self, inputs: Tensor) -> Tensor:
        with self.lock:
            return super().forward(inputs)


@fault
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Caching, ("trainer.eval_every=1steps",)),
        (Energy, ("trainer.eval_every=1steps",)),
        (Energy, ("+model.kwargs.enables=true",)),
        (Locked, ("trainer.ema=0.9",)),
        (Locked, ()),
    ],
)
def test_odd_models_train_and_evaluate(
    tmp_path: Path, model: type, words: tuple[str, ...], capsys: Captured
) -> None:
    run = train(tmp_path / "r", model, *words)
    capsys.readouterr()
    evaluate(tmp_path / "r", model, *words)
    assert json.loads(capsys.readouterr().out)["loss"] == run.record["metrics"]["test/loss"]


@fault
@pytest.mark.parametrize(
    "words",
    [
        ("optimizer=sgd",),
        ("optimizer=sgd", "optimizer.momentum=0.9"),
        ("optimizer=adagrad",),
        ("optimizer=sgd", "trainer.accumulate=2", "trainer.clip_norm=1"),
        ("optimizer=sgd", "trainer.ema=0.9"),
    ],
    ids=lambda words: ",".join(words[:2]),
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_gradients_train_as_dense_ones(tmp_path: Path, words: tuple[str, ...]) -> None:
    base = ("trainer.epochs=2", "scheduler=constant", *words)
    sparse = train(tmp_path / "sparse", Bag, "+model.kwargs.sparse=true", *base, data=Words)
    dense = train(tmp_path / "dense", Bag, *base, data=Words)
    for name, tensor in dense.weights().items():
        torch.testing.assert_close(sparse.weights()[name], tensor)
    longer = ("trainer.epochs=3", "scheduler=constant", *words, "+model.kwargs.sparse=true")
    resumed = resume(tmp_path / "sparse", Bag, *longer, data=Words)
    whole = train(tmp_path / "whole", Bag, *longer, data=Words)
    assert resumed.digest() == whole.digest()


@fault
def test_an_optimizer_without_sparse_gradients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="optimizer=adam takes no sparse gradients"):
        train(tmp_path / "r", Bag, "+model.kwargs.sparse=true", "optimizer=adam", data=Words)
    assert not (tmp_path / "r").exists()


class Sliced(nn.Module):
    """A weight that is every second column of a larger tensor, and one that is transposed."""

    def __init__(self, contiguous: bool = False) -> None:
        super().__init__()
        own = torch.Generator().manual_seed(0)
        first = torch.randn(8, 12, generator=own)[:, ::2]
        second = torch.randn(8, 3, generator=own).t()
        self.first = nn.Parameter(first.contiguous() if contiguous else first)
        self.second = nn.Parameter(second.contiguous() if contiguous else second)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear((inputs @ self.first.T).tanh(), self.second)


@fault
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adagrad", "adam"])
def test_parameters_in_any_layout_are_trained_right(tmp_path: Path, optimizer: str) -> None:
    words = (f"optimizer={optimizer}", "trainer.epochs=3", "scheduler=constant")
    odd = train(tmp_path / "odd", Sliced, *words)
    plain = train(tmp_path / "plain", Sliced, "+model.kwargs.contiguous=true", *words)
    for name, tensor in plain.weights().items():
        torch.testing.assert_close(odd.weights()[name], tensor)
    longer = (f"optimizer={optimizer}", "trainer.epochs=4", "scheduler=constant")
    resumed = resume(tmp_path / "odd", Sliced, *longer)
    assert resumed.digest() == train(tmp_path / "whole", Sliced, *longer).digest()


# Outputs and targets.


class Squeezing(nn.Module):
    """Squeezes its outputs in the modes that `where` names."""

    def __init__(self, training: bool = False, evaluation: bool = False, pair: bool = False):
        super().__init__()
        self.where = {True: training, False: evaluation}
        self.pair = pair
        self.fc = nn.Linear(6, 1)

    def forward(self, inputs: Tensor) -> Any:
        outputs = self.fc(inputs)
        if self.where[self.training]:
            return (outputs, outputs) if self.pair else outputs.squeeze()
        return outputs


class SqueezingOne(Net):
    """Drops the axis of samples for a batch of one alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).squeeze(0)


class Wide(Curve):
    """Two values in training, and one in the test."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs = self.inputs[index]
        return inputs, inputs[: 1 if len(self) == 10 else 2]


class TwoValues(nn.Linear):
    def __init__(self) -> None:
        super().__init__(6, 2)


@fault
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ("{training: true}", r"In training the model returns shape \(2,\), and the targets"),
        ("{evaluation: true}", r"returns shape \(2,\)"),
        ("{training: true, pair: true}", "In training the model returns a tuple, not a tensor"),
    ],
)
def test_outputs_that_would_broadcast_are_refused(
    tmp_path: Path, kwargs: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "r", Squeezing, f"++model.kwargs={kwargs}", data=Curve)
    assert not (tmp_path / "r").exists()


@fault
def test_targets_of_another_split_are_compared_too(tmp_path: Path) -> None:
    words = ("data.task=regression", "loss=mse")
    with pytest.raises(ConfigError, match=r"the target of sample 0 has 1 value, and that of .* 2"):
        train(tmp_path / "r", TwoValues, *words, data=Wide)


@fault
def test_the_last_batch_of_one_is_compared_too(tmp_path: Path) -> None:
    words = ("data.eval_batch_size=9", "+data.kwargs.size=41", "data.test_kwargs={size: 9}")
    with pytest.raises((ConfigError, CustomCodeError), match=r"batch of 1|one sample"):
        train(tmp_path / "r", SqueezingOne, *words)


# What cannot be saved, or not be given back.


class Extra(Net):
    """Saves `value` as extra state and counts the times that it was loaded."""

    def __init__(self, value: Any = 0) -> None:
        super().__init__()
        self.value = value
        self.table = {"names": ["a", None], "scale": (1.5, float("inf")), 3: torch.arange(3)}

    def get_extra_state(self) -> Any:
        return {1, 2} if self.value == "a set" else {"value": self.value, "table": self.table}

    def set_extra_state(self, state: Any) -> None:
        assert torch.equal(state["table"].pop(3), torch.arange(3))
        assert state["table"] == {"names": ["a", None], "scale": (1.5, float("inf"))}
        self.value = state["value"]

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and not isinstance(self.value, str):
            self.value += 1
        return super().forward(inputs) + len(str(self.value))


class Expanded(Net):
    """A buffer of eight values in the memory of one, which a second name shares."""

    one: Tensor
    wide: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.zeros(1, 1))
        self.register_buffer("wide", self.one.expand(1, 8))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.one += 0.5
        outputs: Tensor = self.head(self.body(inputs) + self.wide)
        return outputs


class SparseBuffer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.eye(3).to_sparse())


class LongName(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("x" * 600, torch.zeros(1))


class CannotLoad(Net):
    def _load_from_state_dict(self, *_: Any) -> None:
        raise RuntimeError("not today")


@fault
@pytest.mark.parametrize("words", [(), ("trainer.ema=0.9",)], ids=["plain", "ema"])
@pytest.mark.parametrize("model", [Extra, Expanded])
def test_extra_state_and_expanded_buffers_are_saved(
    tmp_path: Path, model: type, words: tuple[str, ...], capsys: Captured
) -> None:
    words = ("scheduler=constant", *words)
    run = train(tmp_path / "r", model, *words)
    assert "Warning" not in capsys.readouterr().err
    evaluate(tmp_path / "r", model, *words)
    assert json.loads(capsys.readouterr().out)["loss"] == run.record["metrics"]["test/loss"]
    resumed = resume(tmp_path / "r", model, "trainer.epochs=2", *words)
    whole = train(tmp_path / "w", model, "trainer.epochs=2", *words)
    assert resumed.split("test")[-1]["loss"] == whole.split("test")[-1]["loss"]


@fault
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Extra, "set at _extra_state, which cannot be saved without pickle"),
        (SparseBuffer, "cannot be saved"),
        (LongName, "a tensor has a name"),
        (CannotLoad, "not today"),
    ],
)
def test_a_state_that_cannot_be_saved_is_refused_first(
    tmp_path: Path, model: type, message: str
) -> None:
    words = ("+model.kwargs.value='a set'",) if model is Extra else ()
    with pytest.raises(ConfigError, match="its state cannot be saved and loaded back") as caught:
        train(tmp_path / "r", model, *words)
    assert message in str(caught.value)
    assert not (tmp_path / "r").exists()


class OneFewer(Pictures):
    """A test set of pictures of another size."""

    def __init__(self, size: int = 40, seed: int = 0) -> None:
        super().__init__(size, seed)
        if seed:
            self.inputs = self.inputs[:, :, :4]


@fault
def test_a_split_of_another_shape_is_found_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The first sample of test has shape \(1, 4, 8\)"):
        train(tmp_path / "r", Flattened, data=OneFewer)
    assert not (tmp_path / "r").exists()


@fault
def test_a_last_batch_that_is_too_small_is_found_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a batch of 1 from train, the last of its 33") as caught:
        train(tmp_path / "r", Net, "+data.kwargs.size=41")
    assert "data.drop_last=true" in str(caught.value)
    assert not (tmp_path / "r").exists()
    train(tmp_path / "r", Net, "+data.kwargs.size=41", "data.drop_last=true")


class Hidden(Net):
    """Layers in a list, a parameter in a table, and one that is registered elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 6), nn.Linear(6, 6)]
        self.table = {"scale": torch.ones(3, requires_grad=True)}
        self.also = [self.head]

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return super().forward(inputs) * self.table["scale"]


class RandomBuffer(Net):
    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(3), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + self.noise


class Decaying(Net):
    """A counter that no checkpoint has decides what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return super().forward(inputs) * (1 + self.calls)


class AlwaysDropping(Net):
    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(inputs), 0.5, training=True)


@fault
@pytest.mark.parametrize(
    ("model", "warning"),
    [
        (Hidden, "does not register layers[0] (Linear), layers[1] (Linear), table['scale']"),
        (RandomBuffer, ""),
        (Decaying, "gives other outputs than the trained model (by up to"),
        (AlwaysDropping, ""),
    ],
)
def test_the_test_is_of_the_model_that_eval_makes(
    tmp_path: Path, capsys: Captured, model: type, warning: str
) -> None:
    run = train(tmp_path / "r", model)
    reported = " ".join(capsys.readouterr().err.split())
    assert warning in reported and bool(warning) == ("Warning" in reported)
    for _ in range(2):
        evaluate(tmp_path / "r", model)
        found = json.loads(capsys.readouterr().out)
        assert found["loss"] == run.record["metrics"]["test/loss"]


class Thawing(Net):
    """Its first layer is frozen until training."""

    def __init__(self) -> None:
        super().__init__()
        self.body.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        self.body.requires_grad_(True)
        return super().forward(inputs)


@fault
def test_a_layer_that_is_unfrozen_in_training_is_named(tmp_path: Path, capsys: Captured) -> None:
    train(tmp_path / "r", Thawing, data=Points)
    reported = " ".join(capsys.readouterr().err.split())
    assert "Unfrozen during training, and not trained: body.weight, body.bias." in reported


def test_no_warning_for_a_usual_model(tmp_path: Path, capsys: Captured) -> None:
    train(tmp_path / "r", Net, data=Points)
    assert capsys.readouterr().err == ""


class Drawing(Net):
    """Its noise is of the three generators that people use."""

    def forward(self, inputs: Tensor) -> Tensor:
        noise = random.gauss(0, 1) + np.random.standard_normal() + torch.randn(())
        return super().forward(inputs + 0.1 * noise)


@fault
def test_a_model_that_draws_continues_exactly(tmp_path: Path) -> None:
    words = ("scheduler=constant", "trainer.epochs=3")
    whole = train(tmp_path / "whole", Drawing, *words)
    train(tmp_path / "cut", Drawing, "scheduler=constant")
    np.random.seed(5)
    cut = resume(tmp_path / "cut", Drawing, *words)
    losses = [[row["loss"] for row in run.rows if row["split"] == "train"] for run in (whole, cut)]
    assert losses[0] == losses[1]


# Inputs that the model changes.


class Shifted(Net):
    """Adds 1 to its inputs, not in place."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs + 1)


class ShiftedInPlace(Net):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.add_(1))


@fault
@pytest.mark.parametrize("word", ["data.cache=false", "data.cache=true"])
def test_a_model_may_change_its_inputs_in_place(
    tmp_path: Path, capsys: Captured, word: str
) -> None:
    """The samples in memory stay as they are, and no warning says that the state lacks anything."""
    words = (word, "trainer.epochs=3", "data.val_size=10")
    whole = train(tmp_path / "whole", Shifted, *words)
    changed = train(tmp_path / "changed", ShiftedInPlace, *words)
    assert capsys.readouterr().err == ""
    assert [row["loss"] for row in changed.rows] == [row["loss"] for row in whole.rows]
    assert changed.record["metrics"] == whole.record["metrics"]


class Four(nn.Linear):
    """Four values to four classes."""

    def __init__(self) -> None:
        super().__init__(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs + 1)


class FourInPlace(Four):
    def forward(self, inputs: Tensor) -> Tensor:
        return nn.Linear.forward(self, inputs.add_(1))


@fault
def test_made_data_in_memory_is_not_changed_by_a_model(tmp_path: Path) -> None:
    words = ("data=dirichlet", "data.features=4", "data.train_size=60", "data.val_size=20")
    plain, changed = (
        train(tmp_path / model.__name__, model, *words, "trainer.epochs=3", data=None)
        for model in (Four, FourInPlace)
    )
    assert changed.record["metrics"] == plain.record["metrics"]


# Scripted parts.


class Scripted(Net):
    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(FutureWarning, match="deprecated"):
            self.add_module("drop", torch.jit.script(self.drop))


@fault
def test_a_scripted_part_trains_in_its_mode(tmp_path: Path) -> None:
    plain, scripted = (train(tmp_path / model.__name__, model) for model in (Net, Scripted))
    assert scripted.record["metrics"] == plain.record["metrics"]


# A run of no update.


@fault
@pytest.mark.parametrize(
    "words",
    [
        ("trainer.epochs=0", "data.val_size=0"),
        ("trainer.max_steps=0", "data.val_size=0"),
        ("trainer.epochs=0", "trainer.monitor=train/accuracy"),
        ("trainer.epochs=0", "data.val_size=0", "scheduler=plateau", "trainer.patience=1"),
        ("trainer.epochs=0", "data.val_size=0", "logger=tensorboard", "logger.figures=false"),
    ],
    ids=",".join,
)
def test_a_run_of_no_update_saves_and_tests(tmp_path: Path, words: tuple[str, ...]) -> None:
    run = train(tmp_path / "r", Net, *words)
    assert run.record["status"] == "done"
    assert run.steps == ["step-000000"]
    assert run.record["metrics"]["test/loss"] > 0
