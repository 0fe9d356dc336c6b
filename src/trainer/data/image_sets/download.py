"""Puts one verified file on the disk from a list of mirrors, or nothing at all."""

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
from trainer.errors import DataError, EnvironmentFault, reason_of
from trainer.files import sync_folder

DEFAULT_TIMEOUTS = Timeouts()

Advance = Callable[[int], None]
# Raises DataError when the file at the path is not the right one.
Verify = Callable[[Path], object]


class Report(Protocol):
    """Where notes, warnings and progress for the person go."""

    def note(self, text: str) -> None:
        """Something to know."""

    def warn(self, text: str) -> None:
        """Something that the person should mend."""

    def progress(self, description: str, total: int | None) -> AbstractContextManager[Advance]:
        """While the block runs, calls with numbers of bytes add up to `total`, if that is known."""


class QuietReport:
    """A report that only keeps its notes and warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def progress(self, *_: object, **__: object) -> Iterator[Advance]:
        yield lambda _: None


class DownloadFailed(EnvironmentFault):
    """No source has the file or can be reached; a disk's refusal is a plain EnvironmentFault."""


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
    """Fetch `target` from the first of `urls` with a file that `verify` accepts.

    No more than `max_bytes` are read. Under the name of `target` there is only ever a verified
    file, or what was there before. Of several processes that want the same file one fetches it and
    the others wait. An address that fails for the moment is tried again, after the others. Raises
    DownloadFailed when no address serves, EnvironmentFault when the folder cannot be written.
    """
    with exclusive(target, report=report) as locked:
        with suppress(DataError, EnvironmentFault):
            verify(target)  # another process was faster
            return

        def attempt(url: str) -> None:
            with open_url(url, timeouts=timeouts) as body:
                if body.length is not None and body.length > max_bytes:
                    raise Refused(
                        f"offers {body.length} bytes, more than the {max_bytes} a right file can "
                        "have"
                    )
                with report.progress(f"Downloading {target.name}", body.length) as advance:
                    chunks = _bounded(body, max_bytes=max_bytes, advance=advance)
                    try:
                        store(target, chunks, verify=verify, locked=locked)
                    except DataError as error:
                        # Without a length, a wrong file looks like half of the right one.
                        kind = Refused if body.length is not None else Interrupted
                        raise kind(f"sent something else: {error.what.rstrip('.')}") from None

        failures = _try_in_turn(urls, attempt, timeouts=timeouts)
    if failures is not None:
        raise DownloadFailed(f"Download of {target.name} failed ({failures}).", hint=hint)


def _try_in_turn(
    urls: Sequence[str], attempt: Callable[[str], None], *, timeouts: Timeouts
) -> str | None:
    """None as soon as an `attempt` succeeds, else why each of `urls` failed.

    In turn, not one address until it is out of tries: a mirror that hangs must not hold up the
    download while another works. The tries are counted over all, so that the wait has one bound.
    """
    queue = deque(urls)
    num_tries = Counter[str]()
    reasons: dict[str, str] = {}
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
            times = f" (tried {num_tries[url]} times)" if num_tries[url] > 1 else ""
            reasons[url] = f"{error}{times}"
        except Refused as error:
            reasons[url] = str(error)
    if not reasons:
        return "No address is known"
    return "; ".join(f"{urlsplit(url).netloc}: {reason}" for url, reason in reasons.items())


def _bounded(body: Body, *, max_bytes: int, advance: Advance) -> Iterator[bytes]:
    # The announced length may be missing, or a lie: what comes is counted, so no disk is filled.
    received = 0
    for chunk in body.chunks():
        received += len(chunk)
        if received > max_bytes:
            raise Refused(f"sends more than the {max_bytes} bytes a right file can have")
        advance(len(chunk))
        yield chunk


def store(target: Path, chunks: Iterable[bytes], *, verify: Verify, locked: bool) -> None:
    """Write `chunks` to a `.part` file beside `target`, verify it, and only then give it its name.

    `locked` says that `exclusive` holds for `target`, and nobody else writes this `.part`. Raises
    what `verify` and `chunks` raise, and EnvironmentFault when the disk refuses.
    """
    label = "" if locked else f".{secrets.token_hex(4)}"
    part = target.with_name(f"{target.name}{label}.part")
    with _writing(target):
        # A rename would put a file in the place of a device or a pipe.
        if target.exists() and not target.is_file():
            raise OSError("something that is not a file is in its place")
        part.unlink(missing_ok=True)  # of a process that was killed
    try:
        # "x" writes neither into a file of another process nor through a link.
        with _writing(target), part.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        verify(part)
        with _writing(target):
            part.replace(target)
            sync_folder(target.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn a disk's refusal to write `target` into an EnvironmentFault that names it."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"{target.name} must be fetched, but cannot be written: {reason_of(error)}.",
            where=f"Folder: {target.parent.absolute()}",
            hint="Free space or rights there, or set data.root to another folder.",
        ) from None


@contextmanager
def exclusive(target: Path, *, report: Report) -> Iterator[bool]:
    """Hold the lock `.<name>.lock` beside `target`, after a wait for its holder; make the folder.

    Yields False on a file system without locks. Raises EnvironmentFault when the folder cannot be
    written.
    """
    lock = target.with_name(f".{target.name}.lock")
    while True:
        with _writing(target):
            if lock.parent.is_file():
                raise OSError("its folder is a file")
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            is_locked = _lock(handle, target=target, report=report)
            # The holder before us removed the file as it left: nobody else can find the lock on it.
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
