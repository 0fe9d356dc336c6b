"""Writing and reading step folders: two safetensors files, written aside and renamed, verified when they are read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from trainer.checkpoint.header import DIGEST_KEY, FORMAT_KEY, parse, read_text
from trainer.checkpoint.tree import flatten, to_saved, unflatten
from trainer.errors import CheckpointError, EnvironmentFault, TrainerError
from trainer.rundir import CHECKPOINTS, MODEL_FILE, STATE_FILE, finite_or_null, step_folder_name, step_folders


class Stateful(Protocol):
    """An entry of the state table."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on from it."""


class CheckpointStore:
    """The checkpoints of one run: saving is generic over the `table` of named states.

    `weights` are what evaluation uses (the moving average where there is one); they go to model.safetensors, the
    table to state.safetensors.
    """

    def __init__(
        self,
        run: Path,
        *,
        weights: torch.nn.Module,
        table: Mapping[str, Stateful],
        description: dict[str, Any],
        keep: int,
    ) -> None:
        self._run, self._weights, self._table = run, weights, dict(table)
        self._description, self._keep = description, keep
        self.last: Path | None = None
        self.best: Path | None = None

    def save(self, step: int, *, progress: dict[str, int], metrics: Mapping[str, float | None], is_best: bool) -> Path:
        """Save step `step` and point `last` (and `best`) at it; returns the step folder.

        Raises EnvironmentFault when the disk refuses; what was saved before is left as it was.
        """
        final = self._run / CHECKPOINTS / step_folder_name(step)
        aside = final.with_name(f".{final.name}.part")
        try:
            self._write(aside, progress=progress, metrics=metrics)
            doomed = final.with_name(f".{final.name}.old")
            if final.exists():  # the same step again, after a resume
                final.rename(doomed)
            aside.rename(final)
            shutil.rmtree(doomed, ignore_errors=True)
            _sync(final.parent)
            self.last = final
            _link(final.parent / "last", final.name)
            if is_best:
                self.best = final
                _link(final.parent / "best", final.name)
            self._prune()
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            kept = f"Last good checkpoint: {self.last}." if self.last else "No checkpoint had been saved yet."
            raise EnvironmentFault(
                f"Could not save step {step} in {self._run}: {error.strerror or error}.", where=kept
            ) from error
        return final

    def adopt(self, *, best_step: int) -> None:
        """Go on in a run that has checkpoints: the newest is `last`, that of `best_step` (if it is there) is `best`."""
        steps = step_folders(self._run)
        self.last = steps[-1] if steps else None
        self.best = next((path for path in steps if path.name == step_folder_name(best_step)), None)

    def _write(self, aside: Path, *, progress: dict[str, int], metrics: Mapping[str, float | None]) -> None:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        weights, aliases = _without_aliases(self._weights.state_dict())
        numbers = {name: finite_or_null(value) for name, value in metrics.items()}
        description = {**self._description, "progress": progress, "metrics": numbers, "aliases": aliases}
        _write_file(aside / MODEL_FILE, weights, text=json.dumps(description, ensure_ascii=False))
        tensors: dict[str, Tensor] = {}
        tree = {name: flatten(entry.state_dict(), path=name, tensors=tensors) for name, entry in self._table.items()}
        saved = {name: to_saved(tensor) for name, tensor in tensors.items()}
        _write_file(aside / STATE_FILE, saved, text=json.dumps(tree, ensure_ascii=False))
        _sync(aside)

    def _prune(self) -> None:
        """Keep last, best and the `keep` newest others."""
        others = [path for path in step_folders(self._run) if path not in (self.last, self.best)]
        for path in others[: max(0, len(others) - self._keep)]:
            # Renamed first: a folder that is being removed must not look complete.
            doomed = path.with_name(f".{path.name}.old")
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def restore(folder: Path, table: Mapping[str, Stateful]) -> None:
    """Load every entry of `table` from a step folder; raises CheckpointError when it is damaged or does not fit."""
    tensors, text = _read_tensors(folder / STATE_FILE)
    content = parse(text, source=folder / STATE_FILE)
    missing = sorted(set(table) ^ set(content))
    if missing:
        raise CheckpointError(
            f"{folder} was saved by a run with other parts: {', '.join(missing)} is on one side only.",
            hint="Resume with the settings of that run (trainer.ema and trainer.precision among them).",
        )
    for name, entry in table.items():
        try:
            entry.load_state_dict(unflatten(content[name], tensors=tensors))
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise CheckpointError(
                f"{folder}: its {name} does not fit this run: {reason}",
                hint="Resume with the model and the optimizer of that run.",
            ) from error


def load_weights(folder: Path, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights in a step folder (or a bare model file), verified against the SHA-256 in the header.

    `aliases` names the entries that share storage with another. Raises CheckpointError or EnvironmentFault.
    """
    tensors, _ = _read_tensors(folder / MODEL_FILE if folder.is_dir() else folder)
    for name, original in aliases.items():
        if original not in tensors:
            raise CheckpointError(f"{folder}: {name} is said to share the weights of {original}, which are not there.")
        tensors[name] = tensors[original]
    return tensors


def load_into(model: torch.nn.Module, weights: Mapping[str, Tensor], *, source: Path) -> None:
    """Load `weights` into `model`; raises CheckpointError naming the first three tensors that differ."""
    own = model.state_dict()
    differences = [
        f"{name}: checkpoint {_shape(weights.get(name))}, model {_shape(own.get(name))}"
        for name in sorted({*own, *weights})
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    ]
    if differences:
        more = f" (+{len(differences) - 3} more)" if len(differences) > 3 else ""
        raise CheckpointError(f"{source} does not fit the model.", where="; ".join(differences[:3]) + more)
    model.load_state_dict(dict(weights))


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else "x".join(map(str, tensor.shape)) or "scalar"


def _without_aliases(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each storage once, and which names are other names of the same tensor: safetensors refuses shared storage."""
    saved: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and place in seen:
            aliases[name] = seen[place]
        else:
            seen[place] = name
            saved[name] = to_saved(tensor)
    return saved, aliases


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 over the description and every tensor: name, type, shape, bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write_file(path: Path, tensors: dict[str, Tensor], *, text: str) -> None:
    content = safetensors.torch.save(tensors, {FORMAT_KEY: text, DIGEST_KEY: _digest(tensors, text)})
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    text = read_text(path)
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, f"{error}".splitlines()[0]) from error
    if metadata.get(FORMAT_KEY) != text or metadata.get(DIGEST_KEY) != _digest(tensors, text):
        raise _damaged(path, "its checksum differs")
    return tensors, text


def _damaged(path: Path, why: str) -> TrainerError:
    folder = path.parent
    intact = [other.name for other in step_folders(folder.parent.parent) if other.name != folder.name]
    hint = (
        f"Nothing was loaded. Other checkpoints of this run: {', '.join(intact)}." if intact else "Nothing was loaded."
    )
    return CheckpointError(f"{path} is damaged ({why}).", hint=hint)


def _link(link: Path, name: str) -> None:
    """Point the relative link at a step folder beside it, in one step; a file system without links goes without."""
    aside = link.with_name(f".{link.name}.link")
    with contextlib.suppress(OSError):
        aside.unlink()
    with contextlib.suppress(NotImplementedError, PermissionError):
        aside.symlink_to(name, target_is_directory=True)
        aside.replace(link)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
