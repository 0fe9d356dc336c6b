"""Signals to the workers that load samples: they leave them to the training, and break nothing
when they end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from waiting import wait_until

from trainer.data import workers as reading
from trainer.data.dataset import Part, StreamedBatches
from trainer.data.samples import ConvertedDataset, Form
from trainer.data.workers import WorkerKilled
from trainer.signals import Signals


class Slow(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.02)
        return torch.zeros(1), 0


def batches_of_two_workers() -> Iterator[Any]:
    form = Form(num_classes=2, is_float=False, needs_images=False)
    part = Part.whole(ConvertedDataset(Slow(), name="the data set", form=form))
    batches = StreamedBatches(
        part, batch_size=1, num_workers=2, device=torch.device("cpu"), seed=0
    ).epoch(0)
    # One of each: a signal to a worker that is not ready yet would be lost.
    for _ in range(2):
        next(batches)
    return batches


def to_workers(number: int) -> None:
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid or 0, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_to_workers_do_not_end_what_they_load(number: int) -> None:
    batches = batches_of_two_workers()
    to_workers(number)
    assert len(list(batches)) == 18


def test_workers_that_end_after_a_stop_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DataLoader would raise in the middle of whatever is done just then: of a save, say."""
    monkeypatch.setattr(reading, "_SECONDS_TO_END", 1)
    batches, before = batches_of_two_workers(), signal.getsignal(signal.SIGCHLD)
    workers = multiprocessing.active_children()
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            to_workers(signal.SIGTERM)
            wait_until(lambda: not any(worker.is_alive() for worker in workers))
            assert signals.should_stop()
        with pytest.raises(WorkerKilled, match="killed by SIGTERM"):
            list(batches)
    finally:
        signal.signal(signal.SIGCHLD, before)
