"""`trainer tb`: TensorBoard on chosen runs, on this machine alone, until Ctrl-C. No torch."""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import (
    EnvironmentFault,
    InputError,
    TrainerError,
    command_line,
    is_debugging,
    listing,
    printable,
)
from trainer.run.find import find_path, no_run, not_a_run
from trainer.run.folder import is_run_folder
from trainer.run.index import read_index
from trainer.signals import Signals
from trainer.tracking.console import Terminal

if TYPE_CHECKING:
    from tensorboard.program import TensorBoard

# What the second address pins on top of the tab Time Series, which ignores a tag that no run has.
PINNED = ("Loss/train", "Loss/val", "Accuracy/val")
HOST = "127.0.0.1"
_EXPECTED = "Give a run folder, the folder of a sweep, the id of a run, or the word last."
_EVENT_FILES = "events.out.tfevents.*"
# Ports above a taken one that are tried for a suggestion, and names of runs that are printed.
_MAX_TRIED = 100
_MAX_NAMED = 8
_TIME = re.compile(r"^[0-9]{2}-[0-9]{2}-[0-9]{2}-(?=.)")


def run(references: Sequence[str], *, root: Path, port: int, terminal: Terminal) -> int:
    """Serve TensorBoard on the runs that `references` name, else on all below `root`.

    It ends with a signal; returns the exit code, 0 for Ctrl-C and 128 + n for another signal n.
    Raises InputError when there is nothing to show, EnvironmentFault when TensorBoard is missing or
    the port cannot be had.
    """
    folders = [_find(reference, root) for reference in references] or [_all_below(root)]
    # The cheap checks first: importing TensorBoard takes a third of a second.
    for folder in folders:
        _check_records(folder)
    server = _tensorboard()
    _check_port(port, references, root)
    with contextlib.ExitStack() as stack:
        # From here on there are links to remove. A first signal only requests a stop, below.
        signals = stack.enter_context(Signals(before_leaving=stack.close))
        stack.enter_context(_muted())
        # A folder of runs is served as it is, since links would leave out the runs to come.
        if len(folders) == 1 and not is_run(folders[0]):
            logdir = folders[0]
            listed = f"all in {logdir}, also those to come"
        else:
            links = short_names(folders)
            logdir = stack.enter_context(_linked(links))
            listed = listing(list(links), most=_MAX_NAMED)
        _launch(server, logdir, port, lambda: _taken(port, references, root))
        address = f"http://localhost:{port}/"
        rows = [
            ("runs", printable(listed)),
            ("address", address),
            ("pinned", pinned(address)),
            ("to stop", "Ctrl-C"),
        ]
        terminal.facts("TensorBoard", rows)
        # The server runs in another thread; Python handles signals in this one only.
        while not signals.should_stop():
            time.sleep(0.1)
    if signals.stopped_by == signal.SIGINT:
        terminal.line("Stopped.")  # after the ^C of the terminal
        return 0
    return 128 + (signals.stopped_by or 0)


def pinned(address: str) -> str:
    """The address of the tab Time Series with PINNED on top, as TensorBoard 2.21 writes it."""
    # A card has the name of the plugin of its data, not of the tab. Only cards of histograms and
    # images name a run: a scalar's has the curves of all runs.
    cards = [{"plugin": "scalars", "tag": tag} for tag in PINNED]
    query = urllib.parse.urlencode({"pinnedCards": json.dumps(cards, separators=(",", ":"))})
    return f"{address}?{query}#timeseries"


def is_run(folder: Path) -> bool:
    """Whether `folder` is that of one run, of trainer or of another program."""
    return is_run_folder(folder) or any(folder.glob(_EVENT_FILES))


