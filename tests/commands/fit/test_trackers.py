"""To watch a run changes nothing: the same weights, bit for bit, with every kind of record and
with none.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from running import SMALL, Fit, Trainer

from trainer.config.logger import TensorBoardConfig
from trainer.tracking.event_files import event_files

KINDS = [field.name for field in dataclasses.fields(TensorBoardConfig) if field.type == "bool"]
# Dropout draws random numbers in every step, and the augmentation in every batch.
IMAGES = (
    "data=fashion_mnist", "model=cnn_dropout", "loss=nll", "model.channels=[3,4]", "model.hidden=8",
    "data.train_limit=320", "data.eval_limit=100", "data.val_size=100",
    "data.transforms=[random_horizontal_flip]", "trainer.epochs=2", "trainer.ema=0.9",
    "optimizer=adam",
)  # fmt: skip
OFTEN = (
    "logger=tensorboard_full", "logger.log_every=1", "logger.layers_every=1",
    "logger.histograms_every=1", "logger.images_every=1", "logger.projector_epochs=[1,2]",
    "logger.projector_samples=20",
)  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS, "all of them"])
def test_the_weights_are_the_same_with_and_without(
    kind: str, fit: Fit, datasets_root: Path
) -> None:
    words = (*IMAGES, f"data.root={datasets_root}", "trainer.threads=1")
    others = [f"logger.{other}=false" for other in KINDS if kind not in (other, "all of them")]
    plain = fit("logger=none", base=words)
    watched = fit(*OFTEN, *others, base=words)
    assert watched.digest() == plain.digest() and watched.digest("best") == plain.digest("best")
    size = sum(path.stat().st_size for path in event_files(watched.folder))
    assert size > 300 or kind == "projector", "the kind was written"


def test_a_wrong_layer_is_told_before_anything_is_written(trainer: Trainer, tmp_path: Path) -> None:
    outcome = trainer("fit", *SMALL, "logger.projector_layer=fc3", "run.dir=run")
    assert outcome.code == 2 and not (tmp_path / "run").exists()
    assert (
        "logger.projector_layer=fc3 is not a layer of the model" in outcome.err
        and "fc2" in outcome.err
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("logger.axes=[steps]", "logger.axes"),
        ("logger.histograms_every=0", "logger.histograms_every"),
        ("logger.projector_epochs=[0]", "logger.projector_epochs"),
        ("logger.projector_samples=5", "logger.projector_samples"),
        ("logger.figures_every=0", "logger.figures_every"),
        ("logger.axes=samples", "logger.axes"),
    ],
)
def test_wrong_values_are_told(word: str, said: str, trainer: Trainer) -> None:
    outcome = trainer("fit", *SMALL, word)
    assert outcome.code == 2 and said in outcome.err and len(outcome.err.strip().splitlines()) <= 3


def test_values_have_no_figures_and_nothing_is_missed(fit: Fit) -> None:
    """Regression: there are no classes to predict."""
    run = fit(*OFTEN, "trainer.epochs=3", base=("data=line", "model=linear", "loss=mse"))
    assert run.record["status"] == "done" and not (run.folder / "projector").exists()
