"""The help pages, the version, and the config that --cfg shows: written for people, and never
out of date.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
import yaml
from commandline import ROOT, quiet_environment, run_trainer, trainer_main
from composing import CONFIGS, choices_of, config_of, read_yaml

import trainer
from trainer.cli.arguments import Arguments
from trainer.cli.configs import comments
from trainer.cli.help import overview, page, verb_lines
from trainer.cli.verbs import HEADINGS, VERBS, find_verb
from trainer.cli.verbs.tb import PORT
from trainer.config import (
    CHOICES,
    COMMAND_SCHEMAS,
    SCHEMAS,
    from_saved,
    listed_keys,
    settable_keys,
    to_plain,
)
from trainer.run.record import RunStatus


def read(line: str) -> Arguments:
    """The words of a command line, `trainer` aside."""
    verb, words = find_verb(shlex.split(line))
    return Arguments.parse(verb, words)


def shown(*words: str, cwd: Path) -> str:
    """What a command that only shows something writes."""
    ran = trainer_main(*words, cwd=cwd)
    assert (ran.code, ran.err) == (0, "")
    assert list(cwd.iterdir()) == []
    return ran.out


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_overview_names_every_command(words: tuple[str, ...], tmp_path: Path) -> None:
    page = shown(*words, cwd=tmp_path)
    assert all(f"trainer {verb} " in page for verb in VERBS)
    assert "  trainer tb\n" in page and "  trainer runs\n" in page


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("model=cn", "--help"), ("-m", "--help")])
def test_the_page_of_fit_names_every_group_with_its_choices(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    page = shown("fit", *words, cwd=tmp_path).split("Groups")[1].split("Keys")[0]
    for group in (*CHOICES, "trainer", "experiment"):
        # A long list goes on below.
        [lines] = re.findall(rf"^  {group} +(.*(?:\n {{10}}.*)*)$", page, flags=re.MULTILINE)
        assert sorted(lines.split()) == choices_of(group)
    defaults = re.findall(r"^  (\w+) +(\w+)", page, flags=re.MULTILINE)
    chosen = {group: getattr(config_of(), group).name for group in SCHEMAS}
    assert chosen.items() <= dict(defaults).items()


def test_the_pages_explain_keys_with_the_comments_of_the_yaml(tmp_path: Path) -> None:
    pages = shown("fit", "--help", cwd=tmp_path) + shown("eval", "--help", cwd=tmp_path)
    for key in (
        "optimizer.lr",
        "data.batch_size",
        "trainer.epochs",
        "trainer.monitor",
        "run.name",
        "seed",
        "eval.split",
    ):
        group, _, name = key.rpartition(".")
        files = (
            [CONFIGS / "fit.yaml", *(CONFIGS / group).glob("*.yaml")]
            if group
            else [CONFIGS / "fit.yaml"]
        )
        # A long comment goes on below.
        [lines] = re.findall(
            rf"^  {re.escape(key)} +(.*(?:\n {{27}}.*)*)$", pages, flags=re.MULTILINE
        )
        line = " ".join(lines.split())
        explained, default = re.fullmatch(r"(.+) \[(.*)\]", line).groups()  # type: ignore[union-attr]
        assert (default, explained) in [comments(file).get(name) for file in files]
        assert explained


def test_every_example_of_the_pages_is_right() -> None:
    pages = [overview(), *map(page, VERBS.values())]
    lines = [line for text in pages for line in text.partition("Examples\n")[2].splitlines()]
    examples = [line.removeprefix("  trainer ") for line in lines]
    assert {line.split()[0] for line in examples} == set(VERBS)
    for line in examples:
        arguments = read(line)
        if arguments.verb == "fit" and not arguments.is_multirun:
            config_of(*(word for word in arguments.overrides if not word.startswith("resume=")))


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("words", [("--help",), ("-h",), ("last", "--help")])
def test_the_page_of_a_verb_names_its_keys_and_flags(
    name: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    verb = VERBS[name]
    if words[0] == "last" and not verb.words:
        words = words[1:]
    text = shown(name, *words, cwd=tmp_path)
    assert text.startswith(f"trainer {name}: {verb.summary}.\n")
    flags = [flag.name for flag in verb.flags if flag.text]
    known = [*(key.name for key in verb.keys), *listed_keys(name), *flags]
    assert [word for word in known if word not in text] == []
    assert f"[{PORT}]" in text or name != "tb"


@pytest.mark.parametrize("words", [("ls", "--help"), ("note", "-h"), ("tag", "last", "--help")])
def test_the_verbs_of_runs_share_a_page(words: tuple[str, ...], tmp_path: Path) -> None:
    text = shown("runs", *words, cwd=tmp_path)
    assert text.startswith("trainer runs: ")
    for verb in VERBS["runs"].verbs:
        assert f"\n  {verb.name.removeprefix('runs ')} {verb.usage} " in text
        known = [key.name for key in verb.keys] + [flag.name for flag in verb.flags if flag.text]
        assert [word for word in known if word not in text] == []
    assert [status for status in RunStatus if status not in text] == []


@pytest.mark.parametrize(
    ("line", "words", "flags"),
    [
        ("runs note last --help", ["last", "--help"], {}),
        ("runs tag last -draft --json", ["last", "-draft", "--json"], {}),
        ("runs -q status=done", ["status=done"], {"--quiet": None}),
        ("runs show lr=0.1", ["lr=0.1"], {}),
        ("reproduce last -cd mine", ["last"], {"--config-dir": "mine"}),
    ],
)
def test_what_is_a_flag_and_what_a_word(
    line: str, words: list[str], flags: dict[str, str | None]
) -> None:
    arguments = read(line)
    assert (arguments.words, arguments.flags) == (words, flags)


def test_reproduce_takes_the_keys_that_leave_the_bits_alone() -> None:
    assert {key.name for key in VERBS["reproduce"].keys} == set(settable_keys("reproduce"))


def test_every_verb_is_in_the_overview_under_its_heading() -> None:
    assert {verb.group for verb in VERBS.values()} <= set(HEADINGS)
    assert all(f"  trainer {name} " in verb_lines() for name in VERBS)


def test_the_readme_lists_the_verbs_of_the_table(request: pytest.FixtureRequest) -> None:
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    listed = indent(verb_lines(), "    ")
    if request.config.getoption("--update-golden"):
        start, end = readme.index(f"    {HEADINGS[0]}\n"), readme.index("\n\nEach group has a page")
        path.write_text(readme[:start] + listed + readme[end:], encoding="utf-8")
        pytest.skip("written anew")
    assert listed in readme


def test_no_line_of_a_page_is_wider_than_a_terminal() -> None:
    """Failed before: up to 127 columns."""
    pages = [overview(), *map(page, VERBS.values())]
    assert [line for text in pages for line in text.splitlines() if len(line) > 80] == []


def test_the_golden_pages(request: pytest.FixtureRequest) -> None:
    """A change of a page shows as a diff of this file, but for choices: another test has those."""
    path = ROOT / "tests" / "golden" / "help.txt"
    text = "\n".join([overview(), *map(page, VERBS.values())])
    for group in CHOICES:
        text = re.sub(rf"(?m)^(  {group} +\w+) .*(\n {{10}}.*)*$", r"\1 …", text)
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_peoples_own_choices_are_on_the_page(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine = tmp_path_factory.mktemp("mine") / "model"
    mine.mkdir()
    (mine / "tiny.yaml").write_text("# Mine.\nname: mlp\nhidden: [2]\ndropout: 0.0\n")
    for words in (
        ("--config-dir", str(mine.parent)),
        (f"--config-dir={mine.parent}",),
        ("-cd", str(mine.parent)),
    ):
        [line] = re.findall(
            r"^  model +(.*)$", shown("fit", *words, "--help", cwd=tmp_path), flags=re.MULTILINE
        )
        assert "tiny" in line.split()
        content = yaml.safe_load(shown("fit", *words, "model=tiny", "--cfg", "job", cwd=tmp_path))
        assert content["model"]["hidden"] == [2]


@pytest.mark.parametrize(
    "words", [("--cfg", "job"), ("--cfg=job",), ("-c", "job"), ("model=mlp", "--cfg", "job")]
)
def test_cfg_job_prints_the_whole_config(words: tuple[str, ...], tmp_path: Path) -> None:
    content = yaml.safe_load(shown("fit", *words, cwd=tmp_path))
    overrides = [word for word in words if word.startswith("model=")]
    of_the_command = {group: content.pop(group) for group in COMMAND_SCHEMAS}
    assert {group["name"] for group in of_the_command.values()} == {"grid", "local"}
    assert from_saved(content, source="--cfg job") == config_of(*overrides)
    assert set(content) == set(to_plain(config_of()))


def test_cfg_job_of_eval_has_its_own_keys(tmp_path: Path) -> None:
    content = yaml.safe_load(shown("eval", "--cfg", "job", cwd=tmp_path))
    assert content["eval"] == read_yaml(CONFIGS / "eval" / "default.yaml")
    assert content["ckpt"] is None


def test_a_package_of_the_config(tmp_path: Path) -> None:
    out = shown("fit", "--cfg", "job", "--package", "optimizer", cwd=tmp_path)
    assert yaml.safe_load(out) == read_yaml(CONFIGS / "optimizer" / "sgd.yaml")


def test_hydras_own_help_and_info(tmp_path: Path) -> None:
    assert "--multirun" in shown("fit", "--hydra-help", cwd=tmp_path)
    assert "cnn" in shown("fit", "--info", "defaults", cwd=tmp_path)


def test_the_version(tmp_path: Path) -> None:
    assert shown("--version", cwd=tmp_path) == f"trainer {trainer.__version__}\n"


@pytest.mark.parametrize(
    "words", [("--version",), ("fit", "--help"), ("fit", "--cfg", "job"), ("fit", "model=cn")]
)
def test_python_m_trainer_is_the_same(words: tuple[str, ...], tmp_path: Path) -> None:
    assert run_trainer(*words, cwd=tmp_path) == trainer_main(*words, cwd=tmp_path)


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    command = f"{sys.executable} -m trainer fit --cfg job | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=quiet_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    ("words", "given", "flags"),
    [
        (
            ["model=cnn", "-m", "seed=1,2"],
            ["--multirun", "model=cnn", "seed=1,2"],
            {"--multirun": None},
        ),
        (["-cd", "mine", "model=a"], ["--config-dir", "mine", "model=a"], {"--config-dir": "mine"}),
        (["--cfg=job"], ["--cfg", "job"], {"--cfg": "job"}),
    ],
)
def test_flags_may_stand_anywhere(
    words: list[str], given: list[str], flags: dict[str, str | None]
) -> None:
    arguments = Arguments.parse(VERBS["fit"], words)
    assert arguments.given == given
    assert arguments.flags == flags


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("optimizer.lr=0.1", "optimizer.lr", "0.1"),
        ("+a.b=c=d", "a.b", "c=d"),
        ("++a=1", "a", "1"),
        ("~a", "a", ""),
        ("ckpt='my runs/a=b'", "ckpt", "my runs/a=b"),
        (r'ckpt="it\"s"', "ckpt", 'it"s'),
        (r"ckpt=a\=b", "ckpt", "a=b"),
    ],
)
def test_the_value_of_an_override_as_text(word: str, key: str, value: str) -> None:
    assert Arguments.parse(VERBS["fit"], [word]).values == {key: value}


def test_json_is_a_flag_of_eval() -> None:
    assert read("eval ckpt=last --json").given == ["ckpt=last", "eval.json=true"]
