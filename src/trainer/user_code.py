"""Import a class that a person names on the command line or in their own YAML, and call it.

No other module imports by name.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.errors import ConfigError, CustomCodeError, suggestion


def import_class(target: str, *, key: str) -> Any:
    """Import the object at `package.module.Class`, from the working directory too.

    Raises ConfigError, which names `key`, where it does not exist; CustomCodeError where the
    person's module raises.
    """
    module_name, _, attribute = target.rpartition(".")
    # `python script.py` has the script's folder on the path; an installed command has its own.
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Their module exists, and what it imports does not: that is their error, not a wrong word.
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise CustomCodeError(
                f"{key}={target}: importing it raised ModuleNotFoundError: {error}."
            ) from error
        raise ConfigError(
            f"{key}={target}: there is no module {error.name}.",
            hint=f"Looked in {folder} and in the installed packages. Run trainer where the module "
            "is, or install it; see docs/custom.md.",
        ) from error
    except Exception as error:
        raise CustomCodeError(
            f"{key}={target}: importing it raised {type(error).__name__}: {error}."
        ) from error
    if not hasattr(module, attribute):
        names = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(
            f"{key}={target}: {module_name} has no {attribute}.", hint=suggestion(attribute, names)
        )
    return getattr(module, attribute)


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
    try:
        return target(**kwargs)
    except Exception as error:
        raise CustomCodeError(
            f"{key}: making it raised {type(error).__name__}: {error}."
        ) from error
