"""Loading step folders into a model and the state table: verified and compared first."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from torch import Tensor

from trainer.checkpoint.file import CheckpointFile, read_file
from trainer.checkpoint.header import Description, check_version, name_versions, parse
from trainer.checkpoint.modules import load_state
from trainer.checkpoint.store import Stateful
from trainer.checkpoint.tree import unflatten
from trainer.errors import CheckpointError, printable
from trainer.run.folder import MODEL_FILE, model_file_of
from trainer.state_checks import StateDict

# What a state from outside raises in an entry's load_state_dict, torch's own among them.
_UNFIT = (
    CheckpointError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    ArithmeticError,
)


def load_weights(folder: Path, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors in a step folder or a bare model file, every byte verified.

    `aliases` names the entries that share storage with another. Raises CheckpointError or
    EnvironmentFault.
    """
    return weights_of(read_file(model_file_of(folder)), aliases)


def state_of(file: CheckpointFile, description: Description) -> StateDict:
    """The state dict in a model file that was read; raises CheckpointError.

    Beside tensors it has the extra state of a person's own model.
    """
    tensors = weights_of(file, description.aliases)
    return with_extra(tensors, description.extra, source=file.path)


def with_extra(
    tensors: Mapping[str, Tensor], extra: Mapping[str, object], *, source: Path
) -> StateDict:
    """The state dict that `store.split_state` took apart; raises CheckpointError."""
    known = _Known(tensors)
    state: StateDict = {}
    for name, content in extra.items():
        try:
            state[name] = unflatten(content, tensors=known)
        except _UNFIT as error:
            raise CheckpointError(
                f"{source}: its extra state {printable(name)[:60]} makes no sense.",
                hint="Nothing was loaded.",
            ) from error
    own = {name: tensor for name, tensor in tensors.items() if name not in known.used}
    return {**own, **state}


class _Known(UserDict[str, Tensor]):
    """Tensors by name; `used` gets the names that were looked up."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        tensor = super().__getitem__(name)
        self.used.add(name)
        return tensor


def weights_of(file: CheckpointFile, aliases: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors in a model file that was read; raises CheckpointError."""
    tensors = tensors_of(file.content, source=file.path)
    for name, original in aliases.items():
        if original not in tensors:
            raise CheckpointError(
                f"{file.path}: {name} shares the weights of {original[:60]}, which are not there."
            )
        tensors[name] = tensors[original]
    return tensors


def load_into(model: torch.nn.Module, weights: Mapping[str, object], *, source: Path) -> None:
    """Load `weights` into `model`; raises CheckpointError naming the first tensors that differ."""
    check_fits(model, weights, source=source)
    load_state(model, weights)


def check_fits(model: torch.nn.Module, weights: Mapping[str, object], *, source: Path) -> None:
    """Raise CheckpointError naming the first three tensors that differ.

    `model` may be on torch's meta device.
    """
    # All at once and before the first is loaded: load_state_dict fills those that fit, then raises.
    own = model.state_dict()
    differing = [
        f"{name}: checkpoint {_form(weights.get(name))}, model {_form(own.get(name))}"
        for name in sorted({*own, *weights})
        if _form(own.get(name)) != _form(weights.get(name))
    ]
    if differing:
        more = f" (+{len(differing) - 3} more)" if len(differing) > 3 else ""
        raise CheckpointError(
            f"{source} does not fit the model.",
            where="; ".join(differing[:3]) + more,
            hint="Use the model and the data that it was trained with.",
        )


def restore_from(state: CheckpointFile, table: Mapping[str, Stateful], *, model_seal: str) -> None:
    """Load every entry of `table` from a state file that was read; raises CheckpointError.

    `model_seal` is the seal of the model file beside it: both must be of one save.
    """
    folder = state.path.parent
    saved = _saved_table(state, model_seal)
    # An entry that only one side has would start afresh, or be dropped, and nobody would notice.
    one_sided = sorted(set(table) ^ set(saved))
    if one_sided:
        raise CheckpointError(
            f"{folder} was saved by a run with other parts: {', '.join(one_sided)[:100]} is on one "
            "side only.",
            hint=name_versions(state.path)
            or "Resume with the settings of that run (trainer.ema and trainer.precision among "
            "them).",
        )
    tensors = tensors_of(state.content, source=state.path)
    for name, entry in table.items():
        try:
            entry.load_state_dict(unflatten(saved[name], tensors=tensors))
        except _UNFIT as error:
            # torch begins such an error with a heading; the last line names the parameter.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckpointError(
                f"{folder}: its {name} does not fit this run: {lines[-1].strip()[:200]}",
                hint=name_versions(state.path)
                or "Resume with the model and the optimizer of that run.",
            ) from error


def _saved_table(state: CheckpointFile, model_seal: str) -> dict[str, object]:
    content = parse(state.header.description, source=state.path)
    check_version(content, source=state.path)
    saved = content.get("table")
    if set(content) != {"version", "model", "table"} or not isinstance(saved, dict):
        raise CheckpointError(
            f"{state.path}: unknown or missing field in its description.",
            hint=name_versions(state.path) or "Nothing was loaded.",
        )
    # Of two saves that a copy has mixed, each file by itself is intact.
    if content["model"] != model_seal:
        raise CheckpointError(
            f"{state.path} belongs to another {MODEL_FILE} than the one beside it."
        )
    return saved


def tensors_of(content: bytes, *, source: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a file; raises CheckpointError naming `source`."""
    try:
        return parse_tensors(content)
    # KeyError: a type of numbers that this version of torch does not have.
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{source} cannot be read: {str(error).splitlines()[0][:100]}.",
            hint="Nothing was loaded.",
        ) from error


def _form(tensor: object) -> str:
    """`10x128`, with the type of the numbers where it is not the usual one."""
    if tensor is None:
        return "none"
    if not isinstance(tensor, Tensor):
        return "extra state"
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    # The type is compared too: load_state_dict would convert the numbers and not report it.
    if tensor.dtype in (torch.float32, torch.int64):
        return shape
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"
