"""TensorBoard: the scalars and the one hparams entry of a run, all in the run's own folder. The x axis is the step."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summary

from trainer.tracking.events import rewind
from trainer.tracking.records import EpochRecord, EvalRecord, ResumePoint, TrainRecord, scalar_tags


class TensorBoard:
    """Writes events; `scalars` and `hparams` switch each kind of record, `warn` tells a person."""

    def __init__(
        self,
        run: Path,
        *,
        scalars: bool,
        hparams: bool,
        config: Mapping[str, Any],
        warn: Callable[[str], None],
        resumed: ResumePoint | None = None,
    ) -> None:
        if resumed is not None and (damage := rewind(run, resumed)) is not None:
            warn(damage)
        # A TensorBoard that is running has already read what is dropped: this tells it. The first start it passes over.
        purge_step = 0 if resumed is None else resumed.step + 1
        _hush_writers()
        self._writer = SummaryWriter(str(run), purge_step=purge_step)
        self._scalars, self._hparams, self._config = scalars, hparams, config

    def train(self, record: TrainRecord) -> None:
        """See `Tracker.train`."""
        self._write("train", record)

    def evaluation(self, record: EvalRecord) -> None:
        """See `Tracker.evaluation`."""
        self._write(record.split, record)
        self.flush()

    def epoch(self, record: EpochRecord) -> None:
        """Nothing: an epoch is the sum of its windows."""

    def flush(self) -> None:
        """See `Tracker.flush`."""
        self._writer.flush()

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """Write the hparams entry: every value of the config, and as metrics the scalars that were written."""
        if not self._hparams:
            return
        tags = [f"{name.capitalize()}/{split}" for split, _, name in (metric.partition("/") for metric in metrics)]
        # torch wants values with the metrics; TensorBoard shows the scalars of these tags instead.
        summaries = hparams_summary(flat_hparams(self._config), dict.fromkeys(tags, 0.0))  # type: ignore[no-untyped-call]
        for summary in summaries:
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()

    def _write(self, split: str, record: TrainRecord | EvalRecord) -> None:
        if not self._scalars:
            return
        for name, tag in scalar_tags(split).items():
            value = getattr(record, name)
            if value is not None:
                self._writer.add_scalar(tag, value, record.step)


@functools.cache
def _hush_writers() -> None:
    """A writer's own thread hands its error to the next call here as well: it is told there, once.

    For good: such a thread speaks when its writer may be closed already.
    """
    tell = threading.excepthook

    def tell_others(failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            tell(failed)

    threading.excepthook = tell_others


def flat_hparams(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Nested config values under dotted names; numbers stay numbers, null and lists become text."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": item for inner, item in flat_hparams(value).items()})
        else:
            flat[key] = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
    return flat
