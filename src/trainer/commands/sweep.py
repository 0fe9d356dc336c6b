"""A sweep: many runs in one folder, a failing one not stopping the others, and a table of the results at the end.

A signal stops the job that runs, and with it the sweep, which then says what is done and what is not.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from rich import box
from rich.table import Table

from trainer import rundir
from trainer.commands.stopping import Signals
from trainer.config import SCHEMAS, load_fit
from trainer.errors import Stopped, TrainerError, printable
from trainer.tracking.console import Terminal

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from trainer.commands.fit import FitResult

# How many of the jobs that were not started are named when a sweep is stopped.
_MAX_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a sweep: what was swept, and its result or why there is none."""

    number: int
    overrides: tuple[str, ...]
    result: FitResult | None
    error: str | None


class Sweep:
    """Collects the jobs that Hydra's sweeper starts, one after another in this process."""

    def __init__(self, *, command: Sequence[str]) -> None:
        self._command = list(command)
        self._folder: Path | None = None
        self._is_dated = False
        self._jobs: list[Job] = []
        self._terminal = Terminal()
        # Between two jobs Hydra runs, and would take what a signal raises for the failure of a job.
        self._signals = Signals()
        self._between = contextlib.ExitStack()

    def folder(self, root: Path, name: str | None, exactly: str | None) -> Path:
        """The folder of the sweep, made when it is first asked for."""
        if self._folder is None:
            # Until the first job Hydra composes them all, which takes seconds for a hundred.
            self._between.enter_context(Signals(at_once=True, before_leaving=self._leave_nothing))
            self._is_dated = exactly is None
            if exactly is not None:
                self._folder = rundir.create_exactly(Path(exactly))
            else:
                self._folder = rundir.create(root, name or "sweep")
        return self._folder

    def discard(self) -> None:
        """Take the folder away again when the command was refused or stopped before any job ran."""
        if self._folder is not None and not self._jobs:
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._is_dated:
                with contextlib.suppress(OSError):  # other runs of the day are in it
                    self._folder.parent.rmdir()
        self._between.close()

    def _leave_nothing(self) -> None:
        self.discard()
        sys.stderr.write("Stopped before the first job.\n")

    def run_job(self, composed: DictConfig) -> float | None:
        """Run one job; returns the monitored metric, None when it failed. Signals end the whole sweep: SystemExit."""
        hydra = HydraConfig.get()
        number, overrides = int(hydra.job.num), tuple(map(str, hydra.overrides.task))
        self._between.close()
        if self._signals.stopped_by is not None:
            self._stop(128 + self._signals.stopped_by, f"before job {number}", stopped=0)
        self._terminal.line(f"Job {number}: {' '.join(overrides)}", style="bold")
        result, error = None, None
        try:
            result = self._fit(composed, number, overrides)
        except Stopped as stop:
            sys.stderr.write(f"{stop}\n")
            self._stop(stop.exit_code, f"in job {number}", stopped=1)
        except (KeyboardInterrupt, SystemExit) as stop:
            code = stop.code if isinstance(stop, SystemExit) else 130
            self._stop(code, f"in job {number}", stopped=1)
        except TrainerError as problem:
            error = problem.what
            self._terminal.warn(f"Job {number} failed: {problem}")
        except Exception as problem:
            error = f"{type(problem).__name__}: {printable(problem)}"
            self._terminal.warn(f"Job {number} failed: {error}")
            if os.environ.get("TRAINER_DEBUG") == "1":
                traceback.print_exception(problem)
        self._jobs.append(Job(number=number, overrides=overrides, result=result, error=error))
        self._between.enter_context(self._signals)
        return None if result is None else result.best

    def report(self) -> int:
        """Print the table and what failed; returns the exit code."""
        self._between.close()
        self._print_table()
        failed = [job for job in self._jobs if job.result is None]
        for job in failed:
            self._terminal.warn(f"Job {job.number} ({' '.join(job.overrides)}) failed: {job.error}")
        if self._signals.stopped_by is not None:  # it came when nothing was left to stop
            return 128 + self._signals.stopped_by
        return 1 if failed else 0

    def _print_table(self, keys: Sequence[str] = ()) -> None:
        """The jobs that ended, best first, failures last, with the values of `keys`; by default, of what differs."""
        if not self._jobs:
            return
        self._terminal.line("")
        self._terminal.table(_table(sorted(self._jobs, key=_rank), keys))
        self._terminal.facts(
            "",
            [("sweep", str(self._folder)), ("tensorboard", f"trainer tb {shlex.quote(str(self._folder))}")],
        )

    def _stop(self, code: object, where: str, *, stopped: int) -> NoReturn:
        """Say what is done and what is not, and leave: Hydra would go on with the next job after any other error."""
        planned = _planned_jobs(self._command)
        self._print_table([_key(word) for job in planned[:1] for word in job])
        done = sum(job.result is not None for job in self._jobs)
        left = [" ".join(job) for job in planned[len(self._jobs) + stopped :]]
        counts = [(done, "done"), (len(self._jobs) - done, "failed"), (stopped, "stopped"), (len(left), "not started")]
        said = ", ".join(f"{count} {what}" for count, what in counts if count)
        names = "; ".join(left[:_MAX_NAMED]) + (f"; and {len(left) - _MAX_NAMED} more" if left[_MAX_NAMED:] else "")
        total = f" of {len(planned)}" if planned else ""
        sys.stderr.write(f"Stopped {where}{total}: {said}{f' ({names})' if names else ''}.\n")
        raise SystemExit(code)

    def _fit(self, composed: DictConfig, number: int, overrides: tuple[str, ...]) -> FitResult:
        config = load_fit(composed)
        # Imported here: a config that is wrong is told before torch is loaded.
        from trainer.commands import fit

        # The command of the job alone: what repeats it, without the sweep around it.
        flags = [word for word in self._command if "=" not in word and word not in ("-m", "--multirun")]
        command = [*flags, *overrides]
        # A word of the job that is none of the command came out of one with several values.
        keys = [word.partition("=")[0].lstrip("+") for word in overrides if word not in self._command]
        varied = [f"{key}.name" if key in SCHEMAS else key for key in keys]
        return fit.run(config, command=command, terminal=self._terminal, sweep=self._folder, job=number, varied=varied)


