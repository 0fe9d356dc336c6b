"""What `trainer runs` reads of a run besides its run.json: config, metrics and curves.

None of these files is trusted: one that is damaged has no values.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import yaml

from trainer.checkpoint.file import read_header
from trainer.config import flatten
from trainer.errors import TrainerError
from trainer.files import JsonObject, as_table
from trainer.run.folder import CHECKPOINTS, MODEL_FILE, step_folders, step_of
from trainer.run.index import Entry
from trainer.tracking.metrics_file import read_rows

# libyaml's, where PyYAML was built with it: six times as fast as the one in Python. Both make
# plain values only, so that a tag in a stranger's file runs no code.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Ours has three kilobytes.
_MAX_CONFIG_BYTES = 1_000_000
_BLOCKS = "▁▂▃▄▅▆▇█"
# The metrics of which one may be the monitored one, the likeliest first.
_MONITORED = ("val/accuracy", "val/loss", "train/loss")


def config_of(entry: Entry) -> dict[str, object]:
    """The config of a run by dotted keys, from config.yaml, else from a checkpoint, else empty."""
    config = _flat(_from_yaml(entry.path / "config.yaml"))
    # A run that lost its config.yaml has the config in each checkpoint too.
    return config or _flat(description_of(entry).get("config"))


def quick_config_of(entry: Entry, description: Mapping[str, object]) -> dict[str, object]:
    """As `config_of`, from the checkpoint first."""
    # Parsing it as JSON takes a fiftieth of the time of YAML, and a filter reads every config.
    return _flat(description.get("config")) or _flat(_from_yaml(entry.path / "config.yaml"))


def description_of(entry: Entry) -> JsonObject:
    """The description in the best checkpoint, unchecked; empty without one."""
    # Unchecked is enough to print: nothing is built from it, and nothing imported.
    with contextlib.suppress(OSError, TrainerError, ValueError, RecursionError):
        model = next((path for path in _models(entry) if path.is_file()), None)
        return {} if model is None else as_table(json.loads(read_header(model).description))
    return {}


def metrics_of(description: Mapping[str, object]) -> dict[str, float | None]:
    """The metrics in the description of a checkpoint."""
    found = as_table(description.get("metrics"))
    return {str(name): value for name, value in found.items() if is_finite(value)}


def monitored(metrics: Mapping[str, float | None], config: Mapping[str, object]) -> str | None:
    """The metric that chose the best checkpoint, or the likeliest one that has a value."""
    names = (config.get("trainer.monitor"), *_MONITORED)
    return next((str(name) for name in names if is_finite(metrics.get(str(name)))), None)


def is_maximized(metric: str) -> bool:
    """Whether more is better."""
    return metric.endswith("accuracy")


def curves_of(run: Path) -> dict[str, list[float]]:
    """The values of loss and accuracy over the steps, by `split/metric`."""
    curves: dict[str, list[float]] = {}
    for row in read_rows(run):
        # The test has one row, at the end, which is no curve; an epoch is a mean of train rows.
        if row["split"] not in ("train", "val"):
            continue
        for name in ("loss", "accuracy"):
            if is_finite(row[name]):
                curves.setdefault(f"{row['split']}/{name}", []).append(float(row[name]))
    return dict(sorted(curves.items()))


def sparkline(values: Sequence[float], *, width: int = 24) -> str:
    """A curve in a line of blocks: the means of `width` equal parts, scaled from 0 to full."""
    if not values:
        return ""
    num = min(width, len(values))
    bounds = [round(part * len(values) / num) for part in range(num + 1)]
    means = [math.fsum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low = min(means)
    span = max(means) - low
    if span <= 0:
        return _BLOCKS[3] * num
    return "".join(_BLOCKS[min(7, int(8 * (mean - low) / span))] for mean in means)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether a value is a number, and a finite one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def as_text(value: object) -> str:
    """A value of a config as YAML and the command line write it, on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(as_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_text(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value, default=str)


def _models(entry: Entry) -> Iterator[Path]:
    """Where the best model may be: as run.json says, for which no folder is read; or the newest."""
    names = as_table(entry.record.get("checkpoints"))
    for which in ("best", "last"):
        name = names.get(which)
        # A name from run.json must not lead out of the run folder.
        if isinstance(name, str) and name == Path(name).name and step_of(Path(name)) is not None:
            yield entry.path / CHECKPOINTS / name / MODEL_FILE
    for step in reversed(step_folders(entry.path)):
        yield step / MODEL_FILE


def _from_yaml(path: Path) -> object:
    try:
        # To open a named pipe would wait for its writer.
        if not path.is_file() or path.stat().st_size > _MAX_CONFIG_BYTES:
            return {}
        # What yaml.load does; the source has no such call, so that none with another loader hides.
        loader = _Loader(path.read_text(encoding="utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}


def _flat(content: object) -> dict[str, object]:
    """The dotted keys of a config from outside; a table within a section is a value."""
    return flatten(as_table(content), levels=2)
