"""The documentation against the code: every key and choice is described, links resolve, commands
compose.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.cli.main import main
from trainer.commands.fit.run import FitResult
from trainer.commands.sweep.plan import check
from trainer.config import EvalConfig, FitConfig
from trainer.config.sweep import SweepRequest
from trainer.config.transforms import TRANSFORMS

# Each test composes configs with Hydra, 60 ms a time.
pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(DOCS.glob("*.md")),
]
CHOICES = sorted(CONFIGS.glob("*/*.yaml"))
# `trainer eval` and the top-level keys share the page about runs.
PAGE_OF = {"eval": "run", "launcher": "cluster"}


def page_of(group: str) -> str:
    return (DOCS / f"{PAGE_OF.get(group, group)}.md").read_text(encoding="utf-8")


def leaves(content: Mapping[str, Any], *, above: str = "") -> Iterator[str]:
    """Dotted names of all values; a table that is a value (kwargs: {}) is one."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, above=f"{above}{key}.")
        else:
            yield f"{above}{key}"


def is_named(text: str, *names: str) -> bool:
    return any(f"`{name}`" in text for name in names)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", CHOICES, ids=name_of)
def test_every_choice_and_key_of_a_group_is_on_its_page(path: Path) -> None:
    group, text = path.parent.name, page_of(path.parent.name)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content.pop("defaults", None)
    if group != "eval":
        assert is_named(text, path.stem)
    missing = [key for key in leaves(content) if not is_named(text, key, f"{group}.{key}")]
    assert not missing


@pytest.mark.parametrize("name", ["fit", "eval"])
def test_every_top_level_key_is_on_the_page_about_runs(name: str) -> None:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    for key in ("defaults", "hydra"):
        content.pop(key, None)
    text = page_of("run")
    assert [key for key in leaves(content) if not is_named(text, key)] == []


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("experiment/*.yaml")), ids=name_of)
def test_the_choices_of_an_experiment_are_on_its_page(path: Path) -> None:
    text = page_of("experiment")
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"]:
        ((key, choice),) = entry.items()
        assert f"| `{key.removeprefix('override /')}` | `{choice}` |" in text


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_every_transform_and_its_options_are_described(name: str) -> None:
    text = (DOCS / "transforms.md").read_text(encoding="utf-8")
    section = text.partition(f"### {name}\n")[2].partition("\n### ")[0]
    fields = dataclasses.fields(TRANSFORMS[name])
    assert [field.name for field in fields if not is_named(section, field.name)] == []


def test_every_dependency_has_its_reason() -> None:
    text = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(
        r"^(?:dependencies|dev|bench) = \[(.*?)\]", project, re.MULTILINE | re.DOTALL
    )
    names = [name for inner in lists for name in re.findall(r'"([A-Za-z][\w-]*)', inner)]
    assert len(lists) == 3
    assert [name for name in names if not is_named(text, name, name.lower())] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    prose = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    links = [
        link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"[a-z]+:", link)
    ]
    for link in links:
        target, _, anchor = link.partition("#")
        found = page.parent / target if target else page
        assert found.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [
                re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
            ], link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_no_path_of_the_machine_they_were_written_on(page: Path) -> None:
    assert not re.search(r"/work/|/home/\w+/|/tmp/|\.\./shared", page.read_text(encoding="utf-8"))


def commands_in(page: Path) -> list[str]:
    """The `trainer …` commands in the fenced blocks of a page, continued lines joined; none with
    a placeholder.
    """
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [
        match[1]
        for line in lines
        if (match := re.match(r"(?:\$ )?(trainer (?:fit|eval|check-run|-).*)", line))
    ]
    return [command for command in found if not re.search(r"[<…]", command)]


# The commands of custom.md run for real in test_custom_example.py.
COMMANDS = [
    (page, command) for page in PAGES if page.name != "custom.md" for command in commands_in(page)
]


@pytest.fixture(scope="module")
def folder_with_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, for commands that name the last one."""
    folder = tmp_path_factory.mktemp("docs")
    run = folder / "runs/2026-01-01/00-00-00-run"
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "fit",
                "model=linear",
                "data=dirichlet",
                "trainer=debug",
                "logger=none",
                f"run.dir={run}",
            ]
        )
    assert not ended.value.code
    return folder


class Recorded:
    """Takes the place of a command: keeps the configs it was called with, and does nothing."""

    def __init__(self) -> None:
        self.configs: list[FitConfig | EvalConfig] = []

    def fit(self, config: FitConfig, **how: Any) -> FitResult:
        self.configs.append(config)
        return FitResult(Path("run"), {})

    def sweep(self, request: SweepRequest, **how: Any) -> int:
        self.configs += check(request, [])
        return 0

    def eval(self, config: EvalConfig, saved: object, **how: Any) -> None:
        self.configs.append(config)


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{page.name}: {command}" for page, command in COMMANDS]
)
def test_documented_commands_compose(
    page: Path,
    command: str,
    folder_with_a_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(folder_with_a_run / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    recorded = Recorded()
    monkeypatch.setattr("trainer.commands.fit.run.run", recorded.fit)
    monkeypatch.setattr("trainer.commands.eval.run", recorded.eval)
    monkeypatch.setattr("trainer.commands.sweep.command.run", recorded.sweep)
    argv = shlex.split(command, comments=True)[1:]
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert not ended.value.code
    only_shows = {"--help", "-h", "--cfg", "--version", "--shell-completion"} & {
        word.split("=")[0] for word in argv
    }
    # check-run has no config: it really ran, on a run that is sound.
    assert recorded.configs or only_shows or argv[0] == "check-run"