def _planned_jobs(command: Sequence[str]) -> list[list[str]]:
    """What each job of a sweep sets differently, in the order of the jobs; empty where Hydra cannot say."""
    words = [word for word in command if "=" in word and not word.startswith("-")]
    try:
        parsed = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(words)
        (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException:  # another sweeper than Hydra's own
        return []
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    return [[word for word in job if word.partition("=")[0] in swept] for job in jobs]


def _rank(job: Job) -> tuple[int, float]:
    if job.result is None:
        return (2, 0.0)
    best = job.result.best
    if best is None:
        return (1, 0.0)
    return (0, -best if job.result.maximize else best)


def _table(jobs: list[Job], swept: Sequence[str]) -> Table:
    if not swept:
        keys = list(dict.fromkeys(_key(override) for job in jobs for override in job.overrides))
        swept = [key for key in keys if len({_values(job).get(key) for job in jobs}) > 1] or keys
    metrics = list(dict.fromkeys(name for job in jobs if job.result for name in job.result.metrics))
    shown = [name for name in metrics if name.startswith(("val/", "test/"))] or metrics
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", *swept):
        table.add_column(name)
    for name in shown:
        table.add_column(name, justify="right")
    table.add_column("run", overflow="fold")
    for job in jobs:
        values = [_values(job).get(key, "") for key in swept]
        results = job.result.metrics if job.result else {}
        numbers = [f"{results[name]:.4f}" if results.get(name) is not None else "" for name in shown]
        table.add_row(str(job.number), *values, *numbers, job.result.run.name if job.result else "failed")
    return table


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _values(job: Job) -> dict[str, str]:
    return {_key(override): override.partition("=")[2] for override in job.overrides}
