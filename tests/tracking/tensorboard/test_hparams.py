"""The entries of runs in TensorBoard's HPARAMS tab, read back with its parsers and asked of a
real server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composing import config_of
from serving import Server, serving
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    Experiment,
)
from waiting import wait_until

from trainer.config import SCHEMAS, to_plain
from trainer.run.record import RunStatus
from trainer.tracking.tensorboard.hparams import (
    METRICS,
    METRICS_OF_VALUES,
    declared_keys,
    end_summary,
    start_summaries,
    values,
)
from trainer.tracking.tensorboard.writer import EventWriter


def content_of(summary: Summary) -> bytes:
    (value,) = summary.value
    assert value.metadata.plugin_data.plugin_name == "hparams"
    content: bytes = value.metadata.plugin_data.content
    return content


def experiment_of(summaries: list[Summary]) -> Experiment:
    return metadata.parse_experiment_plugin_data(content_of(summaries[0]))


def plain(*overrides: str) -> dict[str, Any]:
    return to_plain(config_of(*overrides))


def seen(config: dict[str, Any]) -> dict[str, Any]:
    """The values of a run as Python's, as TensorBoard reads them."""
    start = start_summaries(config, started=5.0)[1]
    assert start.value[0].tag == metadata.SESSION_START_INFO_TAG
    info = metadata.parse_session_start_info_plugin_data(content_of(start))
    assert info.start_time_secs == 5.0 and info.group_name == ""
    return {
        key: getattr(value, str(value.WhichOneof("kind"))) for key, value in info.hparams.items()
    }


@pytest.mark.parametrize(
    "words", [("model=cnn",), ("model=mlp", "optimizer=adam", "scheduler=step", "data=dirichlet")]
)
def test_every_run_declares_the_same_columns_in_the_same_order(words: tuple[str, ...]) -> None:
    one, other = (
        experiment_of(start_summaries(plain(*chosen), started=5.0)) for chosen in ((), words)
    )
    assert one == other
    assert [info.name for info in one.hparam_infos] == list(declared_keys())
    assert [info.name.tag for info in one.metric_infos] == list(METRICS)


def test_every_choice_has_its_keys_and_no_place_or_cadence_is_one() -> None:
    keys = list(declared_keys())
    assert keys[:3] == ["model.name", "optimizer.lr", "optimizer.name"]
    assert {
        "seed",
        "optimizer.betas",
        "scheduler.step_size",
        "loss.margin",
        "model.dropout",
        "trainer.ema",
    } <= set(keys)
    assert {key.partition(".")[0] for key in keys} == {*SCHEMAS, "trainer", "seed"} - {"logger"}
    assert {
        "data.root",
        "trainer.device",
        "trainer.threads",
        "trainer.save_every",
        "trainer.keep",
    }.isdisjoint(keys)


def test_a_column_has_one_type() -> None:
    kinds = declared_keys()
    numbers = ("optimizer.lr", "seed", "data.train_limit", "trainer.clip_norm", "scheduler.max_lr")
    assert {kinds[key] for key in numbers} == {DATA_TYPE_FLOAT64}
    assert {kinds[key] for key in ("optimizer.nesterov", "data.drop_last")} == {DATA_TYPE_BOOL}
    # A number in cnn, a list in mlp.
    assert {kinds[key] for key in ("model.hidden", "trainer.monitor", "data.transforms")} == {
        DATA_TYPE_STRING
    }


def test_numbers_are_numbers_switches_switches_and_null_is_absent_or_a_word() -> None:
    found = seen(
        plain(
            "model=cnn",
            "optimizer.lr=0.03",
            "data.transforms=[random_invert]",
            "trainer.clip_norm=null",
        )
    )
    assert found["optimizer.lr"] == 0.03 and found["trainer.epochs"] == 5
    assert found["optimizer.nesterov"] is False
    assert "trainer.clip_norm" not in found and "data.train_limit" not in found
    assert found["trainer.monitor"] == "none"
    assert found["model.hidden"] == "128" and found["model.channels"] == "[32, 64]"
    assert json.loads(found["data.transforms"]) == [{"name": "random_invert", "p": 0.5}]
    assert set(found) <= set(declared_keys()) and "model.dropout" not in found


def test_values_that_json_cannot_hold_or_that_are_endless_do_no_harm() -> None:
    table = {"name": "custom", "target": "a.B", "kwargs": {"width": 3, "names": ["ä", None]}}
    found = seen(
        {
            "model": table,
            "optimizer": {"lr": math.nan},
            "data": {"kwargs": {"x": "y" * 5000}},
            "unknown": 1,
        }
    )
    assert json.loads(found["model.kwargs"]) == table["kwargs"]
    assert "optimizer.lr" not in found and "unknown" not in found
    assert len(found["data.kwargs"]) == 200


def test_five_columns_are_shown_at_first_and_those_of_a_sweep_before_others() -> None:
    def shown(*varied: str) -> set[str]:
        infos = experiment_of(start_summaries(plain(), started=5.0, varied=varied)).hparam_infos
        return {info.name for info in infos if info.differs}

    always = {"model.name", "optimizer.lr", "optimizer.name", "data.name", "data.batch_size"}
    assert shown() == always
    # Where a run lacks one, it is not in the parallel coordinates.
    assert always <= set(values(plain("data=line", "model=linear", "loss=mse", "optimizer=lbfgs")))
    assert shown("scheduler.name", "data.root") == always - {"data.batch_size"} | {"scheduler.name"}
    many = {
        "scheduler.name",
        "seed",
        "loss.name",
        "trainer.ema",
        "trainer.l1",
        "optimizer.momentum",
    }
    assert shown(*many) == many


