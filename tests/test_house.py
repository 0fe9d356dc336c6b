"""The rules of the house: which room may import which, file names and lengths, and code that the
source never contains.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import ROOT, Ran, run_python
from house import (
    MAX_DECISIONS,
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    SOURCE,
    files_in,
    functions_of,
    long_lines_of,
)

FILES = files_in(SOURCE)
SUPPORT = ROOT / "tests" / "support"

# The ladder of docs/design.md: a room may import rooms of a higher row number, and no other room of
# its own row.
ROWS = {
    **dict.fromkeys(("cli", "__main__"), 1),
    "commands": 2,
    "engine": 3,
    **dict.fromkeys(
        (
            "data",
            "models",
            "losses",
            "optim",
            "schedule",
            "metrics",
            "device",
            "checkpoint",
            "tracking",
        ),
        4,
    ),
    **dict.fromkeys(("run", "config"), 5),
    **dict.fromkeys(("errors", "files", "signals", "registry", "user_code", "state_checks"), 6),
    "process_state": 6,
    "trainer": 7,  # the package itself: its version
}
# The ground is layered in its turn: these import errors, and nothing else of ours.
GROUND = {"errors": 0, "signals": 0, "state_checks": 0, "files": 1, "registry": 1}
GROUND |= {"process_state": 1, "user_code": 2}
# Inside commands/: a verb may import build and fit, and no other verb.
COMMANDS = {"build": 3, "fit": 2}
# The header of a checkpoint is read before torch is loaded, so the command line may know it.
FREE_OF_TORCH = {"checkpoint.file", "checkpoint.header"}
# At most so many folders and files at the top of src/trainer.
MAX_ROOMS = 22
# Files that may be longer, each with its reason.
LONGER: dict[str, str] = {}
# Functions that may decide more, each with its reason; at most three.
BRANCHING: dict[str, str] = {}
MAX_BRANCHING = 3
# The plainest words of a dialect that nobody outside speaks.
REFUSED_WORDS = ("told", "asked", "gone on with", "goes on with", "see to it")


@dataclass(frozen=True)
class Import:
    """`module` imported in `file`.

    `is_local`: inside a function; `is_typing`: for type checkers only.
    """

    file: Path
    module: str
    is_local: bool
    is_typing: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(SOURCE)} imports {self.module}"


def imports_of(file: Path) -> Iterator[Import]:
    """Every import in a file, `from trainer.a import b` as trainer.a.b where that is a module."""

    def walk(node: ast.AST, *, is_local: bool, is_typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for name in names_in(child):
                yield Import(file, name, is_local, is_typing)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from walk(child, is_local=is_local or inside, is_typing=is_typing or typing)

    yield from walk(tree_of(file), is_local=False, is_typing=False)


def names_in(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0 and node.module is not None, "a relative import"
    names = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if is_module(name) else node.module for name in names]


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def is_module(name: str) -> bool:
    path = SOURCE.parent / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room_of(module: str) -> str:
    """`commands` for trainer.commands.fit; `trainer` for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def module_of(file: Path) -> str:
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports() -> list[Import]:
    return [found for file in FILES for found in imports_of(file)]


def ours() -> list[Import]:
    return [found for found in imports() if found.module.split(".")[0] == "trainer"]


def theirs() -> list[Import]:
    return [found for found in imports() if found.module.split(".")[0] != "trainer"]


def is_allowed(found: Import) -> bool:
    """Whether an import goes down the ladder."""
    here, there = room_of(module_of(found.file)), room_of(found.module)
    if here == there == "commands":
        verb, other = verb_of(module_of(found.file)), verb_of(found.module)
        return verb == other or COMMANDS.get(other, 1) > COMMANDS.get(verb, 1)
    if here == there or (here == "__main__" and there == "cli"):
        return True
    if here == "cli" and there in ("commands", "tracking"):
        return found.is_local or found.is_typing
    if ROWS[here] == ROWS[there] == 6:
        return GROUND[there] < GROUND[here] or found.is_typing
    return ROWS[here] < ROWS[there]


def verb_of(module: str) -> str:
    """`fit` for trainer.commands.fit.run."""
    return [*module.split("."), ""][2]


def test_every_room_has_its_row() -> None:
    assert {room_of(module_of(file)) for file in FILES} == set(ROWS)
    assert {room for room, row in ROWS.items() if row == 6} == set(GROUND)
    others = {"__init__.py", "__pycache__", "py.typed"}
    assert len({path.name for path in SOURCE.iterdir()} - others) <= MAX_ROOMS


def test_imports_go_in_no_circle() -> None:
    """Those inside functions count too: a circle that is hidden there is a circle."""
    arrows: dict[str, set[str]] = {module_of(file): set() for file in FILES}
    for found in ours():
        if not found.is_typing:
            arrows[module_of(found.file)].add(found.module)
    while free := {module for module, below in arrows.items() if not below & arrows.keys()}:
        arrows = {module: below for module, below in arrows.items() if module not in free}
    assert arrows == {}


