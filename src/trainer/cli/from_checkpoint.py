"""The checkpoint a command starts from, found before torch is loaded: its config, and what may
be changed in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from trainer.checkpoint.file import is_intact, read_file, read_header
from trainer.checkpoint.header import is_usable, read_description
from trainer.cli.arguments import RUN_KEYS, Arguments
from trainer.config import FitConfig, comparable, load_fit, overlay, to_plain
from trainer.errors import CheckpointError, InputError, TrainerError, UsageError, suggestion
from trainer.run.find import find_checkpoint
from trainer.run.folder import (
    CHECKPOINTS,
    MODEL_FILE,
    RECORD_FILE,
    STATE_FILE,
    remove_outputs,
    repair_checkpoints,
    step_folders,
)
from trainer.run.index import read_index
from trainer.run.lock import check_free, is_locked, locked
from trainer.run.record import RunStatus, has_saved_nothing, status_of

# What `trainer eval` lets a person change; the rest belongs to the trained model.
_EVAL_MAY_SET = ("ckpt", "data", "eval", "run", "trainer")


def over_saved(
    composed: DictConfig, found: Path, saved: FitConfig, arguments: Arguments
) -> DictConfig:
    """The config `saved` in the checkpoint `found`, with what the command line changes."""
    if arguments.verb == "reproduce":  # an experiment may name a class there, and say nothing else
        over = overlay(composed, saved, [key for key in arguments.values if key != "experiment"])
    else:
        over = overlay(composed, saved, list(arguments.values))
    root = getattr(saved.data, "root", None)
    is_free = arguments.verb in ("eval", "reproduce") and "data.root" not in arguments.values
    # Read where it was read before; but a stranger's checkpoint must not have folders made.
    if is_free and root is not None and not Path(root).is_dir():
        OmegaConf.update(over, "data.root", composed.data.root)
    # Looked up once: a run that is still training moves its links while torch is loaded.
    if arguments.verb != "reproduce":
        over["ckpt" if arguments.verb == "eval" else "resume"] = str(found)
    return over


def saved_config(reference: str, arguments: Arguments) -> tuple[Path, FitConfig]:
    """The checkpoint that `reference` means and the config in it; raises InputError or UsageError.

    Where a person's own class was trained, the command line must name it again: a checkpoint never
    names code.
    """
    root = Path(arguments.values.get("run.root", "runs"))
    if arguments.verb == "eval":
        found = find_checkpoint(reference, root=root)
    else:
        found = _newest_intact(reference, root=root, in_place="run.dir" not in arguments.values)
    saved = read_description(found / MODEL_FILE if found.is_dir() else found).config
    check_named(found, saved, arguments)
    if arguments.verb == "eval":
        _check_eval_keys(arguments, saved)
    return found, saved


def check_named(found: Path, saved: FitConfig, arguments: Arguments) -> None:
    """Raises CheckpointError where the checkpoint `found` needs a person's own class that the
    words do not name.
    """
    for group in ("model", "data"):
        section = getattr(saved, group)
        if section.name == "custom" and not {group, "experiment"} & set(arguments.values):
            raise CheckpointError(
                f"{found} needs your own class {section.target}; trainer never imports what a "
                "checkpoint names.",
                hint=f"Name it yourself: {group}=custom {group}.target={section.target}",
            )


def check_reproduce_keys(arguments: Arguments, saved: FitConfig, *, command: object) -> None:
    """Raises UsageError for a key with which it would be another run than the one of `command`."""
    own = [group for group in ("model", "data") if getattr(saved, group).name == "custom"]
    may_set = RUN_KEYS["reproduce"]
    for key in arguments.values:
        if key in may_set or key.partition(".")[0] in own or (key == "experiment" and own):
            continue
        raise UsageError(
            f"{key} cannot be set here: reproduce trains with the config of the run. It may set "
            f"{', '.join(may_set)}.",
            hint=f"To change it, start from what was run: {command[:500]}"
            if isinstance(command, str)
            else None,
        )


def check_same(config: FitConfig, saved: FitConfig) -> None:
    """Raises UsageError when the words that name a person's own classes say something else than
    was saved.
    """
    for group in ("data", "model"):
        now, then = to_plain(config)[group], to_plain(saved)[group]
        for key in {**then, **now}:
            if now.get(key) != then.get(key) and f"{group}.{key}" not in RUN_KEYS["reproduce"]:
                raise UsageError(
                    f"{group}.{key} is {str(now.get(key))[:200]} here, and was "
                    f"{str(then.get(key))[:200]} in the run.",
                    hint="Name your own classes as they were; all else comes from the checkpoint.",
                )


def interrupted_run(composed: DictConfig, *, root: Path) -> Path | None:
    """The step folder from which `resume=auto` goes on: of the newest run of this config that was
    cut short.

    None when there is none, and training begins. With `run.dir` only that folder is meant. Raises
    UsageError when the run in it is complete, in use or of another config, ConfigError for a wrong
    config.
    """
    config = load_fit(composed)
    wanted = comparable(config)
    if config.run.dir is not None:
        return _in_folder(Path(config.run.dir), wanted)
    for entry in read_index(root):
        run = entry.path
        if entry.status is RunStatus.INTERRUPTED and not is_locked(run):
            found = next((step for step in reversed(step_folders(run)) if is_intact(step)), None)
            if found is not None and _is_of(found, wanted):
                return _newest_intact(str(run), root=root, in_place=True)
    return None


def _in_folder(run: Path, wanted: dict[str, object]) -> Path | None:
    if not (run / RECORD_FILE).is_file():
        return None
    with locked(run):
        repair_checkpoints(run)
        if has_saved_nothing(run):
            remove_outputs(run)
    if status_of(run) is RunStatus.DONE:
        raise UsageError(f"{run} is complete.", hint=f"To see how it is: trainer eval ckpt={run}")
    if not step_folders(run):
        return None
    found = _newest_intact(str(run), root=run, in_place=True)
    if not _is_of(found, wanted):
        raise UsageError(
            f"{run} holds a run of another config.",
            hint=f"To change it on purpose: trainer fit resume={run}; else name another run.dir.",
        )
    return found


def _is_of(step: Path, wanted: dict[str, object]) -> bool:
    try:
        return comparable(read_description(step / MODEL_FILE).config) == wanted
    except TrainerError:
        return False


def _newest_intact(reference: str, *, root: Path, in_place: bool) -> Path:
    """The newest step that verifies, of a run; a step folder that was named itself must verify.
    Says what is skipped.

    Raises UsageError when the run is in use, CheckpointError when nothing in it verifies.
    """
    try:
        found = find_checkpoint(reference, root=root, prefer="last")
    except InputError:
        if in_place:
            check_free(Path(reference))  # it may not have saved yet
        raise
    if not found.is_dir():
        read_header(found)
        raise CheckpointError(
            f"{found} holds weights only, and going on needs the optimizer's state beside them.",
            hint="Give a run folder or a step folder: resume=runs/<run>",
        )
    run = found.parent.parent
    if in_place and found.parent.name == CHECKPOINTS:
        with locked(run):
            repair_checkpoints(run)
    is_named = _is_step(Path(reference), found)
    candidates = (
        [found] if is_named or found.parent.name != CHECKPOINTS else step_folders(run)[::-1]
    )
    for step in candidates:
        if is_usable(step):
            if step != candidates[0]:
                skipped = ", ".join(other.name for other in candidates[: candidates.index(step)])
                sys.stderr.write(
                    f"Warning: {skipped} of {run} is damaged; going on from {step.name}, an intact "
                    "one.\n"
                )
            return step
        for path in (step / MODEL_FILE, step / STATE_FILE):
            if path.exists() and not os.access(path, os.R_OK):
                read_file(
                    path
                )  # says so: it is not damaged, and to go on from an older one would lose it
    for name in (MODEL_FILE, STATE_FILE):
        read_file(candidates[0] / name)
    raise CheckpointError(
        f"{candidates[0]} holds another step than its name says: it was renamed.",
        hint="Give it its own name back, or go on from it in a new folder under another name: "
        "run.dir=…",
    )


def _is_step(reference: Path, found: Path) -> bool:
    """Whether a person named that very step: by its folder, a file in it, or a link to it."""
    here = Path(os.path.realpath(reference))
    return Path(os.path.realpath(found)) in (here, here.parent)


def _check_eval_keys(arguments: Arguments, saved: FitConfig) -> None:
    allowed = (*_EVAL_MAY_SET, "model") if saved.model.name == "custom" else _EVAL_MAY_SET
    for key in arguments.values:
        head = key.split(".")[0]
        if not hasattr(saved, head) and head not in (*allowed, "experiment"):
            raise UsageError(
                f"{key}: there is no key {head}.",
                hint=suggestion(head, allowed, label="Keys of eval"),
            )
        if head not in allowed or key == "data.val_size":
            raise UsageError(
                f"{key} cannot be set here: it belongs to the checkpoint.",
                hint="eval takes ckpt, and may set keys of data, eval, run and trainer.",
            )
