"""Numbers drawn from a pass over a split, against scikit-learn and plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.tensorboard.summary import pr_curve_raw

from trainer.tracking.tensorboard.predictions import Predictions

CLASSES, SAMPLES = 4, 203


def made(
    seed: int = 0, *, num_classes: int = CLASSES, count: int = SAMPLES
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs that name their sample, logits that are right more often than not, and classes."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(num_classes, (count,), generator=generator)
    outputs = torch.randn(count, num_classes, generator=generator) * 2
    outputs[torch.arange(count), targets] += 1.5
    inputs = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 2, 3)
    return inputs, outputs, targets


def collected(*parts: Tensor, batch_size: int = 32, num_mistakes: int = 6) -> Predictions:
    """The last batch is smaller than the others, and than the number of mistakes."""
    predictions = Predictions(num_classes=parts[1].shape[1], num_mistakes=num_mistakes)
    with torch.inference_mode():
        for batch in zip(*(torch.split(part, batch_size) for part in parts), strict=True):
            predictions.add(*batch)
    return predictions


def of_scores(scores: list[float], is_class: list[bool]) -> Predictions:
    """Two classes, of which the second has exactly these probabilities: log-probabilities are
    the outputs.
    """
    predictions = Predictions(num_classes=2, num_mistakes=0)
    chances = torch.tensor(scores, dtype=torch.float64)
    outputs = torch.stack([1 - chances, chances], dim=1).log()
    predictions.add(torch.zeros(len(scores), 1), outputs, torch.tensor(is_class).long())
    return predictions


def test_probabilities_and_targets_come_in_the_order_of_the_samples() -> None:
    inputs, outputs, targets = made()
    predictions = collected(inputs, outputs, targets)
    assert predictions.probabilities.dtype == np.float32
    np.testing.assert_allclose(predictions.probabilities, outputs.softmax(1).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(predictions.targets, targets.numpy())


@pytest.mark.fault("N")
def test_the_probabilities_of_the_classes_with_a_curve_are_kept_and_no_others() -> None:
    inputs, outputs, targets = made()
    whole = collected(inputs, outputs, targets)
    few = Predictions(num_classes=outputs.shape[1], num_mistakes=6, num_curves=2)
    few.add(inputs, outputs, targets)
    np.testing.assert_array_equal(few.probabilities, whole.probabilities[:, :2])
    np.testing.assert_array_equal(few.pr_curve(1).precision, whole.pr_curve(1).precision)
    assert few.reliability().error == whole.reliability().error
    np.testing.assert_array_equal(few.confusion, whole.confusion)


def test_log_probabilities_are_read_like_logits() -> None:
    inputs, outputs, targets = made()
    logits, log_probs = (
        collected(inputs, each, targets) for each in (outputs, outputs.log_softmax(1))
    )
    np.testing.assert_allclose(logits.probabilities, log_probs.probabilities, atol=1e-6)
    np.testing.assert_array_equal(logits.confusion, log_probs.confusion)


@pytest.mark.parametrize("batch_size", [1, 7, 64, SAMPLES])
def test_the_confusion_matrix_is_that_of_scikit_learn(batch_size: int) -> None:
    inputs, outputs, targets = made()
    confusion = collected(inputs, outputs, targets, batch_size=batch_size).confusion
    expected = confusion_matrix(targets.numpy(), outputs.argmax(1).numpy(), labels=range(CLASSES))
    np.testing.assert_array_equal(confusion, expected)
    assert not np.array_equal(confusion, confusion.T)


def test_what_was_read_before_is_read_anew_after_another_batch() -> None:
    inputs, outputs, targets = made()
    predictions = collected(inputs, outputs, targets)
    assert predictions.confusion.sum() == SAMPLES
    predictions.add(inputs[:3], outputs[:3], targets[:3])
    assert predictions.confusion.sum() == SAMPLES + 3


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            # Many on a threshold, many at 0 and 1, the rest anywhere.
            st.one_of(
                st.sampled_from([0.0, 0.5, 1.0]),
                st.integers(0, 4).map(lambda part: part / 4),
                st.floats(0, 1),
            ),
            st.booleans(),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_the_pr_curve_is_that_of_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    predictions = of_scores([score for score, _ in rows], [is_class for _, is_class in rows])
    curve = predictions.pr_curve(1, num_thresholds=5)
    scores, truth = predictions.probabilities[:, 1], predictions.targets == 1
    for index, threshold in enumerate(np.linspace(0, 1, 5, dtype=np.float32)):
        taken = scores >= threshold
        expected = confusion_matrix(truth, taken, labels=[False, True])
        (true_negatives, false_positives), (false_negatives, true_positives) = expected
        counts = [int(part[index]) for part in curve[:4]]
        assert counts == [true_positives, false_positives, true_negatives, false_negatives]
        assert curve.precision[index] == pytest.approx(
            precision_score(truth, taken, zero_division=0)
        )
        assert curve.recall[index] == pytest.approx(recall_score(truth, taken, zero_division=0))


def test_scores_on_a_threshold_reach_it() -> None:
    curve = of_scores([0.0, 0.5, 1.0], [True, True, True]).pr_curve(1, num_thresholds=3)
    assert curve.true_positives.tolist() == [3, 2, 1]
    assert curve.false_negatives.tolist() == [0, 1, 2]


@pytest.mark.parametrize("class_index", range(CLASSES))
def test_a_curve_has_the_counts_that_torch_writes_with_it(class_index: int) -> None:
    predictions = collected(*made())
    curve = predictions.pr_curve(class_index)
    summary = pr_curve_raw("name", *curve, num_thresholds=127)  # type: ignore[no-untyped-call]
    values = np.array(summary.value[0].tensor.float_val).reshape(6, 127)
    truth = predictions.targets == class_index
    threshold = np.float32(63 / 126)
    taken = predictions.probabilities[:, class_index] >= threshold
    expected = [
        (truth & taken).sum(),
        (~truth & taken).sum(),
        (~truth & ~taken).sum(),
        (truth & ~taken).sum(),
    ]
    assert values[:4, 63].tolist() == expected
    assert values[4, 63] == pytest.approx(precision_score(truth, taken))
    assert (values[:4].sum(axis=0) == SAMPLES).all()


def test_a_class_without_samples_has_a_curve_and_an_empty_row() -> None:
    inputs, outputs, targets = made()
    targets = targets.clamp(max=CLASSES - 2)
    predictions = collected(inputs, outputs, targets)
    assert predictions.confusion[-1].sum() == 0 < predictions.confusion[:, -1].sum()
    curve = predictions.pr_curve(CLASSES - 1)
    assert curve.recall.tolist() == [0.0] * 127
    assert curve.false_positives[0] == SAMPLES


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_reliability_is_that_of_a_plain_loop(bins: int) -> None:
    predictions = collected(*made())
    reliability = predictions.reliability(bins)
    error = 0.0
    for number in range(bins):
        low, high = np.float32(number / bins), np.float32((number + 1) / bins)
        inside = [
            (row.max(), row.argmax() == target)
            for row, target in zip(predictions.probabilities, predictions.targets, strict=True)
            if low < row.max() <= high
        ]
        assert reliability.count[number] == len(inside)
        if not inside:
            assert np.isnan(reliability.accuracy[number]) and np.isnan(
                reliability.confidence[number]
            )
            continue
        confidence, accuracy = (
            np.mean([each for each, _ in inside]),
            np.mean([is_right for _, is_right in inside]),
        )
        assert reliability.confidence[number] == pytest.approx(confidence)
        assert reliability.accuracy[number] == pytest.approx(accuracy)
        error += abs(accuracy - confidence) * len(inside) / SAMPLES
    assert reliability.error == pytest.approx(error)
    assert reliability.error > 0


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin_and_one_to_the_last() -> None:
    never = -torch.inf
    outputs = torch.tensor([[0, 0, 0, 0], [0, 0, never, never], [0, never, never, never]])
    reliability = collected(torch.zeros(3, 1), outputs, torch.tensor([0, 3, 3])).reliability(4)
    assert reliability.count.tolist() == [1, 1, 0, 1]
    assert reliability.error == pytest.approx((abs(1 - 0.25) + abs(0 - 0.5) + abs(0 - 1)) / 3)


@pytest.mark.parametrize("batch_size", [1, 5, 32, SAMPLES])
@pytest.mark.parametrize("num_mistakes", [1, 6, 1000])
def test_the_mistakes_are_those_of_sorting_everything(batch_size: int, num_mistakes: int) -> None:
    inputs, outputs, targets = made()
    mistakes = collected(
        inputs, outputs, targets, batch_size=batch_size, num_mistakes=num_mistakes
    ).mistakes
    confidences, predicted = outputs.softmax(1).max(1)
    wrong = [index for index in range(SAMPLES) if predicted[index] != targets[index]]
    wrong.sort(key=lambda index: -confidences[index].item())
    assert len(wrong) > 6
    expected = [
        (index, int(targets[index]), int(predicted[index])) for index in wrong[:num_mistakes]
    ]
    assert [
        (int(found.input[0, 0, 0]), found.true, found.predicted) for found in mistakes
    ] == expected
    found = [mistake.confidence for mistake in mistakes]
    assert found == pytest.approx([confidences[index].item() for index in wrong[:num_mistakes]])
    assert mistakes[0].input.shape == inputs.shape[1:]


def test_where_all_is_right_there_are_no_mistakes() -> None:
    inputs, _, targets = made()
    outputs = torch.nn.functional.one_hot(targets, CLASSES) * 5.0
    predictions = collected(inputs, outputs, targets)
    assert predictions.mistakes == []
    assert np.trace(predictions.confusion) == SAMPLES


def test_no_mistakes_are_kept_where_none_are_wanted() -> None:
    assert collected(*made(), num_mistakes=0).mistakes == []


def test_without_a_batch_all_is_empty() -> None:
    predictions = Predictions(num_classes=3, num_mistakes=2)
    assert predictions.probabilities.shape == (0, 3)
    assert predictions.targets.shape == (0,)
    assert predictions.confusion.tolist() == [[0] * 3] * 3
    assert predictions.mistakes == []
    assert predictions.reliability().error == 0
    assert predictions.pr_curve(0).precision.tolist() == [0.0] * 127


def test_outputs_that_are_no_numbers_count_as_no_confidence() -> None:
    inputs, outputs, targets = made()
    outputs[5:9], outputs[20, 1], outputs[30, 2] = torch.nan, torch.inf, torch.nan
    predictions = collected(inputs, outputs, targets, num_mistakes=SAMPLES)
    assert not np.isnan(predictions.probabilities).any()
    assert (predictions.probabilities[[5, 6, 7, 8, 20, 30]] == 0).all()
    assert predictions.confusion.sum() == predictions.reliability().count.sum() == SAMPLES
    assert predictions.reliability().count[0] == 6
    confidences = [mistake.confidence for mistake in predictions.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] > 0.5 > confidences[-1] == 0
    assert predictions.pr_curve(0).true_positives[0] == (targets == 0).sum()


class AsksNothing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses the operations for which the host waits for the device; the rest is done."""

    # In inference mode an operation comes as it was asked for, else as what it is made of.
    WAITING = frozenset(
        (
            "item",
            "is_nonzero",
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "bincount",
            "equal",
        )
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operation."""
        name = func.overloadpacket.__name__
        assert name not in self.WAITING, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def test_to_collect_asks_the_device_for_nothing() -> None:
    parts = made()
    with AsksNothing():  # type: ignore[no-untyped-call]
        collected(*parts)
        for is_inference in (False, True):
            with torch.inference_mode(is_inference), pytest.raises(AssertionError, match="waits"):
                parts[1].sum().item()


@pytest.mark.gpu
def test_to_collect_never_waits_for_the_gpu() -> None:
    parts = [part.to("cuda") for part in made()]
    torch.cuda.set_sync_debug_mode("error")
    try:
        predictions = collected(*parts)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = collected(*made())
    np.testing.assert_array_equal(predictions.confusion, expected.confusion)
    assert [mistake[1:3] for mistake in predictions.mistakes] == [
        mistake[1:3] for mistake in expected.mistakes
    ]


def test_outputs_with_gradients_and_of_half_precision_are_taken() -> None:
    inputs, outputs, targets = made()
    predictions = Predictions(num_classes=CLASSES, num_mistakes=2)
    predictions.add(inputs, outputs.bfloat16().requires_grad_(), targets)
    assert predictions.probabilities.dtype == np.float32
    assert len(predictions.mistakes) == 2


def test_outputs_that_are_overwritten_later_are_kept_as_they_were() -> None:
    inputs, outputs, targets = made()
    expected = collected(inputs, outputs, targets).probabilities
    predictions = collected(inputs, outputs, targets)
    outputs.zero_()
    np.testing.assert_array_equal(predictions.probabilities, expected)
