"""Every model on every image data set with every loss: it trains, or it is refused in one
message before it starts.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from composing import config_of
from running import Run, Trainer

from trainer.config import SCHEMAS

MODELS = [model for model in SCHEMAS["model"] if model != "custom"]
# Written out by hand: which losses make sense on classes, after logits and after log-softmax.
FITTING = {
    "logits": {"cross_entropy", "bce_with_logits", "hinge"},
    "log_probs": {"cross_entropy", "nll", "hinge"},
}


# The sets differ in their files, which one loss of two models shows; make test-all runs the rest.
SHOWN = [("linear", "hinge"), ("cnn", "hinge")]
CASES = [
    pytest.param(
        data,
        model,
        loss,
        marks=[pytest.mark.slow] * (data == "mnist" and (model, loss) not in SHOWN),
    )
    for data in ("mnist", "fashion_mnist")
    for model in MODELS
    for loss in SCHEMAS["loss"]
]


@pytest.mark.parametrize(("data", "model", "loss"), CASES)
def test_it_trains_or_is_refused(
    trainer: Trainer, tmp_path: Path, datasets_root: Path, data: str, model: str, loss: str
) -> None:
    words = [
        f"data={data}",
        f"model={model}",
        f"loss={loss}",
        f"data.root={datasets_root}",
        "trainer.epochs=1",
    ]
    limits = ["data.train_limit=256", "data.eval_limit=64", "data.eval_batch_size=64"]
    outcome = trainer("fit", *words, *limits, "logger=none", f"run.dir={tmp_path / 'run'}")
    fitting = FITTING[config_of(f"model={model}").model.outputs]
    if loss in fitting:
        assert outcome.code == 0, outcome.err
        rows = Run(tmp_path / "run").rows
        assert rows[-1]["split"] == "test" and math.isfinite(rows[-1]["loss"])
        return
    assert outcome.code == 2
    assert (
        outcome.err.startswith(f"Error: loss={loss} ")
        and len(outcome.err.strip().splitlines()) <= 3
    )
    for other in fitting:
        assert f"loss={other}" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_a_crop(
    trainer: Trainer, tmp_path: Path, datasets_root: Path, model: str
) -> None:
    crop = "data.transforms=[{name: crop, top: 5, left: 5, height: 18, width: 18}]"
    words = [
        f"model={model}",
        f"data.root={datasets_root}",
        "data.train_limit=64",
        "data.eval_limit=64",
        crop,
    ]
    more = ("trainer.epochs=1", "logger.figures=false", f"run.dir={tmp_path / 'run'}")
    outcome = trainer("fit", *words, *more)
    assert outcome.code == 0, outcome.err
    assert "1x18x18" in outcome.out
    assert trainer("eval", f"ckpt={tmp_path / 'run'}").code == 0


@pytest.mark.parametrize("optimizer", SCHEMAS["optimizer"])
def test_every_optimizer_trains_convolutions_and_goes_on(
    trainer: Trainer, tmp_path: Path, datasets_root: Path, optimizer: str
) -> None:
    words = ["model=cnn", f"optimizer={optimizer}", f"data.root={datasets_root}", "logger=none"]
    limits = ["data.train_limit=64", "data.val_size=16", "data.eval_limit=64", "data.batch_size=16"]
    if optimizer == "lbfgs":  # without a search it diverges on half of the seeds
        words += ["optimizer.line_search_fn=strong_wolfe", "optimizer.max_iter=4"]
    outcome = trainer("fit", *words, *limits, "trainer.epochs=1", f"run.dir={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err
    assert trainer("fit", f"resume={tmp_path / 'run'}", "trainer.epochs=2").code == 0
