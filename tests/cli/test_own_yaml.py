"""A person's own YAML: every key of it has an effect, or the command is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import trainer_main
from composing import CONFIGS
from wrong_commands import check

# File below the folder `conf` -> its text. No header, so its keys land in `experiment`.
BARE = "trainer:\n  epochs: 3\n"
GLOBAL = "# @package _global_\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# A name -> the files, the words after `fit --config-dir conf`, and words of the message.
NOWHERE: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "no header": (
        {"experiment/x.yaml": BARE},
        "experiment=x",
        (
            "experiment=x changes nothing",
            "(trainer)",
            "conf/experiment/x.yaml",
            "# @package _global_",
        ),
    ),
    "no header, in a sweep": (
        {"experiment/x.yaml": BARE},
        "-m experiment=x seed=1,2",
        ("experiment=x changes nothing", "# @package _global_"),
    ),
    "no header, in a folder of the folder": (
        {"experiment/mine/x.yaml": BARE},
        "experiment=mine/x",
        ("experiment=mine/x changes nothing", "conf/experiment/mine/x.yaml"),
    ),
    "one of two without a header": (
        {"experiment/x.yaml": BARE, "experiment/y.yaml": f"{GLOBAL}seed: 3\n"},
        "experiment=[y,x]",
        ("experiment=y,x changes nothing", "conf/experiment/x.yaml"),
    ),
    "no header above a list of defaults": (
        {"experiment/x.yaml": "defaults:\n  - override /model: mlp\n"},
        "experiment=x",
        ("override of model finds nothing", "# @package _global_"),
    ),
    "a header misspelt": (
        {"experiment/x.yaml": f"# @packge _global_\n{BARE}"},
        "experiment=x",
        ("changes nothing", "# @package _global_"),
    ),
    "a header behind the keys": (
        {"experiment/x.yaml": f"{BARE}{GLOBAL}"},
        "experiment=x",
        ("changes nothing", "the first line"),
    ),
    "a list": ({"experiment/x.yaml": "- a\n- b\n"}, "experiment=x", ("has no effect",)),
    "a choice as a key": (
        {"experiment/x.yaml": f"{GLOBAL}experiment: line\n"},
        "experiment=x",
        ("experiment=line, which has no effect",),
    ),
    "a text in place of a group": (
        {"experiment/x.yaml": f"{GLOBAL}model: mlp\n"},
        "experiment=x",
        ("model has no name: it is the text mlp", "- override /model: mlp"),
    ),
    "Hydra's folder": (
        {"experiment/x.yaml": f"{GLOBAL}hydra:\n  run:\n    dir: elsewhere\n"},
        "experiment=x",
        ("hydra.run.dir in your YAML has no effect", "run.dir="),
    ),
    "Hydra's working folder": (
        {"experiment/x.yaml": f"{GLOBAL}hydra:\n  job:\n    chdir: true\n"},
        "experiment=x",
        ("hydra.job.chdir in your YAML has no effect",),
    ),
    "Hydra's folder of a sweep": (
        {"experiment/x.yaml": f"{GLOBAL}hydra:\n  sweep:\n    dir: elsewhere\n"},
        "-m experiment=x seed=1,2",
        ("hydra.sweep.dir in your YAML has no effect", "sweep.params"),
    ),
    "Hydra's params": (
        {"experiment/x.yaml": f"{GLOBAL}hydra:\n  sweeper:\n    params:\n      seed: 1,2\n"},
        "experiment=x",
        ("hydra.sweeper.params.seed in your YAML has no effect", "sweep.params"),
    ),
    "a wrong key of a group that a single run does not use": (
        {"experiment/x.yaml": f"{GLOBAL}sweep:\n  jbos: 3\n"},
        "experiment=x",
        ("sweep.jbos", "Did you mean jobs?"),
    ),
    "a name that ships": (
        {"model/cnn.yaml": "name: cnn\nchannels: [2, 2]\nhidden: 4\n"},
        "model=cnn",
        ("conf/model/cnn.yaml is never read", "model=my_cnn"),
    ),
    "another fit.yaml": (
        {"fit.yaml": "seed: 9\n"},
        "seed=1",
        ("conf/fit.yaml is never read", "experiment/mine.yaml"),
    ),
    "another ending": (
        {"experiment/x.yml": f"{GLOBAL}seed: 3\n"},
        "experiment=x",
        ("no such experiment", "conf/experiment/x.yml is not where", "conf/experiment/x.yaml"),
    ),
    "another folder": (
        {"experiments/x.yaml": f"{GLOBAL}seed: 3\n"},
        "experiment=x",
        ("conf/experiments/x.yaml is not where", "conf/experiment/x.yaml"),
    ),
    "no folder at all": (
        {"x.yaml": f"{GLOBAL}seed: 3\n"},
        "experiment=x",
        ("conf/x.yaml is not where", "conf/experiment/x.yaml"),
    ),
    "a folder that is not there": (
        {"experiment/x.yaml": f"{GLOBAL}seed: 3\n"},
        "experiment=x hydra.searchpath=[nowhere]",
        ("hydra.searchpath: nowhere is not a folder",),
    ),
    "a key of the choice": (
        {"experiment/x.yaml": f"{GLOBAL}seed: 3\n"},
        "++experiment.seed=3",
        ("keys in experiment have no effect", "experiment=line"),
    ),
}


@pytest.mark.fault("N")
@pytest.mark.parametrize("name", NOWHERE)
def test_yaml_that_nothing_would_read_is_refused(name: str, tmp_path: Path) -> None:
    files, words, message = NOWHERE[name]
    write(tmp_path, files)
    before = sorted(tmp_path.rglob("*"))
    ran = trainer_main("fit", "--config-dir", "conf", *words.split(), cwd=tmp_path)
    check(ran, 2, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_resume_refuses_it_too(tmp_path: Path) -> None:
    small = "data=dirichlet model=linear data.train_size=80 data.val_size=16 data.test_size=16"
    words = f"{small} logger=none trainer.epochs=1".split()
    assert trainer_main("fit", *words, cwd=tmp_path).code == 0
    write(tmp_path, {"experiment/x.yaml": BARE})
    resume = ("fit", "resume=last", "--config-dir", "conf", "experiment=x")
    check(trainer_main(*resume, cwd=tmp_path), 2, ("experiment=x changes nothing",))


@pytest.mark.parametrize("word", ["hydra.run.dir=elsewhere", "hydra.job.chdir=true"])
def test_the_config_is_not_printed_with_a_key_that_has_no_effect(word: str, tmp_path: Path) -> None:
    check(trainer_main("fit", word, "--cfg", "job", cwd=tmp_path), 2, ("has no effect",))
    assert list(tmp_path.iterdir()) == []


def test_right_yaml_composes(tmp_path: Path) -> None:
    """A header, a copy of a file that ships, an empty file."""
    write(
        tmp_path,
        {
            "experiment/x.yaml": f"{GLOBAL}{BARE}",
            "experiment/empty.yaml": "",
            "model/cnn.yaml": (CONFIGS / "model" / "cnn.yaml").read_text(encoding="utf-8"),
        },
    )
    for name in ("x", "empty"):
        # Composed and checked as a whole, and then refused for the folder: nothing is trained.
        words = (f"experiment={name}", "data=dirichlet", "model=mlp", "run.dir=conf")
        ran = trainer_main("fit", "--config-dir", "conf", *words, cwd=tmp_path)
        check(ran, 2, ("run.dir=conf exists and is not empty",))
        assert [path.name for path in tmp_path.iterdir()] == ["conf"]
