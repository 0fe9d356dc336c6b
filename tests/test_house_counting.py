"""What the house test counts, on small examples."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from house import MAX_COLUMNS, count_decisions, functions_of, long_lines_of, num_comments_of


@pytest.mark.parametrize(
    ("body", "decisions"),
    [
        ("return x", 0),
        ("if x: y()", 1),
        ("if x: y()\n    elif z: y()\n    else: w()", 2),
        ("for a in x: y(a)", 1),
        ("while x: y()", 1),
        ("return y if x else z", 1),
        ("try: y()\n    except ValueError: z()\n    except OSError: z()\n    finally: w()", 2),
        ("assert x", 1),
        ("return x or y", 1),
        ("return x or y or z", 2),
        ("return x and y or z", 2),
        ("return [a for a in x]", 1),
        ("return {a: b for a in x for b in y if a if b}", 4),
        ("return any(a for a in x if a)", 2),
        ("match x:\n        case 1: y()\n        case _: z()", 2),
        ("with x: y()", 0),
        ("def inner():\n        if x: y()\n    return inner", 1),
        ("return lambda: y if x else z", 1),
    ],
)
def test_decisions(body: str, decisions: int) -> None:
    """A function has one more than its decisions."""
    assert count_decisions(ast.parse(f"def f():\n    {body}").body[0]) == 1 + decisions


def test_functions_are_found_with_their_class_and_length(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(
        "class A:\n"
        "    @property\n"
        "    def one(self):\n"
        "        return 1 if self else 2\n"
        "\n"
        "if True:\n"
        "    async def two():\n"
        "        def inner():\n"
        "            assert two\n"
        "        return inner\n"
    )
    found = [(f.name, f.line, f.num_lines, f.num_decisions) for f in functions_of(file)]
    assert found == [("A.one", 3, 2, 2), ("two", 7, 4, 2)], "a nested function is a part of its own"


def test_long_lines_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    widest = "x" * MAX_COLUMNS
    file.write_text(f"{widest}\n{widest}y\n# why\nz = '# text'  # noqa: E501\n")
    assert long_lines_of(file) == [2]
    assert num_comments_of(file) == 1, "neither a text nor a word to a tool"
