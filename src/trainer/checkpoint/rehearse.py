"""A checkpoint that is written to memory and read back: whether one can be saved at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from trainer.checkpoint.file import file_of
from trainer.checkpoint.header import parse_description
from trainer.checkpoint.load import load_into, state_of, tensors_of
from trainer.checkpoint.store import Stateful, serialized, split_state
from trainer.checkpoint.tree import flatten, to_saved, unflatten

_SOURCE = Path("the checkpoint")


def rehearse_save(
    weights: nn.Module,
    table: Mapping[str, Stateful],
    *,
    description: Mapping[str, object],
    progress: Mapping[str, int],
) -> None:
    """Write `weights` and `table` as a checkpoint would have them, read them and load the weights.

    Raises what cannot be done: TypeError for what needs pickle, ValueError for what could not be
    read again, CheckpointError for what does not fit, and what the classes raise.
    """
    tensors, aliases, extra = split_state(weights.state_dict())
    text = json.dumps(
        {**description, "progress": progress, "metrics": {}, "aliases": aliases, "extra": extra}
    )
    file = file_of(serialized(tensors, text), path=_SOURCE)
    found = parse_description(file.header.description, source=_SOURCE)
    load_into(weights, state_of(file, found), source=_SOURCE)
    for name, entry in table.items():
        tensors = {}
        content_of_entry = flatten(entry.state_dict(), path=name, tensors=tensors)
        saved = {key: to_saved(tensor) for key, tensor in tensors.items()}
        file = file_of(serialized(saved, json.dumps({"table": content_of_entry})), path=_SOURCE)
        unflatten(content_of_entry, tensors=tensors_of(file.content, source=_SOURCE))
