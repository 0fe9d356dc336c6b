"""What is refused in a config that comes from a checkpoint, before anything reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainer.errors import CheckpointError

# OmegaConf takes a second for 10,000 values; a stranger's header has room for millions.
_MAX_VALUES = 20_000
_MAX_DEPTH = 12
_MAX_TEXT = 4096


def refuse_code(saved: Mapping[str, object], *, source: str) -> None:
    """Raise CheckpointError for what could be resolved or called, and for oversized configs.

    `source` names the file in the message.
    """
    # A list instead of recursion: deep nesting in a stranger's file must not end in RecursionError.
    todo: list[tuple[object, str, int]] = [(saved, "config", 0)]
    num_values = 0
    while todo:
        value, path, depth = todo.pop()
        num_values += 1
        if depth > _MAX_DEPTH:
            raise CheckpointError(
                f"{source}: its config is nested too deeply to be one of trainer's."
            )
        if not isinstance(value, Mapping | list):
            _check_value(value, path, source)
            continue
        # Counted before its items are listed: a table of a million is refused at once.
        if num_values + len(todo) + len(value) > _MAX_VALUES:
            raise CheckpointError(
                f"{source}: its config is too long to be one of trainer's ({path})."
            )
        todo.extend((item, inner, depth + 1) for item, inner in _items(value, path, source))


def _items(
    table: Mapping[object, object] | list[object], path: str, source: str
) -> Iterator[tuple[object, str]]:
    """What a table or list holds, with the path of each; refuses a key that asks to run code."""
    if isinstance(table, list):
        yield from ((item, f"{path}[{index}]") for index, item in enumerate(table))
        return
    for key, item in table.items():
        # Hydra's words for code begin so: _target_, _args_, _partial_.
        if not isinstance(key, str) or key.startswith("_"):
            raise CheckpointError(
                f"Refused: {source} asks to run code ({path}.{str(key)[:60]}).",
                hint="trainer never runs code from a checkpoint.",
            )
        yield item, f"{path}.{key[:60]}"


def _check_value(value: object, path: str, source: str) -> None:
    if isinstance(value, str):
        # ${oc.env:SECRET} would put a variable of this machine into what is printed and saved.
        if "${" in value or len(value) > _MAX_TEXT:
            raise CheckpointError(
                f"Refused: {source} holds an interpolation or an oversized text ({path})."
            )
    elif not isinstance(value, bool | int | float | None):
        raise CheckpointError(f"{source}: its config holds a {type(value).__name__} ({path}).")
