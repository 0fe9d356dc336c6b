"""What `trainer runs` knows of a run beyond its run.json: config, metrics, curves; read where it is
needed.

Nothing of it is believed: a file that is damaged has no values.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from trainer.checkpoint.file import read_header
from trainer.config import flatten
from trainer.errors import TrainerError
from trainer.run.folder import CHECKPOINTS, MODEL_FILE, step_folders, step_of
from trainer.run.index import Entry
from trainer.tracking.metrics_file import read_rows

# Ten times faster than the loader in Python; of the same plain values.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Ours has three kilobytes.
_MAX_CONFIG_BYTES = 1_000_000
_BLOCKS = "▁▂▃▄▅▆▇█"
# The metrics of which one may be the monitored one, the likeliest first.
_MONITORED = ("val/accuracy", "val/loss", "train/loss")


def config_of(entry: Entry) -> dict[str, Any]:
    """The config of a run by dotted keys, from config.yaml, else from a checkpoint; empty where
    neither can be read.
    """
    return _flat(_from_yaml(entry.path / "config.yaml")) or _flat(
        description_of(entry).get("config")
    )


def quick_config_of(entry: Entry, description: Mapping[str, Any]) -> dict[str, Any]:
    """As `config_of`, but first from what a checkpoint says of itself: its JSON is read faster
    than YAML.
    """
    return _flat(description.get("config")) or _flat(_from_yaml(entry.path / "config.yaml"))


def description_of(entry: Entry) -> dict[str, Any]:
    """What the best checkpoint says of itself, as it says it; empty without one."""
    with contextlib.suppress(OSError, TrainerError, ValueError, RecursionError):
        model = next((path for path in _models(entry) if path.is_file()), None)
        content = {} if model is None else json.loads(read_header(model).description)
        return content if isinstance(content, dict) else {}
    return {}


def metrics_of(entry: Entry, description: Mapping[str, Any]) -> dict[str, float | None]:
    """The final metrics; of a run that has none yet, or was cut, those of its best checkpoint."""
    if entry.metrics:
        return entry.metrics
    found = description.get("metrics")
    content = found if isinstance(found, dict) else {}
    return {str(name): value for name, value in content.items() if is_finite(value)}


def monitored(metrics: Mapping[str, float | None], config: Mapping[str, Any]) -> str | None:
    """The name of the metric that the run went by, as far as it has a value."""
    names = (config.get("trainer.monitor"), *_MONITORED)
    return next((str(name) for name in names if is_finite(metrics.get(str(name)))), None)


def is_maximized(metric: str) -> bool:
    """Whether more is better."""
    return not metric.endswith("loss")


def curves_of(run: Path) -> dict[str, list[float]]:
    """The values of loss and accuracy over the steps, by `split/metric`; splits that have a
    curve come first.
    """
    curves: dict[str, list[float]] = {}
    for row in read_rows(run):
        for name in ("loss", "accuracy"):
            if is_finite(row[name]) and row["split"] != "test":
                curves.setdefault(f"{row['split']}/{name}", []).append(float(row[name]))
    return dict(sorted(curves.items()))


def sparkline(values: Sequence[float], *, width: int = 24) -> str:
    """A curve in one line of text: means of equal parts between the lowest and the highest of them."""
    num = min(width, len(values))
    bounds = [round(part * len(values) / num) for part in range(num + 1)] if num else []
    means = [math.fsum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    if not means:
        return ""
    low, span = min(means), max(means) - min(means)
    return "".join(
        _BLOCKS[min(7, int(8 * (mean - low) / span))] if span > 0 else _BLOCKS[3] for mean in means
    )


def is_finite(value: Any) -> bool:
    """Whether a value is a number one can compare."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def as_text(value: Any) -> str:
    """A value of a config as YAML and the command line write it, on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(as_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_text(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value, default=str)


def as_number(value: float | None) -> str:
    """A metric in four digits or more."""
    return (
        "-"
        if value is None
        else f"{value:.4f}"
        if value == 0 or abs(value) >= 0.001
        else f"{value:.3e}"
    )


def _models(entry: Entry) -> Iterator[Path]:
    """Where the best model may be: as run.json says, which takes no look into folders, or else
    the newest.
    """
    names = entry.record.get("checkpoints")
    for which in ("best", "last"):
        name = names.get(which) if isinstance(names, dict) else None
        if isinstance(name, str) and name == Path(name).name and step_of(Path(name)) is not None:
            yield entry.path / CHECKPOINTS / name / MODEL_FILE
    for step in reversed(step_folders(entry.path)):
        yield step / MODEL_FILE


def _from_yaml(path: Path) -> Any:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_CONFIG_BYTES:
            return {}
        loader = _Loader(path.read_text(encoding="utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}


def _flat(content: Any) -> dict[str, Any]:
    """Dotted keys; a table within a section is a value."""
    return flatten(content, levels=2) if isinstance(content, dict) else {}
