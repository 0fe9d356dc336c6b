"""The config inside a checkpoint as the base of a command: what the command line changes, and what it may not."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from trainer import rundir
from trainer.arguments import Arguments
from trainer.checkpoint.header import read_description
from trainer.config import FitConfig, overlay
from trainer.errors import CheckpointError, UsageError, suggestion

# What `trainer eval` lets a person change; the rest belongs to the trained model.
_EVAL_MAY_SET = ("ckpt", "data", "eval", "run", "trainer")


def saved_config(reference: str, arguments: Arguments, *, prefer: str) -> tuple[Path, FitConfig]:
    """The checkpoint that `reference` means and the config in it; raises InputError or UsageError.

    Where a person's own class was trained, the command line must name it again: a checkpoint never names code.
    """
    found = rundir.find_checkpoint(reference, root=Path(arguments.values.get("run.root", "runs")), prefer=prefer)
    saved = read_description(found / rundir.MODEL_FILE if found.is_dir() else found).config
    for group in ("model", "data"):
        section = getattr(saved, group)
        if section.name == "custom" and not {group, "experiment"} & set(arguments.values):
            raise CheckpointError(
                f"{found} needs your own class {section.target}; trainer never imports what a checkpoint names.",
                hint=f"Name it yourself: {group}=custom {group}.target={section.target}",
            )
    if arguments.verb == "eval":
        _check_eval_keys(arguments, saved)
    elif not found.is_dir():
        raise CheckpointError(
            f"{found} holds weights only, and going on needs the optimizer's state beside them.",
            hint="Give a run folder or a step folder: resume=runs/<run>",
        )
    return found, saved


def over_saved(composed: DictConfig, saved: FitConfig, arguments: Arguments) -> DictConfig:
    """`saved` with what the command line changes."""
    return overlay(composed, saved, list(arguments.values))


def _check_eval_keys(arguments: Arguments, saved: FitConfig) -> None:
    allowed = (*_EVAL_MAY_SET, "model") if saved.model.name == "custom" else _EVAL_MAY_SET
    for key in arguments.values:
        head = key.split(".")[0]
        if not hasattr(saved, head) and head not in (*allowed, "experiment"):
            raise UsageError(f"{key}: there is no key {head}.", hint=suggestion(head, allowed, label="Keys of eval"))
        if head not in allowed or key == "data.val_size":
            raise UsageError(
                f"{key} cannot be set here: it belongs to the checkpoint.",
                hint="eval takes ckpt, and may set keys of data, eval, run and trainer.",
            )
