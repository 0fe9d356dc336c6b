"""A kind of record that fails gives one warning and is left out; all else continues."""

from __future__ import annotations

from pathlib import Path

import processes
import pytest
from running import SMALL, Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS

from trainer.run.record import RunStatus
from trainer.tracking import FailSafeTracker

OWN = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(10, 6)
        self.head = torch.nn.Linear(6, 10)
        self.unused = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.body(x).relu())
"""
CUSTOM = (
    "model=custom",
    "model.target=own_net.Net",
    *(word for word in SMALL if not word.startswith("model")),
)


def test_a_projector_that_has_nothing_to_show_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(OWN)
    words = (*CUSTOM, "logger.projector_layer=unused", "logger.projector_epochs=[1]", "run.dir=run")
    outcome = processes.run("fit", *words, cwd=tmp_path)
    assert outcome.code == 0
    assert " ".join(outcome.err.split()) == (
        "Warning: TensorBoard gets no more of this kind: projector (logger.projector_layer: unused "
        "has no features of "
        "each sample.). Everything else continues."
    )
    run = Run(tmp_path / "run")
    events = EventAccumulator(str(run.folder)).Reload()
    assert [event.step for event in events.Scalars("Loss/val")] == [
        row["step"] for row in run.split("val")
    ]
    assert {"Loss/test", "Accuracy/test"} <= set(events.Tags()["scalars"])
    content = events.summary_metadata["_hparams_/session_end_info"].plugin_data.content
    assert metadata.parse_session_end_info_plugin_data(content).status == STATUS_SUCCESS
    assert processes.run("check-run", "run", cwd=tmp_path).code == 0


class Failing:
    """A tracker whose watch fails at every batch."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def watch(self, split: str) -> object:
        def seen(*batch: object) -> None:
            raise ValueError("two\\nlines".replace("\\n", chr(10)))

        return seen

    def close(self, outcome: RunStatus, metrics: object) -> None:
        assert metrics is None
        self.outcomes.append(outcome)


def test_a_watch_that_fails_gives_one_warning_however_many_batches_follow() -> None:
    tracker, warnings = Failing(), list[str]()
    watch = FailSafeTracker(lambda: tracker, name="TensorBoard", warn=warnings.append).watch("val")  # type: ignore[arg-type, return-value]
    assert watch is not None
    for _ in range(5):
        watch(None, None, None)  # type: ignore[arg-type]
    (line,) = warnings
    assert line.startswith("TensorBoard gets no more records (ValueError: two lines).")
    assert tracker.outcomes == ["interrupted"], "the run has not failed"


@pytest.mark.parametrize("logger", ["tensorboard", "tensorboard_full"])
def test_a_run_that_wrote_no_events_has_its_curves_from_the_beginning(
    logger: str, tmp_path: Path
) -> None:
    assert processes.run("fit", *SMALL, "logger=none", "run.dir=run", cwd=tmp_path).code == 0
    outcome = processes.run(
        "fit", "resume=run", f"logger={logger}", "trainer.epochs=3", cwd=tmp_path
    )
    assert (
        outcome.code == 0
        and "logger.name none -> " in outcome.out
        and "logger.layers" not in outcome.out
    )
    run = Run(tmp_path / "run")
    events = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    for split in ("train", "val"):
        assert [event.step for event in events.Scalars(f"Loss/{split}")] == [
            row["step"] for row in run.split(split)
        ]
