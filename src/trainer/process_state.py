"""What code can change for the whole process, beside files: read, compared and put back.

Beside it the memory that the machine has free.
"""

from __future__ import annotations

import contextlib
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings

# The one of `signal` looks for an enum of each handler: 8 of 16 us around a batch of samples.
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import ConfigError

# Handlers that a run sets for itself.
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGALRM")
    if hasattr(signal, name)
)
_AUTOCAST = ("cpu", "cuda")
# Changes that were put back since `pop_changes`, each a sentence.
_changes: list[str] = []


def pop_changes() -> list[str]:
    """Sentences about what a person's code changed and what was put back, each once."""
    found = list(dict.fromkeys(_changes))
    _changes.clear()
    return found


class ProcessState:
    """The settings of the process at one moment.

    The working folder is a person's own while their code runs: it may change it, and read files
    relative to it, but the files of a run land where trainer was started.
    """

    own_folder: str | None = None

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._folder = os.getcwd()  # noqa: PTH109 - as a Path it takes ten times as long
        self._values = [(setting, setting.read()) for setting in settings if setting.is_there()]

    @classmethod
    @contextlib.contextmanager
    def kept(cls, doing: str, *, with_generators: bool = False) -> Iterator[None]:
        """Put everything back after the block, in which the process has no arguments.

        `doing` names the block in the sentences of `pop_changes`. Raises ConfigError where it
        changed torch's default dtype: its code expects another than trainer trains in. With
        `with_generators` the random generators are put back as well.
        """
        before = cls(_SETTINGS)
        generators = _save_generators() if with_generators else []
        arguments = list(sys.argv)
        sys.argv[1:] = []
        try:
            with before._own_folder():
                yield
        finally:
            sys.argv[:] = arguments
            for restore in generators:
                restore()
            before._put_back(doing)

    @classmethod
    @contextlib.contextmanager
    def kept_by_samples(cls) -> Iterator[None]:
        """The same for what is read in a few microseconds, around a batch of samples."""
        before = cls(_CHEAP)
        try:
            with before._own_folder():
                yield
        finally:
            before._put_back(None)

    def _put_back(self, doing: str | None) -> None:
        refused = None
        for setting, value in self._values:
            now = setting.read()
            if now == value:
                continue
            setting.write(value)
            if setting.is_refused:
                refused = now
            elif setting.is_reported and doing is not None:
                _changes.append(f"{doing} changed {setting.name}, which was put back.")
        if refused is not None:
            raise ConfigError(
                f"{doing or 'Reading a sample of data.target'} set torch's default dtype to "
                f"{refused}, and trainer trains in float32.",
                hint="Remove torch.set_default_dtype; trainer.precision chooses bf16 or fp16.",
            )

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[None]:
        if ProcessState.own_folder is not None:
            os.chdir(ProcessState.own_folder)
        try:
            yield
        finally:
            try:
                now = os.getcwd()  # noqa: PTH109
            except FileNotFoundError:  # a temporary folder that was removed while in it
                now = self._folder
            ProcessState.own_folder = None if now == self._folder else now
            if ProcessState.own_folder is not None:
                os.chdir(self._folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: how it is read and put back, and the module without which it is not there.

    A change of it may be refused, or reported because it affects speed or results.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    module: str = "sys"
    is_refused: bool = False
    is_reported: bool = False
    is_cheap: bool = False

    def is_there(self) -> bool:
        return self.module in sys.modules


def _torch() -> Any:
    return sys.modules["torch"]


def _numpy() -> Any:
    return sys.modules["numpy"]


def _read_handlers() -> list[Any]:
    return [getsignal(number) for number in _SIGNALS]


def _write_handlers(handlers: list[Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only that one may, and only that one can have changed them
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if handler is not None and getsignal(number) != handler:
            signal.signal(number, handler)


def _write_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    with warnings.catch_warnings():  # it makes Python read the list anew
        pass


def _read_logging() -> tuple[Any, ...]:
    return logging.root.level, logging.root.manager.disable, list(logging.root.handlers)


def _write_logging(state: tuple[Any, ...]) -> None:
    logging.root.setLevel(state[0])
    logging.disable(state[1])
    logging.root.handlers[:] = state[2]


def _read_streams() -> tuple[Any, ...]:
    return sys.stdout, sys.stderr, sys.excepthook


def _write_streams(state: tuple[Any, ...]) -> None:
    sys.stdout, sys.stderr, sys.excepthook = state


def _write_default_device(device: Any) -> None:
    _torch().set_default_device(None if device.type == "cpu" else device)


def _write_autocast(enabled: list[bool]) -> None:
    for device, is_enabled in zip(_AUTOCAST, enabled, strict=True):
        _torch().set_autocast_enabled(device, is_enabled)


def _write_locale(value: str) -> None:
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, value)


_SETTINGS = (
    Setting(
        name="torch's default dtype",
        module="torch",
        read=lambda: _torch().get_default_dtype(),
        write=lambda value: _torch().set_default_dtype(value),
        is_refused=True,
        is_cheap=True,
    ),
    Setting(
        name="torch.set_grad_enabled",
        module="torch",
        read=lambda: _torch().is_grad_enabled(),
        write=lambda value: _torch().set_grad_enabled(value),
        is_reported=True,
        is_cheap=True,
    ),
    Setting(
        name="torch.set_autocast_enabled (trainer.precision sets it)",
        module="torch",
        read=lambda: [_torch().is_autocast_enabled(device) for device in _AUTOCAST],
        write=_write_autocast,
        is_reported=True,
    ),
    Setting(
        name="torch's default device",
        module="torch",
        read=lambda: _torch().get_default_device(),
        write=_write_default_device,
        is_reported=True,
    ),
    Setting(
        name="torch.set_num_threads (trainer.threads sets it)",
        module="torch",
        read=lambda: _torch().get_num_threads(),
        write=lambda value: _torch().set_num_threads(value),
        is_reported=True,
        is_cheap=True,
    ),
    Setting(
        name="numpy.seterr",
        module="numpy",
        read=lambda: _numpy().geterr(),
        write=lambda value: _numpy().seterr(**value),
    ),
    Setting(name="sys.stdout or its like", read=_read_streams, write=_write_streams),
    Setting(
        name="the handlers of signals", read=_read_handlers, write=_write_handlers, is_cheap=True
    ),
    Setting(
        name="the filters of warnings", read=lambda: list(warnings.filters), write=_write_filters
    ),
    Setting(name="the root logger", read=_read_logging, write=_write_logging),
    Setting(name="the locale", read=lambda: locale.setlocale(locale.LC_ALL), write=_write_locale),
)
_CHEAP = tuple(setting for setting in _SETTINGS if setting.is_cheap)


def _save_generators() -> list[Callable[[], None]]:
    """Calls that put the global generators back: an import must not choose first weights."""
    python = random.getstate()
    restore: list[Callable[[], Any]] = [lambda: random.setstate(python)]
    if "torch" in sys.modules:
        state = _torch().default_generator.get_state()
        restore.append(lambda: _torch().default_generator.set_state(state))
    if "numpy" in sys.modules:
        numpy = _numpy().random.get_state()
        restore.append(lambda: _numpy().random.set_state(numpy))
    return restore


def free_memory() -> int | None:
    """Bytes of memory free without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(
            1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration, ValueError):
        return None