@pytest.mark.parametrize(
    ("outcome", "number"),
    [(RunStatus.INTERRUPTED, 0), (RunStatus.DONE, 1), (RunStatus.FAILED, 2)],
)
def test_how_a_run_ended(outcome: RunStatus, number: int) -> None:
    info = metadata.parse_session_end_info_plugin_data(content_of(end_summary(outcome, 7.5)))
    assert (info.status, info.end_time_secs) == (number, 7.5)


ACCURACIES = [0.61, 0.93, 0.55, 0.87, 0.72, 0.99, 0.48, 0.81, 0.90, 0.67, 0.76, 0.58]
OUTCOMES = [RunStatus.DONE] * 8 + [RunStatus.FAILED] * 2 + [None] * 2


def write_run(
    folder: Path, config: dict[str, Any], accuracy: float, outcome: RunStatus | None
) -> None:
    """A run of two evaluations, as its own folder has it."""
    folder.mkdir()
    writer = EventWriter(folder, purge_step=0)
    for summary in start_summaries(config, started=1000.0, varied=["trainer.clip_norm"]):
        writer.summary(summary, 0)
    for step in (1, 2):
        for tag in METRICS:
            writer.scalar(tag, accuracy * step / 2, step)
    if outcome is not None:
        writer.summary(end_summary(outcome, 1500.0), 2)
    writer.close()


ALL = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]


def groups(
    server: Server, *columns: dict[str, Any], statuses: list[str] = ALL
) -> list[dict[str, Any]]:
    request = {
        "experimentName": "",
        "allowedStatuses": statuses,
        "colParams": columns,
        "sliceSize": 100,
    }
    found: list[dict[str, Any]] = server.post("plugin/hparams/session_groups", request)[
        "sessionGroups"
    ]
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Twelve runs of two models: eight complete, two failed, two still going."""
    logdir = tmp_path_factory.mktemp("hparams")
    for number, (accuracy, outcome) in enumerate(zip(ACCURACIES, OUTCOMES, strict=True)):
        words = [
            f"model={('cnn', 'mlp')[number % 2]}",
            f"optimizer.lr={0.1 / (number + 1)}",
            f"seed={number}",
        ]
        config = plain(*words, f"trainer.clip_norm={number / 2 if number % 4 else 'null'}")
        write_run(logdir / f"{number:02}", config, accuracy, outcome)
    with serving(logdir, runs=12) as up:
        # A run's name may be known before all of its records.
        wait_until(
            lambda: [len(group["metricValues"]) for group in groups(up)] == [len(METRICS)] * 12
        )
        yield up


@pytest.mark.slow
def test_tensorboard_sorts_runs_by_accuracy(server: Server) -> None:
    found = groups(server, {"metric": {"tag": "Accuracy/test"}, "order": "ORDER_DESC"})
    best_first = sorted(range(12), key=lambda number: -ACCURACIES[number])
    assert [int(group["name"]) for group in found] == best_first
    last = [group["metricValues"][0]["value"] for group in found]
    assert last == pytest.approx(sorted(ACCURACIES, reverse=True), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", ["trainer.clip_norm", "model.hidden", "model.dropout", "optimizer.nesterov"]
)
@pytest.mark.parametrize("order", ["ORDER_ASC", "ORDER_DESC"])
def test_tensorboard_sorts_by_a_key_that_some_runs_lack_or_have_as_a_list(
    server: Server, key: str, order: str
) -> None:
    found = [group["hparams"].get(key) for group in groups(server, {"hparam": key, "order": order})]
    there = [value for value in found if value is not None]
    assert len(found) == 12 and there
    assert found == sorted(there, reverse=order == "ORDER_DESC") + [None] * (12 - len(there))


@pytest.mark.slow
def test_tensorboard_knows_how_runs_ended(server: Server) -> None:
    found = [group["sessions"][0]["status"] for group in groups(server)]
    # It has no better word for a run that has not ended.
    assert found == ["STATUS_SUCCESS"] * 8 + ["STATUS_FAILURE"] * 2 + ["STATUS_UNKNOWN"] * 2
    failed = groups(server, statuses=["STATUS_FAILURE"])
    assert [group["name"] for group in failed] == ["08", "09"]
    assert failed[0]["sessions"][0]["endTimeSecs"] == 1500.0


@pytest.mark.slow
def test_tensorboard_offers_the_declared_columns_and_few_filters(server: Server) -> None:
    experiment = server.post(
        "plugin/hparams/experiment", {"experimentName": "", "hparamsLimit": 1000}
    )
    infos = {info["name"]: info for info in experiment["hparamInfos"]}
    assert set(infos) == set(declared_keys())
    first = list(infos)[:5]
    assert first == [
        "data.name",
        "model.name",
        "optimizer.lr",
        "optimizer.name",
        "trainer.clip_norm",
    ]
    assert infos["model.name"]["domainDiscrete"] == list(SCHEMAS["model"])
    # Without a list of values it would be a filter of two fields; an empty list is none.
    assert "domainDiscrete" not in infos["optimizer.lr"]
    assert all(infos[key]["domainDiscrete"] == [] for key in list(infos)[5:])
    assert [metric["name"]["tag"] for metric in experiment["metricInfos"]] == list(METRICS)


def test_runs_without_an_accuracy_need_no_column_of_it() -> None:
    assert METRICS_OF_VALUES == (
        "MSE/test", "Best/val_mse", "MSE/val", "Loss/test", "Best/val_loss", "Loss/val",
        "Loss/train", "MAE/test", "Best/val_mae", "MAE/val",
    )  # fmt: skip