def short_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Each folder once, by the shortest name that no other has.

    A name is that of the folder without the time, or whole, or after its parent's, or numbered.
    """
    # By their real paths: a run that two words name is shown once.
    paths = dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders)
    names: dict[Path, str] = {}
    forms: tuple[Callable[[Path], str], ...] = (
        lambda path: _TIME.sub("", path.name),
        lambda path: path.name,
        lambda path: f"{path.parent.name}-{path.name}",
    )
    for form in forms:
        rest = [path for path in paths if path not in names]
        counts = collections.Counter([form(path) for path in rest] + list(names.values()))
        names |= {path: form(path) for path in rest if counts[form(path)] == 1}
    for path in paths:
        number = 2
        while path not in names:
            name = f"{path.name}-{number}"
            if name not in names.values():
                names[path] = name
            number += 1
    return {names[path]: path for path in paths}


def _find(reference: str, root: Path) -> Path:
    """The folder of one run, or of several, that `reference` names.

    Raises InputError for a folder without runs, UsageError when several runs have that name.
    """
    try:
        folder = find_path(reference, root=root, error=InputError, expected=_EXPECTED)
    except InputError as error:
        if reference.isdecimal():
            raise InputError(error.what, hint=f"Did you mean port={reference}?") from None
        raise
    if is_run(folder) or read_index(folder) or _has_records(folder):
        return folder
    raise not_a_run(folder, command=("tb",), error=InputError)


def _all_below(root: Path) -> Path:
    if not read_index(root) and not _has_records(root):
        raise no_run(root)
    return root


def _check_records(folder: Path) -> None:
    """Raise InputError when there is nothing for TensorBoard in `folder`."""
    if _has_records(folder):
        return
    what = f"{folder} holds" if is_run(folder) else f"The runs in {folder} hold"
    raise InputError(
        f"{what} no records for TensorBoard.",
        hint="Runs with logger=none write none: train with logger=tensorboard. A run that has just "
        "begun has none yet.",
    )


def _has_records(folder: Path) -> bool:
    # rglob does not follow links, behind which whole days may lie on another disk.
    return any(folder.rglob(_EVENT_FILES)) or any(
        any(entry.path.glob(_EVENT_FILES)) for entry in read_index(folder)
    )


def _tensorboard() -> TensorBoard:
    """A tensorboard.program.TensorBoard; raises EnvironmentFault when it is missing."""
    try:
        from tensorboard import default, program

        return program.TensorBoard(plugins=default.get_plugins())
    except ImportError as error:
        # Missing, or there and in conflict with another package: the remedies differ.
        if (error.name or "").partition(".")[0] == "tensorboard":
            what = "TensorBoard is not installed."
            hint = "Install it: pip install tensorboard"
        else:
            what = f"TensorBoard cannot be loaded: {str(error).rstrip('.')}."
            hint = "Install it anew: pip install --upgrade --force-reinstall tensorboard"
        raise EnvironmentFault(what, hint=hint) from error


def _launch(
    server: TensorBoard, logdir: Path, port: int, taken: Callable[[], TrainerError]
) -> None:
    """Start the server in a thread; it listens when this returns."""
    from tensorboard.program import TensorBoardPortInUseError, TensorBoardServerException

    # On this machine alone: TensorBoard has no password, and serves whatever is in the folder.
    server.configure(argv=("",), logdir=str(logdir.absolute()), host=HOST, port=port)
    try:
        server.launch()
    except TensorBoardPortInUseError as error:  # since it was checked
        raise taken() from error
    except TensorBoardServerException as error:
        raise EnvironmentFault(
            f"TensorBoard did not start: {str(error.msg).rstrip('.')}."
        ) from error


def _check_port(port: int, references: Sequence[str], root: Path) -> None:
    """Raise EnvironmentFault when `port` cannot be listened on."""
    try:
        is_taken = _is_taken(port)
    except OSError as error:
        again = _command(references, root, _free_port(1024))
        raise EnvironmentFault(
            f"Port {port} cannot be opened: {error.strerror}.", hint=f"Choose another: {again}"
        ) from error
    if is_taken:
        raise _taken(port, references, root)


def _taken(port: int, references: Sequence[str], root: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"Port {port} is taken: another program listens there, perhaps a TensorBoard of yours.",
        where=f"If so, look at http://localhost:{port}/, or end it there with Ctrl-C.",
        hint=f"To have a second one: {_command(references, root, _free_port(port))}",
    )


def _command(references: Sequence[str], root: Path, port: int) -> str:
    keys = [f"port={port}", *([] if root == Path("runs") else [f"run.root={root}"])]
    return command_line("tb", *references, *keys)


def _is_taken(port: int) -> bool:
    """Whether another program listens on `port`; raises OSError when the system refuses it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as ours:
        # As the server does: connections that have ended do not count.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ours.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    # A server on the IPv6 address would answer instead: a browser tries it first for localhost.
    with contextlib.suppress(OSError), socket.create_connection(("::1", port), timeout=1):
        return True
    return False


def _free_port(above: int) -> int:
    """A port after `above` that is free now."""
    for port in range(above + 1, min(above + _MAX_TRIED, 65536)):
        with contextlib.suppress(OSError):
            if not _is_taken(port):
                return port
    # With port 0 the system chooses a free one.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as any_one:
        any_one.bind((HOST, 0))
        return int(any_one.getsockname()[1])


@contextlib.contextmanager
def _linked(links: dict[str, Path]) -> Iterator[Path]:
    """A folder of links by these names, for a while."""
    with tempfile.TemporaryDirectory(prefix="trainer-tb-") as folder:
        for name, path in links.items():
            Path(folder, name).symlink_to(path)
        yield Path(folder)


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Drop what TensorBoard and its data server, another process, write to standard error."""
    if is_debugging() or sys.stderr is None:  # None: closed by the caller
        yield
        return
    # By descriptor: sys.stderr is Python's alone, and the data server is another program.
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
