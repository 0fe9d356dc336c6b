"""What the house is held to, counted: `python tests/support/house.py [folder]` prints the table and
the longest.

A decision is an if, for, while, ternary, except, assert, a further operand of and/or, a
comprehension and each of its ifs, or a case; a function has one more than its decisions.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "trainer"
MAX_COLUMNS = 100
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_DECISIONS = 400, 60, 12

_BRANCHES = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.ExceptHandler, ast.Assert,
    ast.match_case,
)  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function or method with what is nested in it."""

    file: Path
    name: str
    line: int
    num_lines: int
    num_decisions: int

    def __str__(self) -> str:
        return f"{self.file.relative_to(SOURCE)}:{self.name}"


def files_in(folder: Path = SOURCE) -> list[Path]:
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]


def count_decisions(function: ast.AST) -> int:
    count = 1
    for node in ast.walk(function):
        if isinstance(node, _BRANCHES):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
    return count


def functions_of(file: Path) -> Iterator[Function]:
    """The functions and methods of a file; one that is nested in another counts as a part of it."""

    def walk(node: ast.AST, prefix: str) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                num_lines = (child.end_lineno or child.lineno) - child.lineno + 1
                yield Function(
                    file, prefix + child.name, child.lineno, num_lines, count_decisions(child)
                )
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, prefix)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), "")


def long_lines_of(file: Path) -> list[int]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS]


def num_comments_of(file: Path) -> int:
    """The comments that are for people: none of those for a tool."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline)
    texts = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return sum(not re.match(r"# (type|noqa|fmt|ruff)", text) for text in texts)


def table_of(files: list[Path]) -> dict[str, float]:
    texts = [file.read_text(encoding="utf-8") for file in files]
    lines = sum(len(text.splitlines()) for text in texts)
    functions = [function for file in files for function in functions_of(file)]
    long = sum(len(long_lines_of(file)) for file in files)
    decisions = sum(function.num_decisions for function in functions)
    return {
        "lines": lines,
        "decisions per 100 lines of function": 100
        * decisions
        / max(1, sum(f.num_lines for f in functions)),
        "functions over 12 decisions": sum(f.num_decisions > MAX_DECISIONS for f in functions),
        "functions over 60 lines": sum(f.num_lines > MAX_FUNCTION_LINES for f in functions),
        "lines over 100 columns, %": 100 * long / max(1, lines),
        "comments per 100 lines": 100 * sum(map(num_comments_of, files)) / max(1, lines),
        "Any": sum(len(re.findall(r"\bAny\b", text)) for text in texts),
    }


def main() -> None:
    files = [
        file for word in sys.argv[1:] or [str(SOURCE)] for file in files_in(Path(word).resolve())
    ]
    for name, value in table_of(files).items():
        print(f"{name:<40} {value:,.1f}".removesuffix(".0"))
    functions = [function for file in files for function in functions_of(file)]
    for function in sorted(functions, key=lambda found: -found.num_decisions)[:60]:
        if function.num_decisions > MAX_DECISIONS or function.num_lines > MAX_FUNCTION_LINES:
            print(f"  {function}: {function.num_decisions} decisions, {function.num_lines} lines")
    for file in files:
        if (num := len(file.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES:
            print(f"  {file.relative_to(SOURCE)}: {num} lines")


if __name__ == "__main__":
    main()
