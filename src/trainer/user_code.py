"""Import a class that a person names on the command line or in their own YAML, and call it.

No other module imports by name. What their code changes for the whole process is put back.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer.errors import (
    ConfigError,
    CustomCodeError,
    TrainerError,
    is_out_of_memory,
    out_of_memory,
    suggestion,
)
from trainer.process_state import ProcessState
from trainer.signals import SignalExit


def import_class(target: str, *, key: str) -> Any:
    """Import the object at `package.module.Class`, from the working directory too.

    Raises ConfigError, which names `key`, where it does not exist; CustomCodeError where the
    person's module raises.
    """
    module_name, _, attribute = target.rpartition(".")
    folder = Path.cwd()
    _OwnModules.add(folder)
    module = _import(module_name, doing=f"{key}={target}: importing it", folder=folder)
    if not hasattr(module, attribute):
        names = _names_in(module)
        if attribute == "py" and names:
            raise ConfigError(
                f"{key}={target} names a file, not a class in it.",
                hint=f"Write {' or '.join(f'{key}={module_name}.{name}' for name in names[:3])}.",
            )
        hint = _hidden(module_name, module, folder) or suggestion(attribute, names)
        raise ConfigError(f"{key}={target}: {module_name} has no {attribute}.", hint=hint)
    return getattr(module, attribute)


def _names_in(module: ModuleType) -> list[str]:
    """The classes of a module, and of the package that it is in; all names where there are none."""
    names = [name for name in vars(module) if not name.startswith("_")]
    package = module.__name__.partition(".")[0]
    own = []
    for name in names:
        kind = getattr(module, name)
        if inspect.isclass(kind) and kind.__module__.partition(".")[0] == package:
            own.append(name)
    return own or names


def call(target: Callable[..., object], kwargs: Mapping[str, object], *, key: str) -> Any:
    """Call `target(**kwargs)`.

    Raises ConfigError where it takes no such arguments, CustomCodeError where it raises.
    """
    # Before the call: a TypeError that their code raises would look the same.
    try:
        inspect.signature(target).bind(**kwargs)
    except TypeError as error:
        group = key.partition(".")[0]
        raise ConfigError(f"{key}: {group}.kwargs does not fit its arguments: {error}.") from error
    except ValueError:
        pass  # written in C, without a signature: only the call shows what it takes
    with errors_of(f"{key}: making it"), ProcessState.kept(f"{key}: making it"):
        return target(**kwargs)


@contextlib.contextmanager
def errors_of(doing: str) -> Iterator[None]:
    """Raise CustomCodeError for what a person's code raises while `doing`, and where it exits.

    Raises EnvironmentFault where the memory ran out.
    """
    try:
        yield
    except (TrainerError, SignalExit):
        raise
    except SystemExit as error:
        raise exit_error(doing, error) from error
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(doing) from error
        raise CustomCodeError(f"{doing} raised {type(error).__name__}: {error}.") from error


def exit_error(doing: str, error: SystemExit) -> CustomCodeError:
    """The error for a person's code that ends the process while `doing`."""
    return CustomCodeError(
        f"{doing} called sys.exit({error.code!r}).",
        hint="Guard code that makes a file a script, such as argparse, by: if __name__ == "
        '"__main__":',
    )


def is_fault_of(error: BaseException, targets: Sequence[str]) -> bool:
    """Whether the classes `targets` of a person may have caused `error`: not an assertion of ours.

    It is theirs where their code is among the frames of the traceback.
    """
    packages = {target.partition(".")[0] for target in targets}
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        traceback = traceback.tb_next
    if packages & set(frames):
        return True
    is_raised_here = bool(frames) and frames[-1] == __package__
    return not (is_raised_here and isinstance(error, (AssertionError, NameError, ImportError)))


def _import(module_name: str, *, doing: str, folder: Path) -> ModuleType:
    try:
        with errors_of(doing), ProcessState.kept(doing, with_generators=True):
            return importlib.import_module(module_name)
    except CustomCodeError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing is None or not f"{module_name}.".startswith(f"{missing}."):
            raise
        target = doing.partition(":")[0]
        hint = _hidden(module_name, None, folder) or (
            f"Looked in {folder} and in the installed packages. Run trainer where the module is, "
            "or install it; see docs/custom.md."
        )
        raise ConfigError(f"{target}: there is no module {missing}.", hint=hint) from cause


def _hidden(module_name: str, module: ModuleType | None, folder: Path) -> str | None:
    """A hint where the person's own file has the name of a module of Python or of a package."""
    top = module_name.partition(".")[0]
    spec = PathFinder.find_spec(top, [str(folder)])
    if spec is None or spec.origin is None:
        return None
    found = sys.modules.get(top) if module is None or "." in module_name else module
    if found is None or getattr(found, "__file__", None) == spec.origin:
        return None
    return (
        f"{spec.origin} is not read, because {top} is the name of a module that trainer needs: "
        f"rename it, to my_{top} for example."
    )


class _OwnModules:
    """Finds the modules in a person's folder, where they hide none that trainer needs.

    The folder is also last in `sys.path`, for namespace packages and for processes that are
    started anew.
    """

    folder = ""

    @classmethod
    def add(cls, folder: Path) -> None:
        """Look in `folder` from now on."""
        cls.folder = str(folder)
        if cls.folder not in sys.path:
            sys.path.append(cls.folder)
        if cls not in sys.meta_path:
            # Before Python's own, which would prefer any installed package of that name.
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the protocol of `sys.meta_path` has it: None leaves the name to the next finder."""
        if path is not None or name in sys.stdlib_module_names:
            return None
        spec = PathFinder.find_spec(name, [cls.folder])
        # Last: to read what the packages contain takes 0.1 s.
        if spec is None or spec.origin is None or name in _needed_modules():
            return None
        return spec


@functools.cache
def _needed_modules() -> frozenset[str]:
    """The top modules of trainer and of all that it requires, as far as they are installed."""
    names = {"trainer"}
    pending = ["trainer"]
    seen: set[str] = set()
    while pending:
        package = pending.pop()
        if package in seen:
            continue
        seen.add(package)
        with contextlib.suppress(metadata.PackageNotFoundError):
            distribution = metadata.distribution(package)
            names |= _top_modules(distribution)
            pending += [_name_of(requirement) for requirement in distribution.requires or ()]
    return frozenset(names)


def _name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match[0] if match else requirement


def _top_modules(distribution: metadata.Distribution) -> set[str]:
    listed = distribution.read_text("top_level.txt")
    if listed:
        return set(listed.split())
    tops = {file.parts[0] for file in distribution.files or ()}
    return {inspect.getmodulename(top) or top for top in tops if not top.endswith("-info")}
