"""`trainer eval`: rebuild the model a checkpoint describes, evaluate it on a split, report."""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.commands.build import (
    build_data,
    check_checkpoint_fits,
    evaluate_split,
    loaded_model,
    prepare_device,
    user_code_errors,
    warning_not_finite,
)
from trainer.commands.fit import summary as report
from trainer.commands.fit.saved_step import SavedStep
from trainer.config import EvalConfig
from trainer.data.load import Data
from trainer.device import device_label
from trainer.engine.evaluate import Evaluation
from trainer.errors import CheckpointError
from trainer.files import JsonObject
from trainer.metrics import class_reports
from trainer.tracking.console import Terminal
from trainer.tracking.metrics_file import as_json


def run(config: EvalConfig, saved: SavedStep, *, terminal: Terminal) -> None:
    """Evaluate `saved`, the checkpoint of `config.ckpt`, and print the result.

    Raises the errors of trainer.errors.
    """
    fit, description, model_file = config.fit, saved.description, saved.model_file
    device = prepare_device(fit)
    data = build_data(fit, device=device, report=terminal)
    # Before the model is made, in words of data: torch would name layers and matrices.
    if (data.input_shape, data.num_outputs) != (description.input_shape, description.num_outputs):
        raise CheckpointError(
            f"data={fit.data.name} has samples {data.input_shape} and {data.num_outputs} outputs; "
            f"the model was trained on {description.input_shape} and {description.num_outputs}.",
            hint="Name data of the same shape, or leave data out to use what it was trained on.",
        )
    # Against a model without memory first: the config of a stranger may ask for any sizes.
    weights = saved.weights()
    shape, num_outputs = data.input_shape, data.num_outputs
    check_checkpoint_fits(
        fit, weights, input_shape=shape, num_outputs=num_outputs, source=model_file
    )
    model = loaded_model(fit, data, weights, device=device, report=terminal, source=model_file)
    # A class that fails when it is made is named there; here its forward may raise.
    with user_code_errors(fit):
        result = evaluate_split(fit, model, data, config.eval.split, device=device)
    if (warning := warning_not_finite(data, config.eval.split, result)) is not None:
        terminal.warn(warning)
    if config.eval.json:
        content = _as_json(config, result, data=data, checkpoint=model_file)
        # Alone on standard output, for programs: notes and warnings are on standard error.
        sys.stdout.write(as_json(content) + "\n")
        return
    metrics = result.metrics(config.eval.split)
    terminal.facts(
        "",
        [
            ("checkpoint", str(saved.folder)),
            ("model", f"{fit.model.name}, trained for {description.progress.get('step', 0)} steps"),
            ("data", f"{fit.data.name}: {result.count:,} samples of {config.eval.split}"),
            ("device", device_label(device)),
            (config.eval.split, report.describe_metrics(metrics, config.eval.split)),
        ],
    )
    if data.classes:
        report.print_classes(result, data.classes, terminal=terminal)


def _as_json(config: EvalConfig, result: Evaluation, *, data: Data, checkpoint: Path) -> JsonObject:
    content: JsonObject = {
        "checkpoint": str(checkpoint),
        "data": config.fit.data.name,
        "split": config.eval.split,
        "samples": result.count,
        "loss": result.loss,
        "accuracy": result.accuracy,
    }
    if result.mse is not None:
        content |= {"mse": result.mse, "mae": result.mae}
    # Targets that are values have no classes.
    if result.by_class is not None and data.classes:
        rows = zip(data.classes, class_reports(result.by_class), strict=True)
        content["classes"] = [
            {
                "name": name,
                "precision": row.precision,
                "recall": row.recall,
                "f1": row.f1,
                "samples": row.support,
            }
            for name, row in rows
        ]
    return content
