"""Where the jobs of a sweep come from: the list of a grid, or a search that learns from the jobs
before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from trainer.commands.sweep.plan import Values
from trainer.commands.sweep.record import JobRecord, SweepRecord
from trainer.commands.sweep.search import Search
from trainer.commands.sweep.task import Trial
from trainer.config.sweep import RandomConfig, SweepRequest

Planned = tuple[int, Values, Trial | None]
"""A job's number, its values, and the trial of a search that it is, where that may prune it."""


class Source(Protocol):
    """Where jobs come from."""

    def next(self) -> Planned | None:
        """The next job; None when there is none."""

    def tell(self, job: JobRecord) -> None:
        """A job has ended."""

    def close(self) -> None:
        """Let go of what it holds."""


def make_source(request: SweepRequest, record: SweepRecord) -> Source:
    """The source of the jobs that are asked for. A search takes the jobs it will run again out
    of the `record`.
    """
    return _Searching(request, record) if isinstance(request.sweep, RandomConfig) else _Grid(record)


class _Grid:
    """The jobs of the record, in their order."""

    def __init__(self, record: SweepRecord) -> None:
        self._left: Iterator[JobRecord] = iter(list(record.jobs))

    def next(self) -> Planned | None:
        """See `Source.next`."""
        job = next(self._left, None)
        return None if job is None else (job.number, job.values, None)

    def tell(self, job: JobRecord) -> None:
        """Nothing: a grid does not learn."""

    def close(self) -> None:
        """Nothing is held."""


class _Searching:
    """What a study suggests; first the trials that were cut."""

    def __init__(self, request: SweepRequest, record: SweepRecord) -> None:
        config = request.sweep
        assert isinstance(config, RandomConfig), "a grid has no trials"
        # In a database of the person's own, other sweeps have their studies too.
        name = (
            "sweep" if getattr(config, "storage", None) is None else str(record.folder.absolute())
        )
        self._search = Search(
            config,
            request.axes,
            folder=record.folder,
            name=name,
            maximize=record.maximize,
            known=len(record.jobs),
        )
        self._unfinished = self._search.unfinished()
        repeated = set(self._search.failed())
        record.jobs = [job for job in record.jobs if job.number not in repeated]
        self._monitor = record.monitor

    def next(self) -> Planned | None:
        """See `Source.next`."""
        suggestion = self._unfinished.pop(0) if self._unfinished else self._search.ask()
        return (
            None if suggestion is None else (suggestion.number, suggestion.values, suggestion.trial)
        )

    def tell(self, job: JobRecord) -> None:
        """See `Source.tell`."""
        self._search.tell(job.number, status=job.status, value=job.metrics.get(self._monitor))

    def close(self) -> None:
        """See `Source.close`."""
        self._search.close()
