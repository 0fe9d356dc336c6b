"""A hint names the whole command that was meant, in one try: our names for what people write."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from commandline import trainer_main
from composing import config_of
from wrong_commands import Outcome, check, run_commands

from trainer.cli.verbs import _INSTEAD, VERBS, find_verb
from trainer.config import CHOICES, known_keys, synonyms
from trainer.config.transforms import TRANSFORMS

# Command -> words of the message; all end with exit code 2, before torch is loaded.
HINTS: dict[str, tuple[str, ...]] = {
    # A list without brackets.
    "fit model=mlp model.hidden=256,128": ("'model.hidden=[256,128]'", "-m"),
    "fit model=mlp model.hidden=256": ("'model.hidden=[256]'",),
    "fit optimizer=adam optimizer.betas=0.9,0.99": ("'optimizer.betas=[0.9,0.99]'",),
    "fit optimizer=adam 'optimizer.betas=(0.9,0.99)'": ("'optimizer.betas=[0.9,0.99]'",),
    "fit data.transforms=random_crop,random_invert": ("[random_crop,random_invert]",),
    "fit optimizer.lr=0.1,0.2": ("fit -m optimizer.lr=0.1,0.2",),
    # A key without its group, in another one, or under another name.
    "fit batch_size=32": ("data.batch_size=32",),
    "fit epochs=3": ("trainer.epochs=3",),
    "fit lr=0.1": ("optimizer.lr=0.1",),
    "fit learning_rate=0.1": ("optimizer.lr=0.1",),
    "fit -m lr=0.1,0.2": ("optimizer.lr=0.1",),
    "fit patience=3": ("scheduler.patience=3 or trainer.patience=3",),
    "fit early_stopping=true": ("trainer.patience=…",),
    "fit trainer.early_stopping=5": ("trainer.patience=5",),
    "fit trainer.lr=0.1": ("optimizer.lr=0.1",),
    "fit optimizer.learning_rate=0.1": ("optimizer.lr=0.1",),
    "fit training.epochs=3": ("trainer.epochs=3",),
    "fit data.val_split=0.1": ("data.val_size=…",),
    "fit dataset=mnist": ("data=mnist",),
    "fit name=x": ("run.name=x",),
    "fit random_state=3": ("seed=3",),
    "fit device=gpu": ("trainer.device=cuda",),
    "fit fp16=true": ("trainer.precision=fp16",),
    "fit bf16=true": ("trainer.precision=bf16",),
    "fit precision=half": ("trainer.precision=fp16",),
    "fit --learning-rate 0.1": ("optimizer.lr=",),
    "fit --lr=0.1": ("optimizer.lr=",),
    "fit --config mine.yaml": ("--config-dir DIR experiment=NAME",),
    "fit mine.yaml": ("--config-dir DIR experiment=mine",),
    # A key of another choice of the group.
    "fit scheduler.patience=3": ("It belongs to scheduler=plateau", "eta_min"),
    "fit optimizer=adam optimizer.momentum=0.9": ("optimizer=sgd", "betas"),
    "fit data=dirichlet data.root=x": ("data=mnist", "train_size"),
    # Other words for a choice or a value.
    "fit loss=bce": ("Did you mean bce_with_logits?",),
    "fit loss=BCE": ("Did you mean bce_with_logits?",),
    "fit loss=mae": ("Did you mean l1?",),
    "fit loss=smooth_l1": ("Did you mean huber?",),
    "fit scheduler=none": ("Did you mean constant?",),
    "fit scheduler=CosineAnnealingLR": ("Did you mean cosine?",),
    "fit scheduler=reduce_on_plateau": ("Did you mean plateau?",),
    "fit logger=off": ("Did you mean none?",),
    "fit trainer.precision=half": ("Did you mean fp16?",),
    "fit trainer.precision=16": ("Did you mean fp16?",),
    "fit trainer.precision=32": ("Did you mean fp32?",),
    "fit 'data.transforms=[random_flip]'": ("Did you mean random_horizontal_flip?",),
    "fit 'data.transforms=[cutout]'": ("Did you mean random_erasing?",),
    # One's own.
    "fit data=cifar10": ("Did you mean custom?", "data=custom, see docs/custom.md"),
    "fit model=resnet18": ("Did you mean custom?", "model=custom, see docs/custom.md"),
    "fit loss=custom": ("docs/custom.md",),
    "fit loss=my_pkg.MyLoss": ("docs/custom.md",),
    "fit loss.target=my_pkg.MyLoss": ("docs/custom.md",),
    "fit optimizer=custom": ("docs/custom.md",),
    "fit optimizer.target=my_pkg.Lion": ("docs/custom.md",),
    "fit scheduler=my_pkg.Warm": ("docs/custom.md",),
    "fit 'data.transforms=[my_pkg.Blur]'": ("docs/custom.md",),
    # The whole set of words that fits.
    "fit data=line": ("data=line model=linear loss=mse", "model=mlp", "loss=huber"),
    "fit data=line model=lenet5 loss=nll": ("data=line model=linear loss=mse",),
    "fit data=dirichlet loss=mse": ("data=dirichlet model=mlp loss=cross_entropy",),
    "fit data=dirichlet loss=nll model=cnn_dropout": (
        "data=dirichlet model=mlp loss=cross_entropy",
    ),
    # A small set.
    "fit data=dirichlet model=mlp data.train_size=100": ("Set data.val_size=20.",),
    "fit data=line model=linear loss=mse data.val_size=5": ("Set data.val_size=1.",),
    "fit data.val_size=60000": ("Set data.val_size=12000.",),
    "fit data.batch_size=70000": ("Set data.batch_size=60000 or less",),
    # What was a riddle.
    "fit data.train_limit.x=1": ("data.train_limit has no parts", "a whole number or null"),
    "fit '~data.train_limit=100'": ("nothing is removed", "data.train_limit=null"),
    "fit seed=one": ("Write a whole number: seed=1",),
    "fit seed=null": ("Write a whole number: seed=1",),
    # Verbs.
    "train model=cnn": ("Did you mean fit?",),
    "test": ("Did you mean eval ckpt=last?",),
    "tensorboard": ("Did you mean tb?",),
    "list": ("Did you mean runs?",),
    "resume": ("Did you mean fit resume=last?",),
    "version": ("Did you mean --version?",),
    "eval ckpt": ("ckpt needs a value", "eval ckpt=last"),
    "eval last ckpt=last": ("two checkpoints",),
    "fit last": ("resume=last",),
    "fit optimizer.lr": ("optimizer.lr=…",),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_commands(HINTS, tmp_path_factory.mktemp("hints"))


@pytest.mark.parametrize("command", HINTS)
def test_a_hint_names_what_was_meant(command: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[command]
    check(outcome.ran, 2, HINTS[command])
    assert not outcome.has_torch


def test_the_words_that_a_hint_writes_compose() -> None:
    """The whole set of words that a hint gives is right: nothing is refused in a second try."""
    for words in HINTS["fit data=line"][0], HINTS["fit data=dirichlet loss=mse"][0]:
        config = config_of(*words.split())
        chosen = [f"{group}={getattr(config, group).name}" for group in ("data", "model", "loss")]
        assert chosen == words.split()


def test_every_synonym_is_of_a_word_that_there_is() -> None:
    keys = known_keys()
    for kind, words in synonyms._WORDS.items():
        valid: set[str] = {*CHOICES.get(kind, ())}
        if kind in keys:
            valid = {*keys[kind].one_of, *keys[kind].words}
        if kind == "data.transforms":
            valid = set(TRANSFORMS)
        unknown = {ours for ours in words.values() if ours not in {*valid, "mps"}}
        assert unknown == set(), kind
        assert [word for word in words if word in valid or re.search("[^a-z0-9]", word)] == []
    for word, ours in synonyms._KEYS.items():
        assert ours in keys or ours in {*CHOICES, "experiment"}, word


def test_every_other_name_of_a_verb_is_of_one_that_there_is() -> None:
    for name, line in _INSTEAD.items():
        assert name not in VERBS
        if not line.startswith("-"):
            verb, _ = find_verb(shlex.split(line))
            assert verb.name.split()[0] == line.split()[0]


@pytest.mark.parametrize("words", ["accuracy", "acc", "loss", "val_loss", "test-acc"])
def test_half_a_metric_is_answered_with_the_whole_one(words: str, tmp_path: Path) -> None:
    ran = trainer_main("runs", "best", words, cwd=tmp_path)
    check(ran, 2, (f"There is no metric {words}", "Did you mean ", "/"))
