"""Modes: as a plain loop sets them, and of each module its own."""

from __future__ import annotations

import pytest
from torch import nn

from trainer.models.modes import evaluating, start_training


def nest() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_a_part_in_evaluation_mode_stays_so_and_is_named_once() -> None:
    model = nest()
    model[1].eval()
    assert start_training(model) == ["1"]
    assert modes(model) == [True, True, False, False, False]


def test_a_model_in_evaluation_mode_as_a_whole_is_put_in_training_mode() -> None:
    model = nest().eval()
    assert start_training(model) == []
    assert all(modes(model))


@pytest.mark.parametrize("is_training", [True, False])
def test_every_module_gets_its_own_mode_back_also_after_an_error(is_training: bool) -> None:
    model = nest().train(is_training)
    model.get_submodule("1.0").train(not is_training)
    before = modes(model)
    with pytest.raises(ValueError, match="no"), evaluating(model):
        assert not any(modes(model))
        raise ValueError("no")
    assert modes(model) == before
