"""Puts one verified file on disk from a list of mirrors, or nothing at all. What a right file
is, the caller says.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from trainer.data.image_sets.https import Body, Interrupted, Refused, Timeouts, open_url
from trainer.errors import DataError, EnvironmentFault

DEFAULT_TIMEOUTS = Timeouts()

Advance = Callable[[int], None]
Verify = Callable[[Path], object]
"""Raises DataError when the file it is given is not the right one."""


class Report(Protocol):
    """Where the person is told what goes on."""

    def note(self, text: str) -> None:
        """Something to know."""

    def warn(self, text: str) -> None:
        """Something to put right."""

    def progress(self, description: str, total: int | None) -> AbstractContextManager[Advance]:
        """While the block runs, calls with numbers of bytes add up to `total`, where that is known."""


class QuietReport:
    """A report that only keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def progress(self, description: str, total: int | None) -> Iterator[Advance]:
        yield lambda num_bytes: None


class DownloadFailed(EnvironmentFault):
    """No source could be reached, or none had the right file. A disk that refuses is a plain
    EnvironmentFault.
    """


def download(
    urls: Sequence[str],
    target: Path,
    *,
    verify: Verify,
    max_bytes: int,
    report: Report,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    hint: str | None = None,
) -> None:
    """Fetches `target` from the first of `urls` that gives a file of at most `max_bytes` that
    `verify` accepts.

    Under the name of `target` there is only ever a verified file, or what was there before. Of
    several processes that want the same file one fetches it and the others wait. An address that
    fails for the moment is tried again, after the others. Raises DownloadFailed when no address
    serves, EnvironmentFault when the folder cannot be written.
    """
    with exclusive(target, report=report) as locked:
        with suppress(DataError, EnvironmentFault):
            verify(target)  # another process was faster
            return

        def attempt(url: str) -> None:
            with open_url(url, timeouts=timeouts) as body:
                _store_body(
                    body, target, verify=verify, max_bytes=max_bytes, report=report, locked=locked
                )

        failures = _try_in_turn(urls, attempt, timeouts=timeouts)
    if failures is not None:
        raise DownloadFailed(f"Download of {target.name} failed ({failures}).", hint=hint)


def _try_in_turn(
    urls: Sequence[str], attempt: Callable[[str], None], *, timeouts: Timeouts
) -> str | None:
    """None as soon as an `attempt` succeeds, else what each of `urls` had against it.

    Taking turns, rather than asking one address until it is out of tries, keeps a mirror that hangs
    from holding up the download while another works; and the tries are counted over all, so that
    the wait has one bound.
    """
    queue, num_tries, reasons = deque(urls), Counter[str](), dict[str, str]()
    while queue and num_tries.total() < timeouts.tries:
        url = queue.popleft()
        if num_tries[url]:
            time.sleep(timeouts.backoff * 2 ** (num_tries[url] - 1))
        try:
            attempt(url)
            return None
        except Interrupted as error:
            num_tries[url] += 1
            queue.append(url)
            reasons[url] = (
                f"{error} (tried {num_tries[url]} times)" if num_tries[url] > 1 else str(error)
            )
        except Refused as error:
            reasons[url] = str(error)
    return (
        "; ".join(f"{urlsplit(url).netloc}: {reason}" for url, reason in reasons.items())
        or "No address is known"
    )


def _store_body(
    body: Body, target: Path, *, verify: Verify, max_bytes: int, report: Report, locked: bool
) -> None:
    if body.length is not None and body.length > max_bytes:
        raise Refused(
            f"offers {body.length} bytes, more than the {max_bytes} a right file can have"
        )
    with report.progress(f"Downloading {target.name}", body.length) as advance:

        def bounded() -> Iterator[bytes]:
            received = 0
            for chunk in body.chunks():
                received += len(chunk)
                if received > max_bytes:
                    raise Refused(f"sends more than the {max_bytes} bytes a right file can have")
                advance(len(chunk))
                yield chunk

        try:
            store(target, bounded(), verify=verify, locked=locked)
        except DataError as error:
            # Without a length there is no telling a wrong file from half of the right one.
            kind = Refused if body.length is not None else Interrupted
            raise kind(f"sent something else: {error.what.rstrip('.')}") from None


def store(target: Path, chunks: Iterable[bytes], *, verify: Verify, locked: bool) -> None:
    """Writes `chunks` to a `.part` file beside `target`, has it verified, and only then gives it
    its name.

    `locked` says that `exclusive` holds for `target`, and nobody else writes this `.part`. Raises
    what `verify` and `chunks` raise, and EnvironmentFault when the disk refuses.
    """
    part = target.with_name(
        f"{target.name}.part" if locked else f"{target.name}.{secrets.token_hex(4)}.part"
    )
    with writing(target):
        if target.exists() and not target.is_file():
            raise OSError("something that is not a file is in its place")
        part.unlink(missing_ok=True)  # of a process that was killed
    try:
        with writing(target), part.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        verify(part)
        with writing(target):
            part.replace(target)
            _sync_folder(target.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turns a disk's refusal, while `target` is being written, into an EnvironmentFault that names it."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"{target.name} must be fetched, but cannot be written: {error.strerror or error}.",
            where=f"Folder: {target.parent.absolute()}",
            hint="Free space or rights there, or set data.root to another folder.",
        ) from None


@contextmanager
def exclusive(target: Path, *, report: Report) -> Iterator[bool]:
    """Holds the lock `.<name>.lock` beside `target`, once any other process has let it go. Makes
    the folder.

    Yields False on a file system without locks, where nothing is held. Raises EnvironmentFault when
    the folder cannot be written.
    """
    lock = target.with_name(f".{target.name}.lock")
    while True:
        with writing(target):
            if lock.parent.is_file():
                raise OSError("its folder is a file")
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            is_locked = _lock(handle, target=target, report=report)
            # The one before us removed the file as it left: what we now hold is a lock nobody else
            # can find.
            if is_locked and not _is_same(handle, lock):
                continue
            try:
                yield is_locked
            finally:
                if is_locked:
                    with suppress(OSError):
                        lock.unlink()
            return
        finally:
            os.close(handle)


def _lock(handle: int, *, target: Path, report: Report) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report.note(f"Waiting for another process that is fetching {target.name}.")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
