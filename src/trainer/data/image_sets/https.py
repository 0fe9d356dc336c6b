"""Opens an https address within limits: time, rate, redirects. Retries and files are not here."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit

from trainer.errors import printable

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_TEMPORARY = {408, 425, 429}  # and every 5xx
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long to wait, in seconds; `min_rate` is in bytes per second, over `idle` seconds."""

    connect: float = 10.0
    idle: float = 30.0
    total: float = 3600.0
    min_rate: float = 1000.0
    tries: int = 3  # temporary failures after which a download is given up, over all its mirrors
    backoff: float = 0.5  # before an address is tried for the second time; doubles


class Refused(Exception):
    """To try this address again would not help."""


class Interrupted(Exception):
    """To try this address again may help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What an address answers: its length in bytes if it is announced, and its content as it comes.

    `chunks()` raises Refused and Interrupted, never an OSError, so that a disk's errors cannot be
    taken for them.
    """

    length: int | None
    chunks: Callable[[], Iterator[bytes]]


@contextmanager
def open_url(url: str, *, timeouts: Timeouts) -> Iterator[Body]:
    """The body at `url`, after redirects from https to https. Raises Refused and Interrupted.

    Where the environment names a proxy (`https_proxy`, `no_proxy`), the way is a tunnel through it.
    """
    deadline = _Deadline(timeouts)
    # Not build_opener: its handlers also open file, ftp and http addresses.
    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-Agent", "trainer")]
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_HttpsHandler(deadline))
    with _network_errors(deadline):
        response = opener.open(_https_address(url), timeout=timeouts.connect)
    with response:
        yield Body(
            length=response.length,
            chunks=partial(_read, response, deadline=deadline, seconds=timeouts.total),
        )


def _https_address(url: str, *, base: str = "") -> str:
    """`url`, as a redirect relative to `base`; raises Refused unless it is an https address."""
    try:
        address = urljoin(base, url)
        parts = urlsplit(address)
        # To read the port raises ValueError where it is no number.
        is_https = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_https = False
    if not is_https:
        label = "redirect to " if base else ""
        raise Refused(f"Refused {label}{printable(url)[:200]}: only https addresses are used")
    return address


class _HttpsHandler(urllib.request.HTTPSHandler):
    """Opens addresses by https, and follows redirects to https alone."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline
        self._num_redirects = 0

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        context.sslsocket_class = _Socket
        connection = partial(_Connection, deadline=self._deadline, context=context)
        return self.do_open(connection, request)

    def https_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        location = response.headers.get("Location")
        if response.status in _REDIRECTS and location is not None:
            response.close()
            self._num_redirects += 1
            if self._num_redirects > MAX_REDIRECTS:
                raise Refused(f"redirected more than {MAX_REDIRECTS} times")
            address = _https_address(location, base=request.full_url)
            found: http.client.HTTPResponse = self.parent.open(address, timeout=request.timeout)
            return found
        if response.status != 200:
            response.close()
            is_temporary = response.status >= 500 or response.status in _TEMPORARY
            kind = Interrupted if is_temporary else Refused
            raise kind(printable(f"answered {response.status} {response.reason}")[:100])
        return response


class _Deadline:
    """When a connection is given up: `idle` seconds on, unless enough bytes come in that time.

    The timeout of a socket is not enough: with a byte now and then, in the headers or the body, it
    waits for days.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._received = 0
        self._ends_at = 0.0
        self.is_connected = False

    def start(self) -> None:
        self._received = 0
        self._ends_at = time.monotonic() + self._timeouts.idle

    def count(self, num_bytes: int) -> None:
        self._received += num_bytes
        if self._received >= self._timeouts.min_rate * self._timeouts.idle:
            self.start()

    def seconds_left(self) -> float:
        """Seconds until the deadline; raises TimeoutError after it."""
        seconds = self._ends_at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def describe(self) -> str:
        """Why a connection timed out."""
        if not self.is_connected:
            return f"did not answer within {self._timeouts.connect:g} s"
        rate = f"at less than {self._timeouts.min_rate:g} bytes/s"
        how = rate if self._received else "without data"
        return f"stopped after {self._timeouts.idle:g} s {how}"


class _Socket(ssl.SSLSocket):
    """A TLS socket that receives until the deadline, however slowly the bytes come."""

    deadline: _Deadline

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(self.deadline.seconds_left())
        return super().recv_into(*arguments)


class _Connection(http.client.HTTPSConnection):
    """An https connection whose deadline starts when it is made."""

    sock: _Socket

    def __init__(
        self, host: str, *, deadline: _Deadline, timeout: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, timeout=timeout, context=context)
        self._create_connection = _dial
        self._deadline = deadline

    def connect(self) -> None:
        self._deadline.is_connected = False  # after a redirect, another connection was
        super().connect()
        self._deadline.is_connected = True
        self._deadline.start()
        self.sock.deadline = self._deadline


def _dial(address: tuple[str, int], timeout: float, _source: object = None) -> socket.socket:
    """As socket.create_connection, in `timeout` seconds over all addresses of the host.

    Behind a firewall that drops packets, eight addresses would otherwise take eight times as long.
    """
    num_addresses = len(socket.getaddrinfo(*address, type=socket.SOCK_STREAM))
    sock = socket.create_connection(address, timeout / num_addresses)
    sock.settimeout(timeout)
    return sock


def _read(
    response: http.client.HTTPResponse, *, deadline: _Deadline, seconds: float
) -> Iterator[bytes]:
    expected = response.length
    received = 0
    started_at = time.monotonic()
    while True:
        # read1 returns what has come; read would wait for a whole chunk, and so would the progress.
        with _network_errors(deadline):
            chunk = response.read1(_CHUNK)
        if not chunk:
            break
        deadline.count(len(chunk))
        received += len(chunk)
        if time.monotonic() - started_at > seconds:
            # Not Interrupted: another try would take as long.
            raise Refused(f"took more than {seconds:g} s")
        yield chunk
    if expected is not None and received < expected:
        raise Interrupted(f"sent {received} of {expected} bytes")


@contextmanager
def _network_errors(deadline: _Deadline) -> Iterator[None]:
    """Turns what the network raises into Refused or Interrupted."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as caught:
        error = caught.reason if isinstance(caught, URLError) else caught
        if isinstance(error, TimeoutError):
            raise Interrupted(deadline.describe()) from None
        if isinstance(error, ssl.SSLCertVerificationError):
            raise Refused(f"its TLS certificate is not valid ({error.verify_message})") from None
        if isinstance(error, socket.gaierror):
            raise Refused(f"its name cannot be looked up ({error.strerror})") from None
        is_temporary = isinstance(error, ConnectionError | ssl.SSLError | http.client.HTTPException)
        if is_temporary and not isinstance(error, ConnectionRefusedError):
            raise Interrupted(f"broke off ({printable(error)[:100]})") from None
        raise Refused(f"cannot be reached ({printable(error)[:100]})") from None
