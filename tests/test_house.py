"""The house keeps its rules: which room may import which, what a file may be called, what the source never holds."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import ROOT, run_python

SOURCE = ROOT / "src" / "trainer"
FILES = sorted(SOURCE.rglob("*.py"))

# The ladder of DESIGN.md: a room may import rooms of a higher row number, and no other room of its own row.
ROWS = {
    # The command line is one room of several files, cut by what they answer.
    **dict.fromkeys(
        ("cli", "__main__", "arguments", "composing", "explain", "helppage", "completion", "saved", "runwords"), 1
    ),
    "commands": 2,
    "engine": 3,
    **dict.fromkeys(
        ("data", "models", "losses", "optim", "schedule", "checkpoint", "tracking", "metrics", "device"), 4
    ),
    **dict.fromkeys(
        ("config", "registry", "errors", "rundir", "plugin", "runlock", "runrecord", "runindex", "state", "leaving"), 5
    ),
    "trainer": 6,  # the package itself: its version
}
# Rooms of the lowest row are layered in their turn.
LOWEST = {
    "errors": 0,
    "state": 0,
    "leaving": 0,
    "registry": 1,
    "rundir": 1,
    "runlock": 2,
    "plugin": 1,
    "config": 2,
    "runrecord": 2,
    "runindex": 3,
}
# The header of a checkpoint is read before torch is loaded, so the command line may know it.
FREE_OF_TORCH = {"checkpoint.file", "checkpoint.header"}
MAX_LINES = 300
# Files that may be longer, each with its reason.
LONGER: dict[str, str] = {}


@dataclass(frozen=True)
class Import:
    """`module` imported in `file`; `is_local` inside a function, `is_typing` for type checkers only."""

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
            names: list[str] = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{file}: a relative import"
                base = child.module or ""
                names = [f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base for alias in child.names]
            yield from (Import(file, name, is_local, is_typing) for name in names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from walk(child, is_local=is_local or inside, is_typing=is_typing or typing)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), is_local=False, is_typing=False)


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


OURS = [found for file in FILES for found in imports_of(file) if found.module.split(".")[0] == "trainer"]
THEIRS = [found for file in FILES for found in imports_of(file) if found.module.split(".")[0] != "trainer"]


def is_allowed(found: Import) -> bool:
    """Whether an import goes down the ladder."""
    here, there = room_of(module_of(found.file)), room_of(found.module)
    if here == there or (ROWS[here] == ROWS[there] == 1):
        return True
    if here == "cli" and there in ("commands", "tracking"):
        return found.is_local or found.is_typing
    if ROWS[here] == ROWS[there] == 5:
        return LOWEST[there] < LOWEST[here] or found.is_typing
    return ROWS[here] < ROWS[there]


def test_every_room_has_its_row() -> None:
    assert {room_of(module_of(file)) for file in FILES} == set(ROWS)
    assert {room for room, row in ROWS.items() if row == 5} == set(LOWEST)


@pytest.mark.parametrize("found", OURS, ids=str)
def test_imports_run_down_the_ladder(found: Import) -> None:
    assert is_allowed(found), f"{found}, which is not below it"


@pytest.mark.parametrize(
    ("file", "module", "is_local", "allowed"),
    [
        ("engine/fit.py", "trainer.losses", False, True),
        ("engine/fit.py", "trainer.commands.fit", False, False),
        ("engine/fit.py", "trainer.commands.fit", True, False),
        ("losses.py", "trainer.metrics", False, False),
        ("data/load.py", "trainer.data.idx", False, True),
        ("data/load.py", "trainer.config.transforms", False, True),
        ("config/run.py", "trainer.data.idx", False, False),
        ("errors.py", "trainer.config", False, False),
        ("registry.py", "trainer.errors", False, True),
        ("cli.py", "trainer.commands.fit", True, True),
        ("cli.py", "trainer.commands.fit", False, False),
    ],
)
def test_the_ladder_itself(file: str, module: str, is_local: bool, allowed: bool) -> None:
    assert is_allowed(Import(SOURCE / file, module, is_local, is_typing=False)) == allowed


def test_the_engine_knows_neither_yaml_nor_hydra() -> None:
    packages = {found.module.split(".")[0] for found in THEIRS if room_of(module_of(found.file)) == "engine"}
    assert packages.isdisjoint({"yaml", "hydra", "omegaconf"})


def test_hydra_is_known_to_the_command_line_only() -> None:
    users = {module_of(found.file) for found in THEIRS if found.module.split(".")[0] == "hydra"}
    assert users == {"trainer.composing"}


def test_torch_is_not_imported_above_the_commands_or_in_the_lowest_row() -> None:
    modules = {module_of(file) for file in FILES}
    bare = {module for module in modules if ROWS[room_of(module)] in (1, 5, 6)}
    bare |= {f"trainer.{name}" for name in FREE_OF_TORCH}
    heavy = {"torch", "torchvision", "numpy", "safetensors", "tensorboard"}
    wrong = [str(found) for found in THEIRS if module_of(found.file) in bare and found.module.split(".")[0] in heavy]
    assert wrong == []
    # And not by way of another room, where it is imported at once.
    for found in OURS:
        if module_of(found.file) in bare and not found.is_local and not found.is_typing:
            assert found.module in bare | {"trainer.checkpoint"}, found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_is_short_named_for_what_it_does_and_says_so(file: Path) -> None:
    name = str(file.relative_to(SOURCE))
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES or name in LONGER, f"{name} has {lines} lines"
    assert not re.search(r"utils?|helpers?|common|manager|handler|misc", file.stem)
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or file.stem == "__main__"


def test_no_file_is_on_the_list_of_longer_ones_in_vain() -> None:
    assert all(len((SOURCE / name).read_text(encoding="utf-8").splitlines()) > MAX_LINES for name in LONGER)


# What runs code out of data, in any spelling that the source could call it by. `model.eval()` takes no text.
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
    found = [f"{file.relative_to(SOURCE)}: {match[0]}" for file in FILES for match in pattern.finditer(code_of(file))]
    assert found == []


def users_of(pattern: str, files: list[Path] = FILES) -> set[str]:
    """The modules whose code has something that matches."""
    return {module_of(file).removeprefix("trainer.") for file in files if re.search(pattern, code_of(file))}


def test_one_module_opens_checkpoints_and_one_opens_data_files() -> None:
    opening = r"\bopen\(|\.read_(bytes|text)\(|\bfdopen\("
    assert users_of(opening, [file for file in FILES if file.parent.name == "checkpoint"]) == {"checkpoint.file"}
    # They turn bytes into tensors and back; the functions of the library that open files are not used.
    assert users_of(r"\bsafetensors\b") == {"checkpoint.load", "checkpoint.store"}
    assert users_of(r"\b(safe_open|load_file|save_file|load_model|save_model)\b") == set()
    assert users_of(r"\b(gzip|zlib|fromfile|frombuffer|memmap)\b") == {"data.idx"}


def test_one_module_imports_by_name() -> None:
    users = {module_of(found.file) for found in THEIRS if found.module == "importlib"}
    assert users == {"trainer.plugin"}


def test_hydra_is_pinned_to_a_version_that_runs_no_code_from_configs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [pin] = [line for line in project["dependencies"] if line.startswith("hydra-core")]
    [least] = re.findall(r">=\s*([0-9.]+)", pin)
    assert tuple(int(part) for part in least.split(".")) >= (1, 3, 8)


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
WITHOUT_TORCH = """
import sys
sys.argv = ["trainer", *sys.argv[1:]]
from trainer.cli import main
try:
    main()
finally:
    heavy = {"torch", "torchvision", "numpy", "tensorboard", "safetensors"} & set(sys.modules)
    assert not heavy, f"imported: {heavy}"
"""


@pytest.mark.parametrize("words", QUICK.values(), ids=list(QUICK))
def test_what_needs_no_torch_does_not_load_it(words: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_python("-c", WITHOUT_TORCH, *words, cwd=tmp_path, env={"COMP_LINE": "trainer fit model=l"})
    assert "imported:" not in ran.err
    assert ran.code in (0, 2, 3)
    assert ran.out or ran.err
