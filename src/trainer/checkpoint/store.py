"""Writing the step folders of a run: copied at once, written by a thread, renamed when complete."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import safetensors.torch
import torch
from torch import Tensor

from trainer.checkpoint.file import BLANK_SEAL, DESCRIPTION_KEY, SEAL_KEY, is_intact, write_file
from trainer.checkpoint.header import VERSION
from trainer.checkpoint.tree import flatten, to_saved
from trainer.config.overrides import override
from trainer.errors import EnvironmentFault, command_line, reason_of
from trainer.files import JsonObject, finite_or_null, part_path, remove, sync_folder
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    STATE_FILE,
    retired_path,
    step_folder_name,
    step_folders,
)
from trainer.state_checks import StateDict

# What file systems without symbolic links say; commands find the steps without them.
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP)


class Stateful(Protocol):
    """An entry of the state table."""

    def state_dict(self) -> StateDict:
        """Everything needed to continue."""

    def load_state_dict(self, state: StateDict) -> object:
        """Continue from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """The state after `step`, copied: training continues while it is written."""

    step: int
    weights: dict[str, Tensor]
    description: str
    tensors: dict[str, Tensor]
    table: object
    is_best: bool


class CheckpointStore:
    """The checkpoints of one run: saving is generic over the `table` of named states.

    `weights` are what evaluation uses (the moving average where there is one); they go to
    model.safetensors, the table to state.safetensors. Used as a context, which ends when all that
    was saved is on the disk.
    """

    def __init__(
        self,
        run: Path,
        *,
        weights: torch.nn.Module,
        table: Mapping[str, Stateful],
        description: JsonObject,
        keep: int,
    ) -> None:
        self._name = run  # as a person gave it: for messages
        # A person's code may change the working folder during the run.
        self._run = run.absolute()
        self._weights, self._table = weights, dict(table)
        self._description, self._keep = description, keep
        # One thread: saves end in their order, so `last` never goes back to an older step.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._last: Path | None = None
        self._best: Path | None = None

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        except EnvironmentFault:
            # An error that is under way says more; its message names the last good checkpoint.
            if error is None:
                raise
        finally:
            self._writer.shutdown()

    @property
    def last(self) -> Path | None:
        """The newest step folder; waits until it is complete."""
        self.wait()
        return self._last

    @property
    def best(self) -> Path | None:
        """The step folder of the best value; waits until it is complete."""
        self.wait()
        return self._best

    def save(
        self,
        step: int,
        *,
        progress: dict[str, int],
        metrics: Mapping[str, float | None],
        is_best: bool,
    ) -> None:
        """Copy the state now and write it in the background; it is on the disk after `wait`.

        `last`, and with `is_best` also `best`, point at it then. Waits for the save before it, and
        raises EnvironmentFault when that failed; earlier steps are untouched.
        """
        self.wait()
        snapshot = self._copy(step, progress=progress, metrics=metrics, is_best=is_best)
        self._writing = self._writer.submit(self._write, snapshot)

    def wait(self) -> None:
        """Wait until all is on the disk; raises EnvironmentFault when it could not be written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def raise_failure(self) -> None:
        """Raise the EnvironmentFault of a background save that failed; never waits."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def adopt(self, newest: Path, *, best_step: int) -> None:
        """Start with `newest`, which is intact, as `last`, and the step of `best_step` as `best`.

        The best is looked for in this run, and may be missing or damaged: then there is none.
        """
        newest = newest.absolute()
        self._last = newest
        best = self._run / CHECKPOINTS / step_folder_name(best_step)
        # `newest` has just been verified, and a large model takes seconds to hash.
        self._best = best if best == newest or is_intact(best) else None
        link = best.with_name("best")
        if self._best is not None:
            # A run that was killed between a folder and its link has an older one as its best.
            _link(link, self._best.name)
        elif link.is_symlink():
            # The best by another metric, or damaged: it may be pruned like any older step.
            remove(link)

    def _copy(
        self,
        step: int,
        *,
        progress: dict[str, int],
        metrics: Mapping[str, float | None],
        is_best: bool,
    ) -> _Snapshot:
        weights, aliases, extra = split_state(self._weights.state_dict())
        numbers = {name: finite_or_null(value) for name, value in metrics.items()}
        description = {
            **self._description,
            "progress": progress,
            "metrics": numbers,
            "aliases": aliases,
        }
        if extra:
            description["extra"] = extra
        tensors: dict[str, Tensor] = {}
        table = {
            name: flatten(entry.state_dict(), path=name, tensors=tensors)
            for name, entry in self._table.items()
        }
        return _Snapshot(
            step=step,
            weights=weights,
            # Text now: training changes the counters while the thread writes.
            description=json.dumps(description, ensure_ascii=False),
            tensors={name: to_saved(tensor) for name, tensor in tensors.items()},
            table=table,
            is_best=is_best,
        )

    def _write(self, snapshot: _Snapshot) -> None:
        final = self._run / CHECKPOINTS / step_folder_name(snapshot.step)
        try:
            self._write_aside(part_path(final), snapshot)
            if os.path.lexists(final):  # the same step again, after a resume
                _check_ours(final)
                remove(retired_path(final))
                final.rename(retired_path(final))
            part_path(final).rename(final)
            sync_folder(final.parent)
            # Only now: a rename replaces no folder with files in it, and of a process that is
            # killed between the two, `repair_checkpoints` takes the old step back.
            remove(retired_path(final))
            # The links follow the folder, and the prune the links: each always has a whole step.
            _link(final.parent / "last", final.name)
            self._last = final
            if snapshot.is_best:
                _link(final.parent / "best", final.name)
                self._best = final
            self._prune()
        except OSError as error:
            raise self._failed(snapshot, error) from error

    def _write_aside(self, aside: Path, snapshot: _Snapshot) -> None:
        remove(aside)
        if os.path.lexists(aside):
            _check_ours(aside)
        aside.mkdir(parents=True)
        content = serialized(snapshot.weights, snapshot.description)
        seal = write_file(aside / MODEL_FILE, content)
        # The state names its model, so that files of two saves are not taken for one.
        state = {"version": VERSION, "model": seal, "table": snapshot.table}
        write_file(
            aside / STATE_FILE, serialized(snapshot.tensors, json.dumps(state, ensure_ascii=False))
        )
        sync_folder(aside)

    def _failed(self, snapshot: _Snapshot, error: OSError) -> EnvironmentFault:
        # Half a step would take the room that the rest of the run may need.
        remove(part_path(self._run / CHECKPOINTS / step_folder_name(snapshot.step)))
        reason = reason_of(error)
        with contextlib.suppress(OSError):
            tensors = (*snapshot.weights.values(), *snapshot.tensors.values())
            needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            free = shutil.disk_usage(self._run).free
            if free < needed + 2**20:
                reason += f" (need {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB free)"
        where = "No checkpoint was saved yet."
        hint = "Correct that, and start it again."
        if self._last is not None and self._last.is_relative_to(self._run):
            where = f"Last good checkpoint: {self._name / self._last.relative_to(self._run)}."
            resume = command_line("fit", override("resume", str(self._name)))
            hint = f"Correct that, then: {resume}"
        elif self._last is not None:  # of the run that this one branched off from
            where = f"Last good checkpoint: {self._last}."
        return EnvironmentFault(
            f"Could not save step {snapshot.step} in {self._name}: {reason}.",
            where=where,
            hint=hint,
        )

    def _prune(self) -> None:
        """Keep last, best and the `keep` newest others."""
        others = [path for path in step_folders(self._run) if path not in (self._last, self._best)]
        for path in others[: max(0, len(others) - self._keep)]:
            # Renamed first: a folder that is being removed must not look complete.
            path.rename(retired_path(path))
            remove(retired_path(path))


