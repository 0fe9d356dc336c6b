"""A batch made at once is the batch of its samples converted one by one, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import default_collate

from trainer.data import collate as module
from trainer.data.collate import collate
from trainer.data.samples import ConvertedDataset, Form, RefusedSample

INPUTS: tuple[Any, ...] = (
    torch.tensor([1.0, 2.0]),
    torch.tensor([0.1, 0.2], dtype=torch.float64),
    torch.tensor([1.5, 2.5], dtype=torch.float16),
    torch.tensor([1, 2]),
    torch.tensor([True, False]),
    torch.tensor([1 + 2j, 0j]),
    torch.tensor([1.0, 0.0]).to_sparse(),
    torch.tensor([1.0, 2.0, 3.0]),
    torch.tensor(1.0),
    torch.nn.Parameter(torch.tensor([1.0, 2.0])),
    np.array([1.0, 2.0], dtype=np.float32),
    np.array([0.1, 0.2]),
    np.array([1.0, 2.0], dtype=">f8"),
    np.array([1, 2], dtype=np.uint16),
    [1.0, 2.0],
    "text",
    None,
)
TARGETS: tuple[Any, ...] = (
    0, 2, 3, -1, 1.0, 1.5, True, "cat", None,
    np.int64(1), np.uint8(2), np.float64(2.0), np.array([1]), np.array(1.5),
    torch.tensor(1), torch.tensor(5), torch.tensor([1]), torch.tensor(1.0),
    torch.tensor([1.0, 2.0]), torch.tensor([[0.5], [1.5]], dtype=torch.float64),
)  # fmt: skip
FORMS = st.builds(
    Form,
    num_classes=st.sampled_from([None, 3]),
    is_float=st.booleans(),
    needs_images=st.just(False),
    input_shape=st.sampled_from([None, torch.Size([2]), torch.Size([1])]),
    num_values=st.sampled_from([1, 2]),
)


def samples_of(kinds: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    """Some samples, as a rule all alike."""
    alike = st.lists(st.sampled_from(kinds), min_size=1, max_size=2)
    return alike.flatmap(lambda few: st.lists(st.sampled_from(few), min_size=4, max_size=4))


def result(make: Any) -> Any:
    """The batch, or the error and its words."""
    try:
        return make()
    except (RefusedSample, RuntimeError) as error:
        return type(error), str(error)


@given(inputs=samples_of(INPUTS), targets=samples_of(TARGETS), form=FORMS)
def test_a_batch_is_that_of_its_samples(inputs: list[Any], targets: list[Any], form: Form) -> None:
    given = list(zip(inputs, targets, strict=True))
    dataset = ConvertedDataset(given, name="the set", form=form)
    one_by_one = result(lambda: default_collate([dataset[index] for index in range(4)]))
    at_once = result(lambda: collate(dataset, given, range(4)))
    if not isinstance(at_once[0], Tensor):
        assert at_once == one_by_one
        return
    for ours, theirs in zip(at_once, one_by_one, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "samples",
    [
        [(torch.ones(2), 1), (torch.zeros(2), 0)],
        [[torch.ones(2), torch.tensor(1)], [torch.zeros(2), torch.tensor(0)]],
        [(np.ones(2), np.int64(1)), (np.zeros(2), np.int64(0))],
    ],
)
def test_usual_samples_are_not_converted_one_by_one(samples: list[Any]) -> None:
    form = Form(num_classes=2, is_float=True, needs_images=False, input_shape=torch.Size([2]))
    assert module._usual(samples, form) is not None


def test_a_label_that_no_tensor_has_is_refused_by_its_index() -> None:
    """Failed before: NumPy's OverflowError, without the sample."""
    form = Form(num_classes=2, is_float=True, needs_images=False, input_shape=torch.Size([2]))
    samples = [(torch.ones(2), 10**20)]
    with pytest.raises(RefusedSample, match="sample 7 is class 100000000000000000000"):
        collate(ConvertedDataset(samples, name="the set", form=form), samples, [7])


def test_a_wrong_label_is_named_by_its_index_in_the_data_set() -> None:
    form = Form(num_classes=2, is_float=True, needs_images=False, input_shape=torch.Size([2]))
    samples = [(torch.ones(2), 1), (torch.zeros(2), 2)]
    dataset = ConvertedDataset(samples, name="the set", form=form)
    with pytest.raises(RefusedSample, match="sample 17 is class 2"):
        collate(dataset, samples, [5, 17])
