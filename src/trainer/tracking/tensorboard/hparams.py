"""The entry of a run in TensorBoard's HPARAMS tab, as summaries. No torch.

TensorBoard takes the columns from the first run that it finds, and shows no value that they do not
name: every run declares the same keys, those of every choice of every group. What a run's own
choices do not have is absent in it, which TensorBoard shows as an empty cell and sorts to the end.
Its parallel coordinates leave out a run that lacks a value of a ticked column: the five that are
ticked at first are in every run.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Value
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_FAILURE,
    STATUS_SUCCESS,
    STATUS_UNKNOWN,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from trainer.config import SCHEMAS, every_key, flatten
from trainer.run.record import RunStatus

# The scalars that are columns, each with its last value. TensorBoard shows the first five at first.
METRICS = (
    "Accuracy/test", "Best/val_accuracy", "Accuracy/val", "Loss/test", "Best/val_loss", "Loss/val",
    "Loss/train", "Accuracy/train",
)  # fmt: skip
# Of a run whose targets are values: with a column that it lacks, the parallel coordinates leave it
# out.
METRICS_OF_VALUES = (
    "MSE/test", "Best/val_mse", "MSE/val", "Loss/test", "Best/val_loss", "Loss/val", "Loss/train",
    "MAE/test", "Best/val_mae", "MAE/val",
)  # fmt: skip
# TensorBoard shows five hyperparameters at first: those marked as different, then by name.
NUM_SHOWN = 5
_MAX_TEXT = 200
# TensorBoard has no status for a run that was stopped or pruned: these are unknown.
_STATUSES = {RunStatus.DONE: STATUS_SUCCESS, RunStatus.FAILED: STATUS_FAILURE}


def start_summaries(
    config: Mapping[str, object],
    *,
    metrics: Sequence[str] = METRICS,
    started: float,
    varied: Collection[str] = (),
) -> list[Summary]:
    """The columns, and the run's own values: what is written once, when a run begins.

    `config` is the whole config as nested plain values, `metrics` are tags of scalars, `started` is
    in seconds since 1970. `varied` are the keys that a sweep varies: they are shown at first, and
    after them the most used ones up to five.
    """
    shown = _shown_at_first(varied)
    experiment = Experiment(time_created_secs=started)
    for key, kind in declared_keys().items():
        is_shown = key in shown
        domain = _domain(key, kind, is_shown)
        experiment.hparam_infos.append(
            HParamInfo(name=key, type=kind, domain_discrete=domain, differs=is_shown)
        )
    for tag in metrics:
        experiment.metric_infos.append(MetricInfo(name=MetricName(tag=tag)))
    session = SessionStartInfo(hparams=values(config), start_time_secs=started)
    return [
        _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
        _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=session)),
    ]


def end_summary(outcome: RunStatus, ended: float) -> Summary:
    """How a run ended, and when, in seconds since 1970.

    There is no such summary of a run that begins: TensorBoard keeps the first status that it reads
    of a run for as long as it is up, so that STATUS_RUNNING could never become another.
    """
    status = _STATUSES.get(outcome, STATUS_UNKNOWN)
    session = SessionEndInfo(status=status, end_time_secs=ended)
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=session))


@functools.cache
def declared_keys() -> Mapping[str, int]:
    """Every hyperparameter of every choice with TensorBoard's type of it, the most used ones first.

    A key that is a number in one choice and a text in another is a text: a column of both cannot be
    sorted.
    """
    kinds: dict[str, int] = {}
    for name, key in every_key():
        if key.is_hyperparameter:
            kind = _kind(key.type)
            kinds[name] = kind if kinds.get(name, kind) == kind else DATA_TYPE_STRING
    first = _most_used()
    return {name: kinds[name] for name in (*first, *sorted(kinds.keys() - set(first)))}


def _most_used() -> list[str]:
    columns = {name: key.column for name, key in every_key() if key.column is not None}
    return sorted(columns, key=columns.__getitem__)


def values(config: Mapping[str, object]) -> dict[str, Value]:
    """The values of a run under their dotted names, for the declared keys that it has.

    In a column of numbers or switches null is left out, in one of texts it is `none`; lists and
    tables are JSON.
    """
    kinds = declared_keys()
    found = {}
    # Two levels: the names in a table such as model.kwargs are a person's own, and no columns.
    for key, value in flatten(config, levels=2).items():
        if key in kinds and (made := _value(kinds[key], value)) is not None:
            found[key] = made
    return found


def _kind(annotation: str) -> int:
    """TensorBoard's type for a dataclass's annotation, such as `int | None`."""
    names = {name.strip() for name in annotation.split("|")} - {"None"}
    if names <= {"int", "float"}:
        return int(DATA_TYPE_FLOAT64)
    return int(DATA_TYPE_BOOL if names == {"bool"} else DATA_TYPE_STRING)


def _value(kind: int, value: Any) -> Value | None:
    """`value` as its column has it; None where the column has no such value."""
    if kind == DATA_TYPE_FLOAT64:
        # By `type`: True is an int too. JSON, in which the server answers, has no NaN.
        is_number = type(value) in (int, float) and math.isfinite(value)
        return Value(number_value=value) if is_number else None
    if kind == DATA_TYPE_BOOL:
        return Value(bool_value=value) if isinstance(value, bool) else None
    if not isinstance(value, str):
        value = "none" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return Value(string_value=value if len(value) <= _MAX_TEXT else f"{value[: _MAX_TEXT - 1]}…")


def _domain(key: str, kind: int, is_shown: bool) -> ListValue | None:
    """The values to tick in the filter of a column; None for an interval.

    A column that is not shown at first has none: a filter is 140 pixels high in the list on the
    left, and 80 of them put the choice of what to sort by ten screens further down.
    """
    if not is_shown:
        return ListValue()
    if kind == DATA_TYPE_FLOAT64:
        return None
    if kind == DATA_TYPE_BOOL:
        return ListValue(values=[Value(bool_value=True), Value(bool_value=False)])
    group, _, name = key.partition(".")
    choices = SCHEMAS[group] if name == "name" else ()
    return ListValue(values=[Value(string_value=choice) for choice in choices])


def _shown_at_first(varied: Collection[str]) -> set[str]:
    """The declared keys that a sweep varies, and the most used ones up to five."""
    shown = [key for key in declared_keys() if key in varied]
    others = [key for key in _most_used() if key not in shown]
    return {*shown, *others[: max(0, NUM_SHOWN - len(shown))]}


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    # The content is in the metadata. A value needs a tensor too: this is TensorBoard's shortest.
    described = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)])
