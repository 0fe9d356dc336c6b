"""Reading step folders into a model and the state table of a run, verified and compared before
anything is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from trainer.checkpoint.file import Header, read_file
from trainer.checkpoint.header import check_version, parse
from trainer.checkpoint.store import Stateful
from trainer.checkpoint.tree import unflatten
from trainer.errors import CheckpointError
from trainer.run.folder import MODEL_FILE, STATE_FILE


def load_weights(folder: Path, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights in a step folder (or a bare model file), every byte verified.

    `aliases` names the entries that share storage with another. Raises CheckpointError or
    EnvironmentFault.
    """
    _, tensors = _read_tensors(folder / MODEL_FILE if folder.is_dir() else folder)
    for name, original in aliases.items():
        if original not in tensors:
            named = original[:60]
            raise CheckpointError(
                f"{folder}: {name} is said to share the weights of {named}, which are not there."
            )
        tensors[name] = tensors[original]
    return tensors


def load_into(model: torch.nn.Module, weights: Mapping[str, Tensor], *, source: Path) -> None:
    """Load `weights` into `model`; raises CheckpointError naming the first three tensors that differ."""
    check_fits(model, weights, source=source)
    model.load_state_dict(dict(weights))


def check_fits(model: torch.nn.Module, weights: Mapping[str, Tensor], *, source: Path) -> None:
    """Raises CheckpointError naming the first three tensors that differ; `model` may be on
    torch's meta device.
    """
    own = model.state_dict()
    names = [
        name
        for name in sorted({*own, *weights})
        if _form(own.get(name)) != _form(weights.get(name))
    ]
    if names:
        told = [
            f"{name}: checkpoint {_form(weights.get(name))}, model {_form(own.get(name))}"
            for name in names[:3]
        ]
        more = f" (+{len(names) - 3} more)" if len(names) > 3 else ""
        raise CheckpointError(
            f"{source} does not fit the model.",
            where="; ".join(told) + more,
            hint="Use the model and the data that it was trained with.",
        )


def restore(folder: Path, table: Mapping[str, Stateful]) -> None:
    """Load every entry of `table` from a step folder; raises CheckpointError when it is damaged
    or does not fit.
    """
    path = folder / STATE_FILE
    header, tensors = _read_tensors(path)
    content = parse(header.description, source=path)
    check_version(content, source=path)
    saved = content.get("table")
    if set(content) != {"version", "model", "table"} or not isinstance(saved, dict):
        raise CheckpointError(
            f"{path}: unknown or missing field in its description.", hint="Nothing was loaded."
        )
    if content["model"] != read_file(folder / MODEL_FILE)[0].seal:
        raise CheckpointError(f"{path} belongs to another {MODEL_FILE} than the one beside it.")
    one_sided = sorted(set(table) ^ set(saved))
    if one_sided:
        raise CheckpointError(
            f"{folder} was saved by a run with other parts: {', '.join(one_sided)[:100]} is on one "
            "side only.",
            hint="Resume with the settings of that run (trainer.ema and trainer.precision among "
            "them).",
        )
    for name, entry in table.items():
        try:
            entry.load_state_dict(unflatten(saved[name], tensors=tensors))
        except (
            CheckpointError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError
        ) as error:  # fmt: skip
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise CheckpointError(
                f"{folder}: its {name} does not fit this run: {reason[:200]}",
                hint="Resume with the model and the optimizer of that run.",
            ) from error


def _read_tensors(path: Path) -> tuple[Header, dict[str, Tensor]]:
    header, content = read_file(path)
    try:
        return header, parse_tensors(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {str(error).splitlines()[0][:100]}.",
            hint="Nothing was loaded.",
        ) from error


def _form(tensor: Tensor | None) -> str:
    """`10x128`, with the type of the numbers where it is not the usual one."""
    if tensor is None:
        return "none"
    kind = (
        ""
        if tensor.dtype in (torch.float32, torch.int64)
        else f" {tensor.dtype}".replace("torch.", "")
    )
    return ("x".join(map(str, tensor.shape)) or "scalar") + kind
