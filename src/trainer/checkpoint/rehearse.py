"""A checkpoint that is written to memory and read back: whether one can be saved at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from trainer.checkpoint.file import check_content
from trainer.checkpoint.header import parse_description
from trainer.checkpoint.load import load_into, tensors_of, with_extra
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
    content = serialized(tensors, text)
    check_content(content)
    read = tensors_of(content, source=_SOURCE)
    found = parse_description(text, source=_SOURCE)
    read.update({name: read[original] for name, original in found.aliases.items()})
    load_into(weights, with_extra(read, found.extra, source=_SOURCE), source=_SOURCE)
    for name, entry in table.items():
        tensors = {}
        content_of_entry = flatten(entry.state_dict(), path=name, tensors=tensors)
        saved = {key: to_saved(tensor) for key, tensor in tensors.items()}
        content = serialized(saved, json.dumps({"table": content_of_entry}))
        check_content(content)
        unflatten(content_of_entry, tensors=tensors_of(content, source=_SOURCE))