def test_imports_run_down_the_ladder() -> None:
    assert [str(found) for found in ours() if not is_allowed(found)] == []


@pytest.mark.parametrize(
    ("file", "module", "is_local", "allowed"),
    [
        ("engine/fit.py", "trainer.losses", False, True),
        ("engine/fit.py", "trainer.commands.fit", False, False),
        ("engine/fit.py", "trainer.commands.fit", True, False),
        ("losses.py", "trainer.metrics", False, False),
        ("data/load.py", "trainer.data.image_sets.idx", False, True),
        ("data/load.py", "trainer.config.transforms", False, True),
        ("run/lock.py", "trainer.data.image_sets.idx", False, False),
        ("errors.py", "trainer.config", False, False),
        ("registry.py", "trainer.errors", False, True),
        ("cli/main.py", "trainer.commands.fit.run", True, True),
        ("cli/main.py", "trainer.commands.fit.run", False, False),
        ("commands/eval.py", "trainer.commands.fit.summary", False, True),
        ("commands/fit/run.py", "trainer.commands.build", False, True),
        ("commands/build.py", "trainer.commands.fit.run", False, False),
        ("commands/eval.py", "trainer.commands.tb", False, False),
    ],
)
def test_the_ladder_itself(file: str, module: str, is_local: bool, allowed: bool) -> None:
    assert is_allowed(Import(SOURCE / file, module, is_local, is_typing=False)) == allowed


def test_the_engine_knows_neither_yaml_nor_hydra() -> None:
    packages = {
        found.module.split(".")[0]
        for found in theirs()
        if room_of(module_of(found.file)) == "engine"
    }
    assert packages.isdisjoint({"yaml", "hydra", "omegaconf"})


def test_hydra_is_known_to_the_command_line_only() -> None:
    users = {module_of(found.file) for found in theirs() if found.module.split(".")[0] == "hydra"}
    assert users == {"trainer.cli.compose"}


def test_torch_is_not_imported_above_the_commands_or_in_the_lowest_row() -> None:
    modules = {module_of(file) for file in FILES}
    bare = {module for module in modules if ROWS[room_of(module)] in (1, 5, 6, 7)}
    bare |= {f"trainer.{name}" for name in FREE_OF_TORCH}
    heavy = {"torch", "torchvision", "numpy", "safetensors", "tensorboard"}
    wrong = [
        str(found)
        for found in theirs()
        if module_of(found.file) in bare and found.module.split(".")[0] in heavy
    ]
    assert wrong == []
    # And not by way of another room, where it is imported at once.
    for found in ours():
        if module_of(found.file) in bare and not found.is_local and not found.is_typing:
            assert found.module in bare | {"trainer.checkpoint"}, found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_is_short_named_for_what_it_does_and_says_so(file: Path) -> None:
    name = str(file.relative_to(SOURCE))
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES or name in LONGER, f"{name} has {lines} lines"
    assert not re.search(r"utils?|helpers?|common|manager|handler|misc", file.stem)
    assert ast.get_docstring(tree_of(file)) or file.stem == "__main__"


def test_no_file_is_on_the_list_of_longer_ones_in_vain() -> None:
    assert all(
        len((SOURCE / name).read_text(encoding="utf-8").splitlines()) > MAX_FILE_LINES
        for name in LONGER
    )


def test_a_function_decides_little_and_is_short() -> None:
    functions = [function for file in FILES for function in functions_of(file)]
    branching = {str(found) for found in functions if found.num_decisions > MAX_DECISIONS}
    assert branching == set(BRANCHING)
    assert len(BRANCHING) <= MAX_BRANCHING
    assert [str(found) for found in functions if found.num_lines > MAX_FUNCTION_LINES] == []


def test_a_line_is_short() -> None:
    """Those of every file, whatever a formatter leaves as it is."""
    long = {str(file.relative_to(SOURCE)): long_lines_of(file) for file in FILES}
    assert {name: lines for name, lines in long.items() if lines} == {}


@pytest.mark.parametrize("word", REFUSED_WORDS)
def test_the_source_speaks_plainly(word: str) -> None:
    """In names, docstrings, comments and messages, where the phrase may break over two lines."""
    pattern = re.compile(
        rf"(?<![a-zA-Z]){word}(?![a-zA-Z])".replace(" ", r"[\s#_]+"), re.IGNORECASE
    )
    found = [
        f"{file.relative_to(SOURCE)}: {match[0]}"
        for file in FILES
        for match in pattern.finditer(file.read_text(encoding="utf-8"))
    ]
    assert found == []


