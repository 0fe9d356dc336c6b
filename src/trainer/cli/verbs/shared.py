"""The flags, keys and references that more than one verb takes."""

from __future__ import annotations

from trainer.cli.arguments import Arguments, Flag, VerbKey
from trainer.errors import UsageError, program

CONFIG_DIR = Flag(
    "--config-dir",
    "add your own folder of YAML: DIR/model/mine.yaml becomes model=mine",
    short="-cd",
    value="DIR",
)
_CFG = Flag(
    "--cfg",
    "show the whole config, and do nothing else",
    short="-c",
    value="job",
    values=("job", "hydra", "all"),
)
_INFO = Flag(
    "--info",
    short="-i",
    value="WHAT",
    values=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
)
# Hydra's flags that fit a tool with verbs. `--experimental-rerun` is none: it reads a pickle.
OF_HYDRA = (
    _CFG,
    CONFIG_DIR,
    _INFO,
    Flag("--package", short="-p", value="PACKAGE"),
    Flag("--resolve"),
    Flag("--run", short="-r"),
    Flag("--hydra-help"),
)

ROOT = VerbKey("run.root", "where run folders are", default="runs", is_path=True)


def find_reference(arguments: Arguments, key: str) -> str | None:
    """The run or checkpoint that `key` names, if any."""
    reference = arguments.values.get(key)
    if reference == "":
        raise UsageError(
            f"{key}= is empty.",
            hint=f"Name a run or a checkpoint: {program()} {arguments.verb} {key}=last",
        )
    # `resume=null` undoes a resume of the person's own YAML.
    if reference is None or reference == "null":
        return None
    from trainer.run.find import resolve_reference

    return resolve_reference(reference, root=arguments.root)
