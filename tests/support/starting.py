"""Which tests start a process: read from their code, from what it calls in the tests, and from
their fixtures.

Such a test gets the marker `process`, and `make quick` leaves it out. What starts processes inside
`trainer` itself (workers of a data set, the jobs of a sweep) is not seen here: those tests carry
the marker by hand.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
# The modules whose use starts a process.
STARTERS = {"subprocess", "multiprocessing", "processes"}


def starts_process(item: pytest.Item) -> bool:
    """Whether a test, or one of its fixtures, uses a module that starts processes."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    functions = [item.function, *(definitions[-1].func for definitions in fixtures)]
    return any(_uses_starter(_plain(function)) for function in functions)


def _plain(function: Any) -> Any:
    """The function inside a decorator, a partial or a method."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(getattr(function, "__func__", function))


@functools.cache
def _uses_starter(function: Callable[..., Any]) -> bool:
    return any(_is_starter(value) for value in _reachable(function))


def _is_starter(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return value.__name__ in STARTERS
    return getattr(value, "__module__", None) in STARTERS


def _reachable(start: Any) -> Iterator[Any]:
    """All that a function names among its module's globals, and so on through functions and
    classes of the tests.
    """
    pending, seen = [start], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, type) and _is_of_tests(value):
            pending += [_plain(member) for member in vars(value).values()]
        elif isinstance(value, FunctionType) and _is_of_tests(value):
            names = _names_in(value.__code__)
            pending += [
                _plain(value.__globals__[name]) for name in names if name in value.__globals__
            ]


def _is_of_tests(value: Any) -> bool:
    module = inspect.getmodule(value)
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(TESTS)


def _names_in(code: CodeType) -> Iterator[str]:
    """The names that a function's code, and the functions nested in it, look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
