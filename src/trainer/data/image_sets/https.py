"""Opens an https address within limits: time, rate, redirects. Retries, mirrors and files are
not here.
"""

from __future__ import annotations

import base64
import errno
import http.client
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from trainer.errors import printable

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_TEMPORARY = {408, 425, 429}  # and every 5xx
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long to wait, in seconds; `min_rate` in bytes per second, averaged over `idle` seconds."""

    connect: float = 10.0
    idle: float = 30.0
    total: float = 3600.0
    min_rate: float = 1000.0
    tries: int = 3  # temporary failures after which a download is given up, over all its mirrors
    backoff: float = 0.5  # before an address is tried for the second time; doubles


class Refused(Exception):
    """Asking this address again would not help."""


class Interrupted(Exception):
    """Asking this address again may help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What an address answers: its length in bytes if it says so, and its content as it comes.

    `chunks()` raises Refused and Interrupted, never an OSError, so that a disk's errors cannot be
    taken for them.
    """

    length: int | None
    chunks: Callable[[], Iterator[bytes]]


@contextmanager
def open_url(url: str, *, timeouts: Timeouts, allow_loopback_http: bool = False) -> Iterator[Body]:
    """The body at `url`, following redirects from https to https only. Raises Refused and Interrupted.

    `allow_loopback_http` is for tests: it lets http through to this machine itself.
    """
    asked = url
    for _ in range(MAX_REDIRECTS + 1):
        if not _is_allowed(url, allow_loopback_http=allow_loopback_http):
            raise Refused(
                f"Refused {'' if url is asked else 'redirect to '}{printable(url)[:200]}: only "
                "https is used"
            )
        with _get(urlsplit(url), timeouts=timeouts) as (response, watchdog):
            location = response.headers.get("Location") if response.status in _REDIRECTS else None
            if location is None:
                _check_status(response)
                chunks = partial(_read, response, watchdog=watchdog, timeouts=timeouts)
                yield Body(length=response.length, chunks=chunks)
                return
        try:
            url = urljoin(url, location)
        except ValueError:
            raise Refused(
                f"Refused redirect to {printable(location)[:200]}: it is no address"
            ) from None
    raise Refused(f"redirected more than {MAX_REDIRECTS} times")


def _is_allowed(url: str, *, allow_loopback_http: bool) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        return False
    if not parts.hostname:
        return False
    return parts.scheme == "https" or (
        allow_loopback_http and parts.scheme == "http" and parts.hostname in _LOOPBACK
    )


def _check_status(response: http.client.HTTPResponse) -> None:
    answer = printable(f"answered {response.status} {response.reason}")[:100]
    if response.status >= 500 or response.status in _TEMPORARY:
        raise Interrupted(answer)
    if response.status != 200:
        raise Refused(answer)


@contextmanager
def _get(
    url: SplitResult, *, timeouts: Timeouts
) -> Iterator[tuple[http.client.HTTPResponse, _Watchdog]]:
    connection = _connection(url, timeout=timeouts.connect)
    watchdog = _Watchdog(timeouts)
    target = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
    try:
        with _network(watchdog):
            connection.connect()
            connection.sock.settimeout(timeouts.idle)
            watchdog.watch(connection.sock)
            headers = {
                "User-Agent": "trainer",
                "Accept-Encoding": "identity",
                "Connection": "close",
            }
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
        with response:
            yield response, watchdog
    finally:
        watchdog.stop()
        connection.close()


def _connection(url: SplitResult, *, timeout: float) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http":
        connection = http.client.HTTPConnection(host, url.port, timeout=timeout)
    else:
        context = ssl.create_default_context()
        proxy = urlsplit(urllib.request.getproxies().get("https", ""))
        if proxy.hostname and not urllib.request.proxy_bypass(host):
            connection = http.client.HTTPSConnection(
                proxy.hostname, proxy.port or 8080, timeout=timeout, context=context
            )
            connection.set_tunnel(host, url.port or 443, headers=_credentials(proxy))
        else:
            connection = http.client.HTTPSConnection(
                host, url.port, timeout=timeout, context=context
            )
    connection._create_connection = _dial  # type: ignore[attr-defined]
    return connection


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    text = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def _dial(address: tuple[str, int], timeout: float, _source: object = None) -> socket.socket:
    """As socket.create_connection, but within `timeout` seconds over all addresses of the host, not
    for each.

    Behind a firewall that drops packets, eight addresses would otherwise take eight times as long.
    """
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _, where) in enumerate(found, start=1):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(timeout / len(found))
        try:
            sock.connect(where)
        except OSError:
            sock.close()
            if number == len(found):
                raise
        else:
            sock.settimeout(timeout)
            return sock
    raise OSError(errno.EHOSTUNREACH, f"{address[0]} has no address")


class _Watchdog:
    """Shuts a connection that brings fewer than `min_rate` bytes a second over `idle` seconds.

    The socket's own timeout is not enough: a byte now and then, in the headers or the body, keeps
    it content for days.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._connect, self._idle = timeouts.connect, timeouts.idle
        self._enough = timeouts.min_rate * timeouts.idle
        self._sock: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._received = 0
        self._armed_at = 0.0
        self.has_fired = False

    def watch(self, sock: socket.socket) -> None:
        self._sock = sock
        self._arm()

    def feed(self, num_bytes: int) -> None:
        self._received += num_bytes
        # A timer is a thread: on a fast line, a new one for every chunk would be thousands a
        # second.
        if self._received >= self._enough and time.monotonic() - self._armed_at > self._idle / 10:
            self._arm()

    def describe(self) -> str:
        if self._sock is None:
            return f"did not answer within {self._connect:g} s"
        how = (
            f"at less than {self._enough / self._idle:g} bytes/s"
            if self._received
            else "without data"
        )
        return f"stopped after {self._idle:g} s {how}"

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self.stop()
        self._received, self._armed_at = 0, time.monotonic()
        self._timer = threading.Timer(self._idle, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self.has_fired = True
        if self._sock is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which takes the TLS state away from under the thread that
                # reads.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


def _read(
    response: http.client.HTTPResponse, *, watchdog: _Watchdog, timeouts: Timeouts
) -> Iterator[bytes]:
    expected, received, started_at = response.length, 0, time.monotonic()
    while True:
        with _network(watchdog):
            chunk = response.read1(_CHUNK)
        if watchdog.has_fired:
            raise Interrupted(watchdog.describe())
        if not chunk:
            break
        watchdog.feed(len(chunk))
        received += len(chunk)
        if time.monotonic() - started_at > timeouts.total:
            raise Refused(f"took more than {timeouts.total:g} s")
        yield chunk
    if expected is not None and received < expected:
        raise Interrupted(f"sent {received} of {expected} bytes")


@contextmanager
def _network(watchdog: _Watchdog) -> Iterator[None]:
    """Turns what the network raises into Refused or Interrupted."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        if watchdog.has_fired or isinstance(error, TimeoutError):
            raise Interrupted(watchdog.describe()) from None
        if isinstance(error, ssl.SSLCertVerificationError):
            raise Refused(f"its TLS certificate is not valid ({error.verify_message})") from None
        if isinstance(error, socket.gaierror):
            raise Refused(f"its name cannot be looked up ({error.strerror})") from None
        if isinstance(error, ConnectionRefusedError) or not isinstance(
            error, ConnectionError | ssl.SSLError | http.client.HTTPException
        ):
            raise Refused(f"cannot be reached ({printable(error)[:100]})") from None
        raise Interrupted(f"broke off ({printable(error)[:100]})") from None
