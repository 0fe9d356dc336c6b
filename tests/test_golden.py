"""A golden run pins the first losses on the CPU: a refactor may not change them.

When a change is meant to change them, say so in its commit and write the new ones:
python -m pytest tests/test_golden.py --update-golden
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.commands.fit.components import build_components
from trainer.data.image_sets.download import QuietReport

GOLDEN = Path(__file__).parent / "golden"
NUM_STEPS = 20
RUNS: dict[str, list[str]] = {
    "mlp_dirichlet_sgd": ["data=dirichlet", "model=mlp", "trainer.threads=1"],
    "mlp_dirichlet_adamw_accumulate": [
        "data=dirichlet",
        "model=mlp",
        "model.dropout=0.1",
        "optimizer=adamw",
        "scheduler=one_cycle",
        "trainer.accumulate=2",
        "trainer.clip_norm=1",
        "trainer.l1=1e-5",
        "trainer.threads=1",
    ],
    "cnn_fashion_mnist_augmented": [
        "data.transforms=[random_horizontal_flip,random_crop]",
        "loss.label_smoothing=0.1",
        "trainer.threads=1",
    ],
    "linear_line": ["experiment=line", "trainer.threads=1"],
}


def first_losses(config: Any) -> list[float]:
    """The losses of the first batches, each trained on."""
    components = build_components(config, QuietReport())
    losses: list[float] = []
    epoch = 0
    while len(losses) < NUM_STEPS:
        for number, (inputs, targets) in enumerate(components.data.train.epoch(epoch)):
            components.state.schedule.apply(step=len(losses), epoch=epoch)
            components.state.step(
                inputs, targets, is_update=(number + 1) % config.trainer.accumulate == 0
            )
            loss, _, samples = components.state.step.read_sums()
            losses.append(loss / samples)
            if len(losses) == NUM_STEPS:
                break
        epoch += 1
    return losses


@pytest.mark.parametrize("name", RUNS)
def test_the_first_losses_are_the_golden_ones(
    name: str, compose: Any, request: pytest.FixtureRequest
) -> None:
    words = list(RUNS[name])
    if "fashion_mnist" in name:
        words.append(f"data.root={request.getfixturevalue('datasets_root')}")
    losses = first_losses(compose(*words))
    path = GOLDEN / f"{name}.json"
    if request.config.getoption("--update-golden"):
        path.write_text(json.dumps(losses, indent=1) + "\n")
    golden = json.loads(path.read_text())
    # Another processor may sum in another order: a difference of a real change is far larger than
    # this.
    assert losses == pytest.approx(golden, rel=2e-4)


def test_the_golden_config_is_the_shipped_one(compose: Any, request: pytest.FixtureRequest) -> None:
    """A new option, or another default, shows as a diff of this file."""
    from trainer.config import to_plain

    path = GOLDEN / "config.json"
    text = json.dumps(to_plain(compose()), indent=1) + "\n"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.read_text() == text
