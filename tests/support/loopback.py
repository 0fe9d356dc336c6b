"""A web server on this machine that misbehaves as a test says, for tests of downloads."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from waiting import HANG_S

CERTIFICATE = Path(__file__).with_name("localhost.pem")

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.answers.get(self.path, status(404))(self)

    def log_message(self, *_: object) -> None:
        pass


class Loopback(ThreadingHTTPServer):
    """An https server, whose certificate alone is trusted while it runs.

    With `is_tls=False` it speaks http, which no download may use.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, *, is_tls: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.released = threading.Event()
        self.base = f"{'https' if is_tls else 'http'}://127.0.0.1:{self.server_address[1]}/"
        if is_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: object) -> None:
        pass  # a client that leaves is what many of these tests are about

    def __enter__(self) -> Loopback:
        os.environ["SSL_CERT_FILE"] = str(CERTIFICATE)
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.pop("SSL_CERT_FILE", None)
        self.released.set()
        self.shutdown()
        self.server_close()


def status(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def redirect(url: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def serve(content: bytes, *, length: int | None = -1, then_hang: bool = False) -> Answer:
    """Sends `content`; `length` is announced, None announces none, -1 the true one."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(len(content) if length == -1 else length))
        handler.end_headers()
        handler.wfile.write(content)
        if then_hang:
            handler.server.released.wait(HANG_S)

    return answer


def hang(handler: Handler) -> None:
    handler.server.released.wait(HANG_S)


def drip(content: bytes, *, every: float, head: bytes = b"") -> Answer:
    """Sends `head` at once, then one byte of `content` every so many seconds."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(head)
        for byte in content:
            handler.wfile.write(bytes([byte]))
            if handler.server.released.wait(every):
                return

    return answer


def in_turn(*answers: Answer) -> Answer:
    """The first of `answers` to the first request, and so on; the last one from then on."""
    left = list(answers)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)
