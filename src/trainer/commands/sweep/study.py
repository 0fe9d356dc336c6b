"""The database that keeps the study of a search: its address, opening it, and its errors."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import ConfigError, EnvironmentFault, InputError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

FILE_NAME = "study.db"
# Jobs report at the same time, and SQLite lets one of them write.
_PATIENCE = 60.0
# SQLite's errors for a file that is not what Optuna wrote; all others are about the machine.
_DAMAGES = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_MISMATCH,
)
NEW_SWEEP = "Begin a new sweep: add sweep.fresh=true, or name another run.dir."
_EXAMPLE = (
    "Such as sweep.storage=postgresql://name@host/database, or leave it out: the sweep's folder "
    "keeps the study."
)


def address_in(folder: Path) -> str:
    """The address of the study in the folder of a sweep."""
    from sqlalchemy.engine import URL

    # Made of parts: a folder may have a `?` or a `%` in its name.
    return URL.create("sqlite", database=str(folder.absolute() / FILE_NAME)).render_as_string(
        hide_password=False
    )


def given_address(text: str) -> str:
    """`sweep.storage` as an address that is valid in any working directory; raises ConfigError."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        # The text may hold a password: it is not repeated.
        raise ConfigError(
            "sweep.storage is not the address of a database.", hint=_EXAMPLE
        ) from None
    except ImportError as error:
        raise _no_driver(error) from error
    if url.get_backend_name() != "sqlite":
        return text
    path = url.database or ":memory:"
    if path == ":memory:":
        raise ConfigError(
            "sweep.storage is in memory, where other processes cannot read it.", hint=_EXAMPLE
        )
    if not path.startswith("file:"):
        url = url.set(database=str(Path(path).expanduser().absolute()))
    return url.render_as_string(hide_password=False)


def open_storage(address: str, *, makes_tables: bool) -> RDBStorage:
    """The storage at `address`; raises errors of Optuna and SQLAlchemy: see `storage_errors`.

    No connection stays open between two calls, so that the storage survives a fork and a restart of
    the database.
    """
    import optuna
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    # Optuna logs to standard error, which would be in the middle of the display.
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    options: dict[str, object] = {"poolclass": NullPool}
    if address.startswith("sqlite"):
        options["connect_args"] = {"timeout": _PATIENCE}
    # Optuna replaces names in braces, which a path or a password may contain.
    url = address.replace("{", "{{").replace("}", "}}")
    # Only the sweep makes and checks the tables: its jobs would all do it as they start.
    return RDBStorage(
        url,
        options,
        skip_compatibility_check=not makes_tables,
        skip_table_creation=not makes_tables,
    )


@contextlib.contextmanager
def storage_errors(address: str) -> Iterator[None]:
    """Turn errors of the storage into an EnvironmentFault, or an InputError for a damaged one."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:
        raise _no_driver(error) from error
    except (
        OptunaError,
        SQLAlchemyError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        RuntimeError,
        AssertionError,
    ) as error:
        root = _root(error)
        is_of_machine = isinstance(error, OptunaError | SQLAlchemyError | OSError)
        if isinstance(root, sqlite3.Error):
            # The low byte is the kind; the bytes above it are details.
            is_of_machine = (getattr(root, "sqlite_errorcode", 0) & 0xFF) not in _DAMAGES
        if is_of_machine:
            raise EnvironmentFault(
                f"The study of the sweep cannot be kept: {reason(error)}.",
                where=_without_password(address),
                hint="Fix this; then the same command continues the sweep.",
            ) from error
        raise InputError(
            f"The study of the sweep is damaged, or not of this version: {reason(error)}.",
            where=_without_password(address),
            hint=NEW_SWEEP,
        ) from error


def reason(error: BaseException) -> str:
    """Why it failed, without a full stop: the first line of the database's own error."""
    root = _root(error)
    text = str(root).strip().partition("\n")[0].strip().rstrip(".")
    if text and not isinstance(root, KeyError):
        return text
    return f"{type(root).__name__} {text}".strip()


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _no_driver(error: ImportError) -> EnvironmentFault:
    return EnvironmentFault(
        f"The driver for sweep.storage is not installed: {reason(error)}.",
        hint="Install it, or leave sweep.storage out: the sweep's folder keeps the study.",
    )


def _without_password(address: str) -> str:
    """The address to print; of a file, its path."""
    from sqlalchemy.engine import make_url

    url = make_url(address)
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)