def _check_ours(path: Path) -> None:
    # What a person has put there, such as a file or a device, is never replaced.
    if not path.is_dir() and not path.is_symlink():
        raise OSError(f"{path.name} is in the way, and is not a folder")


def serialized(tensors: dict[str, Tensor], description: str) -> bytes:
    """A checkpoint file as bytes, its seal still blank."""
    return safetensors.torch.save(tensors, {DESCRIPTION_KEY: description, SEAL_KEY: BLANK_SEAL})


def split_state(
    state: Mapping[str, object],
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, object]]:
    """The state dict of a module in three parts, to be saved without pickle.

    Tensors, each storage once; the names that share one with another, because safetensors refuses
    sharing; what is no tensor (extra state), as plain values for JSON. Raises TypeError for what
    cannot be saved without pickle.
    """
    saved: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    others = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            continue
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and place in seen:  # empty tensors all have the address 0
            aliases[name] = seen[place]
        else:
            seen[place] = name
            saved[name] = to_saved(tensor)
    named = dict(saved)
    extra = {name: flatten(value, path=name, tensors=named) for name, value in others.items()}
    saved |= {name: to_saved(named[name]) for name in named.keys() - saved.keys()}
    return saved, aliases, extra


def _link(link: Path, name: str) -> None:
    """Point the relative link at a step folder beside it, atomically.

    A file system without links has none; commands find the steps all the same.
    """
    # Aside and renamed: a link cannot be made over another, and readers look it up at any time.
    aside = link.with_name(f".{link.name}.link")
    with contextlib.suppress(OSError):
        aside.unlink()  # of a process that was killed here
    try:
        aside.symlink_to(name, target_is_directory=True)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return
        raise
    if link.is_dir() and not link.is_symlink():
        remove(link)  # a copy that followed links: the step itself is beside it
    aside.replace(link)
