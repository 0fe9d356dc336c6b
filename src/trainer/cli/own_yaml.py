"""What a person's own folder of YAML holds that nothing would read: refused, with what to write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from trainer.cli.configs import configs_folder, last_value
from trainer.cli.hydra_errors import FIRST_LINE
from trainer.config import flatten
from trainer.errors import ConfigError, UsageError, listing

# What Hydra itself writes there for each command; the mode and the search path have an effect.
_OF_THE_COMMAND = ("runtime.", "overrides.", "job.override_dirname", "mode", "searchpath")
OF_A_SWEEP = (
    "There are sweep=grid, random, optuna; launcher=local, slurm, ray; in a file, sweep.params."
)
OF_A_RUN = "Of Hydra's own keys, hydra.searchpath has. run.dir=… names the run folder."
_MAX_NAMED = 3


def own_sources(composed: DictConfig) -> tuple[Path, ...]:
    """The person's own folders of YAML, which Hydra's part of a config names."""
    return tuple(
        Path(source.path)
        for source in composed.hydra.runtime.config_sources
        if source.schema == "file" and source.provider != "main"
    )


def check_files(folders: tuple[Path, ...]) -> None:
    """Raise UsageError for a file that one of trainer's own with the same name hides."""
    if not folders:
        return
    ours = configs_folder()
    for path in sorted(ours.rglob("*.yaml")):
        name = path.relative_to(ours)
        for folder in folders:
            own = folder / name
            # A copy of ours is hidden too, and says the same.
            if own.is_file() and own.read_bytes() != path.read_bytes():
                raise ConfigError(
                    f"{own} is never read: {_choice(name)} is trainer's own.", hint=_instead(name)
                )


def _choice(name: Path) -> str:
    return f"{name.parent}={name.stem}" if name.parent.name else str(name)


def _instead(name: Path) -> str:
    if name.parent.name:
        return f"Give the file another name, such as my_{name.name}: {name.parent}=my_{name.stem}"
    return (
        "Put its keys into experiment/mine.yaml, with # @package _global_ as the first line: "
        "experiment=mine"
    )


def check_experiment(composed: DictConfig, folders: tuple[Path, ...]) -> None:
    """Raise UsageError for keys that land in `experiment`, where nothing reads them."""
    keys = _plain(composed).get("experiment")
    if keys:
        raise _not_global(composed, keys, folders)


def check_hydras_part(hydra: DictConfig, *, bare: DictConfig) -> None:
    """Raise UsageError for a key of Hydra's part that a person's YAML sets, without effect.

    `bare` is Hydra's part of the same command without any of the person's choices.
    """
    for key in _changed(hydra, bare):
        is_of_a_sweep = key.startswith(("sweep", "launcher"))
        raise ConfigError(
            f"hydra.{key} in your YAML has no effect on trainer.",
            hint=OF_A_SWEEP if is_of_a_sweep else OF_A_RUN,
        )


def _not_global(composed: DictConfig, keys: object, folders: tuple[Path, ...]) -> UsageError:
    """The error for `keys` that landed in `experiment`: a header is missing in the file."""
    names = _experiments(composed)
    if not names:
        return UsageError(
            "The keys in experiment have no effect: it is a choice, and no group of keys.",
            hint="Choose a file of experiment/ by its name: experiment=line",
        )
    files = [folder / "experiment" / f"{name}.yaml" for folder in folders for name in names]
    # Of several experiments, the one without the header.
    where = next((str(file) for file in files if file.is_file() and not _is_global(file)), None)
    label = f"experiment={','.join(names)}"
    if not isinstance(keys, Mapping):
        return ConfigError(f"{label} sets experiment={keys}, which has no effect.", where=where)
    landed = listing(list(map(str, keys)), most=_MAX_NAMED)
    return ConfigError(
        f"{label} changes nothing: what it sets ({landed}) lands in experiment.{next(iter(keys))}.",
        where=where,
        hint=FIRST_LINE,
    )


def _experiments(composed: DictConfig) -> list[str]:
    """The names of the experiments that the command chooses."""
    name = composed.hydra.runtime.choices.get("experiment")
    if name is not None:
        return [str(name)]
    # Hydra lists no choice where several are taken: experiment=[a,b].
    typed = last_value(list(composed.hydra.overrides.task), "experiment")
    return [part.strip() for part in typed.strip("[]").split(",") if part.strip()]


def _is_global(file: Path) -> bool:
    return "@package _global_" in file.read_text(encoding="utf-8")


def _changed(hydra: DictConfig, bare: DictConfig) -> Iterator[str]:
    """The keys of Hydra's part that differ from those of the bare command."""
    before = flatten(_plain(bare))
    for key, value in flatten(_plain(hydra)).items():
        if not key.startswith(_OF_THE_COMMAND) and before.get(key) != value:
            yield key


def _plain(config: DictConfig) -> dict[str, object]:
    """A config as plain values, its interpolations as text."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict), "it is made of a DictConfig"
    return {str(key): value for key, value in plain.items()}
