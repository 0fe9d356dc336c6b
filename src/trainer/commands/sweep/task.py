"""What is handed to the process of a job, and what comes back: plain values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial of a search: where its study is kept, and which it is."""

    storage: str
    study: str
    trial_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a process needs to run a job: plain values only.

    `config` is the whole config, with the run folder in `run.dir`: where that holds a run that was
    cut, it is gone on with. `folder` is where the command was given. What the job says goes to the
    file `log`, or else to the terminal.
    """

    number: int
    config: dict[str, Any]
    command: list[str]
    varied: list[str]
    folder: str
    log: str | None = None
    trial: Trial | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended: `done`, `pruned`, `failed` or `interrupted`; `error` in a sentence,
    `warnings` as they came.
    """

    status: str
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str | None = None
    warnings: list[str] = field(default_factory=list)