# What runs code out of data, in any spelling that the source could call it by. `model.eval()` takes
# no text.
FORBIDDEN = {
    "pickle": r"\b(c?[pP]ickle|dill|cloudpickle|joblib|marshal|shelve)\b",
    "torch.load": r"\b(torch|np|numpy)\.load\(|weights_only|allow_pickle",
    "instantiate": r"\binstantiate\(|hydra\.utils|get_class\(|get_object\(",
    "eval": r"(?<![\w.])(eval|exec|compile)\(",
    "extractall": r"\bextractall\(|\bunpack_archive\(",
    "unsafe YAML": r"yaml\.(load|unsafe_load|full_load)\(",
    "a shell": r"shell=True|os\.system|os\.popen",
}
EXAMPLES = {
    "pickle": "import pickle",
    "torch.load": "state = torch.load(path)",
    "instantiate": "model = hydra.utils.instantiate(config)",
    "eval": "value = eval(text)",
    "extractall": "archive.extractall(folder)",
    "unsafe YAML": "yaml.load(text)",
    "a shell": "subprocess.run(text, shell=True)",
}


@functools.cache
def code_of(file: Path) -> str:
    """The source without comments and texts, which may name what the code may not call."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_in_the_source_runs_code_out_of_data(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    assert pattern.search(EXAMPLES[what])
    assert not pattern.search("model.eval()")
    found = [
        f"{file.relative_to(SOURCE)}: {match[0]}"
        for file in FILES
        for match in pattern.finditer(code_of(file))
    ]
    assert found == []


def users_of(pattern: str, files: list[Path] = FILES) -> set[str]:
    """The modules whose code has something that matches."""
    return {
        module_of(file).removeprefix("trainer.")
        for file in files
        if re.search(pattern, code_of(file))
    }


def test_one_module_opens_checkpoints_and_one_opens_data_files() -> None:
    opening = r"\bopen\(|\.read_(bytes|text)\(|\bfdopen\("
    assert users_of(opening, [file for file in FILES if file.parent.name == "checkpoint"]) == {
        "checkpoint.file"
    }
    # They turn bytes into tensors and back; the functions of the library that open files are not
    # used.
    assert users_of(r"\bsafetensors\b") == {"checkpoint.load", "checkpoint.store"}
    assert users_of(r"\b(safe_open|load_file|save_file|load_model|save_model)\b") == set()
    assert users_of(r"\b(gzip|zlib|fromfile|frombuffer|memmap)\b") == {"data.image_sets.idx"}


def test_one_module_imports_by_name() -> None:
    users = {module_of(found.file) for found in theirs() if found.module == "importlib"}
    assert users == {"trainer.user_code"}


def test_hydra_is_pinned_to_a_version_that_runs_no_code_from_configs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [pin] = [line for line in project["dependencies"] if line.startswith("hydra-core")]
    [least] = re.findall(r">=\s*([0-9.]+)", pin)
    assert tuple(int(part) for part in least.split(".")) >= (1, 3, 8)


# Commands that train and evaluate nothing.
QUICK = {
    "overview": ("--help",),
    "version": ("--version",),
    "help of fit": ("fit", "--help"),
    "help of eval": ("eval", "--help"),
    "help of check-run": ("check-run", "--help"),
    "no such run": ("check-run", "nowhere"),
    "help of tb": ("tb", "--help"),
    "no run to show": ("tb", "nowhere"),
    "help of runs": ("runs", "--help"),
    "runs": ("runs",),
    "no such run to compare": ("runs", "compare", "one", "other"),
    "no such run to remove": ("runs", "rm", "nowhere"),
    "help of reproduce": ("reproduce", "--help"),
    "no such run to reproduce": ("reproduce", "nowhere"),
    "completion": ("--shell-completion", "query=bash"),
    "a wrong choice": ("fit", "model=cn"),
    "a wrong value": ("fit", "trainer.epochs=many"),
    "a contradiction": ("fit", "loss=nll"),
    "no such checkpoint": ("eval", "ckpt=nowhere"),
    "the config": ("fit", "--cfg", "job"),
    "a wrong sweep": ("fit", "-m", "model=mlp,cn"),
}
# Runs them one after another, and lists after each what is loaded by then.
RUN_ALL = """
import json, sys
from pathlib import Path
from commandline import trainer_main

heavy = {"torch", "torchvision", "numpy", "tensorboard", "safetensors"}
for name, words in json.load(sys.stdin).items():
    sys.argv = ["trainer", *words]
    ran = trainer_main(*words, cwd=Path.cwd())
    print(json.dumps([name, ran.code, ran.out, ran.err, sorted(heavy & set(sys.modules))]))
"""


@pytest.fixture(scope="module")
def quick_commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Ran, list[str]]]:
    """How each command of QUICK ended, and the heavy packages loaded by then, in one process."""
    env = {"COMP_LINE": "trainer fit model=l", "PYTHONPATH": f"{SOURCE.parent}:{SUPPORT}"}
    folder = tmp_path_factory.mktemp("quick")
    done = run_python("-c", RUN_ALL, cwd=folder, env=env, text=json.dumps(QUICK))
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    return {name: (Ran(*ran), heavy) for name, *ran, heavy in rows}


@pytest.mark.parametrize("name", QUICK)
def test_what_needs_no_torch_does_not_load_it(
    name: str, quick_commands: dict[str, tuple[Ran, list[str]]]
) -> None:
    ran, heavy = quick_commands[name]
    assert heavy == []
    assert ran.code in (0, 2, 3)
    assert ran.out or ran.err
