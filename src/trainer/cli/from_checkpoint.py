"""The config in a checkpoint as the base of a command: what the words may change in it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from trainer.cli.arguments import Arguments
from trainer.config import (
    SCHEMAS,
    FitConfig,
    custom_groups,
    may_set,
    overlay,
    settable_keys,
    to_plain,
)
from trainer.errors import CheckpointError, UsageError, as_called, suggestion


def _over_saved(
    composed: DictConfig, checkpoint: Path, saved: FitConfig, arguments: Arguments
) -> DictConfig:
    """`saved`, with the keys of `composed` that the command line names."""
    changed = dict(arguments.values)
    # For reproduce an experiment may name the person's class; its other keys must not count.
    if arguments.verb == "reproduce":
        changed.pop("experiment", None)
    over = overlay(composed, saved, list(changed))
    root = getattr(saved.data, "root", None)
    is_free = arguments.verb in ("eval", "reproduce") and "data.root" not in arguments.values
    # Read where it was read before; but a stranger's checkpoint must not have folders made.
    if is_free and root is not None and not Path(root).is_dir():
        OmegaConf.update(over, "data.root", composed.data.root)
    # The path that was found: a run that is still training moves its links meanwhile.
    if key := {"eval": "ckpt", "fit": "resume"}.get(arguments.verb):
        over[key] = str(checkpoint)
    return over


def _check_named(checkpoint: Path, saved: FitConfig, arguments: Arguments) -> None:
    """Raise CheckpointError for a person's own class in the checkpoint that no word names."""
    # A class name in a checkpoint is a stranger's code: CVE-2025-23304 of NeMo, and others since.
    for group in custom_groups(saved):
        if not {group, "experiment"} & set(arguments.values):
            target = getattr(saved, group).target
            raise CheckpointError(
                f"{checkpoint} needs your own class {target}; trainer never imports what a "
                "checkpoint names.",
                hint=f"Name it yourself: {group}=custom {group}.target={target}",
            )


def check_reproduce_keys(arguments: Arguments, saved: FitConfig, *, command: object) -> None:
    """Raise UsageError for a key that would make it another run than the one of `command`."""
    own = custom_groups(saved)
    hint = None
    # run.json is data from outside: its command may be any value, and of any length.
    if isinstance(command, str):
        hint = f"To change it, start from what was run: {as_called(command[:500])}"
    for key in arguments.values:
        is_own = key.partition(".")[0] in own or (key == "experiment" and own)
        if not is_own and not may_set("reproduce", key):
            raise UsageError(
                f"{key} cannot be set here: reproduce trains with the config of the run. It may "
                f"set {', '.join(settable_keys('reproduce'))}.",
                hint=hint,
            )


def check_same(config: FitConfig, saved: FitConfig) -> None:
    """Raise UsageError when the words name other classes of a person than were saved."""
    plain = to_plain(config)
    plain_saved = to_plain(saved)
    for group in SCHEMAS:
        now = plain[group]
        then = plain_saved[group]
        # The keys of both: the other class may have lost some.
        for key in {**then, **now}:
            if now.get(key) != then.get(key) and not may_set("reproduce", f"{group}.{key}"):
                raise UsageError(
                    f"{group}.{key} is {str(now.get(key))[:200]} here, and was "
                    f"{str(then.get(key))[:200]} in the run.",
                    hint="Name your own classes as they were; all else comes from the checkpoint.",
                )


def check_eval_keys(arguments: Arguments, saved: FitConfig) -> None:
    """Raise UsageError for a key that belongs to the trained model."""
    groups = sorted({key.partition(".")[0] for key in settable_keys("eval")})
    if "model" in custom_groups(saved):
        groups.append("model")
    for key in arguments.values:
        head = key.partition(".")[0]
        if not hasattr(saved, head) and head not in (*groups, "experiment"):
            raise UsageError(
                f"{key}: there is no key {head}.",
                hint=suggestion(head, groups, label="Keys of eval"),
            )
        if head not in groups or (head != "model" and not may_set("eval", key)):
            raise UsageError(
                f"{key} cannot be set here: it belongs to the checkpoint.",
                hint="eval takes ckpt, and may set keys of data, eval, run and trainer.",
            )


def compose_over(checkpoint: Path, saved: FitConfig, arguments: Arguments) -> DictConfig:
    """The config `saved` in a checkpoint, with what the command line changes."""
    from trainer.cli.compose import compose

    _check_named(checkpoint, saved, arguments)
    composed = compose(arguments, choices=arguments.choices_of(saved))
    return _over_saved(composed, checkpoint, saved, arguments)
