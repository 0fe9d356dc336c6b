"""One run of `trainer runs`: what is printed of it, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from trainer.commands.runs.read import (
    config_of,
    description_of,
    is_finite,
    metrics_of,
    monitored,
    quick_config_of,
)
from trainer.config import flatten
from trainer.files import JsonObject
from trainer.run.index import Entry, Notes, read_notes
from trainer.run.record import RunStatus
from trainer.tracking.table import ago
from trainer.tracking.text import number_text

_MAX_NOTE = 60


@dataclass(kw_only=True)
class RunRow:
    """One run of the list.

    What is not in run.json is read when it is first needed: so five hundred runs are listed in a
    quarter of a second.
    """

    entry: Entry

    @cached_property
    def status(self) -> RunStatus:
        """How the run was when it was first looked at: a lock may be taken meanwhile."""
        return self.entry.status

    @cached_property
    def notes(self) -> Notes:
        """Its tags and its note."""
        return read_notes(self.entry.path)

    @cached_property
    def config(self) -> dict[str, object]:
        """Its config by dotted keys."""
        return quick_config_of(self.entry, self.description)

    @cached_property
    def values(self) -> dict[str, object]:
        """Its config, also with the keys in its tables, such as `model.kwargs.width`."""
        tables = {key: value for key, value in self.config.items() if isinstance(value, dict)}
        return {**self.config, **flatten(tables)}

    @cached_property
    def description(self) -> JsonObject:
        """The description in its best checkpoint."""
        return description_of(self.entry)

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Its final metrics, or those so far."""
        return self.entry.metrics or metrics_of(self.description)

    @property
    def monitored(self) -> str | None:
        """The metric that chose its best checkpoint."""
        return monitored(self.metrics, self.config)

    def plain(self, *, keys: Sequence[str] | None = None) -> dict[str, object]:
        """The row as JSON for programs; with `keys` it has those of the config."""
        entry = self.entry
        metric = self.monitored
        config = {}
        if keys is not None:
            config["config"] = {key: self.values[key] for key in keys if key in self.values}
        return {
            "id": entry.id,
            "path": str(entry.path),
            "name": entry.name,
            "status": self.status,
            "started": entry.record.get("started"),
            "ended": entry.record.get("ended"),
            **config,
            "monitor": metric,
            "best": None if metric is None else self.metrics[metric],
            # A loss that became NaN or infinite is null: JSON has neither.
            "metrics": {
                name: value if is_finite(value) else None for name, value in self.metrics.items()
            },
            "tags": list(self.notes.tags),
            "note": self.notes.note,
        }

    def whole(self) -> dict[str, object]:
        """All there is of the run, as JSON for programs: with its record and its config."""
        return {**self.plain(), "record": self.entry.record, "config": config_of(self.entry)}

    def first_cells(self) -> list[str]:
        """The cells before those of the config: id, start, name."""
        return [self.entry.id, ago(self.entry.started), self.entry.name]

    def last_cells(self) -> list[str]:
        """The cells after those of the config: status, best and test metric, tags, note."""
        best = self.monitored
        note = next((line for line in self.notes.note.splitlines() if line.strip()), "")
        if len(note) > _MAX_NOTE:
            note = f"{note[: _MAX_NOTE - 1]}…"
        return [
            self.status,
            self._metric_text(best),
            self._metric_text(self._test_metric(best)).removeprefix("test/"),
            ",".join(self.notes.tags),
            note,
        ]

    def _test_metric(self, best: str | None) -> str | None:
        """The accuracy of the test, else the metric that chose the checkpoint, else the loss."""
        alike = "" if best is None else f"test/{best.rpartition('/')[2]}"
        # Of targets that are values, there is no accuracy.
        names = ("test/accuracy", alike, "test/loss")
        return next((name for name in names if is_finite(self.metrics.get(name))), None)

    def _metric_text(self, metric: str | None) -> str:
        return "-" if metric is None else f"{metric} {number_text(self.metrics[metric])}"
