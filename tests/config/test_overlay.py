"""A saved config as the base of a command: what the command line changes, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest
from composing import composed, config_of

from trainer.config import FitConfig, from_saved, load_fit, overlay, to_plain

SAVED = (
    "model=mlp",
    "model.hidden=[7]",
    "data=mnist",
    "data.batch_size=9",
    "seed=4",
    "trainer.epochs=3",
    "run.root=then",
)


def overlaid(*words: str, saved: FitConfig | None = None) -> Any:
    """The saved config under a command of `words`, whose other choices follow the saved ones."""
    saved = saved or config_of(*SAVED)
    changed = [word.partition("=")[0] for word in words]
    follow = [
        f"{group}={getattr(saved, group).name}"
        for group in ("model", "data")
        if group not in changed
    ]
    return load_fit(overlay(composed(*words, *follow), saved, changed))


def test_without_words_everything_but_the_run_is_as_saved() -> None:
    saved = to_plain(config_of(*SAVED))
    assert to_plain(overlaid()) == saved | {"run": {"root": "runs", "name": None, "dir": None}}


def test_a_key_on_the_command_line_wins() -> None:
    config = overlaid("trainer.epochs=8", "model.hidden=[5]", "seed=6")
    assert (config.trainer.epochs, config.model.hidden, config.seed) == (8, [5], 6)
    assert config.data.batch_size == 9


def test_naming_the_saved_choice_again_keeps_its_values() -> None:
    config = overlaid("model=mlp", "data=mnist")
    assert (config.model.hidden, config.data.batch_size) == ([7], 9)


def test_the_saved_choice_and_a_key_of_it() -> None:
    config = overlaid("data=mnist", "data.val_size=10")
    assert (config.data.batch_size, config.data.val_size) == (9, 10)


def test_another_choice_comes_with_its_own_values() -> None:
    config = overlaid("data=fashion_mnist", "model=lenet5")
    assert (config.data.name, config.data.batch_size) == ("fashion_mnist", 64)
    assert (config.model.name, config.model.hidden) == ("lenet5", [120, 84])


def test_another_choice_and_a_key_of_it() -> None:
    config = overlaid("optimizer=adam", "optimizer.lr=0.5")
    assert (config.optimizer.name, config.optimizer.lr) == ("adam", 0.5)


@pytest.mark.parametrize("words", [(), ("run.root=now",), ("run.dir=exactly",)])
def test_where_results_go_is_the_commands_own_business(words: tuple[str, ...]) -> None:
    saved = config_of(*SAVED, "run.name=old", "run.dir=there", "resume=before")
    config = overlaid(*words, saved=saved)
    assert config.run == config_of(*words).run
    assert config.resume is None
    assert overlaid("resume=x", saved=saved).resume == "x"


def test_only_the_command_line_names_code() -> None:
    saved_values: dict[str, Any] = to_plain(
        config_of("model=custom", "model.target=evil.Model", "++model.kwargs={a: 1}")
    )
    saved = from_saved(saved_values, source="x")
    config = overlaid("model=custom", "model.target=mine.Model", saved=saved)
    assert (config.model.target, config.model.kwargs) == ("mine.Model", {})


def test_the_same_class_named_again_keeps_its_arguments() -> None:
    saved = config_of(
        "model=custom", "model.target=mine.Model", "++model.kwargs={a: 1}", "model.output=log_probs"
    )
    config = overlaid("model=custom", "model.target=mine.Model", saved=saved)
    assert config.model == saved.model


def test_an_experiment_replaces_the_whole_config() -> None:
    saved = config_of(*SAVED)
    result = overlay(composed("experiment=line"), saved, ["experiment"])
    assert load_fit(result) == config_of("experiment=line")
